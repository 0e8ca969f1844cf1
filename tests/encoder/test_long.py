"""Texts longer than the model reads: cut, refused, or read in windows; and counted."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest

from modernpubmed.encoder import Encoder, TruncationWarning
from modernpubmed.encoder.long import OVERLAP, split
from modernpubmed.encoder.pooling import normalize
from modernpubmed.errors import ModernPubMedError

SHORT = "fever and cough"
LONG = " ".join(
    f"On day {day} the child had a fever of {day % 3 + 38} degrees." for day in range(60)
)


@pytest.fixture(scope="module")
def tokenizer():
    return Encoder.load(threads=1)._model.tokenizer


def test_windows_cover_the_text_overlap_and_end_with_words(tokenizer):
    windows = split(tokenizer, [SHORT, LONG], max_tokens=100)
    assert windows[0] == (type(windows[0]))(0, 0, len(SHORT), 3)
    rest = [window for window in windows if window.text == 1]
    assert len(rest) > 5
    assert (rest[0].start, rest[-1].end) == (0, len(LONG))
    for one, other in pairwise(rest):
        assert one.start < other.start < one.end < other.end
        shared = len(tokenizer.encode(LONG[other.start : one.end], add_special_tokens=False))
        assert OVERLAP // 2 < shared <= OVERLAP + 4
        # No word is taken apart at either border.
        assert not (LONG[one.end - 1].isalnum() and LONG[one.end].isalnum())
        assert not (LONG[other.start - 1].isalnum() and LONG[other.start].isalnum())
    for window in rest:
        text = LONG[window.start : window.end]
        assert len(tokenizer.encode(text, add_special_tokens=False)) == window.tokens <= 98


def test_a_word_longer_than_a_window_is_taken_apart(tokenizer):
    word = "acetylsalicylhydroxy" * 30
    windows = split(tokenizer, [word], max_tokens=20)
    assert (windows[0].start, windows[-1].end) == (0, len(word))
    assert all(window.tokens <= 18 for window in windows)
    starts = [window.start for window in windows]
    assert starts == sorted(set(starts))


def test_chunks_are_pooled_by_their_tokens():
    encoder = Encoder.load(max_tokens=64, long="chunk", threads=1)
    windows, vectors = encoder.windows([LONG, SHORT])
    expected = normalize(
        sum(
            window.tokens * vector
            for window, vector in zip(windows, vectors, strict=True)
            if window.text == 0
        )[None]
    )
    found = encoder.encode([LONG, SHORT])
    np.testing.assert_allclose(found[:1], expected, atol=1e-5)
    plain = Encoder.load(max_tokens=64, threads=1)
    np.testing.assert_allclose(found[1], plain.encode([SHORT])[0], atol=1e-5)
    assert (encoder.truncated, encoder.cut_tokens) == (0, 0)
    assert encoder.fingerprint != plain.fingerprint


def test_the_end_of_a_long_text_counts_only_in_chunks():
    start = LONG[:400]
    ends = [start + " He was bitten by a dog.", start + " She is allergic to eggs."]
    cut = Encoder.load(max_tokens=64, threads=1)
    with pytest.warns(TruncationWarning):
        vectors = cut.encode(ends)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    read = Encoder.load(max_tokens=64, long="chunk", threads=1).encode(ends)
    assert read[0] @ read[1] < 0.99


def test_cut_tokens_are_counted(tokenizer):
    encoder = Encoder.load(max_tokens=64, threads=1)
    tokens = len(tokenizer.encode(SHORT, add_special_tokens=False))
    text = " ".join([SHORT] * 30)
    with pytest.warns(TruncationWarning, match=f"1 of 2 texts .* by {30 * tokens - 62} in all"):
        encoder.encode([SHORT, text])
    assert (encoder.truncated, encoder.cut_tokens) == (1, 30 * tokens - 62)


def test_error_names_the_text_and_what_it_is_too_long_by():
    encoder = Encoder.load(max_tokens=64, long="error", threads=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encoder.encode([SHORT]).shape == (1, 384)
    with pytest.raises(ModernPubMedError, match=r"text 1: is 28 tokens longer .* 64 .*\(1 such"):
        encoder.encode([SHORT, " ".join([SHORT] * 30)])
    with pytest.raises(ModernPubMedError, match="text 4097"):
        list(encoder.encode_stream([*["a"] * 4097, " ".join([SHORT] * 30)]))


def test_prompts_take_room_and_stand_before_each_window():
    encoder = Encoder.load(max_tokens=32, long="chunk", threads=1)
    prompt = "clinical note: "
    windows, vectors = encoder.windows([LONG], prompt=prompt)
    first = LONG[windows[1].start : windows[1].end]
    np.testing.assert_allclose(vectors[1], encoder.encode([prompt + first])[0], atol=1e-5)
    assert encoder.truncated == 0
    with pytest.raises(ModernPubMedError, match="prompt leaves none"):
        encoder.windows([LONG], prompt="very " * 40)


def test_an_unknown_way_is_refused():
    with pytest.raises(ModernPubMedError, match="long is 'wrap'"):
        Encoder.load(long="wrap")  # type: ignore[arg-type]


def test_a_dimension_is_part_of_the_encoder():
    whole, short = Encoder.load(threads=1), Encoder.load(dim=64, threads=1)
    assert (short.dimension, short.encode([SHORT]).shape) == (64, (1, 64))
    np.testing.assert_allclose(
        short.encode([SHORT]), normalize(whole.encode([SHORT])[:, :64]), atol=1e-6
    )
    assert short.fingerprint != whole.fingerprint
    assert Encoder.load(dim=384, threads=1).fingerprint == whole.fingerprint
    with pytest.raises(ModernPubMedError, match="384 numbers cannot be cut to 500"):
        Encoder.load(dim=500)
