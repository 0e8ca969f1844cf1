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
from modernpubmed.evaluation.evaluate import run_path
from modernpubmed.evaluation.metrics import METRICS, TREC_METRICS
from modernpubmed.suites import suite_checksum


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
    assert result.seconds >= result.query_seconds >= 0
    assert result.document_seconds >= 0
    assert result.suite_version == suite_checksum(suite)
    assert (result.dimension, result.prompts) == (512, {})
    assert list(result.trec_metrics) == list(result.trec_per_query) == list(TREC_METRICS)
    assert result.trec_metrics["Accuracy@1"] == pytest.approx(2 / 3)  # here the higher id wins
    assert result.trec_per_query["Accuracy@1"] == (0.0, 1.0, 1.0)
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


def test_an_encoder_that_gives_nan_is_refused_by_id(bag, suite) -> None:
    class Broken(bag):
        def encode_query(self, texts):
            vectors = self.encode(texts)
            vectors[1] = np.inf
            return vectors

    with pytest.raises(ModernPubMedError, match="query 'q2': vector is not finite"):
        evaluate(Broken(), suite)


def test_an_encoder_that_refuses_a_text_names_its_id(bag, suite) -> None:
    # Our own encoder says the place of the text in what it was given.
    class Refusing(bag):
        def encode_document(self, _):
            raise ModernPubMedError("gave NaN", record="text 2", remedy="train again")

    with pytest.raises(ModernPubMedError, match=r"^document 'd3': gave NaN\. Remedy: train again"):
        evaluate(Refusing(), suite)


def test_a_dimension_other_than_its_own_is_refused(bag, suite) -> None:
    class Wider(bag):
        def encode_document(self, texts):
            return np.ones((len(texts), self.dimension + 1), np.float32)

    with pytest.raises(ModernPubMedError, match=r"shape \(3, 65\), not \(3, 64\).*\(bag says 64\)"):
        evaluate(Wider(), suite)


def test_further_metrics_and_prompts(bag, suite, tmp_path: Path) -> None:
    encoder = bag()
    encoder.prompts = {"query": "query: ", "document": "", "clustering": "other"}
    result = evaluate(encoder, suite, metrics=["ndcg@20", "P@150", "MRR@10"], runs=tmp_path)
    assert list(result.metrics) == [*METRICS, "nDCG@20", "Precision@150"]
    assert list(result.trec_metrics) == [*TREC_METRICS, "nDCG@20", "Precision@150"]
    assert result.metrics["Precision@150"] == pytest.approx(1 / 150)
    assert result.prompts == {"query": "query: ", "document": ""}
    assert result.manifest.settings["depth"] == 150
    assert run_path(tmp_path, "bag", "tiny").is_file()
    path = write_result(result, tmp_path)
    assert read_result(path) == result
    with pytest.raises(ModernPubMedError, match="no such metric: 'F1@3'"):
        evaluate(encoder, suite, metrics=["F1@3"])


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
    new = set(values) - {
        *("model", "suite", "metrics", "query_ids", "per_query", "documents", "seconds"),
        *("truncated_queries", "truncated_documents", "manifest"),
    }
    path.write_text(json.dumps({key: value for key, value in values.items() if key not in new}))
    with pytest.raises(ModernPubMedError, match=r"older version.*Remedy: evaluate again"):
        read_result(path)
    spoilt = {**result.trec_per_query, "MAP@100": (1.0,)}
    write_result(replace(result, trec_per_query=spoilt), tmp_path)
    with pytest.raises(ModernPubMedError, match="metrics or queries missing"):
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
