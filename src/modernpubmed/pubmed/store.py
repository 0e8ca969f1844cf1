"""NLM files → one folder of articles in their latest state.

``articles.parquet`` (``ARTICLE_SCHEMA``), ``deletions.parquet`` and ``manifest.json``, written
beside the target and renamed. Files are taken in NLM's order, so that a later record replaces an
earlier one of the same PMID, and a ``DeleteCitation`` takes it out.

Articles go to disk as they are parsed, and the superseded ones are left out in a second pass over
that file, so the only thing that grows with the input is one number per PMID.
Given up: incremental updates and a whole baseline in bounded memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, refuse_other_files, replacing, sha256
from modernpubmed.pubmed.parse import ParseCounts, parse
from modernpubmed.pubmed.source import verify_md5
from modernpubmed.records import (
    ARTICLE_SCHEMA,
    Article,
    Deletion,
    article_from_row,
    article_to_row,
)

#: Names of the files in a folder of articles.
ARTICLES_NAME, DELETIONS_NAME = "articles.parquet", "deletions.parquet"

#: Arrow schema of ``deletions.parquet``: every deletion read, and the file that ordered it.
DELETION_SCHEMA = pa.schema(
    [
        pa.field("pmid", pa.int64(), nullable=False),
        pa.field("version", pa.int32(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
    ]
)

_KIND = "articles"
_ROWS = 2_000
_NLM_NAME = re.compile(r"^(?:pubmed|medline)(\d\d)n(\d{4,})\b")


def parse_files(
    inputs: Sequence[Path], out: Path, *, progress: Callable[[Path, int], None] | None = None
) -> Manifest:
    """Parses NLM files and writes their latest state to the folder ``out``.

    Args:
        inputs: NLM XML files, gzip or plain; checked against ``FILE.md5`` where that is there.
        out: Folder to write to; one that this function wrote earlier is replaced.
        progress: Called after each file with its path and the number of articles read so far.

    Returns:
        The manifest. ``counts``: ``files``, ``articles read``, ``articles`` (written),
        ``deletions`` (ordered) and ``md5 checked``. ``dropped``: ``superseded`` by a later
        record, ``deleted`` by a later order, ``book``. Read = written + superseded + deleted.

    Raises:
        ModernPubMedError: A file is bad (see ``parse``) or differs from its checksum, or ``out``
            holds other files. Nothing is left behind then.
    """
    if not inputs:
        raise ModernPubMedError("no file given", remedy="name one or more NLM XML files")
    out = out.resolve()
    refuse_other_files(out, _KIND, {ARTICLES_NAME, DELETIONS_NAME}, "this is no folder of articles")
    files = nlm_order(inputs)
    counts = ParseCounts()
    state = _State()
    with replacing(out) as folder:
        folder.mkdir()
        everything = folder / "everything.parquet"
        checked = 0
        with pq.ParquetWriter(everything, ARTICLE_SCHEMA, compression="lz4") as writer:
            for path in files:
                checked += _checked(path)
                for batch in _batches(_followed(path, counts, state)):
                    _write(writer, batch)
                if progress is not None:
                    progress(path, counts.articles)
        written = _write_latest(everything, folder / ARTICLES_NAME, state)
        everything.unlink()
        pq.write_table(
            pa.Table.from_pylist(state.deletions, schema=DELETION_SCHEMA),
            folder / DELETIONS_NAME,
            compression="zstd",
        )
        manifest = Manifest(
            kind=_KIND,
            inputs={path.name: sha256(path) for path in files},
            counts={
                "files": len(files),
                "md5 checked": checked,
                "articles read": counts.articles,
                "articles": written,
                "deletions": counts.deletions,
            },
            dropped={
                "superseded": state.superseded,
                "deleted": state.deleted,
                "book": counts.books,
            },
        )
        manifest.write(folder)
    return manifest


def read_articles(path: Path) -> Iterator[Article]:
    """The articles of a Parquet file of ``ARTICLE_SCHEMA``, or of a folder that holds one.

    Raises:
        ModernPubMedError: There is none, it is damaged, or its columns are others.
    """
    table = path / ARTICLES_NAME if path.is_dir() else path
    remedy = "make it with: modernpubmed parse"
    try:
        with pq.ParquetFile(table) as file:
            if file.schema_arrow.names != ARTICLE_SCHEMA.names:
                raise ModernPubMedError(
                    "its columns are not those of articles", file=table, remedy=remedy
                )
            for batch in file.iter_batches(batch_size=_ROWS):
                yield from map(article_from_row, batch.to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise ModernPubMedError(
            f"no readable table of articles ({error})", file=table, remedy=remedy
        ) from error


def nlm_order(paths: Sequence[Path]) -> list[Path]:
    """The paths in the order in which their records replace each other.

    NLM's names carry it: ``pubmed26n1334.xml.gz`` is file 1334 of the 2026 baseline and its
    updates. Files with other names come after, as given.

    >>> [p.name for p in nlm_order([Path("mine.xml"), Path("pubmed26n0002.xml"),
    ...                             Path("medline16n0902.xml.gz"), Path("pubmed26n0001.xml")])]
    ['medline16n0902.xml.gz', 'pubmed26n0001.xml', 'pubmed26n0002.xml', 'mine.xml']
    """

    def key(path: Path) -> tuple[bool, int, int]:
        match = _NLM_NAME.match(path.name)
        return (True, 0, 0) if match is None else (False, int(match[1]), int(match[2]))

    return sorted(paths, key=key)


@dataclass(slots=True)
class _State:
    """Which row, by its number, is each PMID's latest; and what happened on the way there."""

    latest: dict[int, tuple[int, int]] = field(default_factory=dict)  # PMID → (row, version)
    deletions: list[dict[str, Any]] = field(default_factory=list)
    rows: int = 0
    superseded: int = 0
    deleted: int = 0


