"""Discrimination: figures against scikit-learn and by hand, pairs drawn as they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.discrimination import (
    BINS,
    DiscriminationTexts,
    auroc,
    discrimination_texts,
    measure_discrimination,
)

RELATED = tuple((f"alpha{n} beta{n} gamma", f"alpha{n} beta{n} delta") for n in range(40))
TEXTS = DiscriminationTexts(RELATED, tuple(f"other{n} thing{n}" for n in range(9)), {"t": "1"})


@pytest.mark.parametrize("levels", [2, 7, 10_000])
def test_auroc_is_scikit_learns(levels: int) -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(levels)
    for _ in range(20):
        positive = rng.integers(0, levels, rng.integers(1, 60)).astype(float) + rng.integers(0, 2)
        negative = rng.integers(0, levels, rng.integers(1, 60)).astype(float)
        truth = [1] * len(positive) + [0] * len(negative)
        theirs = roc_auc_score(truth, np.concatenate([positive, negative]))
        found = auroc(positive, negative)
        assert found.value == pytest.approx(theirs, abs=1e-12)
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_delongs_interval_covers_the_truth() -> None:
    # Normal with a shift of 1: the true AUROC is Phi(1 / sqrt 2).
    rng, truth, inside = np.random.default_rng(5), 0.7602, 0
    for _ in range(500):
        found = auroc(rng.normal(1, 1, 60), rng.normal(0, 1, 80))
        inside += found.low <= truth <= found.high
    assert 0.92 <= inside / 500 <= 0.98


def test_a_bag_of_words_tells_them_apart(bag: type) -> None:
    found = measure_discrimination(bag("bag", dimension=4096), TEXTS)
    assert found.pairs == {"related": 40, "unrelated": 40, "non-medical": 40}
    # Two of three words are shared in related pairs, none in the others.
    assert found.quantiles["related"][3] == pytest.approx(2 / 3, abs=0.01)
    assert found.quantiles["unrelated"][3] == pytest.approx(0, abs=0.01)
    assert found.auroc["unrelated"].value == 1.0
    assert found.overlap["non-medical"] == 0.0
    assert found.false_similarity["unrelated"].value == 0.0
    assert found.false_similarity["unrelated"].high > 0
    assert {len(counts) for counts in found.histograms.values()} == {BINS}
    assert {sum(counts) for counts in found.histograms.values()} == {40}
    assert found.sources == {"t": "1"}


def test_a_model_that_sees_no_difference_scores_a_coin(bag: type) -> None:
    class Blind(bag):
        def encode_document(self, texts):
            return np.ones((len(texts), 3), dtype=np.float32)

    found = measure_discrimination(Blind("blind"), TEXTS)
    assert found.auroc["unrelated"].value == 0.5
    assert found.overlap["unrelated"] == pytest.approx(1.0)
    assert found.false_similarity["non-medical"].value == 1.0


def test_each_text_is_encoded_once(bag: type) -> None:
    seen: list[str] = []

    class Counting(bag):
        def encode_document(self, texts):
            seen.extend(texts)
            return super().encode(texts)

    measure_discrimination(Counting("bag"), TEXTS)
    assert len(seen) == len(set(seen))
    assert {text for pair in RELATED for text in pair} <= set(seen)


def test_no_unrelated_pair_is_a_related_one(bag: type) -> None:
    pairs = (("a", "x"), ("a", "y"), ("b", "x"), ("b", "z"), ("c", "w"))
    texts = DiscriminationTexts(pairs, ("n",))
    drawn: list[tuple[str, str]] = []

    class Spy(bag):
        def encode_document(self, texts):
            drawn.extend(texts)
            return super().encode(texts)

    for seed in range(30):
        measure_discrimination(Spy("spy"), texts, seed=seed)
    from modernpubmed.evaluation.discrimination import _strangers

    for seed in range(50):
        chosen = _strangers(pairs, np.random.default_rng(seed))
        made = {(pairs[row][0], pairs[other][1]) for row, other in enumerate(chosen)}
        assert not made & set(pairs)


def test_files(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.parquet"
    rows = [{"anchor": f"a{n}", "positive": f"p{n}"} for n in range(50)]
    pq.write_table(pa.Table.from_pylist(rows), pairs)
    other = tmp_path / "other.txt"
    other.write_text("one\n\ntwo\none\n")
    texts = discrimination_texts(pairs, other, pairs=10)
    assert len(texts.related) == 10
    assert texts.non_medical == ("one", "two")
    assert sorted(texts.sources) == ["other.txt", "pairs.parquet"]
    assert texts == discrimination_texts(pairs, other, pairs=10)
    pq.write_table(pa.Table.from_pylist([*rows, {"anchor": "a", "positive": ""}]), pairs)
    with pytest.raises(ModernPubMedError, match=r"pairs\.parquet: row 51: no anchor"):
        discrimination_texts(pairs, other)
    pq.write_table(pa.table({"title": ["a"]}), pairs)
    with pytest.raises(ModernPubMedError, match="cannot be read as pairs"):
        discrimination_texts(pairs, other)
    other.write_text("\n")
    with pytest.raises(ModernPubMedError, match=r"other\.txt"):
        discrimination_texts(None, other)


def test_the_built_in_texts() -> None:
    texts = discrimination_texts()
    assert len(texts.related) > 300
    assert len(texts.non_medical) > 250
    assert "clinical contrast suite" in texts.sources


def test_what_is_refused(bag: type) -> None:
    one = DiscriminationTexts((("a", "b"),), ("n",))
    with pytest.raises(ModernPubMedError, match="1 related pairs"):
        measure_discrimination(bag(), one)
    same = DiscriminationTexts((("a", "b"), ("a", "b")), ("n",))
    with pytest.raises(ModernPubMedError, match="no unrelated pair"):
        measure_discrimination(bag(), same)
    with pytest.raises(ModernPubMedError, match="no non-medical text"):
        measure_discrimination(bag(), DiscriminationTexts(RELATED, ()))
    with pytest.raises(ModernPubMedError, match="recall is 0"):
        measure_discrimination(bag(), TEXTS, recall=0)

    class Broken(bag):
        def encode_document(self, texts):
            return np.full((len(texts), 3), np.nan, dtype=np.float32)

    with pytest.raises(ModernPubMedError, match="not finite"):
        measure_discrimination(Broken("broken"), TEXTS)
