"""The keys of converted files: which (PMID, Version) is in which row, sorted, mapped into memory.

They are what the latest state is computed from. An updatefile asks each other file for its own
PMIDs only, by binary search; a whole corpus is computed range by range of PMIDs. Either way memory
stays the same however large the corpus is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modernpubmed.articles import ARTICLES_NAME
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import replacing
from modernpubmed.pubmed.latest import DELETION, OUTCOMES, outcomes

#: Name of the table of deletions in a converted file's folder.
DELETIONS_NAME = "deletions.parquet"

#: One event: a record (``row``: its place in the table of articles) or a deletion (``DELETION``).
KEY = np.dtype([("pmid", np.int64), ("version", np.int32), ("row", np.int32)])

# Events taken at a time (about 60 bytes each while they are sorted), and how finely a file's PMIDs
# are sampled to find ranges that hold so many.
_EVENTS = 4_000_000
_SAMPLE = 256


def read_keys(folder: Path) -> NDArray[Any]:
    """The events of a converted file, from its tables: (n,) of ``KEY``, sorted by PMID and version.

    Raises:
        ModernPubMedError: A table cannot be read.
    """
    tables = []
    for name in (ARTICLES_NAME, DELETIONS_NAME):
        try:
            tables.append(pq.read_table(folder / name, columns=["pmid", "version"]))
        except (pa.ArrowException, OSError) as error:
            raise ModernPubMedError(
                f"damaged table ({error})",
                file=folder / name,
                remedy=f"remove {folder} and run modernpubmed consolidate again",
            ) from error
    articles, deletions = tables
    keys = np.empty(articles.num_rows + deletions.num_rows, KEY)
    for column in ("pmid", "version"):
        keys[column] = np.concatenate([table[column].to_numpy() for table in tables])
    keys["row"] = DELETION
    keys["row"][: articles.num_rows] = np.arange(articles.num_rows)
    return keys[np.lexsort((keys["row"], keys["version"], keys["pmid"]))]


def write_keys(folder: Path, target: Path) -> None:
    """Writes the keys of the converted file in ``folder`` to ``target``, whole or not at all."""
    keys = read_keys(folder)
    with replacing(target) as temporary, temporary.open("wb") as file:
        np.save(file, keys)


def load_keys(path: Path) -> NDArray[Any]:
    """Keys that ``write_keys`` wrote, mapped into memory.

    Raises:
        ModernPubMedError: They cannot be read.
    """
    try:
        keys: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ModernPubMedError(
            f"damaged keys ({error})",
            file=path,
            remedy="remove the file and run modernpubmed consolidate again",
        ) from error
    return keys


def touched(files: Sequence[Path]) -> NDArray[np.int64]:
    """The PMIDs of some files, each once, sorted."""
    pmids = [np.unique(load_keys(file)["pmid"]) for file in files]
    return np.unique(np.concatenate(pmids)) if pmids else np.empty(0, np.int64)


def events(
    files: Sequence[Path], pmids: NDArray[np.int64] | None = None
) -> Iterator[tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int8]]]:
    """What became of the records and deletions of some files, a range of PMIDs at a time.

    Args:
        files: Keys of the files, in NLM's order.
        pmids: Of these PMIDs only (sorted, each once); default all.

    Yields:
        Keys (n,) of ``KEY``, the place of each one's file in ``files`` (n,), and the outcome (n,).
    """
    if not files:
        return
    edges = _ranges(files) if pmids is None else _cut(pmids)
    for low, high in pairwise(edges):
        wanted = None if pmids is None else pmids[slice(*np.searchsorted(pmids, (low, high)))]
        found, places = [], []
        for place, file in enumerate(files):
            if (part := _of(load_keys(file), int(low), int(high), wanted)).size:
                found.append(part)
                places.append(np.full(part.size, place, np.int32))
        if found:
            keys, order = np.concatenate(found), np.concatenate(places)
            yield keys, order, outcomes(keys["pmid"], keys["version"], order, keys["row"])


def tally(files: Sequence[Path], pmids: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """How many events came to each outcome, (OUTCOMES,)."""
    counts = np.zeros(OUTCOMES, np.int64)
    for _, _, outcome in events(files, pmids):
        counts += np.bincount(outcome, minlength=OUTCOMES)
    return counts


def _of(keys: NDArray[Any], low: int, high: int, wanted: NDArray[np.int64] | None) -> NDArray[Any]:
    """A copy of the keys with PMIDs from ``low`` to before ``high``, and of those wanted."""
    if not keys.size or keys[-1]["pmid"] < low or keys[0]["pmid"] >= high:
        return keys[:0]
    pmid = np.ascontiguousarray(keys["pmid"])
    if wanted is None:
        return np.array(keys[slice(*np.searchsorted(pmid, (low, high)))])
    # Only those that lie between the file's first PMID and its last are looked for.
    near = wanted[
        np.searchsorted(wanted, pmid[0]) : np.searchsorted(wanted, pmid[-1], side="right")
    ]
    start = np.searchsorted(pmid, near)
    counts = np.searchsorted(pmid, near, side="right") - start
    # The rows start[i] … start[i] + counts[i] - 1 of every i, in one array.
    skipped = np.cumsum(counts) - counts
    return np.array(keys[np.repeat(start - skipped, counts) + np.arange(counts.sum())])


def _ranges(files: Sequence[Path]) -> NDArray[np.int64]:
    """Edges of ranges of PMIDs that hold about ``_EVENTS`` events each."""
    sample = np.concatenate([load_keys(file)["pmid"][::_SAMPLE] for file in files])
    sample.sort()
    return _cut(sample, _SAMPLE)


def _cut(pmids: NDArray[np.int64], weight: int = 4) -> NDArray[np.int64]:
    """Edges between sorted PMIDs, each of which stands for ``weight`` events."""
    inner = pmids[:: max(1, _EVENTS // weight)][1:]
    info = np.iinfo(np.int64)
    return np.unique(np.concatenate([[info.min], inner, [info.max]])).astype(np.int64)
