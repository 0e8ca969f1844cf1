"""The k best documents of a query without the float32 product: 8-bit integers, then proof.

Every vector is rounded to small integers times a step of its own (documents: of their block), so
that a cosine is ``step · step · (integer product)`` up to an error which the Cauchy-Schwarz
inequality bounds: with ``q = q' + r`` and ``d = d' + s``, where ``q'`` and ``d'`` are what the
integers stand for, ``|q·d - q'·d'| = |r·d' + q·s| ≤ |r||d'| + |q||s|``, all of them known. So a
cosine is at most its estimate ``q'·d'`` plus that margin.

1. A threshold is guessed for each query from a sample of the documents: with near certainty the
   k-th best cosine is above it. Documents whose cosine may reach it are candidates.
2. Candidates whose estimate reaches it get their cosine in float32. The k-th best of these is at
   most the k-th best of all, so the other candidates get theirs only where it may reach that.
3. What is not below it, k documents and a few more, gets its cosine in float64.

The guess is checked in between: where the k-th best cosine found is below the threshold, or where
candidates are too many, the query is reported as not sure, and the caller ranks it by the float32
product. So a bad guess, rounding too coarse to tell documents apart (vectors with a few huge
entries) or thousands of equal documents cost time and never a place in the ranking.

Documents are sorted by their largest entry, so that those of a block need about the same step:
one step for all would be nearly twice as coarse, and one for each would cost a pass over all
scores. Given up: a finer second integer for each entry, which doubles the product to halve the
margin.
"""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from modernpubmed.evaluation.int8_product import ROWS, int8_product, largest

# Where preselecting was measured to be quicker: queries, and documents for each one wanted.
_FEWEST_QUERIES, _FEWEST_FOR_EACH = 64, 40
# Blocks of documents that the thresholds are guessed from: a fifth, 16 MiB of sums at most.
_SAMPLE_SHARE, _SAMPLE_BLOCKS = 5, 8
# The guess is made on the best of each eight documents of the sample, which is as good and cheap.
_GROUP = 8
# Standard deviations by which the guess is below what is expected: one query in 10,000 fails.
_CAUTION = 4.5
# Candidates that are kept for a query: so many times k and a few.
_MOST, _FEW = 16, 16
# By how much a margin computed in float32 may be too small. Cosines are float32 in the end.
_SLACK = 1e-5
# The same for a length, as a factor: d squares in float32 may add up to d / 2**24 too little.
_RELATIVE, _MOST_DIMENSIONS = 1.001, 16_384
# Pairs whose vectors are gathered at a time: they stay in the cache.
_PAIRS = 128


