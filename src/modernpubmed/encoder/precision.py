"""Smaller vectors: fewer numbers, fewer bits, and finding with them.

- *Matryoshka*: the first numbers of a vector, brought to length 1 again (Kusupati et al. 2022,
  arXiv:2205.13147); as good as the model was trained for it.
- *int8*: each vector times its own factor, so that its largest number becomes 127. Cosine does not
  see the factor; a dot product does, so compare int8 vectors by cosine.
- *binary*: the signs, eight to a byte (sentence-transformers' ``ubinary``), compared by the
  Hamming distance. What is found by them is scored again with the full query (Yamada, Asai &
  Hajishirzi 2021, arXiv:2106.00882).
"""

from __future__ import annotations

from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from modernpubmed.encoder.pooling import normalize
from modernpubmed.errors import ModernPubMedError

#: What a vector may be stored as.
VectorType = Literal["float32", "float16", "int8", "binary"]
VECTOR_TYPES: tuple[VectorType, ...] = get_args(VectorType)

#: Queries ranked at a time: [queries, documents] of distances are held.
_QUERIES = 64


def shorten(vectors: NDArray[np.float32], dim: int | None) -> NDArray[np.float32]:
    """The first ``dim`` numbers of each vector ``[n, d]``, at length 1; all of them for None.

    Raises:
        ModernPubMedError: ``dim`` is below 1 or above d.

    >>> shorten(np.array([[0.6, 0.0, 0.8]], dtype=np.float32), 2).tolist()
    [[1.0, 0.0]]
    """
    if dim is None or dim == vectors.shape[1]:
        return vectors
    if not 1 <= dim < vectors.shape[1]:
        raise ModernPubMedError(
            f"vectors of {vectors.shape[1]} numbers cannot be cut to {dim}",
            remedy=f"give a dimension from 1 to {vectors.shape[1]}",
        )
    return normalize(vectors[:, :dim])


def quantize(vectors: NDArray[np.float32], dtype: VectorType) -> NDArray[Any]:
    """Unit vectors ``[n, d]`` stored as ``dtype``.

    Returns:
        ``[n, d]`` of float32, float16 or int8; for ``binary`` uint8 ``[n, ⌈d / 8⌉]``, the first
        number's sign in the highest bit, a missing one 0.

    Raises:
        ModernPubMedError: There is no such type.

    >>> vector = np.array([[0.5, -0.25, 0.0, -1.0]], dtype=np.float32)
    >>> quantize(vector, "int8").tolist(), quantize(vector, "binary").tolist()
    ([[64, -32, 0, -127]], [[128]])
    """
    match dtype:
        case "float32":
            return vectors
        case "float16":
            return vectors.astype(np.float16)
        case "int8":
            largest = np.abs(vectors).max(axis=1, keepdims=True, initial=1e-12)
            scaled: NDArray[np.int8] = np.rint(vectors * (127 / largest)).astype(np.int8)
            return scaled
        case "binary":
            return np.packbits(vectors > 0, axis=1)
    raise ModernPubMedError(
        f"no vector type {dtype!r}", remedy=f"give one of {', '.join(VECTOR_TYPES)}"
    )


def search_binary(
    queries: NDArray[np.float32],
    documents: NDArray[np.uint8],
    k: int,
    *,
    oversample: int = 4,
    rescored_by: NDArray[np.int8] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k nearest documents by their signs, scored again with the whole query.

    ``oversample × k`` documents are taken by Hamming distance, and those are ranked by the dot
    product of the float query with the document's signs (±1), or with its int8 vector where that
    is given, by cosine.

    Args:
        queries: Unit vectors, ``[q, d]``.
        documents: ``quantize(…, "binary")``, ``[n, ⌈d / 8⌉]``.
        k: How many to find.
        oversample: How many times k are scored again.
        rescored_by: ``quantize(…, "int8")`` of the same documents, ``[n, d]``.

    Returns:
        Rows of the documents ``[q, min(k, n)]``, the best first and of equals the first, and
        their scores, float32. Scores of two searches compare if both rescored the same way.

    Raises:
        ModernPubMedError: The shapes do not fit, or k or ``oversample`` is below 1.
    """
    dim = queries.shape[1]
    if documents.shape[1] != -(-dim // 8) or (
        rescored_by is not None and rescored_by.shape != (len(documents), dim)
    ):
        raise ModernPubMedError(
            f"queries of {dim} numbers do not fit documents of shape {documents.shape}",
            remedy="quantize both from vectors of one model and dimension",
        )
    if k < 1 or oversample < 1:
        raise ModernPubMedError(f"k is {k}, oversample {oversample}", remedy="give 1 or more")
    k, taken = min(k, len(documents)), min(k * oversample, len(documents))
    rows = np.empty((len(queries), k), dtype=np.int64)
    scores = np.empty((len(queries), k), dtype=np.float32)
    signs = quantize(queries, "binary")
    for start in range(0, len(queries), _QUERIES):
        block = slice(start, start + _QUERIES)
        distances = np.stack([_hamming(sign, documents) for sign in signs[block]])
        near = np.argsort(distances, axis=1, kind="stable")[:, :taken]
        near.sort(axis=1)
        for place, found in enumerate(near, start):
            score = _scores(queries[place], documents, found, rescored_by)
            order = np.argsort(-score, kind="stable")[:k]
            rows[place], scores[place] = found[order], score[order]
    return rows, scores


def _hamming(sign: NDArray[np.uint8], documents: NDArray[np.uint8]) -> NDArray[np.int64]:
    different = np.bitwise_count(np.bitwise_xor(documents, sign))
    return cast("NDArray[np.int64]", different.sum(axis=1, dtype=np.int64))


def _scores(
    query: NDArray[np.float32],
    documents: NDArray[np.uint8],
    rows: NDArray[np.int64],
    rescored_by: NDArray[np.int8] | None,
) -> NDArray[np.float32]:
    if rescored_by is not None:
        return cast("NDArray[np.float32]", normalize(rescored_by[rows].astype(np.float32)) @ query)
    signs = np.unpackbits(documents[rows], axis=1, count=len(query)).astype(np.float32) * 2 - 1
    return cast("NDArray[np.float32]", signs @ query / np.float32(len(query) ** 0.5))
