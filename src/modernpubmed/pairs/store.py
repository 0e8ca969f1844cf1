"""Pairs on disk: our Parquet, the JSON-lines form, and the folder a training run reads.

``build_pairs`` is the room's whole verb: articles or pairs in; ``train.parquet``,
``dev.parquet`` and ``manifest.json`` out, streaming, written beside the target and renamed.
Files are told apart by their first bytes and Parquet tables by their columns, never by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modernpubmed.errors import ModernPubMedError
from modernpubmed.lines import json_lines
from modernpubmed.manifest import Manifest, refuse_other_files, replacing, sha256
from modernpubmed.pairs.deduplicate import deduplicate
from modernpubmed.pairs.select import MIN_ABSTRACT, Tally, select
from modernpubmed.pairs.split import split_of
from modernpubmed.records import (
    ARTICLE_SCHEMA,
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

_KIND = "pairs"
_ROWS = 10_000
_REMEDY = "give a Parquet file or folder of articles or pairs, or JSON lines (.jsonl, .gz, .zst)"
_SHAPE = '{"title": …, "abstract": …, "pmid": …}'


def read_pairs(path: Path) -> Iterator[Pair]:
    """The pairs of a Parquet file, of a folder with ``pairs.parquet``, or of JSON lines.

    JSON lines (plain, gzip or Zstandard) hold one object a line: ``title`` and ``abstract``, and
    where known ``pmid`` (number or digits), ``source`` and ``year``; other keys are left alone.

    Raises:
        ModernPubMedError: The file is missing, empty, damaged, of another form, or a line of it
            is no such object (names the line).
    """
    for record in _read_records(path):
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
    dev_share: float = 0.02,
    min_abstract: int = MIN_ABSTRACT,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Selects, de-duplicates and splits; writes the folder ``out``.

    Earlier inputs win where two hold the same article.

    Args:
        inputs: Tables of articles or pairs: Parquet, a folder that holds one, or JSON lines.
        out: Folder to write ``train.parquet``, ``dev.parquet`` and ``manifest.json`` to. A folder
            that this function wrote earlier is replaced.
        dev_share: Share of the pairs on the dev side, 0 to 1 (see ``split_of``).
        min_abstract: Shortest abstract kept, in characters.
        progress: Called now and then with the number of records read so far.

    Returns:
        The manifest: counts ``articles``, ``pairs`` (read), ``train``, ``dev`` and each repair;
        ``dropped`` by reason. Read = train + dev + dropped.

    Raises:
        ModernPubMedError: An input is bad, ``out`` holds other files, or no pair is left.
    """
    if not 0 <= dev_share <= 1:
        raise ModernPubMedError(
            f"dev_share is {dev_share}", remedy="give a share from 0 to 1, such as 0.02"
        )
    if not inputs:
        raise ModernPubMedError("no input given", remedy=_REMEDY)
    out = out.resolve()
    refuse_other_files(out, _KIND, {TRAIN_NAME, DEV_NAME}, "this is no folder of pairs")
    hashes = {str(path): sha256(_table(path)) for path in inputs}
    tally = Tally()
    written: Counter[str] = Counter()
    pairs = deduplicate(_selected(inputs, tally, min_abstract, progress), tally)
    with replacing(out) as folder:
        folder.mkdir()
        with (
            pq.ParquetWriter(folder / TRAIN_NAME, PAIR_SCHEMA, compression="zstd") as train,
            pq.ParquetWriter(folder / DEV_NAME, PAIR_SCHEMA, compression="zstd") as dev,
        ):
            for batch in _batches(pairs):
                sides: dict[str, list[Pair]] = {"train": [], "dev": []}
                for pair in batch:
                    sides[split_of(pair, dev_share=dev_share)].append(pair)
                for writer, side in ((train, "train"), (dev, "dev")):
                    _write(writer, sides[side])
                    written[side] += len(sides[side])
        if not written.total():
            reasons = ", ".join(f"{reason} {n}" for reason, n in tally.dropped.most_common())
            raise ModernPubMedError(
                f"no usable pair is left ({reasons or 'no record read'})",
                file=", ".join(map(str, inputs)),
                remedy="give articles that have English titles and abstracts",
            )
        manifest = Manifest(
            kind=_KIND,
            inputs=hashes,
            settings={"dev_share": dev_share, "min_abstract": min_abstract},
            counts={
                **tally.seen,
                "train": written["train"],
                "dev": written["dev"],
                **dict(tally.noted.most_common()),
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
) -> Iterator[Pair]:
    def counted(records: Iterator[Article | Pair]) -> Iterator[Article | Pair]:
        for record in records:
            yield record
            if progress is not None and tally.seen.total() % _ROWS == 0:
                progress(tally.seen.total())

    for path in inputs:
        yield from select(
            counted(_read_records(path)), tally, min_abstract=min_abstract, source=path.name
        )


def _read_records(path: Path) -> Iterator[Article | Pair]:
    table = _table(path)
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


def _table(path: Path) -> Path:
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
            convert: Callable[[dict[str, Any]], Article | Pair]
            if names == ARTICLE_SCHEMA.names:
                convert = article_from_row
            elif names == PAIR_SCHEMA.names:
                convert = pair_from_row
            else:
                raise ModernPubMedError(
                    f"its columns ({', '.join(names)}) are those of neither articles nor pairs",
                    file=path,
                    remedy=_REMEDY,
                )
            for batch in file.iter_batches(batch_size=_ROWS // 10):
                yield from map(convert, batch.to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise ModernPubMedError(
            f"damaged Parquet ({error})", file=path, remedy="make or fetch the file again"
        ) from error


def _read_json_lines(path: Path) -> Iterator[Pair]:
    for number, row in json_lines(path, _SHAPE):
        yield _pair_of_line(row, path, number)


def _pair_of_line(row: dict[str, Any], path: Path, number: int) -> Pair:
    def bad(cause: str) -> ModernPubMedError:
        return ModernPubMedError(
            cause, file=path, record=f"line {number}", remedy=f"write each line as {_SHAPE}"
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
    source = row.get("source")
    if source is not None and not isinstance(source, str):
        raise bad(f"the source is no text: {source!r}")
    return Pair(texts[0], texts[1], pmid=numbers[0], source=source, year=numbers[1])


def _batches(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    batch: list[Pair] = []
    for pair in pairs:
        batch.append(pair)
        if len(batch) == _ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _write(writer: pq.ParquetWriter, pairs: list[Pair]) -> None:
    if pairs:
        rows = [pair_to_row(pair) for pair in pairs]
        writer.write_table(pa.Table.from_pylist(rows, schema=PAIR_SCHEMA))