def _followed(path: Path, counts: ParseCounts, state: _State) -> Iterator[Article]:
    """The file's articles, while ``state`` follows what they and its deletions change."""
    first = state.rows
    for record in parse(path, counts):
        held = state.latest.get(record.pmid)
        if isinstance(record, Deletion):
            state.deletions.append(
                {"pmid": record.pmid, "version": record.version, "file": path.name}
            )
            # An order to delete version 1 does not touch a version 2 that replaced it.
            if held is not None and held[1] <= record.version:
                del state.latest[record.pmid]
                state.deleted += 1
            continue
        if held is not None:
            state.superseded += 1
        # Within one file the versions of a PMID stand side by side, in any order.
        if held is None or held[0] < first or held[1] <= record.version:
            state.latest[record.pmid] = (state.rows, record.version)
        state.rows += 1
        yield record


def _write_latest(everything: Path, target: Path, state: _State) -> int:
    keep = [False] * state.rows
    for row, _ in state.latest.values():
        keep[row] = True
    start = 0
    with (
        pq.ParquetFile(everything) as source,
        pq.ParquetWriter(target, ARTICLE_SCHEMA, compression="zstd") as writer,
    ):
        for group in range(source.num_row_groups):
            table = source.read_row_group(group)
            stop = start + table.num_rows
            writer.write_table(table.filter(pa.array(keep[start:stop])).cast(ARTICLE_SCHEMA))
            start = stop
    return sum(keep)


def _checked(path: Path) -> bool:
    # ``parse`` names what is wrong with a file that cannot be read; this need not.
    return path.is_file() and verify_md5(path)


def _batches(articles: Iterator[Article]) -> Iterator[list[Article]]:
    batch: list[Article] = []
    for article in articles:
        batch.append(article)
        if len(batch) == _ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _write(writer: pq.ParquetWriter, articles: list[Article]) -> None:
    rows = [article_to_row(article) for article in articles]
    writer.write_table(pa.Table.from_pylist(rows, schema=ARTICLE_SCHEMA))
