"""A tokenizer for a static model: the teacher's WordPiece, cut and extended to what texts use.

A transformer makes the meaning of "hepatocellular" of its pieces; a mean of token vectors cannot,
so frequent words become tokens of their own. The room for them comes from tokens that the texts
hardly use. Single characters stay, so that whatever the teacher could spell still can be.

Given up: tokens of several words, which WordPiece has no way to find.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from modernpubmed.errors import ModernPubMedError

#: What the pieces of a word start with, but for the first.
CONTINUED = "##"
#: How often a token or a word must occur to become one.
LEAST = 5

_TEXTS = 50_000
#: Words are told apart by a hash of their pieces: a polynomial of this, modulo 2^64.
_BASE = np.uint64(0x9E3779B97F4A7C15)


def token_ids(
    tokenizer: Tokenizer, texts: Sequence[str]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The token ids of n texts in one array, and where each text begins and the last ends.

    Returns:
        int32 ``[tokens]`` and int64 ``[n + 1]``.
    """
    values = [np.zeros(0, np.int32)]
    lengths = [0]
    for start in range(0, len(texts), _TEXTS):
        for encoding in tokenizer.encode_batch_fast(
            list(texts[start : start + _TEXTS]), add_special_tokens=False
        ):
            values.append(np.array(encoding.ids, dtype=np.int32))
            lengths.append(len(encoding))
    return np.concatenate(values), np.cumsum(lengths)


def adapted(tokenizer: Tokenizer, texts: Sequence[str], size: int) -> Tokenizer:
    """The tokenizer with the tokens that texts use, and with their most frequent words whole.

    Args:
        tokenizer: WordPiece.
        texts: What decides: tokens that occur fewer than ``LEAST`` times go, words that occur as
            often come, the most frequent first.
        size: Most tokens of the new one, if the single characters alone are not more.

    Returns:
        A tokenizer that knows no special tokens but the unknown one (number 0), and that neither
        cuts nor pads.

    Raises:
        ModernPubMedError: It is no WordPiece.
    """
    state: dict[str, Any] = json.loads(tokenizer.to_str())
    model = state["model"]
    if model.get("type") != "WordPiece" or model.get("continuing_subword_prefix") != CONTINUED:
        raise ModernPubMedError(
            f"the tokenizer is {model.get('type')}, not WordPiece",
            remedy="choose a model of the BERT family",
        )
    whole = Tokenizer.from_str(tokenizer.to_str())
    whole.no_truncation()
    ids, _ = token_ids(whole, texts)
    tokens = [str(whole.id_to_token(row)) for row in range(whole.get_vocab_size())]
    count = np.bincount(ids, minlength=len(tokens))
    unknown = str(model["unk_token"])
    special = {str(added["content"]) for added in state["added_tokens"]}
    ordinary = [token for token in tokens if token not in special]
    kept = {unknown: None}
    kept |= dict.fromkeys(token for token in ordinary if len(token.removeprefix(CONTINUED)) == 1)
    used = [tokens[row] for row in np.argsort(-count, kind="stable") if count[row] >= LEAST]
    for token in [*used, *_frequent_words(ids, tokens, unknown)]:
        if token not in special and len(kept) < size:
            kept[token] = None
    model["vocab"] = {token: row for row, token in enumerate(kept)}
    state["added_tokens"] = [
        {**added, "id": 0} for added in state["added_tokens"] if added["content"] == unknown
    ]
    state |= {"post_processor": None, "truncation": None, "padding": None}
    return Tokenizer.from_str(json.dumps(state))


def _frequent_words(ids: NDArray[np.int32], tokens: Sequence[str], unknown: str) -> list[str]:
    """Words of two or more pieces that occur at least ``LEAST`` times, by falling frequency."""
    continues = np.array([token.startswith(CONTINUED) for token in tokens])[ids]
    starts = np.flatnonzero(~continues)
    if not len(starts):
        return []
    sizes = np.diff(np.append(starts, len(ids)))
    place = np.arange(len(ids)) - np.repeat(starts, sizes)
    powers = np.cumprod(np.full(int(place.max()) + 1, _BASE))
    hashes = np.add.reduceat((ids.astype(np.uint64) + np.uint64(1)) * powers[place], starts)
    several = np.flatnonzero(sizes > 1)
    _, first, count = np.unique(hashes[several], return_index=True, return_counts=True)
    words = []
    for number in np.argsort(-count, kind="stable"):
        if count[number] < LEAST:
            break
        word = several[first[number]]
        pieces = [tokens[row] for row in ids[starts[word] : starts[word] + sizes[word]]]
        if unknown not in pieces:
            words.append("".join(piece.removeprefix(CONTINUED) for piece in pieces))
    return words
