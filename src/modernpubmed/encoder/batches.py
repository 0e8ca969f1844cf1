"""Which texts are computed together: texts of one length, as many as make a good-sized batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def equal_batches(
    lengths: NDArray[np.int64], *, max_texts: int, max_tokens: int
) -> Iterator[NDArray[np.int64]]:
    """Batches of texts of equal length, the longest first: what needs most memory shows at once.

    Nothing is padded, at the price of batches of a single text where a length is rare: a call costs
    as much as some eight tokens do, padding a batch of unequal texts costs more, and attention has
    a mask to add besides.

    Args:
        lengths: Tokens of each text, ``[n]``.
        max_texts: Most texts of a batch; 1 or more.
        max_tokens: Most tokens of a batch; it has one text at least.

    Yields:
        Rows of ``lengths``; together each row once. Equal lengths keep their order.

    >>> batches = equal_batches(np.array([3, 9, 4, 4, 4]), max_texts=8, max_tokens=8)
    >>> [batch.tolist() for batch in batches]
    [[1], [2, 3], [4], [0]]
    """
    order = np.argsort(-lengths, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        if not len(group):
            return
        count = max(1, min(max_texts, max_tokens // max(1, int(lengths[group[0]]))))
        for start in range(0, len(group), count):
            yield group[start : start + count]
