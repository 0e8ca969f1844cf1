"""Pairs on disk: our Parquet, the JSON-lines form, and the folder a training run reads.

``build_pairs`` is the room's whole verb: articles, pairs or terminologies in; ``train.parquet``,
``dev.parquet`` and ``manifest.json`` out, streaming, written beside the target and renamed.
Files are told apart by their first bytes and Parquet tables by their columns, never by name.

A table of pairs may lack any column but ``anchor`` and ``positive``: older files do. What it lacks
has ``Pair``'s default. A column that we do not know is refused, since it may be a known one spelt
otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from modernpubmed.errors import ModernPubMedError
from modernpubmed.lines import json_lines
from modernpubmed.manifest import Manifest, refuse_other_files, replacing, sha256
from modernpubmed.pairs.deduplicate import deduplicate
from modernpubmed.pairs.kinds import KINDS, TERMINOLOGY_KINDS, derive
from modernpubmed.pairs.select import MIN_ABSTRACT, Tally, select_one
from modernpubmed.pairs.split import split_of
from modernpubmed.pairs.terminology import (
    TERMINOLOGY_REMEDY,
    Concept,
    definition_pairs,
    gather,
    read_terminology,
    synonym_pairs,
)
from modernpubmed.records import (
    ARTICLE_SCHEMA,
    MINED_SCHEMA,
    PAIR_SCHEMA,
    Article,
    Pair,
    article_from_row,
    pair_from_row,
    pair_to_row,
)

#: Names of the files in a folder of pairs.
TRAIN_NAME, DEV_NAME, PAIRS_NAME = "train.parquet", "dev.parquet", "pairs.parquet"
#: Name of the table in a folder of articles (as ``modernpubmed.pubmed.store`` writes it).
ARTICLES_NAME = "articles.parquet"

T = TypeVar("T")

_KIND = "pairs"
_ROWS = 10_000
_REMEDY = "give a Parquet file or folder of articles or pairs, or JSON lines (.jsonl, .gz, .zst)"
_SHAPE = '{"title": …, "abstract": …, "pmid": …}'
#: What to give, by whether the kind is made of terminologies.
_NEEDED = {False: _REMEDY, True: TERMINOLOGY_REMEDY}
#: What is missing when no pair is left, of the kinds that need more than title and abstract.
_USABLE = {
    "title-conclusion": "give articles whose abstracts mark their conclusion",
    "question-conclusion": "give more articles: one in 400 has a question title and a conclusion",
    "mesh-abstract": "give articles of NLM's files that are indexed, or pairs with mesh",
    "synonym-name": "give a terminology whose concepts have synonyms",
    "name-definition": "give a terminology whose concepts have definitions",
}


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
        for batch in _batches(pairs):
            _write(writer, batch)
            count += len(batch)
    return count


def build_pairs(
    inputs: Sequence[Path],
    out: Path,
    *,
    kind: str = "title-abstract",
    dev_share: float = 0.02,
    min_abstract: int = MIN_ABSTRACT,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Makes pairs of one kind, de-duplicates and splits them; writes the folder ``out``.

    Earlier inputs win where two hold the same article, or give one name to two concepts.

    Args:
        inputs: Tables of articles or of title–abstract pairs: Parquet, a folder that holds one, or
            JSON lines. For the kinds of ``TERMINOLOGY_KINDS`` terminologies, as
            ``read_terminology`` takes them.
        out: Folder to write ``train.parquet``, ``dev.parquet`` and ``manifest.json`` to. A folder
            that this function wrote earlier is replaced.
        kind: One of ``KINDS``.
        dev_share: Share of the pairs on the dev side, 0 to 1 (see ``split_of``).
        min_abstract: Shortest abstract kept, in characters; of ``sentence-abstract``, the shortest
            rest as well. Terminologies have none.
        progress: Called now and then with the number of records read so far.

    Returns:
        The manifest: counts ``articles``, ``pairs`` or ``concepts`` (read), ``train``, ``dev`` and
        each repair; ``dropped`` by reason. An article or pair gives one pair at most, so
        read = train + dev + dropped. A concept may give several names' pairs; those beyond its
        first are counted as ``further pairs``, and read + further pairs = train + dev + dropped.

    Raises:
        ModernPubMedError: There is no such kind, an input is bad or not for this kind, ``out``
            holds other files, or no pair is left.
    """
    if kind not in KINDS:
        raise ModernPubMedError(
            f"there is no kind of pairs {kind!r}", remedy=f"name one of {', '.join(KINDS)}"
        )
    if not 0 <= dev_share <= 1:
        raise ModernPubMedError(
            f"dev_share is {dev_share}", remedy="give a share from 0 to 1, such as 0.02"
        )
    of_terms = kind in TERMINOLOGY_KINDS
    if not inputs:
        raise ModernPubMedError("no input given", remedy=_NEEDED[of_terms])
    out = out.resolve()
    refuse_other_files(out, _KIND, {TRAIN_NAME, DEV_NAME}, "this is no folder of pairs")
    hashes = {str(path): sha256(_file(path, kind)) for path in inputs}
    tally = Tally()
    written: Counter[str] = Counter()
    pairs = (
        _of_terminologies(inputs, kind, tally, progress)
        if of_terms
        else derive(
            _selected(inputs, tally, min_abstract, progress), kind, tally, min_abstract=min_abstract
        )
    )
    with replacing(out) as folder:
        folder.mkdir()
        with (
            pq.ParquetWriter(folder / TRAIN_NAME, PAIR_SCHEMA, compression="zstd") as train,
            pq.ParquetWriter(folder / DEV_NAME, PAIR_SCHEMA, compression="zstd") as dev,
        ):
            for batch in _batches(pairs):
                sides: dict[str, list[Pair]] = {"train": [], "dev": []}
                for pair, title in batch:
                    sides[split_of(pair, dev_share=dev_share, title=title)].append(pair)
                for writer, side in ((train, "train"), (dev, "dev")):
                    _write(writer, sides[side])
                    written[side] += len(sides[side])
        if not written.total():
            reasons = ", ".join(f"{reason} {n}" for reason, n in tally.dropped.most_common())
            raise ModernPubMedError(
                f"no usable pair is left ({reasons or 'no record read'})",
                file=", ".join(map(str, inputs)),
                remedy=_USABLE.get(kind, "give articles that have English titles and abstracts"),
            )
        settings: dict[str, Any] = {"kind": kind, "dev_share": dev_share}
        manifest = Manifest(
            kind=_KIND,
            inputs=hashes,
            settings=settings if of_terms else {**settings, "min_abstract": min_abstract},
            counts={
                **tally.seen,
                "train": written["train"],
                "dev": written["dev"],
                **{note: count for note, count in tally.noted.most_common() if count},
            },
            dropped=dict(tally.dropped.most_common()),
        )
        manifest.write(folder)
    return manifest


