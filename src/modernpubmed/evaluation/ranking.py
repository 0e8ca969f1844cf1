"""Exact top-k: which documents come first for each query, in bounded memory and well-defined order.

The order is that of sentence-transformers from version 6: by falling score, equal scores by
rising document id (as strings). Scores are computed in blocks, so memory stays at a few
hundred megabytes beyond the vectors and the ranking whatever the size of the suite.

Nearly all queries of a large corpus go through ``preselection``: a product of 8-bit integers, with
a proven bound on its error, leaves a few hundred documents whose cosine has to be computed. The
queries that it is not sure of, and small corpora, go through the float32 product, where the time
goes into the product and the rest is kept small beside it: once a query has its k documents, a
block is only searched for scores above the lowest of them, in one comparison. Documents come in
the order of their ids, so that one of an equal score never displaces another.

A matrix product does not give the same last bit for the same two vectors at every place in the
matrix, so equal documents would not tie. Either way the scores of the k best and a few more are
therefore computed again one by one in float64 before they are put in order. Given up: approximate
search, which would measure the index along with the model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.preselection import cosines, preselect, rounded, unit, worthwhile

# 1,024 queries by 4,096 documents of float32 are 16 MiB of scores at a time: of the block shapes
# tried the smallest at which the product runs at full speed.
_QUERY_BLOCK = 1024
_CORPUS_BLOCK = 4096
# Documents kept beyond k until the scores are exact: the last bit may have put one of several
# equal documents at k that should not be there.
_SPARE = 16
# Queries that are preselected for together: their integers are 192 KiB of 384 dimensions.
_QUICK_BLOCK = 512
# Blocks of queries that are worked on at once, each with its own block of scores.
_THREADS = 4


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
    queries: NDArray[np.float32],
    corpus: NDArray[np.float32],
    ids: Sequence[str],
    k: int = 100,
    *,
    query_ids: Sequence[str] | None = None,
) -> Run:
    """The k documents of the highest cosine for each query.

    Args:
        queries: ``[n, d]``, of any length (a vector of zeros is at cosine 0 to everything).
        corpus: ``[m, d]``.
        ids: The m documents' ids; they break ties.
        k: How many to keep; all m where there are fewer.
        query_ids: The n queries' ids, for messages; None is their numbers from 0.

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
    if query_ids is None:
        query_ids = [str(row) for row in range(len(queries))]
    check_finite(queries, query_ids, "query")
    check_finite(corpus, ids, "document")
    order = id_order(ids)
    k = min(k, len(corpus))
    documents = np.empty((len(queries), k), dtype=np.int64)
    scores = np.empty((len(queries), k), dtype=np.float32)
    sure = np.zeros(len(queries), dtype=np.bool_)
    queries = unit(queries)
    with ThreadPoolExecutor(max_workers=min(_THREADS, os.cpu_count() or 1)) as pool:
        if worthwhile(len(queries), len(corpus), corpus.shape[1], k):
            small = rounded(corpus, order, pool)

            def quickly(start: int) -> None:
                rows = slice(start, start + _QUICK_BLOCK)
                documents[rows], scores[rows], sure[rows] = preselect(queries[rows], small, k)

            list(pool.map(quickly, range(0, len(queries), _QUICK_BLOCK)))
        left = np.flatnonzero(~sure)
        if len(left):
            in_order = unit(corpus[order])

            def slowly(start: int) -> None:
                rows = left[start : start + _QUERY_BLOCK]
                documents[rows], scores[rows] = _by_product(queries[rows], in_order, k)

            # The product uses all processors, the search for the best one: side by side both all.
            list(pool.map(slowly, range(0, len(left), _QUERY_BLOCK)))
    return Run(order[documents], scores)


def check_finite(vectors: NDArray[np.float32], ids: Sequence[str], what: str) -> None:
    """Refuses vectors that hold NaN or infinity, naming whose they are.

    Args:
        vectors: ``[n, d]``.
        ids: The n texts' ids.
        what: What a text is: ``query`` or ``document``.

    Raises:
        ModernPubMedError: One is not finite; names up to three of them and says how many.

    >>> check_finite(np.array([[0.5], [np.nan]]), ["a", "b"], "document")
    Traceback (most recent call last):
    modernpubmed.errors.ModernPubMedError: document 'b': vector is not finite. Remedy: ...
    """
    # A sum of finite numbers may overflow, but one with NaN or infinity in it is never finite.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(vectors.sum(axis=1)).all():
            return
    bad = [ids[row] for row in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()]
    if not bad:
        return
    named = ", ".join(repr(identifier) for identifier in bad[:3])
    more = "" if len(bad) <= 3 else f" and {len(bad) - 3:,} more"
    plural = {"query": "queries", "document": "documents"}[what]
    raise ModernPubMedError(
        "vector is not finite" if len(bad) == 1 else f"{len(bad):,} vectors are not finite",
        record=f"{what if len(bad) == 1 else plural} {named}{more}",
        remedy="check the model: its weights or its input are damaged",
    )


def _by_product(
    queries: NDArray[np.float32], corpus: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Positions and scores ``[n, k]`` of each query's best documents, best first."""
    best = _best_of_block(queries, corpus, min(k + _SPARE, len(corpus)))
    rows = np.repeat(np.arange(len(queries)), best.shape[1])
    values = cosines(queries, corpus, rows, best.ravel()).reshape(best.shape)
    # Positions rise along each row, so a stable sort leaves ties in the order of the ids.
    falling = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(best, falling, axis=1), np.take_along_axis(values, falling, axis=1)


def _best_of_block(
    queries: NDArray[np.float32],
    corpus: NDArray[np.float32],
    k: int,
) -> NDArray[np.int64]:
    """Positions ``[n, k]`` of the documents of each query's k highest scores; rising."""
    n = len(queries)
    buffer = np.empty(n * min(_CORPUS_BLOCK, len(corpus)), dtype=np.float32)
    best = np.zeros((n, 0), dtype=np.int64)
    values = np.zeros((n, 0), dtype=np.float32)
    for start in range(0, len(corpus), _CORPUS_BLOCK):
        block = corpus[start : start + _CORPUS_BLOCK]
        # Into the same memory every time: fresh pages would cost a tenth of the product.
        scores = np.matmul(queries, block.T, out=buffer[: n * len(block)].reshape(n, len(block)))
        if best.shape[1] < k:
            columns = _best_columns(scores, k)
            positions, found = columns + start, np.take_along_axis(scores, columns, axis=1)
        else:
            positions, found = _above(scores, values.min(axis=1), start)
        best = np.concatenate([best, positions], axis=1)
        values = np.concatenate([values, found], axis=1)
        columns = _best_columns(values, k)
        best = np.take_along_axis(best, columns, axis=1)
        values = np.take_along_axis(values, columns, axis=1)
    return best


def _above(
    scores: NDArray[np.float32], threshold: NDArray[np.float32], start: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Positions and scores ``[n, w]`` of what is above each row's threshold.

    Positions rise along each row; w is what the fullest row needs, the others are filled up with
    ``-inf``, which is never among the best.
    """
    n, m = scores.shape
    flat = np.flatnonzero(scores > threshold[:, None])
    rows, columns = np.divmod(flat, m)
    counts = np.bincount(rows, minlength=n)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    positions = np.zeros((n, int(counts.max(initial=0))), dtype=np.int64)
    values = np.full(positions.shape, -np.inf, dtype=np.float32)
    positions[rows, places] = columns + start
    values[rows, places] = scores.ravel()[flat]
    return positions, values


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
