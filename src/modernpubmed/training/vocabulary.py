"""A tokenizer for a static model: the teacher's WordPiece, cut and extended to what texts use.

A transformer makes the meaning of "hepatocellular" of its pieces; a mean of token vectors cannot,
so frequent words become tokens of their own. The room for them comes from tokens that the texts
hardly use.

Given up: tokens of several words, which WordPiece has no way to find.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, trainers

from modernpubmed.errors import ModernPubMedError

#: What the pieces of a word start with, but for the first.
CONTINUED = "##"
#: The number of the token that stands for what has none.
UNKNOWN = 0
#: How often a word must occur to become a token.
LEAST = 5

#: Characters that are always kept, so that any word of them can be spelt.
_ALPHABET = frozenset(string.ascii_lowercase + string.ascii_uppercase + string.digits)
_TEXTS = 20_000


@dataclass(frozen=True, slots=True)
class Bags:
    """Which tokens are in each of n texts.

    Attributes:
        ids: int32, the texts' tokens one after the other.
        ends: int64 ``[n]``, where each text ends in ``ids``.
    """

    ids: NDArray[np.int32]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        """How many texts there are."""
        return len(self.ends)

    def take(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The ids of some texts, and where each of these begins in them, as EmbeddingBag asks."""
        starts = np.where(rows > 0, self.ends[rows - 1], 0)
        lengths = self.ends[rows] - starts
        offsets = np.cumsum(lengths) - lengths
        places = np.arange(int(lengths.sum())) + np.repeat(starts - offsets, lengths)
        return self.ids[places].astype(np.int64), offsets


def bags(tokenizer: Tokenizer, texts: Sequence[str]) -> Bags:
    """The tokens of n texts, without special ones."""
    ids = [np.zeros(0, np.int32)]
    lengths: list[int] = []
    for start in range(0, len(texts), _TEXTS):
        for encoding in tokenizer.encode_batch_fast(
            list(texts[start : start + _TEXTS]), add_special_tokens=False
        ):
            ids.append(np.array(encoding.ids, dtype=np.int32))
            lengths.append(len(encoding))
    return Bags(np.concatenate(ids), np.cumsum(np.array(lengths, dtype=np.int64)))


def adapted(tokenizer: Tokenizer, texts: Sequence[str], size: int) -> Tokenizer:
    """The tokenizer with the ``size`` tokens that texts use most, whole words among them.

    Words that occur ``LEAST`` times or more are added to the tokens there are, the texts are
    counted with all of these, and the most frequent are kept: a piece is counted where no whole
    word has taken its place.

    Args:
        tokenizer: WordPiece.
        texts: What decides.
        size: Most tokens of the new one, if its single characters alone are not more.

    Returns:
        A tokenizer that knows no special tokens but the unknown one (number ``UNKNOWN``), and that
        neither cuts nor pads.

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
    unknown = str(model["unk_token"])
    special = {str(added["content"]) for added in state["added_tokens"]}
    before = sorted(model["vocab"], key=model["vocab"].__getitem__)
    words = _words(tokenizer, texts, size)
    tokens = list(dict.fromkeys([unknown, *(t for t in [*before, *words] if t not in special)]))
    ids = bags(_with_vocabulary(state, tokens), texts).ids
    count = np.bincount(ids, minlength=len(tokens))
    kept = {unknown: None}
    for token, times in zip(tokens, count, strict=True):
        character = token.removeprefix(CONTINUED)
        if len(character) == 1 and (times or character in _ALPHABET):
            kept[token] = None
    for row in np.argsort(-count, kind="stable"):
        if len(kept) >= size or not count[row]:
            break
        kept[tokens[row]] = None
    return _with_vocabulary(state, list(kept))


def _words(tokenizer: Tokenizer, texts: Sequence[str], most: int) -> list[str]:
    """The most frequent words, as the tokenizer tells words apart, by falling frequency."""
    counter = Tokenizer(models.WordLevel(unk_token=""))
    counter.normalizer = tokenizer.normalizer
    counter.pre_tokenizer = tokenizer.pre_tokenizer
    trainer = trainers.WordLevelTrainer(
        vocab_size=most, min_frequency=LEAST, special_tokens=[], show_progress=False
    )
    counter.train_from_iterator(texts, trainer, length=len(texts))
    found = counter.get_vocab()
    return sorted(found, key=found.__getitem__)


def _with_vocabulary(state: Mapping[str, Any], tokens: Sequence[str]) -> Tokenizer:
    """The tokenizer with other tokens, the unknown one at ``UNKNOWN``."""
    vocabulary = {token: row for row, token in enumerate(tokens)}
    added = [
        {**one, "id": UNKNOWN} for one in state["added_tokens"] if one["content"] == tokens[UNKNOWN]
    ]
    return Tokenizer.from_str(
        json.dumps(
            {
                **state,
                "model": {**state["model"], "vocab": vocabulary},
                "added_tokens": added,
                "post_processor": None,
                "truncation": None,
                "padding": None,
            }
        )
    )
