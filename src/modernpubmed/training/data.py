"""Reading pairs for training: the Parquet files that ``modernpubmed pairs`` writes.

Training sees two columns of text, ``anchor`` and ``positive``; where they came from stays in the
file, whose SHA-256 goes into the model's manifest.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from modernpubmed.errors import ModernPubMedError

_REMEDY = "make it with 'modernpubmed pairs'"
_COLUMNS = ["anchor", "positive"]


def split_file(pairs: Path, split: str) -> Path:
    """The Parquet file of a split: ``pairs/train.parquet`` of a folder, ``pairs`` if it is a file.

    Raises:
        ModernPubMedError: There is no such file.
    """
    path = pairs / f"{split}.parquet" if pairs.is_dir() else pairs
    if not path.is_file():
        raise ModernPubMedError("no such file of pairs", file=path, remedy=_REMEDY)
    return path


def read_columns(path: Path, limit: int | None = None) -> tuple[list[str], list[str]]:
    """The anchors and positives of a file of pairs; at most ``limit``, spread over all of it.

    A file of pairs is in the order of its sources, so its first rows would be of one topic.

    Raises:
        ModernPubMedError: It is no Parquet file, lacks a column, or holds a null or empty text.
    """
    try:
        table = pq.read_table(path, columns=_COLUMNS)
    except (OSError, pa.ArrowException) as error:
        raise ModernPubMedError(
            f"not a readable Parquet file of pairs ({error})", file=path, remedy=_REMEDY
        ) from error
    if missing := [name for name in _COLUMNS if name not in table.column_names]:
        raise ModernPubMedError(
            f"no column {missing[0]!r}", file=path, record="schema", remedy=_REMEDY
        )
    if limit is not None and limit < len(table):
        table = table.take([row * len(table) // limit for row in range(limit)])
    anchors, positives = (table[name].to_pylist() for name in _COLUMNS)
    for row, (anchor, positive) in enumerate(zip(anchors, positives, strict=True)):
        if not (anchor and anchor.strip() and positive and positive.strip()):
            raise ModernPubMedError("empty text", file=path, record=f"row {row}", remedy=_REMEDY)
    return anchors, positives
