"""Exact top-k: which documents come first for each query, in bounded memory and well-defined order.

The order is that of sentence-transformers from version 6: by falling score, equal scores by
rising document id (as strings). Scores are computed in blocks, so memory stays at a few dozen
megabytes beyond the vectors whatever the size of the suite.

A matrix product does not give the same last bit for the same two vectors at every place in the
matrix, so equal documents would not tie. The scores of the k best are therefore computed again
one by one in float64 before they are put in order. Given up: approximate search, which would
measure the index along with the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modernpubmed.errors import ModernPubMedError

# 256 queries by 16,384 documents of float32 are 16 MiB of scores at a time; of the block shapes
# tried this was the fastest, and the memory of a block where everything ties stays small.
_QUERY_BLOCK = 256
_CORPUS_BLOCK = 16384


@dataclass(frozen=True, slots=True)
class Run:
    """The best documents for each query, best first.

    Attributes:
        documents: int64 ``[n, k]``, positions in the corpus; -1 where fewer were found.
        scores: float32 ``[n, k]``; ``-inf`` where fewer were found.
    """

    documents: NDArray[np.int64]
    scores: NDArray[np.float32]


def id_order(ids: Sequence[str]) -> NDArray[np.int64]:
    """Positions in the order that breaks ties: by id, as strings.

    >>> id_order(["9", "10", "2"]).tolist()
    [1, 2, 0]
    """
    return np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)


def rank(
    queries: NDArray[np.float32], corpus: NDArray[np.float32], ids: Sequence[str], k: int = 100
) -> Run:
    """The k documents of the highest cosine for each query.

    Args:
        queries: ``[n, d]``, of any length (a vector of zeros is at cosine 0 to everything).
        corpus: ``[m, d]``.
        ids: The m documents' ids; they break ties.
        k: How many to keep; all m where there are fewer.

    Returns:
        The run, ``[n, min(k, m)]``.

    Raises:
        ModernPubMedError: The shapes do not fit, or a vector is not finite.

    >>> corpus = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    >>> rank(corpus[:1], corpus, ["b", "c", "a"], k=2).documents.tolist()
    [[2, 0]]
    """
    if queries.ndim != 2 or corpus.ndim != 2 or queries.shape[1] != corpus.shape[1]:
        raise ModernPubMedError(
            f"queries of shape {queries.shape} and documents of shape {corpus.shape}",
            remedy="encode both with one model",
        )
    if len(ids) != len(corpus):
        raise ModernPubMedError(
            f"{len(ids)} ids for {len(corpus)} documents", remedy="give one id a document"
        )
    queries, corpus = _unit_rows(queries, "query"), _unit_rows(corpus, "document")
    order = id_order(ids)
    k = min(k, len(corpus))
    # Positions in `order` from here on, so that the lower position wins a tie.
    best = np.zeros((len(queries), 0), dtype=np.int64)
    values = np.zeros((len(queries), 0), dtype=np.float32)
    for start in range(0, len(corpus), _CORPUS_BLOCK):
        block = corpus[order[start : start + _CORPUS_BLOCK]].T
        parts = []
        for row in range(0, len(queries), _QUERY_BLOCK):
            scores = queries[row : row + _QUERY_BLOCK] @ block
            columns = _best_columns(scores, k)
            parts.append((columns + start, np.take_along_axis(scores, columns, axis=1)))
        if not parts:
            break
        best = np.concatenate([best, np.concatenate([part[0] for part in parts])], axis=1)
        values = np.concatenate([values, np.concatenate([part[1] for part in parts])], axis=1)
        columns = _best_columns(values, k)
        best = np.take_along_axis(best, columns, axis=1)
        values = np.take_along_axis(values, columns, axis=1)
    values = _scores_one_by_one(queries, corpus, order[best])
    # Positions rise along each row, so a stable sort leaves ties in the order of the ids.
    falling = np.argsort(-values, axis=1, kind="stable")
    return Run(
        order[np.take_along_axis(best, falling, axis=1)],
        np.take_along_axis(values, falling, axis=1),
    )


def _unit_rows(vectors: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise ModernPubMedError(
            f"the vector of {what} {row} is not finite",
            remedy="check the model: its weights or its input are damaged",
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, np.float32(1e-12))
    return unit


def _best_columns(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns ``[n, k]`` of each row's k highest scores, ties to the lowest column; rising."""
    n, m = scores.shape
    if m <= k:
        return np.broadcast_to(np.arange(m), (n, m))
    # The k-th highest value by partition, then a comparison: several times faster than
    # argpartition.
    threshold = np.partition(scores, m - k, axis=1)[:, m - k, None]
    rows, columns = np.divmod(np.flatnonzero(scores >= threshold), m)
    if len(rows) > n * k:
        # More than k reach the threshold: keep all above it, then the first of those at it.
        at = scores[rows, columns] == threshold[rows, 0]
        room = k - np.bincount(rows[~at], minlength=n)
        first = np.searchsorted(rows, np.arange(n))
        running = np.cumsum(at)
        number = running - (running[first] - at[first])[rows]
        keep = ~at | (number <= room[rows])
        columns = columns[keep]
    return columns.reshape(n, k)


def _scores_one_by_one(
    queries: NDArray[np.float32], corpus: NDArray[np.float32], documents: NDArray[np.int64]
) -> NDArray[np.float32]:
    scores = np.empty(documents.shape, dtype=np.float32)
    step = 64
    for row in range(0, len(queries), step):
        scores[row : row + step] = np.einsum(
            "qd,qkd->qk",
            queries[row : row + step],
            corpus[documents[row : row + step]],
            dtype=np.float64,
        )
    return scores
