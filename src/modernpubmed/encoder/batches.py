"""Which texts are computed together: texts of like length, as many as make a good-sized batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def token_batches(
    lengths: NDArray[np.int64], *, max_texts: int, max_tokens: int
) -> Iterator[NDArray[np.int64]]:
    """Batches of texts, the longest first: what does not fit in memory shows at once.

    A batch is padded to its longest text. It holds at most ``max_texts`` texts and at most
    ``max_tokens`` tokens with the padding, but at least one text.

    Args:
        lengths: Tokens of each text, ``[n]``.
        max_texts: 1 or more.
        max_tokens: 1 or more.

    Yields:
        Rows of ``lengths``; together each row once. Equal lengths keep their order.

    >>> batches = token_batches(np.array([3, 9, 4, 4]), max_texts=8, max_tokens=12)
    >>> [batch.tolist() for batch in batches]
    [[1], [2, 3, 0]]
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        count = max(1, min(max_texts, max_tokens // longest))
        yield order[start : start + count]
        start += count
