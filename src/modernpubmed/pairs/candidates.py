"""Which documents an anchor could be mistaken for: the first of BM25 and the nearest vectors.

Both rankings are exact, and equal scores go to the earlier document, so that mining gives the same
twice. BM25 is the library ``bm25s`` (Lù 2024, https://arxiv.org/abs/2407.03618) in Lucene's
variant; words are runs of two or more word characters without Lucene's 33 English stop words.
Neighbours are block-wise matrix products, never all scores at once. Given up: an approximate
index, which would be faster from some hundred thousand pairs on and need one library more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modernpubmed.errors import ModernPubMedError
from modernpubmed.folding import fingerprint, folded

#: Called with how many are done, and how many there are.
Report = Callable[[int, int], None]

_PARAMETERS = {"method": "lucene", "k1": 1.5, "b": 0.75}
# Texts handed on at once; anchors ranked at once, and documents they meet at once: 256 × 16,384
# scores are 16 MiB.
_TEXTS, _ANCHORS, _DOCUMENTS = 1024, 256, 16384

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Texts:
    """The different anchors and positives of n pairs, each in the order of its first pair.

    Attributes:
        anchors: Texts ``[u]``, Arrow.
        documents: Texts ``[m]``, Arrow: the different positives.
        anchor_of: ``[n]``, the place of a pair's anchor.
        document_of: ``[n]``, the place of a pair's positive.
        anchor_fold: ``[u]``, one number for all texts that are the same after ``folded``.
        document_fold: ``[m]``, likewise and comparable.
    """

    anchors: pa.Array
    documents: pa.Array
    anchor_of: _Ints
    document_of: _Ints
    anchor_fold: _Ints
    document_fold: _Ints

    @classmethod
    def of(cls, table: pa.Table, report: Report) -> Self:
        """Takes a table in ``PAIR_SCHEMA`` apart; tells of the texts it has folded."""
        anchors, anchor_of = distinct(table["anchor"])
        documents, document_of = distinct(table["positive"])
        hashes = np.empty(len(anchors) + len(documents), dtype=np.uint64)
        place = 0
        for texts in (anchors, documents):
            for _, part in parts(texts):
                hashes[place : place + len(part)] = [fingerprint(folded(text)) for text in part]
                place += len(part)
                report(place, len(hashes))
        folds = np.unique(hashes, return_inverse=True)[1]
        return cls(
            anchors,
            documents,
            anchor_of,
            document_of,
            folds[: len(anchors)],
            folds[len(anchors) :],
        )

    @property
    def width(self) -> int:
        """More than any number in ``anchor_fold`` and ``document_fold``, to make one of two."""
        return len(self.anchors) + len(self.documents)


def distinct(column: pa.ChunkedArray) -> tuple[pa.Array, _Ints]:
    """The different values in the order they come in, and the place of each row's; -1 for null."""
    if pa.types.is_string(column.type):
        # In one array even where the texts are over 2 GB together.
        column = column.cast(pa.large_string())
    coded = column.combine_chunks().dictionary_encode()
    places = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return coded.dictionary, places


def parts(texts: pa.Array) -> Iterator[tuple[int, list[str]]]:
    """The texts, some at a time, with the place of the first."""
    for start in range(0, len(texts), _TEXTS):
        yield start, texts.slice(start, _TEXTS).to_pylist()


@dataclass(frozen=True, slots=True)
class Vectors:
    """Unit vectors of the different anchors ``[u, d]`` and positives ``[m, d]``."""

    anchors: _Floats
    documents: _Floats

    def cosines(self, anchors: _Ints, documents: _Ints) -> _Floats:
        """The cosine of each anchor with the document at the same place."""
        # A matrix product gives the same two vectors another last bit at another place, which
        # would decide ties; so one by one, in float64.
        scores = np.empty(len(anchors), dtype=np.float32)
        for start in range(0, len(anchors), _TEXTS):
            part = slice(start, start + _TEXTS)
            scores[part] = np.einsum(
                "pd,pd->p",
                self.anchors[anchors[part]],
                self.documents[documents[part]],
                dtype=np.float64,
            )
        return scores


