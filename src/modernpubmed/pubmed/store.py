"""A handful of NLM files → one folder of articles in their latest state: the verb ``parse``.

``articles.parquet`` (``ARTICLE_SCHEMA``), ``deletions.parquet`` and ``manifest.json``, written
beside the target and renamed. Files are taken in NLM's order and converted one after the other;
what the latest state is, is computed as for a corpus, of which this folder is the plain form.

Given up: updating such a folder; that is what ``consolidate`` is for.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modernpubmed.articles import ARTICLES_NAME, Part, table_batches
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest, refuse_other_files, replacing
from modernpubmed.pubmed.convert import FileReport, convert
from modernpubmed.pubmed.keys import DELETIONS_NAME, events, write_keys
from modernpubmed.pubmed.latest import DELETED, DELETION, LIVE, OLDER, OUTCOMES, SUPERSEDED
from modernpubmed.pubmed.order import nlm_order
from modernpubmed.schemas import ARTICLE_SCHEMA

#: Arrow schema of ``deletions.parquet``: every deletion read, and the file that ordered it.
DELETION_SCHEMA = pa.schema(
    [
        pa.field("pmid", pa.int64(), nullable=False),
        pa.field("version", pa.int32(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
    ]
)

_KIND = "articles"


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
        record, ``deleted`` by a later order, ``older version`` where a higher one is there,
        ``book``. Read = written + superseded + deleted + older version.

    Raises:
        ModernPubMedError: A file is bad (see ``parse``) or differs from its checksum, or ``out``
            holds other files. Nothing is left behind then.
    """
    if not inputs:
        raise ModernPubMedError("no file given", remedy="name one or more NLM XML files")
    out = out.resolve()
    refuse_other_files(out, _KIND, {ARTICLES_NAME, DELETIONS_NAME}, "this is no folder of articles")
    files = nlm_order(inputs)
    reports: list[FileReport] = []
    with replacing(out) as folder:
        folder.mkdir()
        scratch = folder / "scratch"
        folders = [scratch / str(place) for place in range(len(files))]
        for path, converted in zip(files, folders, strict=True):
            reports.append(convert(path, converted))
            write_keys(converted, _keys(converted))
            if progress is not None:
                progress(path, sum(report.articles for report in reports))
        parts, tally = _latest(folders, reports)
        with pq.ParquetWriter(folder / ARTICLES_NAME, ARTICLE_SCHEMA, compression="zstd") as writer:
            for part in parts:
                for batch in table_batches(part.table, part.live):
                    writer.write_batch(batch)
        _write_deletions(folders, files, folder / DELETIONS_NAME)
        shutil.rmtree(scratch)
        manifest = Manifest(
            kind=_KIND,
            inputs={report.name: report.sha256 for report in reports},
            counts={
                "files": len(files),
                "md5 checked": sum(report.md5_checked for report in reports),
                "articles read": sum(report.articles for report in reports),
                "articles": int(tally[LIVE]),
                "deletions": sum(report.deletions for report in reports),
            },
            dropped={
                "superseded": int(tally[SUPERSEDED]),
                "deleted": int(tally[DELETED]),
                "older version": int(tally[OLDER]),
                "book": sum(report.books for report in reports),
            },
        )
        manifest.write(folder)
    return manifest


def _keys(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.npy")


def _latest(
    folders: Sequence[Path], reports: Sequence[FileReport]
) -> tuple[list[Part], NDArray[np.int64]]:
    """Which rows of each converted file are in the latest state; how many came to which outcome."""
    parts = [
        Part(folder / ARTICLES_NAME, np.zeros(report.articles, np.bool_))
        for folder, report in zip(folders, reports, strict=True)
    ]
    tally = np.zeros(OUTCOMES, np.int64)
    for keys, place, outcome in events([_keys(folder) for folder in folders]):
        tally += np.bincount(outcome, minlength=OUTCOMES)
        live = (outcome == LIVE) & (keys["row"] != DELETION)
        for number in np.unique(place[live]).tolist():
            parts[number].live[keys["row"][live & (place == number)]] = True
    return parts, tally


def _write_deletions(folders: Sequence[Path], files: Sequence[Path], target: Path) -> None:
    def tables() -> Iterator[pa.Table]:
        for folder, path in zip(folders, files, strict=True):
            table = pq.read_table(folder / DELETIONS_NAME)
            name = pa.array([path.name] * table.num_rows, pa.string())
            yield table.append_column("file", name).cast(DELETION_SCHEMA)

    with pq.ParquetWriter(target, DELETION_SCHEMA, compression="zstd") as writer:
        for table in tables():
            if table.num_rows:
                writer.write_table(table)
