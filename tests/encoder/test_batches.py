"""Batches of one length, within both limits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modernpubmed.encoder.batches import equal_batches


@given(st.lists(st.integers(0, 512), max_size=200), st.integers(1, 40), st.integers(1, 3000))
def test_each_row_once_within_both_limits(lengths: list[int], max_texts: int, max_tokens: int):
    rows = np.array(lengths, dtype=np.int64)
    batches = list(equal_batches(rows, max_texts=max_texts, max_tokens=max_tokens))
    assert sorted(np.concatenate([*batches, np.array([], int)]).tolist()) == list(range(len(rows)))
    for batch in batches:
        assert 1 <= len(batch) <= max_texts
        assert len(batch) == 1 or rows[batch].sum() <= max_tokens
    longest = [int(rows[batch].max()) for batch in batches]
    assert longest == sorted(longest, reverse=True)


@given(st.lists(st.integers(0, 50), max_size=200))
def test_nothing_is_padded(lengths: list[int]):
    rows = np.array(lengths, dtype=np.int64)
    batches = list(equal_batches(rows, max_texts=8, max_tokens=100))
    assert all(len(set(rows[batch].tolist())) == 1 for batch in batches)
    # Two batches of one length only where the first is full.
    for first, second in pairwise(batches):
        if rows[first[0]] == rows[second[0]]:
            assert len(first) == max(1, min(8, 100 // max(1, rows[first[0]])))
