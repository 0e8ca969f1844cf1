"""From token vectors to one vector a text, as sentence-transformers' Pooling and Normalize do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


def _mean(tokens: Float, mask: Float) -> Float:
    total = np.einsum("bsd,bs->bd", tokens, mask)
    mean: Float = total / np.maximum(mask.sum(axis=1, keepdims=True), np.float32(1e-9))
    return mean


def _cls(tokens: Float, mask: Float) -> Float:
    # With left padding the first token is not at position 0.
    first: Float = tokens[np.arange(len(tokens)), mask.argmax(axis=1)]
    return first


def _max(tokens: Float, mask: Float) -> Float:
    largest: Float = np.where(mask[:, :, None] > 0, tokens, np.float32(-np.inf)).max(axis=1)
    return largest


#: By name in ``1_Pooling/config.json``: functions of ``[b, s, d]`` tokens and a ``[b, s]`` mask.
POOLING_MODES: Mapping[str, Callable[[Float, Float], Float]] = {
    "mean": _mean,
    "cls": _cls,
    "max": _max,
}


def normalize(vectors: Float) -> Float:
    """The rows of ``[n, d]`` at length 1; a row of zeros stays one.

    >>> normalize(np.array([[3.0, 4.0]], dtype=np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Float = vectors / np.maximum(lengths, np.float32(1e-12))
    return unit
