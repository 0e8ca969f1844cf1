from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.similarity import (
    EXAMPLES,
    average_ranks,
    correlate,
    pearson,
    read_similarity,
    similarity_examples,
    spearman,
    write_similarity,
)
from modernpubmed.suites import SentencePairs


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_correlations_are_scipys(seed: int, levels: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(seed)
    a = rng.integers(0, levels, 200).astype(float)
    b = a + rng.integers(0, levels, 200)
    assert average_ranks(b) == pytest.approx(stats.rankdata(b), abs=0)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-12)


def test_examples(bag) -> None:
    scores = similarity_examples(bag("m", dimension=4096))
    assert [score.pair for score in scores] == list(EXAMPLES)
    # "the" and "patient" of 6 words each are shared; nothing of the second pair is.
    assert [score.cosine for score in scores] == pytest.approx([1 / 3, 0.0], abs=1e-6)
    assert EXAMPLES[1].second == "asyncio.run()"


def test_correlate(bag) -> None:
    pairs = SentencePairs(
        "sts",
        ("a b", "a b", "a b", "a b c d e f g h i j"),
        ("a b", "a c", "c d", "k"),
        (5.0, 3.0, 1.0, 1.0),
    )
    found = correlate(bag("m", dimension=4096), pairs)
    assert (found.model, found.suite, found.pairs, found.truncated) == ("m", "sts", 4, 1)
    assert found.spearman.value == pytest.approx(
        1.0
    )  # cosines 1, 1/2, 0, 0: ties where the scores tie
    assert found.pearson.value == pytest.approx(1.0)


def test_intervals_cover_the_truth() -> None:
    from modernpubmed.evaluation.similarity import _with_interval

    rng, inside = np.random.default_rng(3), 0
    for _ in range(60):
        a = rng.normal(size=150)
        b = 0.6 * a + 0.8 * rng.normal(size=150)  # true correlation 0.6
        found = _with_interval(pearson, a, b)
        inside += found.low <= 0.6 <= found.high
    assert inside >= 52
    again = _with_interval(pearson, a, b)
    assert again == found


def test_no_correlation_with_a_constant(bag) -> None:
    with pytest.raises(ModernPubMedError, match="sts: all scores are equal"):
        correlate(bag(), SentencePairs("sts", ("a", "b"), ("a", "c"), (1.0, 1.0)))
    with pytest.raises(ModernPubMedError, match="sts: all cosines of bag are equal"):
        correlate(bag(), SentencePairs("sts", ("a", "b"), ("a", "b"), (1.0, 2.0)))


def test_not_finite_is_refused(bag) -> None:
    class Broken(bag):
        def encode(self, texts):
            return super().encode(texts) * np.nan

    with pytest.raises(ModernPubMedError, match=r"bag gave vectors .* not finite"):
        similarity_examples(Broken())


def test_round_trip(bag, tmp_path: Path) -> None:
    examples = similarity_examples(bag())
    pairs = SentencePairs("sts", ("a b", "a"), ("a b", "c"), (1.0, 0.0))
    correlations = (correlate(bag(), pairs),)
    write_similarity(tmp_path, examples, correlations)
    assert read_similarity(tmp_path) == (examples, correlations)
    # Another model's stay, this one's are replaced.
    other = (correlate(bag("other"), pairs),)
    write_similarity(tmp_path, (), other)
    write_similarity(tmp_path, examples, correlations)
    assert read_similarity(tmp_path) == (examples, (*other, *correlations))
    (tmp_path / "similarity.json").write_text('{"examples": [{"model": "m"}]}')
    with pytest.raises(ModernPubMedError, match=r"similarity\.json: no readable similarities"):
        read_similarity(tmp_path)
