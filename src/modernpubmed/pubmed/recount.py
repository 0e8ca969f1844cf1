"""The latest state once more, by a plain dictionary: what ``validate`` holds a corpus to.

Nothing of ``latest`` or ``keys`` is used: the converted files are gone through in order, record by
record and then deletion by deletion, as NLM describes it. Slow and simple on purpose. PMIDs are
taken in classes by their remainder, one class at a time, so memory does not grow with the corpus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from modernpubmed.articles import Part
from modernpubmed.pubmed.keys import DELETIONS_NAME

# Records and deletions looked at in one pass, about 250 bytes each.
_EVENTS = 2_000_000


@dataclass(slots=True)
class Recount:
    """What was found.

    Attributes:
        counts: Records and deletions by what became of them, as the corpus's totals name them.
        faults: How many PMIDs are shown wrongly, by kind of fault: ``twice``, ``deleted``,
            ``stale`` (an earlier record or a lower version is shown), ``lost``.
        examples: One PMID of each kind.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    examples: dict[str, int] = field(default_factory=dict)

    def fault(self, kind: str, pmid: int) -> None:
        """Counts one."""
        self.faults[kind] += 1
        self.examples.setdefault(kind, pmid)


def recount(
    parts: Sequence[Part], events: int, progress: Callable[[str, int, int], None] | None = None
) -> Recount:
    """Goes through the files of a corpus.

    Args:
        parts: The files, in NLM's order.
        events: How many records and deletions they hold.
        progress: Called with what is done, how much, and of how much.

    Raises:
        OSError, pyarrow.ArrowException: A table cannot be read.
    """
    found = Recount()
    classes = -(-events // _EVENTS) or 1
    for remainder in range(classes):
        _one_class(parts, remainder, classes, found)
        if progress is not None:
            progress("passes over the keys", remainder + 1, classes)
    return found


def _one_class(parts: Sequence[Part], remainder: int, classes: int, found: Recount) -> None:
    # Of each (PMID, version) that is there: its file and row. Of each PMID: what is shown.
    there: dict[tuple[int, int], tuple[int, int]] = {}
    shown: dict[int, list[tuple[int, int, int]]] = {}
    for file, part in enumerate(parts):
        for row, pmid, version in _events(part.table, remainder, classes):
            if (pmid, version) in there:
                found.counts["superseded"] += 1
            there[pmid, version] = (file, row)
            if part.live[row]:
                shown.setdefault(pmid, []).append((version, file, row))
        deletions = part.table.with_name(DELETIONS_NAME)
        for _, pmid, version in _events(deletions, remainder, classes):
            taken = there.pop((pmid, version), None)
            found.counts["deletions of nothing" if taken is None else "deleted"] += 1
    highest: dict[int, int] = {}
    for pmid, version in there:
        highest[pmid] = max(version, highest.get(pmid, version))
    found.counts["articles"] += len(highest)
    found.counts["older version"] += len(there) - len(highest)
    for pmid in highest:
        if pmid not in shown:
            found.fault("lost", pmid)
    for pmid, rows in shown.items():
        if len(rows) > 1:
            found.fault("twice", pmid)
        for version, file, row in rows:
            if (pmid, version) not in there:
                found.fault("deleted", pmid)
            elif version < highest[pmid] or there[pmid, version] != (file, row):
                found.fault("stale", pmid)


def _events(table: Path, remainder: int, classes: int) -> Iterator[tuple[int, int, int]]:
    """Row, PMID and version of those with this remainder, in the table's order."""
    columns = pq.read_table(table, columns=["pmid", "version"])
    pmids, versions = columns["pmid"].to_numpy(), columns["version"].to_numpy()
    for row in (pmids % classes == remainder).nonzero()[0].tolist():
        yield row, int(pmids[row]), int(versions[row])
