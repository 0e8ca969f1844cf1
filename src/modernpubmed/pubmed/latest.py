"""What is the latest state: one pure function, shared by ``parse`` and ``consolidate``.

NLM's files are a sequence of events. A record sets its (PMID, Version); a ``DeleteCitation`` takes
a (PMID, Version) away. Files count in NLM's order; within a file the records come first, in file
order, then the deletions. Of every (PMID, Version) the last event says whether it is there, and of
a PMID's versions that are there PubMed shows the highest ("only the most recent version of a
citation will be indexed and returned"; a deleted version's number is skipped: NLM Technical
Bulletin 2012;(384):e6). So a PMID has one live record at most.

Nothing here depends on when an event became known, or on the PMIDs beside it: the state of a set
of PMIDs is a function of those PMIDs' events alone, which is what makes updating cheap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The row of a deletion: after every record of its file.
DELETION = int(np.iinfo(np.int32).max)

#: What became of a record: it is shown; a later record of its (PMID, Version) replaced it; it was
#: deleted; a higher version of its PMID is shown.
LIVE, SUPERSEDED, DELETED, OLDER = range(4)
#: What came of a deletion: it took a record away, or there was none to take.
TOOK, IDLE = 4, 5
#: All of these, for counting: ``np.bincount(outcomes, minlength=OUTCOMES)``.
OUTCOMES = 6


def outcomes(
    pmid: NDArray[Any], version: NDArray[Any], order: NDArray[Any], row: NDArray[Any]
) -> NDArray[np.int8]:
    """What became of each event.

    Args:
        pmid: PMID of each event, (n,) integers; all events of a PMID must be among them.
        version: Its version, (n,).
        order: The place of its file among the files, (n,).
        row: The record's place in its file, or ``DELETION``, (n,).

    Returns:
        One of the outcomes above for each event, (n,), in the order of the arguments.

    >>> new, old, gone = (7, 1, 1, 0), (7, 1, 0, 5), (8, 1, 1, DELETION)
    >>> outcomes(*np.array([new, old, gone]).T).tolist() == [LIVE, SUPERSEDED, IDLE]
    True
    """
    found = np.empty(pmid.size, np.int8)
    if not pmid.size:
        return found
    sort = np.lexsort((row, order, version, pmid))
    pmid, version, record = pmid[sort], version[sort], row[sort] != DELETION
    again = (pmid[1:] == pmid[:-1]) & (version[1:] == version[:-1])
    followed, follows = np.append(again, False), np.append(False, again)
    by_record, after_record = np.append(record[1:], False), np.append(False, record[:-1])
    state = np.where(
        record,
        np.where(followed, np.where(by_record, SUPERSEDED, DELETED), LIVE),
        np.where(follows & after_record, TOOK, IDLE),
    ).astype(np.int8)
    # Of the versions of a PMID that are left, all but the last are older.
    left = np.flatnonzero(state == LIVE)
    state[left[:-1][pmid[left[1:]] == pmid[left[:-1]]]] = OLDER
    found[sort] = state
    return found
