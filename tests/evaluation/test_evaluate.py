from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modernpubmed.encoder import TruncationWarning
from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation import evaluate, evaluate_bm25, read_result, write_result
from modernpubmed.evaluation.metrics import METRICS


def test_a_result_says_everything(bag, suite) -> None:
    result = evaluate(bag("model", dimension=512), suite)
    assert (result.model, result.suite, result.documents) == ("model", "tiny", 4)
    assert result.query_ids == ("q1", "q2", "q3")
    assert list(result.metrics) == list(METRICS)
    assert result.metrics["Accuracy@1"] == 1.0  # d1 and d4 are equal; the lower id wins
    assert result.per_query["Accuracy@1"] == (1.0, 1.0, 1.0)
    for name, value in result.metrics.items():
        assert value == pytest.approx(np.mean(result.per_query[name]), abs=1e-12)
    assert (result.truncated_queries, result.truncated_documents) == (1, 0)
    assert result.seconds >= 0
    manifest = result.manifest
    assert manifest.kind == "result"
    assert manifest.inputs == {"corpus.jsonl": "a" * 64, "model": "0" * 64}
    assert manifest.counts["queries_truncated"] == 1
    assert manifest.settings["dimension"] == 512
    assert manifest.dropped == suite.dropped


def test_equal_texts_are_encoded_once(bag, suite) -> None:
    encoder = bag()
    evaluate(encoder, suite)
    assert encoder.calls == [3, 3]


def test_progress_and_cut_texts_without_a_warning(bag, suite) -> None:
    class Warning_(bag):  # noqa: N801
        def encode_query(self, texts):
            warnings.warn("cut", TruncationWarning, stacklevel=2)
            return self.encode(texts)

    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(Warning_(), suite, progress=lambda *step: seen.append(step))
    assert seen == [
        ("queries of tiny", 0, 3),
        ("queries of tiny", 3, 3),
        ("documents of tiny", 0, 3),
        ("documents of tiny", 3, 3),
    ]


def test_an_encoder_that_loses_rows_is_refused(bag, suite) -> None:
    class Losing(bag):
        def encode_document(self, texts):
            return self.encode(texts)[:-1]

    with pytest.raises(ModernPubMedError, match=r"documents of tiny: 3 texts gave vectors of"):
        evaluate(Losing(), suite)


def test_an_encoder_that_gives_nan_is_refused(bag, suite) -> None:
    class Broken(bag):
        def encode_query(self, texts):
            return self.encode(texts) * np.nan

    with pytest.raises(ModernPubMedError, match="vector of query 0 is not finite"):
        evaluate(Broken(), suite)


def test_results_round_trip(bag, suite, tmp_path: Path) -> None:
    for result in (evaluate(bag("owner/model é"), suite), evaluate_bm25(suite)):
        path = write_result(result, tmp_path / "results")
        assert read_result(path) == result
    assert sorted(file.name for file in (tmp_path / "results").iterdir()) == [
        "BM25__tiny.json",
        "owner_model_é__tiny.json",
    ]


def test_bad_results_are_refused(suite, tmp_path: Path) -> None:
    with pytest.raises(ModernPubMedError, match=r"none\.json: no readable result"):
        read_result(tmp_path / "none.json")
    result = evaluate_bm25(suite)
    path = write_result(result, tmp_path)
    values = json.loads(path.read_text())
    for spoil in (
        {**values, "other": 1},
        {key: value for key, value in values.items() if key != "metrics"},
        [],
    ):
        path.write_text(json.dumps(spoil))
        with pytest.raises(ModernPubMedError, match="no readable result"):
            read_result(path)
    write_result(replace(result, query_ids=("q1",)), tmp_path)
    with pytest.raises(ModernPubMedError, match="metrics or queries missing"):
        read_result(path)


def test_evaluation_is_light() -> None:
    code = """
import sys
from modernpubmed.evaluation import evaluate_bm25
from modernpubmed.suites import Suite
evaluate_bm25(Suite("t", ("q",), ("fever",), ("d",), ("Fever.",), {"q": {"d": 1}}))
heavy = {"torch", "transformers", "pandas", "sentence_transformers"} & set(sys.modules)
sys.exit(", ".join(heavy) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
