"""Texts longer than a model reads, as windows that it can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from modernpubmed.encoder.pooling import normalize
from modernpubmed.errors import ModernPubMedError

#: What is done with a text that is too long: refused, cut, or read in windows.
Long = Literal["error", "truncate", "chunk"]
LONG: tuple[Long, ...] = get_args(Long)

#: Tokens that a window shares with the one before it: what stands on a border is whole in one.
OVERLAP = 32


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a text that a model can read.

    Attributes:
        text: The text's place in the list.
        start: The window's first character in it.
        end: The character after its last.
        tokens: Its tokens, special ones not counted.
    """

    text: int
    start: int
    end: int
    tokens: int


def split(
    tokenizer: Tokenizer, texts: Sequence[str], *, max_tokens: int, prompt: str = ""
) -> list[Window]:
    """The windows of texts, in order; a text that fits is one window.

    A window ends where a word does, if any word ends in it, and shares up to ``OVERLAP`` tokens
    with the one before.

    Args:
        tokenizer: The model's; what it cuts at does not matter.
        texts: n texts.
        max_tokens: What the model reads, special tokens and the prompt counted.
        prompt: What will stand before each window.

    Raises:
        ModernPubMedError: The prompt leaves no room for text.
    """
    whole = Tokenizer.from_str(tokenizer.to_str())
    whole.no_truncation()
    room = max_tokens - whole.num_special_tokens_to_add(is_pair=False)
    if prompt:
        room -= len(whole.encode(prompt, add_special_tokens=False))
    if room < 1:
        raise ModernPubMedError(
            f"of {max_tokens} tokens the prompt leaves none for the text",
            remedy="give a shorter prompt or a larger max_tokens",
        )
    windows = []
    # With positions: ``encode_batch_fast`` leaves them out.
    for row, encoding in enumerate(whole.encode_batch(list(texts), add_special_tokens=False)):
        if len(encoding) <= room:
            windows.append(Window(row, 0, len(texts[row]), len(encoding)))
        else:
            windows += _windows(encoding, row, room)
    return windows


def pool(
    vectors: NDArray[np.float32], windows: Sequence[Window], count: int
) -> NDArray[np.float32]:
    """One unit vector a text ``[count, d]``: the mean of its windows', weighted by their tokens."""
    rows = np.array([window.text for window in windows], dtype=np.int64)
    weights = np.array([max(1, window.tokens) for window in windows], dtype=np.float32)
    # A text of one window keeps its very vector, to the bit.
    weights[np.bincount(rows, minlength=count)[rows] == 1] = 1
    total = np.zeros((count, vectors.shape[1]), dtype=np.float32)
    np.add.at(total, rows, vectors * weights[:, None])
    several = np.bincount(rows, minlength=count) > 1
    total[several] = normalize(total[several])
    return total


def _windows(encoding: Encoding, row: int, room: int) -> list[Window]:
    words, offsets, count = encoding.word_ids, encoding.offsets, len(encoding)

    def word_start(place: int, after: int) -> int:
        """The start of the word at ``place``, if it lies behind ``after``; else ``place``."""
        start = place
        while start > after and words[start] is not None and words[start] == words[start - 1]:
            start -= 1
        return start if start > after else place

    windows = []
    start = 0
    while True:
        end = min(count, start + room)
        if end < count:
            end = word_start(end, start)
        windows.append(Window(row, offsets[start][0], offsets[end - 1][1], end - start))
        if end == count:
            return windows
        start = word_start(max(start + 1, end - min(OVERLAP, room // 4)), start)
