"""Batches of like length, within both limits."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modernpubmed.encoder.batches import token_batches


@given(st.lists(st.integers(0, 512), max_size=200), st.integers(1, 40), st.integers(1, 3000))
def test_each_row_once_within_both_limits(lengths: list[int], max_texts: int, max_tokens: int):
    rows = np.array(lengths, dtype=np.int64)
    batches = list(token_batches(rows, max_texts=max_texts, max_tokens=max_tokens))
    assert sorted(np.concatenate([*batches, np.array([], int)]).tolist()) == list(range(len(rows)))
    for batch in batches:
        assert 1 <= len(batch) <= max_texts
        assert len(batch) == 1 or len(batch) * rows[batch].max() <= max_tokens
    longest = [int(rows[batch].max()) for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_texts_of_one_length_are_not_padded():
    lengths = np.repeat([5, 200, 30], 40)
    batches = list(token_batches(lengths, max_texts=40, max_tokens=8000))
    padding = sum(lengths[b].max() * len(b) - lengths[b].sum() for b in batches)
    assert padding == 0
