"""Articles on disk, read: one table, a folder that holds one, or a corpus in its latest state.

A corpus (``modernpubmed consolidate``) keeps the table of every NLM file as it was converted, and
beside them one bit a row that says whether that row is in the latest state. Whoever reads sees the
rows whose bit is set, in the order of the files; nobody needs to know more of the layout than what
is here. ``modernpubmed.pubmed.corpus`` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import MANIFEST_NAME, Manifest
from modernpubmed.records import Article, article_from_row
from modernpubmed.schemas import ARTICLE_SCHEMA

#: Name of the table in a folder of articles, and in each file's folder in a corpus.
ARTICLES_NAME = "articles.parquet"
#: ``Manifest.kind`` of a corpus, and the layout that this version reads and writes.
CORPUS_KIND, CORPUS_LAYOUT = "corpus", 1

_ROWS = 2_000
_REMEDY = "make it with: modernpubmed parse, or modernpubmed consolidate"


@dataclass(frozen=True, slots=True)
class Part:
    """The table of one NLM file in a corpus.

    Attributes:
        table: Its Parquet file, of ``ARTICLE_SCHEMA``.
        live: One boolean a row: whether the row is in the latest state.
    """

    table: Path
    live: NDArray[np.bool_]


def is_corpus(path: Path) -> bool:
    """Whether a folder is a corpus; it may be damaged all the same."""
    if not (path / MANIFEST_NAME).is_file():
        return False
    try:
        return Manifest.read(path).kind == CORPUS_KIND
    except ModernPubMedError:
        return False


def read_articles(path: Path) -> Iterator[Article]:
    """The articles of a table of ``ARTICLE_SCHEMA``, of a folder that holds one, or of a corpus.

    Of a corpus, those of its latest state, one a PMID.

    Raises:
        ModernPubMedError: There is none, it is damaged, or its columns are others.
    """
    for batch in article_batches(path):
        yield from map(article_from_row, batch.to_pylist())


def article_batches(
    path: Path, columns: Sequence[str] | None = None, rows: int = _ROWS
) -> Iterator[pa.RecordBatch]:
    """What ``read_articles`` reads, as record batches.

    Args:
        path: A Parquet file, a folder that holds ``articles.parquet``, or a corpus.
        columns: The columns wanted; default all. An empty batch is never yielded.
        rows: Rows of a batch, at most.

    Raises:
        ModernPubMedError: There is none, it is damaged, or its columns are others.
    """
    if not is_corpus(path):
        table = path / ARTICLES_NAME if path.is_dir() else path
        yield from table_batches(table, columns=columns, rows=rows)
        return
    for part in parts(path):
        if part.live.any():
            yield from table_batches(part.table, part.live, columns=columns, rows=rows)


def parts(corpus: Path) -> Iterator[Part]:
    """The tables of a corpus in NLM's order, also those of which no row is live.

    Raises:
        ModernPubMedError: It is not a corpus, of another layout, nothing has been applied to it
            yet, or its bits are damaged.
    """
    manifest = corpus_manifest(corpus)
    files = manifest.settings["files"]
    if not files:
        raise ModernPubMedError(
            "no file has been applied to this corpus yet",
            file=corpus,
            remedy="run modernpubmed consolidate until it succeeds",
        )
    bits = live_bits(corpus, manifest)
    start = 0
    for file in files:
        rows = file["articles"]
        stop = start + -(-rows // 8)
        live = np.unpackbits(bits[start:stop], count=rows).astype(bool)
        yield Part(corpus / "files" / file["folder"] / ARTICLES_NAME, live)
        start = stop


def corpus_manifest(corpus: Path) -> Manifest:
    """The manifest of a corpus.

    Raises:
        ModernPubMedError: It is not a corpus, or of another layout.
    """
    manifest = Manifest.read(corpus)
    layout = manifest.settings.get("layout")
    if manifest.kind != CORPUS_KIND or layout != CORPUS_LAYOUT:
        raise ModernPubMedError(
            f"this is no corpus that this version reads (kind {manifest.kind}, layout {layout})",
            file=corpus,
            remedy="make it again with modernpubmed consolidate",
        )
    return manifest


def live_bits(corpus: Path, manifest: Manifest) -> NDArray[np.uint8]:
    """The bits of all files' rows, one file after the other, each filled up to whole bytes.

    Raises:
        ModernPubMedError: They cannot be read, or are not as many as the rows.
    """
    source = corpus / str(manifest.settings["live"])
    wanted = sum(-(-file["articles"] // 8) for file in manifest.settings["files"])
    try:
        bits: NDArray[Any] = np.load(source, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ModernPubMedError(
            f"the bits of the latest state cannot be read ({error})",
            file=source,
            remedy="if a consolidate was at work, read again; else run modernpubmed consolidate",
        ) from error
    if bits.dtype != np.uint8 or bits.shape != (wanted,):
        raise ModernPubMedError(
            f"{bits.size} bytes of bits, but the files' rows take {wanted}",
            file=source,
            remedy="run modernpubmed consolidate into a new folder",
        )
    return bits


def table_batches(
    table: Path,
    live: NDArray[np.bool_] | None = None,
    *,
    columns: Sequence[str] | None = None,
    rows: int = _ROWS,
) -> Iterator[pa.RecordBatch]:
    """The rows of one table of ``ARTICLE_SCHEMA``, or those of them that are live, in batches.

    Raises:
        ModernPubMedError: It cannot be read, its columns are others, or its rows are not as many
            as ``live``.
    """
    try:
        with pq.ParquetFile(table) as file:
            if file.schema_arrow.names != ARTICLE_SCHEMA.names:
                raise ModernPubMedError(
                    "its columns are not those of articles", file=table, remedy=_REMEDY
                )
            if live is not None and file.metadata.num_rows != live.size:
                raise ModernPubMedError(
                    f"{file.metadata.num_rows} rows, but the corpus knows of {live.size}",
                    file=table,
                    remedy="run modernpubmed consolidate into a new folder",
                )
            start = 0
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                # A group of which nothing is live is not even decompressed.
                if live is None or live[start:stop].any():
                    at = start
                    for batch in file.iter_batches(rows, row_groups=[group], columns=columns):
                        end = at + batch.num_rows
                        kept = batch if live is None else batch.filter(pa.array(live[at:end]))
                        at = end
                        if kept.num_rows:
                            yield kept
                start = stop
    except (pa.ArrowException, OSError) as error:
        raise ModernPubMedError(
            f"no readable table of articles ({error})", file=table, remedy=_REMEDY
        ) from error
