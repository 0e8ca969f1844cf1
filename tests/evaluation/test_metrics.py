from __future__ import annotations

import math

import numpy as np
import pytest

from modernpubmed.evaluation.metrics import METRICS, score
from modernpubmed.evaluation.ranking import Run
from modernpubmed.suites import Suite


def test_values_worked_out_by_hand() -> None:
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
    values = score(Run(documents, np.zeros((3, 12), np.float32)), suite)
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
