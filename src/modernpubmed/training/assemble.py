"""From rows to the tensors of a step: texts in chunks of one length, and who is no negative.

An encoder's work is the padded number of tokens. A batch of abstracts padded to its longest wastes
a third of it; here all texts of a batch, anchors and documents alike, are sorted by length and
padded in small chunks, so that nearly all of the work is on real tokens. What is in the batch, and
so the loss, does not change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from modernpubmed.related import BANDS
from modernpubmed.training.tokens import Tokens

#: A chunk ends before a text this much longer than its shortest …
STRETCH = 1.1
#: … and this many tokens: of tiny texts the padding costs less than another call.
SLACK = 4


@dataclass(frozen=True, slots=True)
class Layout:
    """How a source's batches are made.

    Attributes:
        pad: The padding token's id.
        chunk_tokens: Most padded tokens a chunk has, if it has more than one text.
        negatives: Hard negatives a pair.
        contrast: Whether there are contrast queries.
        mesh_overlap: From which Jaccard similarity of MeSH headings on articles are related.
    """

    pad: int
    chunk_tokens: int
    negatives: int
    contrast: bool
    mesh_overlap: float


def assemble(
    tokens: Tokens, shares: Sequence[NDArray[np.int64]], rank: int, layout: Layout
) -> dict[str, Any]:
    """The tensors of one process's share of a batch.

    A text's place among the vectors is its slot: the b anchors, then the b positives, then n hard
    negatives for each pair, then b contrast anchors. Slots of texts that a pair lacks stay empty.

    Args:
        tokens: The source's store.
        shares: The rows of every process, equally many.
        rank: Which of them is ours.
        layout: How.

    Returns:
        ``chunks`` (a list of ``input_ids`` and ``attention_mask``, ``[n, length]``), ``slots``
        (``[texts]``, of the chunks' rows in their order), ``parts`` (how many slots of each of the
        four kinds), ``related`` and ``related_queries`` (see ``info_nce``; empty slots are among
        them), ``masked`` (pairs of query and document left out, by reason), ``tokens`` and
        ``padded`` (how many), ``rows``.
    """
    rows = shares[rank]
    size = len(rows)
    texts, slots = _texts(tokens, rows, layout)
    chunks, order = chunked(texts, layout.chunk_tokens, layout.pad)
    lengths = sum(len(text) for text in texts)
    everyone = np.concatenate(list(shares))
    own = slice(rank * size, (rank + 1) * size)
    related, masked = relations(tokens, everyone, own, layout.mesh_overlap)
    hard = _hard_columns(tokens, everyone, own, layout)
    contrasts = _contrast_columns(tokens, everyone, size, layout)
    return {
        "chunks": chunks,
        "slots": torch.from_numpy(slots[order]),
        "parts": [size, size, size * layout.negatives, size * layout.contrast],
        "related": torch.from_numpy(np.concatenate([related, hard], axis=1)),
        "related_queries": torch.from_numpy(np.concatenate([related, contrasts], axis=1)),
        "masked": masked,
        "tokens": lengths,
        "padded": sum(chunk["input_ids"].numel() for chunk in chunks),
        "rows": rows,
    }


def chunked(
    texts: Sequence[NDArray[Any]], chunk_tokens: int, pad: int
) -> tuple[list[dict[str, torch.Tensor]], NDArray[np.int64]]:
    """Texts sorted by length, the longest first, and padded in chunks.

    Returns:
        The chunks, and for each of their rows the number of its text.

    >>> texts = [np.array([5, 6]), np.array([7] * 40), np.array([8, 9, 10])]
    >>> chunks, order = chunked(texts, chunk_tokens=64, pad=0)
    >>> [tuple(chunk["input_ids"].shape) for chunk in chunks], order.tolist()
    ([(1, 40), (2, 3)], [1, 2, 0])
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    chunks: list[dict[str, torch.Tensor]] = []
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        most = max(1, chunk_tokens // longest)
        shortest = max(0.0, longest / STRETCH - SLACK)
        end = start + 1
        while end < len(order) and end - start < most and lengths[order[end]] >= shortest:
            end += 1
        ids = np.full((end - start, longest), pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for place, number in enumerate(order[start:end]):
            ids[place, : lengths[number]] = texts[number]
            mask[place, : lengths[number]] = 1
        chunks.append(
            {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        )
        start = end
    return chunks, order


def relations(
    tokens: Tokens, everyone: NDArray[np.int64], own: slice, mesh_overlap: float
) -> tuple[NDArray[np.bool_], Counter[str]]:
    """Which pairs of a batch must not be negatives of which.

    Args:
        tokens: The store.
        everyone: The rows of the whole batch, G.
        own: Which of them are ours, b.
        mesh_overlap: See ``Layout``.

    Returns:
        ``[b, G]``, and how many by the first reason that holds: ``same article``, ``same text``,
        ``near-duplicate``, ``linked``, ``MeSH``.
    """
    ours = everyone[own]
    keys, our_keys = tokens.keys[everyone], tokens.keys[ours]
    same = (our_keys[:, None, :] == keys[None, :, :]) & (our_keys[:, None, :] != 0)
    linked = np.zeros(same.shape[:2], dtype=bool)
    place = {int(pmid): column for column, pmid in enumerate(tokens.pmids[everyone]) if pmid}
    first = own.start or 0
    for column, row in enumerate(everyone):
        for pmid in tokens.links.row(int(row)).tolist():
            other = place.get(pmid)
            if other is not None:
                # A comment links to its article and the article to its comment, but not always.
                if first <= column < first + len(ours):
                    linked[column - first, other] = True
                if first <= other < first + len(ours):
                    linked[other - first, column] = True
    reasons = {
        "same article": same[:, :, BANDS + 1] | same[:, :, BANDS + 2],
        "same text": same[:, :, BANDS],
        "near-duplicate": same[:, :, :BANDS].any(axis=2),
        "linked": linked,
        "MeSH": _mesh(tokens, everyone, own) >= mesh_overlap,
    }
    related = np.zeros(linked.shape, dtype=bool)
    itself = np.zeros(linked.shape, dtype=bool)
    itself[np.arange(len(ours)), first + np.arange(len(ours))] = True
    masked: Counter[str] = Counter()
    for reason, holds in reasons.items():
        new = holds & ~related & ~itself
        if count := int(new.sum()):
            masked[reason] = count
        related |= new
    return related, masked


def _mesh(tokens: Tokens, everyone: NDArray[np.int64], own: slice) -> NDArray[np.float32]:
    """Jaccard similarity of MeSH headings, [b, G]; -1 where either article has none."""
    sets = [tokens.mesh.row(int(row)) for row in everyone]
    sizes = np.array([len(headings) for headings in sets])
    nothing = np.full((len(sizes[own]), len(sizes)), -1, dtype=np.float32)
    if not sizes.any():
        return nothing
    _, columns = np.unique(np.concatenate(sets), return_inverse=True)
    has = np.zeros((len(sets), int(columns.max()) + 1), dtype=np.float32)
    has[np.repeat(np.arange(len(sets)), sizes), columns] = 1
    both = has[own] @ has.T
    either = sizes[own][:, None] + sizes[None, :] - both
    return np.where((sizes[own][:, None] > 0) & (sizes > 0), both / np.maximum(either, 1), nothing)


def _texts(
    tokens: Tokens, rows: NDArray[np.int64], layout: Layout
) -> tuple[list[NDArray[Any]], NDArray[np.int64]]:
    size = len(rows)
    texts = [tokens.anchor.row(int(row)) for row in rows]
    texts += [tokens.positive.row(int(row)) for row in rows]
    slots = list(range(2 * size))
    for place, row in enumerate(rows if layout.negatives else ()):
        for number, ids in enumerate(tokens.negatives_of(int(row))[: layout.negatives]):
            texts.append(ids)
            slots.append(2 * size + place * layout.negatives + number)
    for place, row in enumerate(rows if layout.contrast else ()):
        ids = tokens.contrast.row(int(row))
        if len(ids):
            texts.append(ids)
            slots.append(size * (2 + layout.negatives) + place)
    return texts, np.array(slots, dtype=np.int64)


def _hard_columns(
    tokens: Tokens, everyone: NDArray[np.int64], own: slice, layout: Layout
) -> NDArray[np.bool_]:
    """Which hard negatives are none: empty slots, and texts that are our own positives."""
    count = layout.negatives
    ours = everyone[own]
    if not count:
        return np.zeros((len(ours), 0), dtype=bool)
    present = np.minimum(tokens.mined[everyone], count)
    missing = (np.arange(count) >= present[:, None]).ravel()
    left_out = np.broadcast_to(missing, (len(ours), len(missing))).copy()
    # One pair's negative may be another's positive.
    positives = {tokens.positive.row(int(row)).tobytes(): place for place, row in enumerate(ours)}
    for column, row in enumerate(everyone):
        for number, ids in enumerate(tokens.negatives_of(int(row))[:count]):
            place = positives.get(ids.tobytes())
            if place is not None:
                left_out[place, column * count + number] = True
    return left_out


def _contrast_columns(
    tokens: Tokens, everyone: NDArray[np.int64], size: int, layout: Layout
) -> NDArray[np.bool_]:
    if not layout.contrast:
        return np.zeros((size, 0), dtype=bool)
    offsets = tokens.contrast.offsets
    missing = offsets[everyone + 1] == offsets[everyone]
    return np.broadcast_to(missing, (size, len(missing))).copy()
