"""Pairs on disk: our Parquet, the JSON-lines form, and the tables of articles they are made of.

Files are told apart by their first bytes and Parquet tables by their columns, never by name.

A table of pairs may lack any column but ``anchor`` and ``positive``: older files do. What it lacks
has ``Pair``'s default. A column that we do not know is refused, since it may be a known one spelt
otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from modernpubmed.articles import ARTICLES_NAME, article_batches, is_corpus
from modernpubmed.errors import ModernPubMedError
from modernpubmed.lines import json_lines
from modernpubmed.manifest import replacing
from modernpubmed.pairs.kinds import TERMINOLOGY_KINDS
from modernpubmed.records import Article, Pair, article_from_row, pair_from_row, pair_to_row
from modernpubmed.schemas import ARTICLE_SCHEMA, MINED_SCHEMA, PAIR_SCHEMA

#: Names of the files in a folder of pairs.
TRAIN_NAME, DEV_NAME, PAIRS_NAME = "train.parquet", "dev.parquet", "pairs.parquet"

T = TypeVar("T")

_ROWS = 10_000
#: What to give.
REMEDY = "give a Parquet file or folder of articles or pairs, or JSON lines (.jsonl, .gz, .zst)"
_SHAPE = '{"title": …, "abstract": …, "pmid": …}'


def read_pairs(path: Path) -> Iterator[Pair]:
    """The pairs of a Parquet file, of a folder with ``pairs.parquet``, or of JSON lines.

    A Parquet table has the columns ``anchor`` and ``positive``, and any of the others of
    ``PAIR_SCHEMA``; those that ``MINED_SCHEMA`` adds are left alone. JSON lines (plain, gzip or
    Zstandard) hold one object a line: ``title`` and ``abstract``, and where known ``pmid`` (number
    or digits), ``source``, ``year``, ``concept``, ``mesh`` (list of names) and ``links`` (list of
    PMIDs); other keys are left alone.

    Raises:
        ModernPubMedError: The file is missing, empty, damaged, of another form, a row of it has a
            null where none may be (names the row), or a line is no such object (names the line).
    """
    for record in read_records(path):
        if isinstance(record, Article):
            raise ModernPubMedError(
                "this is a table of articles, not of pairs",
                file=path,
                remedy="make pairs of it first: modernpubmed pairs",
            )
        yield record


def write_pairs(pairs: Iterable[Pair], path: Path) -> int:
    """Writes pairs to one Parquet file, whole or not at all; returns how many."""
    count = 0
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, PAIR_SCHEMA, compression="zstd") as writer,
    ):
        for batch in batches(pairs, _ROWS):
            rows = [pair_to_row(pair) for pair in batch]
            writer.write_table(pa.Table.from_pylist(rows, schema=PAIR_SCHEMA))
            count += len(batch)
    return count


def read_records(path: Path) -> Iterator[Article | Pair]:
    """The articles or pairs of a table, told apart by its columns; see ``build_pairs``.

    Raises:
        ModernPubMedError: The file is missing, damaged, or something else.
    """
    for piece in read_pieces(path, _ROWS // 10):
        yield from piece if isinstance(piece, list) else map(article_from_row, piece.to_pylist())


def read_pieces(path: Path, rows: int) -> Iterator[pa.RecordBatch | list[Pair]]:
    """The same, some at a time: articles as rows of ``ARTICLE_SCHEMA``, so as they lie on disk.

    Args:
        path: A table, a folder that holds one, or a corpus (``modernpubmed.articles``).
        rows: How many at a time, at most.

    Raises:
        ModernPubMedError: As ``read_records``.
    """
    if is_corpus(path):
        yield from article_batches(path, rows=rows)
        return
    table = table_path(path)
    try:
        with table.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ModernPubMedError(
            f"cannot be read ({error.strerror})", file=path, remedy=REMEDY
        ) from error
    if not start:
        raise ModernPubMedError("the file is empty", file=table, remedy=REMEDY)
    if start != b"PAR1":
        yield from batches(_read_json_lines(table), rows)
    elif _columns(table) == ARTICLE_SCHEMA.names:
        yield from article_batches(table, rows=rows)
    else:
        yield from batches(_read_parquet(table), rows)


def table_path(path: Path) -> Path:
    """The table itself, of a folder that holds one.

    Raises:
        ModernPubMedError: There is none, or the folder is one of split pairs.
    """
    if not path.exists():
        raise ModernPubMedError("there is no such file or folder", file=path, remedy=REMEDY)
    if not path.is_dir():
        return path
    for name in (PAIRS_NAME, ARTICLES_NAME):
        if (path / name).is_file():
            return path / name
    if (path / TRAIN_NAME).is_file():
        raise ModernPubMedError(
            "this folder is split already",
            file=path,
            remedy=f"name one side of it: {path / TRAIN_NAME} or {path / DEV_NAME}",
        )
    raise ModernPubMedError(
        f"the folder has neither {PAIRS_NAME} nor {ARTICLES_NAME}", file=path, remedy=REMEDY
    )


def _columns(path: Path) -> list[str]:
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ModernPubMedError:
    return ModernPubMedError(
        f"damaged Parquet ({error})", file=path, remedy="make or fetch the file again"
    )


def _read_parquet(path: Path) -> Iterator[Pair]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            unknown = set(names).difference(MINED_SCHEMA.names)
            if unknown or not {"anchor", "positive"} <= set(names):
                raise ModernPubMedError(
                    f"its columns ({', '.join(names)}) are those of neither articles nor pairs",
                    file=path,
                    remedy=REMEDY,
                )
            wanted = [field for field in PAIR_SCHEMA if field.name in names]
            number = 0
            for batch in file.iter_batches(_ROWS // 10, columns=[field.name for field in wanted]):
                for row in _typed(batch, wanted, path).to_pylist():
                    number += 1
                    yield _pair_of_row(row, path, number)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _typed(batch: pa.RecordBatch, wanted: list[pa.Field], path: Path) -> pa.RecordBatch:
    """The batch with our types: other writers have other strings, lists and widths of numbers."""
    columns = []
    for field in wanted:
        column = batch.column(field.name)
        try:
            columns.append(column.cast(field.type))
        except pa.ArrowException as error:
            raise ModernPubMedError(
                f"the column {field.name} is {column.type}, not {field.type}",
                file=path,
                remedy="write it with modernpubmed.schemas.PAIR_SCHEMA",
            ) from error
    return pa.RecordBatch.from_arrays(columns, names=[field.name for field in wanted])


def _pair_of_row(row: dict[str, Any], path: Path, number: int) -> Pair:
    for name in ("anchor", "positive", "kind"):
        if name in row and row[name] is None:
            raise ModernPubMedError(
                f"the {name} is null",
                file=path,
                record=f"row {number}",
                remedy="take the row out, or fill it in",
            )
    for name in ("mesh", "links"):
        row[name] = [value for value in row.get(name) or () if value is not None]
    return pair_from_row(row)


def _read_json_lines(path: Path) -> Iterator[Pair]:
    for number, row in json_lines(path, _SHAPE):
        yield _pair_of_line(row, path, number)


def _pair_of_line(row: dict[str, Any], path: Path, number: int) -> Pair:
    def bad(cause: str) -> ModernPubMedError:
        return ModernPubMedError(
            cause, file=path, record=f"line {number}", remedy=f"write each line as {_SHAPE}"
        )

    if "title" not in row and ("name" in row or "lemmas" in row):
        raise ModernPubMedError(
            "this is a terminology, of neither articles nor pairs",
            file=path,
            record=f"line {number}",
            remedy=f"make pairs of the kind {' or '.join(TERMINOLOGY_KINDS)} of it",
        )
    texts = []
    for key in ("title", "abstract"):
        value = row.get(key)
        if not isinstance(value, str):
            raise bad(f"no {key}" if value is None else f"the {key} is no text: {value!r}")
        texts.append(value)
    numbers: list[int | None] = []
    for key in ("pmid", "year"):
        value = row.get(key)
        if value in (None, ""):
            numbers.append(None)
        elif isinstance(value, int) and not isinstance(value, bool):
            numbers.append(value)
        elif isinstance(value, str) and value.isascii() and value.isdigit():
            numbers.append(int(value))
        else:
            raise bad(f"the {key} is no number: {value!r}")
    labels: list[str | None] = []
    for key in ("source", "concept"):
        value = row.get(key)
        if value is not None and not isinstance(value, str):
            raise bad(f"the {key} is no text: {value!r}")
        labels.append(value or None)
    mesh, links = row.get("mesh") or [], row.get("links") or []
    if not isinstance(mesh, list) or not all(isinstance(name, str) for name in mesh):
        raise bad(f"mesh is no list of names: {mesh!r}")
    if not isinstance(links, list) or not all(type(link) is int for link in links):
        raise bad(f"links is no list of numbers: {links!r}")
    return Pair(
        texts[0],
        texts[1],
        pmid=numbers[0],
        source=labels[0],
        year=numbers[1],
        concept=labels[1],
        mesh=tuple(mesh),
        links=tuple(links),
    )


def batches(items: Iterable[T], rows: int) -> Iterator[list[T]]:
    """The items, so many at a time."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == rows:
            yield batch
            batch = []
    if batch:
        yield batch
