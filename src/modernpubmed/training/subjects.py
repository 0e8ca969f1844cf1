"""Pairs in an order in which neighbours are about the same thing: batches with hard negatives.

In a batch drawn at random nearly every document is about something else, and an encoder that knows
its field finds nothing in it to learn from. If a batch is of one subject, every other document of
it is a hard negative, at no cost: nothing is mined, and nothing more is encoded. (Batches by
cluster: Merrick 2024, arXiv:2407.18887; Morris & Rush 2024, arXiv:2410.02525.)

What a document is about is taken from the vectors that the model has for its tokens before any
layer: their mean, a rare token weighing more, without the direction that all documents share
(SIF: Arora et al. 2017). That is no good encoder, but it costs seconds for what the model itself
would need an hour for, and a batch needs no more than the same corner of medicine. The order comes
from halving: along the direction in which a set of documents differs most, into two equal halves,
and each of these again, down to ``LEAF`` documents.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from modernpubmed.training.tokens import Ragged

#: Sets of documents as small as this are not told apart further.
LEAF = 16
_SIF = 1e-3
_BLOCK = 4096
_SAMPLE = 4096
_ITERATIONS = 12


def by_subject(documents: Ragged, embeddings: NDArray[np.float32]) -> NDArray[np.int32]:
    """The place of every document in an order by subject.

    Args:
        documents: Token ids of N documents.
        embeddings: The vectors of the tokens, ``[tokens, d]``.

    Returns:
        ``[N]``, from 1: each number once. The same for the same input on one machine.

    >>> ids = np.array([1, 2, 1, 3, 3, 1, 2, 1], dtype=np.uint32)
    >>> documents = Ragged(ids, np.array([0, 2, 4, 6, 8]))
    >>> embeddings = np.eye(4, dtype=np.float32)
    >>> sorted(by_subject(documents, embeddings).tolist())
    [1, 2, 3, 4]
    """
    vectors = _vectors(documents, embeddings)
    order = np.arange(len(vectors))
    sets = [slice(0, len(order))]
    while sets:
        part = sets.pop()
        rows = order[part]
        if len(rows) <= LEAF:
            continue
        along = vectors[rows] @ _direction(vectors[rows])
        order[part] = rows[np.argsort(along, kind="stable")]
        middle = part.start + len(rows) // 2
        sets += [slice(part.start, middle), slice(middle, part.stop)]
    places = np.empty(len(order), dtype=np.int32)
    places[order] = np.arange(1, len(order) + 1)
    return places


def _vectors(documents: Ragged, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """A vector of each document, of length 1, ``[N, d]``."""
    offsets, ids = documents.offsets, documents.values
    count = np.bincount(np.asarray(ids), minlength=len(embeddings)).astype(np.float32)
    weights = _SIF / (_SIF + count / max(1, len(ids)))
    table = embeddings * weights[:, None].astype(np.float32)
    vectors = np.zeros((len(offsets) - 1, embeddings.shape[1]), dtype=np.float32)
    for start in range(0, len(vectors), _BLOCK):
        ends = offsets[start : start + _BLOCK + 1]
        bag = functional.embedding_bag(
            torch.from_numpy(ids[ends[0] : ends[-1]].astype(np.int64)),
            torch.from_numpy(table),
            torch.from_numpy((ends[:-1] - ends[0]).astype(np.int64)),
            mode="sum",
        )
        vectors[start : start + len(bag)] = bag.numpy()
    if not len(vectors):
        return vectors
    vectors = _unit(vectors)
    common = _direction(vectors, centred=False)
    return _unit(vectors - np.outer(vectors @ common, common))


def _direction(vectors: NDArray[np.float32], *, centred: bool = True) -> NDArray[np.float32]:
    """The direction in which vectors differ most, by power iteration, ``[d]``."""
    sample = vectors[:: max(1, len(vectors) // _SAMPLE)]
    if centred:
        sample = sample - sample.mean(axis=0)
    # Any start will do that is not at right angles to it; the longest vector is not.
    direction = sample[np.argmax((sample * sample).sum(axis=1))]
    for _ in range(_ITERATIONS):
        direction = _unit((sample.T @ (sample @ direction))[None])[0]
    result: NDArray[np.float32] = direction
    return result


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, np.float32(1e-12))
    return unit
