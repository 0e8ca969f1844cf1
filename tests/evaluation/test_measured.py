"""Measurements come back from disk as they went there."""

from __future__ import annotations

from pathlib import Path

import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.measured import (
    Condition,
    Contamination,
    ContrastClass,
    ContrastScore,
    Discrimination,
    Estimate,
    Measured,
    Robustness,
    Speed,
    measured_path,
    read_measured,
    write_measured,
)

HALF = Estimate(0.5, 0.4, 0.6)
ALL: list[Measured] = [
    ContrastScore(
        "a/model",
        "dev",
        "c0ffee",
        HALF,
        {"negation": ContrastClass(2, HALF, 0.1)},
        {"near": HALF},
        {"n-1": 0.1},
    ),
    Discrimination(
        "m",
        {"related": 2, "non-medical": 1},
        {"related": (1, 1), "non-medical": (1, 0)},
        {"related": (0.1, 0.2)},
        {"non-medical": HALF},
        {"non-medical": 0.2},
        {"non-medical": HALF},
        0.95,
        {"pairs": "ab"},
        "f00d",
    ),
    Robustness(
        "m",
        "a suite",
        "c0ffee",
        "nDCG@10",
        HALF,
        (
            Condition("typos", "perturbation", 9, 8, HALF, HALF),
            Condition("short", "stratum", 4, 0, HALF),
        ),
        "f00d",
    ),
    Contamination("m", "s", "v", "nDCG@10", 9, 1, 2, 3, 4, 1, 5, HALF, None, ("q1: exact",)),
    Speed("m", 10.0, 9.0, 11.0, "256 abstracts", 46.2, 384, "a machine, 2 cores"),
]


@pytest.mark.parametrize("measured", ALL, ids=lambda measured: type(measured).__name__)
def test_a_measurement_comes_back_equal(measured: Measured, tmp_path: Path) -> None:
    for other in ALL:
        write_measured(other, tmp_path)
    assert read_measured(tmp_path, type(measured)) == (measured,)


def test_the_file_is_named_for_model_kind_and_subject(tmp_path: Path) -> None:
    assert measured_path(tmp_path, ALL[0]) == tmp_path / "a_model.contrast.dev.json"
    assert measured_path(tmp_path, ALL[2]) == tmp_path / "m.robustness.a_suite.json"
    assert measured_path(tmp_path, ALL[4]) == tmp_path / "m.speed.json"


@pytest.mark.parametrize("content", ["", "[]", '{"kind": "speed", "model": "m"}', "{}"])
def test_a_damaged_file_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "m.speed.json").write_text(content)
    with pytest.raises(ModernPubMedError, match=r"m\.speed\.json"):
        read_measured(tmp_path, Speed)
