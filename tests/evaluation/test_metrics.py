from __future__ import annotations

import math

import numpy as np
import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.metrics import (
    METRICS,
    TREC_METRICS,
    Metric,
    depth_of,
    metric_names,
    parse_metric,
    score,
    score_trec,
)
from modernpubmed.evaluation.ranking import Run
from modernpubmed.suites import Suite


def hand() -> tuple[Suite, Run]:
    ids = tuple(f"d{place}" for place in range(12))
    suite = Suite(
        "hand",
        ("q1", "q2", "q3"),
        ("a", "b", "c"),
        ids,
        ids,
        {"q1": {"d1": 1, "d4": 2, "d0": 0}, "q2": {"d11": 1}, "q3": {"d7": 1}},
    )
    # q1 finds its two at ranks 2 and 5, q2 its one at rank 12, q3's run is short and misses.
    documents = np.array([list(range(12)), list(range(12)), [3, 2, *[-1] * 10]])
    falling = np.broadcast_to(-np.arange(12, dtype=np.float32), (3, 12)).copy()
    falling[2, 2:] = -np.inf
    return suite, Run(documents, falling)


def test_values_worked_out_by_hand() -> None:
    suite, run = hand()
    values = score(run, suite)
    assert list(values) == list(METRICS)
    two = (1 / math.log2(3) + 1 / math.log2(6)) / (1 + 1 / math.log2(3))
    expected = {
        "Accuracy@1": [0, 0, 0],
        "Accuracy@3": [1, 0, 0],
        "Accuracy@5": [1, 0, 0],
        "Accuracy@10": [1, 0, 0],
        "nDCG@5": [two, 0, 0],
        "nDCG@10": [two, 0, 0],
        "MRR@10": [1 / 2, 0, 0],
        "MAP@100": [(1 / 2 + 2 / 5) / 2, 1 / 12, 0],
    }
    for name, row in expected.items():
        assert values[name].tolist() == pytest.approx(row, abs=1e-12), name


def test_trec_values_worked_out_by_hand() -> None:
    suite, run = hand()
    values = score_trec(run, suite)
    assert list(values) == list(TREC_METRICS)
    # q1: a grade of 1 at rank 2 and of 2 at rank 5.
    graded = (1 / math.log2(3) + 2 / math.log2(6)) / (2 + 1 / math.log2(3))
    expected = {
        "Accuracy@1": [0, 0, 0],
        "Precision@10": [2 / 10, 0, 0],
        "Recall@10": [1, 0, 0],
        "Recall@100": [1, 1, 0],
        "MRR@10": [1 / 2, 0, 0],
        "nDCG@10": [graded, 0, 0],
        "MAP@100": [(1 / 2 + 2 / 5) / 2, 1 / 12, 0],
    }
    for name, row in expected.items():
        assert values[name].tolist() == pytest.approx(row, abs=1e-12), name


def test_where_the_two_conventions_differ() -> None:
    ids = ("a", "b", "c")
    qrels = {"q": {"a": 1, "b": 3, "c": -2}}
    suite = Suite("tiny", ("q",), ("x",), ids, ids, qrels)
    run = Run(np.array([[0, 2, 1]]), np.array([[0.5, 0.5, 0.25]], np.float32))
    names = ["MRR@1", "MAP@1", "nDCG@3"]
    theirs, trec = score(run, suite, names), score_trec(run, suite, names)
    # "a" and "c" tie: it comes first for the one, "c" (a grade below 0: no gain) for the other.
    assert [theirs["MRR@1"][0], trec["MRR@1"][0]] == [1.0, 0.0]
    assert [theirs["MAP@1"][0], trec["MAP@1"][0]] == [1.0, 0.0]  # over min(1, 2), and over 2
    assert theirs["nDCG@3"][0] == pytest.approx((1 + 0.5) / (1 + 1 / math.log2(3)))
    assert trec["nDCG@3"][0] == pytest.approx((1 / math.log2(3) + 1.5) / (3 + 1 / math.log2(3)))


def test_trec_eval_sorts_what_does_not_fall() -> None:
    # One row in order, one with ties in the order of the ids, one short and in no order at all.
    ids = ("a", "b", "c", "d")
    suite = Suite("tiny", ("q", "r", "s"), ("x",) * 3, ids, ids, {name: {"c": 1} for name in "qrs"})
    run = Run(
        np.array([[0, 2, 1, 3], [0, 1, 2, 3], [0, 2, -1, -1]]),
        np.array([[4, 3, 2, 1], [4, 3, 3, 3], [1, 2, -np.inf, -np.inf]], np.float32),
    )
    assert score_trec(run, suite, ["MRR@4"])["MRR@4"].tolist() == [1 / 2, 1 / 3, 1]
    assert score(run, suite, ["MRR@4"])["MRR@4"].tolist() == [1 / 2, 1 / 3, 1 / 2]


def test_any_cutoff_also_beyond_the_run() -> None:
    suite, run = hand()
    values = score(run, suite, ["Recall@2", "Precision@1000", "nDCG@1000", "map@1000", "MRR@12"])
    assert list(values) == ["Recall@2", "Precision@1000", "nDCG@1000", "MAP@1000", "MRR@12"]
    assert values["Recall@2"].tolist() == [0.5, 0, 0]
    assert values["Precision@1000"].tolist() == [0.002, 0.001, 0]
    assert values["MRR@12"].tolist() == [0.5, 1 / 12, 0]
    assert values["nDCG@1000"][1] == pytest.approx(1 / math.log2(13))


def test_names_of_metrics() -> None:
    assert parse_metric(" NDCG@20 ") == Metric("nDCG", 20)
    assert metric_names(METRICS, ["P@5", "precision@5", "MAP@100"]) == (*METRICS, "Precision@5")
    assert depth_of(["nDCG@5"]) == 100
    assert depth_of(["nDCG@5", "R@250"]) == 250
    for bad in ("nDCG", "nDCG@0", "nDCG@-1", "nDCG@1.5", "nDCG@", "BLEU@4", "@5", "nDCG@99999999"):
        with pytest.raises(ModernPubMedError, match=f"no such metric: {bad!r}"):
            parse_metric(bad)