def encode_all(
    texts: pa.Array,
    encode: Callable[[list[str]], _Floats],
    dimension: int,
    file: Path,
    report: Report,
) -> _Floats:
    """The vectors of all texts, ``[n, d]``, kept in ``file`` and mapped into memory.

    Raises:
        ModernPubMedError: The encoder gives another shape, or a number that is not finite.
    """
    vectors = np.memmap(file, dtype=np.float32, mode="w+", shape=(len(texts), dimension))
    for start, part in parts(texts):
        found = encode(part)
        if found.shape != (len(part), dimension):
            raise ModernPubMedError(
                f"the encoder gave {len(part)} texts vectors of shape {found.shape}",
                remedy=f"give an encoder whose vectors have its dimension, {dimension}",
            )
        finite = np.isfinite(found).all(axis=1)
        if not finite.all():
            text = " ".join(part[int(np.argmin(finite))].split())
            raise ModernPubMedError(
                f"the encoder's vector of {text[:60]!r} is not finite",
                remedy="check the model: its weights are damaged",
            )
        vectors[start : start + len(part)] = found
        report(start + len(part), len(texts))
    return np.asarray(vectors)


def bm25_settings() -> dict[str, Any]:
    """What the ranking by words depends on, for the manifest."""
    return {**_PARAMETERS, "stopwords": "en", "bm25s": metadata.version("bm25s")}


def by_words(texts: Texts, depth: int, report: Report) -> NDArray[np.int32]:
    """The documents of the highest BM25 score for each anchor, ``[u, depth]``; -1 where fewer.

    A document without any word of the anchor is not found. Ties go to the earlier document.
    """
    import bm25s

    found = np.full((len(texts.anchors), depth), -1, dtype=np.int32)
    words = bm25s.tokenize(texts.documents.to_pylist(), stopwords="en", show_progress=False)
    if not any(words.ids):
        # No word at all, so nothing to find by words (and bm25s would not index it).
        report(len(found), len(found))
        return found
    index = bm25s.BM25(**_PARAMETERS)
    index.index(words, show_progress=False)
    known = words.vocab
    del words
    for start, part in parts(texts.anchors):
        queries = bm25s.tokenize(part, stopwords="en", return_ids=False, show_progress=False)
        for row, query in enumerate(queries, start):
            if not (query := [word for word in query if word in known]):
                continue
            scores = index.get_scores(query)
            places = np.flatnonzero(scores > 0)
            if len(places) > depth:
                # All at the border too: the stable sort decides between them by place.
                border = np.partition(scores[places], -depth)[-depth]
                places = places[scores[places] >= border]
            best = places[np.argsort(-scores[places], kind="stable")][:depth]
            found[row, : len(best)] = best
        report(start + len(part), len(found))
    return found


def by_sense(vectors: Vectors, depth: int, report: Report) -> NDArray[np.int32]:
    """The documents of the highest cosine for each anchor, ``[u, min(depth, m)]``."""
    total, count = len(vectors.anchors), len(vectors.documents)
    depth = min(depth, count)
    found = np.empty((total, depth), dtype=np.int32)
    for start in range(0, total, _ANCHORS):
        anchors = vectors.anchors[start : start + _ANCHORS]
        best = np.zeros((len(anchors), 0), dtype=np.int64)
        values = np.zeros((len(anchors), 0), dtype=np.float32)
        for first in range(0, count, _DOCUMENTS):
            scores = anchors @ vectors.documents[first : first + _DOCUMENTS].T
            columns = _best_columns(scores, depth)
            best = np.concatenate([best, columns + first], axis=1)
            values = np.concatenate([values, np.take_along_axis(scores, columns, 1)], axis=1)
            columns = _best_columns(values, depth)
            best = np.take_along_axis(best, columns, 1)
            values = np.take_along_axis(values, columns, 1)
        found[start : start + len(anchors)] = best
        report(start + len(anchors), total)
    return found


def _best_columns(scores: _Floats, k: int) -> _Ints:
    """The columns of each row's k highest scores, rising; ties to the lowest column."""
    n, m = scores.shape
    if m <= k:
        return np.broadcast_to(np.arange(m), (n, m))
    # The k-th highest by partition, then a comparison: faster than argpartition, and ties are
    # seen.
    border = np.partition(scores, m - k, axis=1)[:, m - k, None]
    mask = scores >= border
    tied = np.flatnonzero(mask.sum(axis=1) > k)
    if len(tied):
        above, at = scores[tied] > border[tied], scores[tied] == border[tied]
        room = k - above.sum(axis=1, keepdims=True)
        mask[tied] = above | (at & (np.cumsum(at, axis=1) <= room))
    return np.nonzero(mask)[1].reshape(n, k)