@dataclass(frozen=True, slots=True)
class Rounded:
    """A corpus and its small integers, in blocks of ``ROWS`` documents.

    Attributes:
        documents: int64 ``[m]``, which document is at each row.
        vectors: float32 ``[m, d]``, of length 1, or 0.
        codes: uint8 ``[blocks * ROWS, d]``: the integers plus ``zero``; after the last row zeros.
        zero: The largest magnitude of an integer.
        steps: float64 ``[blocks]``, what an integer of the block is multiplied by.
        lengths: float64 ``[blocks]``, the longest vector that the integers of the block stand for.
        errors: float64 ``[blocks]``, the longest difference to a vector of the block.
        sample: How many of the first blocks hold documents drawn at random.
    """

    documents: NDArray[np.int64]
    vectors: NDArray[np.float32]
    codes: NDArray[np.uint8]
    zero: int
    steps: NDArray[np.float64]
    lengths: NDArray[np.float64]
    errors: NDArray[np.float64]
    sample: int


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The pairs of query and document whose cosine may reach the query's threshold.

    Attributes:
        rows: uint16, the pair's query.
        places: int64, its document's row.
        most: float32, what its cosine is at most.
        likely: Whether its estimate reaches the threshold.
        threshold: float64 ``[n]``; any other document's cosine is below.
    """

    rows: NDArray[np.uint16]
    places: NDArray[np.int64]
    most: NDArray[np.float32]
    likely: NDArray[np.bool_]
    threshold: NDArray[np.float64]


def worthwhile(queries: int, documents: int, dimensions: int, k: int) -> bool:
    """Whether preselecting is quicker than the float32 product, and its bounds hold.

    It is not for few queries, as every document has to be rounded first, nor for few documents for
    each of the k, as most would be candidates.

    >>> worthwhile(4_000, 40_000, 384, 100), worthwhile(4_000, 3_000, 384, 100)
    (True, False)
    """
    enough = queries >= _FEWEST_QUERIES and documents >= max(2 * ROWS, _FEWEST_FOR_EACH * k)
    return enough and dimensions <= _MOST_DIMENSIONS


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors ``[n, d]``, each divided by its length; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    divided: NDArray[np.float32] = vectors / np.maximum(lengths, np.float32(1e-12))
    return divided


def rounded(corpus: NDArray[np.float32], order: NDArray[np.int64], pool: Executor) -> Rounded:
    """Rounds a corpus, in the pool's threads.

    Args:
        corpus: ``[m, d]``, vectors of any length, m at least ``ROWS``.
        order: The document at a position is ``corpus[order[position]]``.
        pool: Where the work is done.
    """
    m, d = corpus.shape
    blocks = -(-m // ROWS)
    sample = max(1, min(blocks // _SAMPLE_SHARE, _SAMPLE_BLOCKS))
    zero = largest()
    every = [slice(block * ROWS, (block + 1) * ROWS) for block in range(blocks)]
    peaks = np.concatenate(list(pool.map(lambda rows: _peaks(unit(corpus[rows])), every)))
    drawn, others = np.split(np.random.default_rng(0).permutation(m), [sample * ROWS])
    documents = np.concatenate([part[np.argsort(peaks[order[part]])] for part in (drawn, others)])
    vectors = np.empty((m, d), dtype=np.float32)
    codes = np.empty((blocks * ROWS, d), dtype=np.uint8)
    codes[m:] = zero
    steps, lengths, errors = np.empty((3, blocks))

    def work(block: int) -> None:
        rows = every[block]
        vectors[rows] = exact = unit(corpus[order[documents[rows]]])
        steps[block] = step = _steps(_peaks(exact).max(), zero)
        integers = np.rint(exact / step)
        codes[rows][: len(exact)] = integers + np.float32(zero)
        lengths[block] = _RELATIVE * _lengths(integers).max() * step
        errors[block] = _RELATIVE * _lengths(exact - integers * step).max()

    list(pool.map(work, range(blocks)))
    return Rounded(documents, vectors, codes, zero, steps, lengths, errors, sample)


def preselect(
    queries: NDArray[np.float32], corpus: Rounded, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """The k best documents of each query by falling cosine, equal ones by rising position.

    Args:
        queries: ``[n, d]`` unit vectors or zeros, n at most 65,536.
        corpus: The documents.
        k: How many; ``worthwhile``.

    Returns:
        Documents ``[n, k]``, cosines ``[n, k]``, and for each of the n whether both are sure;
        where they are not, they mean nothing.
    """
    n, dimensions = queries.shape
    documents, scores = np.zeros((n, k), dtype=np.int64), np.zeros((n, k), dtype=np.float32)
    found = _candidates(queries, corpus, k)
    if found is None:
        return documents, scores, np.zeros(n, dtype=np.bool_)
    rows, places = found.rows, found.places
    # Twice what a sum of d products in float32 may be off by.
    delta = np.float32((dimensions + 8) * 2.0**-23)
    values = np.full(len(rows), -np.inf, dtype=np.float32)
    likely = np.flatnonzero(found.likely)
    values[likely] = cosines(queries, corpus.vectors, rows[likely], places[likely], np.float32)
    kth = _kth_highest(values[likely], rows[likely], n, k) - delta
    sure = kth >= found.threshold
    kth[~sure] = np.inf
    rest = np.flatnonzero(~found.likely & (found.most >= kth[rows]))
    values[rest] = cosines(queries, corpus.vectors, rows[rest], places[rest], np.float32)
    last = np.flatnonzero(values >= (kth - delta)[rows])
    rows, places = rows[last], places[last]
    values = cosines(queries, corpus.vectors, rows, places)
    places = corpus.documents[places]
    order = np.lexsort((places, -values, rows))
    counts = np.bincount(rows, minlength=n)
    best = order[(np.cumsum(counts) - counts)[sure, None] + np.arange(k)]
    documents[sure], scores[sure] = places[best], values[best]
    return documents, scores, sure


def cosines(
    queries: NDArray[np.float32],
    corpus: NDArray[np.float32],
    rows: NDArray[np.integer[Any]],
    places: NDArray[np.int64],
    dtype: DTypeLike = np.float64,
) -> NDArray[np.float32]:
    """The cosine of each pair, the same for the same two vectors wherever they stand.

    Args:
        queries: ``[n, d]`` unit vectors.
        corpus: ``[m, d]`` unit vectors.
        rows: The pairs' queries.
        places: The pairs' documents.
        dtype: What is computed in.
    """
    values = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), _PAIRS):
        pairs = slice(start, start + _PAIRS)
        asked, given = queries.take(rows[pairs], axis=0), corpus.take(places[pairs], axis=0)
        values[pairs] = np.vecdot(asked, given, dtype=dtype)
    return values


def _candidates(queries: NDArray[np.float32], corpus: Rounded, k: int) -> _Candidates | None:
    """The candidates, none of a query that has too many; None where all together are too many."""
    n, m = len(queries), len(corpus.documents)
    steps = _steps(_peaks(queries), corpus.zero)[:, None]
    integers = np.rint(queries / steps)
    multiply = int8_product(np.ascontiguousarray(integers.T.astype(np.int8)), corpus.zero)
    errors = _RELATIVE * _lengths(queries - integers * steps)[:, None]
    # [n, blocks]; a unit vector computed in float32 is at most 1.001 long.
    margins = errors * corpus.lengths + _RELATIVE * corpus.errors + _SLACK
    scales = steps.astype(np.float64) * corpus.steps

    def product(block: int, out: NDArray[np.int32]) -> NDArray[np.int32]:
        multiply(corpus.codes[block * ROWS : (block + 1) * ROWS], out)
        return out[: m - block * ROWS]

    sample = [product(block, np.empty((ROWS, n), np.int32)) for block in range(corpus.sample)]
    threshold = _guess(sample, scales, k * corpus.sample * ROWS / m)
    limits = np.floor((threshold[:, None] - margins) / scales)
    limits = np.clip(limits, -(2**31), 2**31 - 1).astype(np.int32).T.copy()
    sums, reached = np.empty((ROWS, n), np.int32), np.empty((ROWS, n), np.bool_)
    rows, places, most, likely = [], [], [], []
    count, limit = 0, _MOST * (k + _FEW)
    for block in range(len(corpus.steps)):
        block_sums = sample[block] if block < corpus.sample else product(block, sums)
        mask = np.greater_equal(block_sums, limits[block], out=reached[: len(block_sums)])
        flat = np.flatnonzero(mask)
        count += len(flat)
        if count > limit * n:
            return None
        place = flat // n
        row = (flat - place * n).astype(np.uint16)
        estimate = block_sums.ravel()[flat] * scales[:, block].astype(np.float32)[row]
        rows.append(row)
        places.append(place + block * ROWS)
        most.append(estimate + margins[:, block].astype(np.float32)[row])
        likely.append(estimate >= threshold.astype(np.float32)[row])
    pairs = (np.concatenate(rows), np.concatenate(places), np.concatenate(most))
    chosen = np.concatenate(likely)
    crowded = np.bincount(pairs[0], minlength=n) > limit
    if crowded.any():
        kept = np.flatnonzero(~crowded[pairs[0]])
        pairs, chosen = (pairs[0][kept], pairs[1][kept], pairs[2][kept]), chosen[kept]
    return _Candidates(*pairs, chosen, threshold)


def _guess(
    sample: list[NDArray[np.int32]], scales: NDArray[np.float64], expected: float
) -> NDArray[np.float64]:
    """What the k-th best cosine is hardly ever below, ``[n]``.

    Args:
        sample: The integer products of the sample's blocks, each ``[ROWS, n]``.
        scales: What they are multiplied by, ``[n, blocks]``.
        expected: How many of the k best are in the sample on average.
    """
    best = np.concatenate(
        [
            sums.reshape(-1, _GROUP, sums.shape[1]).max(axis=1) * scales[:, block]
            for block, sums in enumerate(sample)
        ],
        dtype=np.float32,
    ).T.copy()
    rank = min(math.ceil(expected + _CAUTION * math.sqrt(expected)), best.shape[1])
    guess: NDArray[np.float64] = np.partition(best, -rank, axis=1)[:, -rank].astype(np.float64)
    return guess


def _kth_highest(
    values: NDArray[np.float32], rows: NDArray[np.uint16], n: int, k: int
) -> NDArray[np.float32]:
    """The k-th highest value of each of n rows; ``-inf`` where it has fewer."""
    order = np.argsort(rows, kind="stable")
    counts = np.bincount(rows, minlength=n)
    table = np.full((n, max(k, int(counts.max(initial=0)))), -np.inf, dtype=np.float32)
    columns = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    table[rows[order], columns] = values[order]
    kth: NDArray[np.float32] = np.partition(table, -k, axis=1)[:, -k]
    return kth


def _peaks(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest magnitude in each row."""
    peaks: NDArray[np.float32] = np.maximum(vectors.max(axis=1), -vectors.min(axis=1))
    return peaks


def _steps(peaks: NDArray[np.float32], zero: int) -> NDArray[np.float32]:
    """What entries are divided by so that the largest magnitude becomes ``zero``."""
    steps: NDArray[np.float32] = np.divide(
        np.maximum(peaks, np.float32(1e-12)), zero, dtype=np.float32
    )
    return steps


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.sqrt(np.vecdot(vectors, vectors))
    return lengths
