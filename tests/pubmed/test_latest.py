"""The one function that says what is live, against NLM's own description in a dictionary."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from modernpubmed.pubmed.latest import (
    DELETED,
    DELETION,
    IDLE,
    LIVE,
    OLDER,
    SUPERSEDED,
    TOOK,
    outcomes,
)

# (file, whether it is a deletion, PMID, version)
EVENTS = st.lists(
    st.tuples(st.integers(0, 4), st.booleans(), st.integers(1, 4), st.integers(1, 3)), max_size=60
)


def by_dictionary(events):
    """Event by event, in NLM's order."""
    there, found = {}, [None] * len(events)
    for at in sorted(range(len(events)), key=lambda i: (events[i][0], events[i][1])):
        _, deletion, pmid, version = events[at]
        earlier = there.pop((pmid, version), None)
        if deletion:
            found[at] = IDLE if earlier is None else TOOK
        else:
            there[pmid, version] = at
        if earlier is not None:
            found[earlier] = DELETED if deletion else SUPERSEDED
    for (pmid, version), at in there.items():
        found[at] = LIVE if version == max(v for p, v in there if p == pmid) else OLDER
    return found


def columns(events):
    rows = iter(range(len(events)))
    return [
        np.array([event[2] for event in events], np.int64),
        np.array([event[3] for event in events], np.int32),
        np.array([event[0] for event in events], np.int32),
        np.array([DELETION if event[1] else next(rows) for event in events], np.int32),
    ]


@given(EVENTS)
@settings(max_examples=300, deadline=None)
def test_equals_a_dictionary(events):
    assert outcomes(*columns(events)).tolist() == by_dictionary(events)


@given(EVENTS, st.randoms())
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_arguments_and_other_pmids_do_not_matter(events, random):
    pmid, version, order, row = columns(events)
    found = outcomes(pmid, version, order, row)
    mixed = np.array(random.sample(range(len(events)), len(events)), int)
    again = outcomes(pmid[mixed], version[mixed], order[mixed], row[mixed]).tolist()
    # Of two deletions of one thing in one file, either may be the one that took it.
    assert sorted(
        (*events[at], one) for at, one in zip(mixed.tolist(), again, strict=True)
    ) == sorted((*event, one) for event, one in zip(events, found.tolist(), strict=True))
    some = np.isin(pmid, [1, 3])
    assert (outcomes(pmid[some], version[some], order[some], row[some]) == found[some]).all()
