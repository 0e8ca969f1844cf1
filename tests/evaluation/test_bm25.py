from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.bm25 import bm25_settings, rank_bm25
from modernpubmed.evaluation.evaluate import evaluate_bm25
from modernpubmed.suites import Suite, read_suite

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def lucene(query: list[str], documents: list[list[str]]) -> list[float]:
    """Lucene's BM25 from the formula, k1 1.5 and b 0.75."""
    average = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        total = 0.0
        for word in query:
            frequency = document.count(word)
            holders = sum(word in other for other in documents)
            idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
            length = 1.5 * (1 - 0.75 + 0.75 * len(document) / average)
            total += idf * frequency / (frequency + length)
        scores.append(total)
    return scores


def test_scores_are_lucenes() -> None:
    rng = np.random.default_rng(0)
    words = ["fever", "cough", "the", "pain", "rash", "liver", "kidney", "of", "heart"]
    corpus = [" ".join(rng.choice(words, int(rng.integers(1, 12)))) for _ in range(50)]
    queries = [" ".join(rng.choice([*words, "unheard"], 4)) for _ in range(20)]
    ids = tuple(str(number) for number in rng.permutation(50))
    qids = tuple(f"q{row}" for row in range(20))
    suite = Suite("t", qids, tuple(queries), ids, tuple(corpus), {q: {ids[0]: 1} for q in qids})
    run = rank_bm25(suite, k=50)
    content = [[w for w in re.findall(r"\w\w+", text) if w not in ("the", "of")] for text in corpus]
    for row, query in enumerate(queries):
        asked = [w for w in query.split() if w not in ("the", "of")]
        expected = np.array(lucene(asked, content))
        found = run.documents[row][run.documents[row] >= 0]
        assert set(found.tolist()) == set(np.flatnonzero(expected > 0).tolist())
        np.testing.assert_allclose(run.scores[row, : len(found)], expected[found], rtol=1e-5)
        keys = [(-score, ids[place]) for score, place in zip(run.scores[row], found, strict=False)]
        assert keys == sorted(keys)


def test_ties_by_id_also_at_the_cut() -> None:
    ids = ("9", "10", "2", "1")
    suite = Suite("t", ("q",), ("fever",), ids, ("Fever",) * 3 + ("fever pain",), {"q": {"9": 1}})
    assert rank_bm25(suite, k=2).documents.tolist() == [[1, 2]]


def test_a_query_without_known_words_finds_nothing() -> None:
    suite = Suite(
        "t", ("q", "r"), ("the", "unheard"), ("a",), ("fever",), {"q": {"a": 1}, "r": {"a": 1}}
    )
    run = rank_bm25(suite, k=2)
    assert run.documents.tolist() == [[-1, -1], [-1, -1]]
    assert set(evaluate_bm25(suite).metrics.values()) == {0.0}


def test_a_corpus_without_words_is_refused() -> None:
    suite = Suite("t", ("q",), ("fever",), ("a",), ("the of",), {"q": {"a": 1}})
    with pytest.raises(ModernPubMedError, match="t: no document holds a word"):
        rank_bm25(suite)


def test_settings_name_what_the_figures_depend_on() -> None:
    settings = bm25_settings()
    assert {key: settings[key] for key in ("method", "k1", "b", "stopwords", "stemmer")} == {
        "method": "lucene",
        "k1": 1.5,
        "b": 0.75,
        "stopwords": "en",
        "stemmer": None,
    }


@pytest.mark.real
@pytest.mark.skipif(not DATA.exists(), reason="the real data are not there")
def test_real_pubmedqa() -> None:
    result = evaluate_bm25(read_suite(DATA / "suites" / "pubmedqa_pqal"))
    assert result.metrics["Accuracy@1"] == 0.947
    assert result.metrics["nDCG@10"] == pytest.approx(0.9687, abs=5e-5)
    assert result.metrics["MAP@100"] == pytest.approx(0.9631, abs=5e-5)