def _selected(
    inputs: Sequence[Path],
    tally: Tally,
    min_abstract: int,
    progress: Callable[[int], None] | None,
) -> Iterator[tuple[Article | Pair, Pair]]:
    """Each record that the rules for articles let through, and the pair it became."""
    for path in inputs:
        for number, record in enumerate(read_records(path), start=1):
            if isinstance(record, Pair) and record.kind != KINDS[0]:
                raise ModernPubMedError(
                    f"this pair is of the kind {record.kind}",
                    file=path,
                    record=f"pair {number}",
                    remedy=f"give articles or {KINDS[0]} pairs; other kinds are made of those",
                )
            pair = select_one(record, tally, min_abstract=min_abstract, source=path.name)
            if progress is not None and tally.seen.total() % _ROWS == 0:
                progress(tally.seen.total())
            if pair is not None:
                yield record, pair


def _of_terminologies(
    inputs: Sequence[Path],
    kind: str,
    tally: Tally,
    progress: Callable[[int], None] | None,
) -> Iterator[tuple[Pair, None]]:
    def counted(concepts: Iterator[Concept]) -> Iterator[Concept]:
        for number, concept in enumerate(concepts, start=1):
            yield concept
            if progress is not None and number % _ROWS == 0:
                progress(number)

    names = Counter(path.name for path in inputs)
    for path in inputs:
        if names[path.name] > 1:
            raise ModernPubMedError(
                "two terminologies have this name",
                file=path,
                remedy="rename one: numbers in place of identifiers are told apart by file name",
            )
    concepts = gather(counted(chain.from_iterable(map(read_terminology, inputs))), tally)
    make = synonym_pairs if kind == "synonym-name" else definition_pairs
    for pair in deduplicate(make(concepts, tally), tally):
        yield pair, None


def _file(path: Path, kind: str) -> Path:
    """The file whose bytes stand for an input."""
    if kind not in TERMINOLOGY_KINDS:
        return table_path(path)
    if not path.is_file():
        raise ModernPubMedError(
            "this is a folder, not a terminology" if path.is_dir() else "there is no such file",
            file=path,
            remedy=_NEEDED[True],
        )
    return path


def read_records(path: Path) -> Iterator[Article | Pair]:
    """The articles or pairs of a table, told apart by its columns; see ``build_pairs``.

    Raises:
        ModernPubMedError: The file is missing, damaged, or something else.
    """
    table = table_path(path)
    try:
        with table.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ModernPubMedError(
            f"cannot be read ({error.strerror})", file=path, remedy=_REMEDY
        ) from error
    if not start:
        raise ModernPubMedError("the file is empty", file=table, remedy=_REMEDY)
    return _read_parquet(table) if start == b"PAR1" else _read_json_lines(table)


def table_path(path: Path) -> Path:
    """The table itself, of a folder that holds one.

    Raises:
        ModernPubMedError: There is none, or the folder is one of split pairs.
    """
    if not path.exists():
        raise ModernPubMedError("there is no such file or folder", file=path, remedy=_REMEDY)
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
        f"the folder has neither {PAIRS_NAME} nor {ARTICLES_NAME}", file=path, remedy=_REMEDY
    )


def _read_parquet(path: Path) -> Iterator[Article | Pair]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if names == ARTICLE_SCHEMA.names:
                for batch in file.iter_batches(batch_size=_ROWS // 10):
                    yield from map(article_from_row, batch.to_pylist())
                return
            unknown = set(names).difference(MINED_SCHEMA.names)
            if unknown or not {"anchor", "positive"} <= set(names):
                raise ModernPubMedError(
                    f"its columns ({', '.join(names)}) are those of neither articles nor pairs",
                    file=path,
                    remedy=_REMEDY,
                )
            wanted = [field for field in PAIR_SCHEMA if field.name in names]
            number = 0
            for batch in file.iter_batches(_ROWS // 10, columns=[field.name for field in wanted]):
                for row in _typed(batch, wanted, path).to_pylist():
                    number += 1
                    yield _pair_of_row(row, path, number)
    except (pa.ArrowException, OSError) as error:
        raise ModernPubMedError(
            f"damaged Parquet ({error})", file=path, remedy="make or fetch the file again"
        ) from error


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
                remedy="write it with modernpubmed.records.PAIR_SCHEMA",
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


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == _ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _write(writer: pq.ParquetWriter, pairs: list[Pair]) -> None:
    if pairs:
        rows = [pair_to_row(pair) for pair in pairs]
        writer.write_table(pa.Table.from_pylist(rows, schema=PAIR_SCHEMA))
