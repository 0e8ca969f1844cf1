"""Our encoder as a model of mteb, on two tasks of our own that live in memory."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modernpubmed.errors import MissingExtraError, ModernPubMedError
from modernpubmed.evaluation.mteb_tasks import medical_tasks, run_mteb
from modernpubmed.manifest import Manifest

pytest.importorskip("mteb", reason="the extra mteb is not installed")

TOPICS = ("fever", "cough", "gout", "asthma")
ABOUT = {
    "name": "A task of the tests",
    "description": "Four invented documents.",
    "reference": None,
    "dataset": {"path": "in/memory", "revision": "1"},
    "category": "t2t",
    "eval_splits": ["test"],
    "eval_langs": ["eng-Latn"],
    "date": ("2020-01-01", "2020-01-02"),
    "dialect": [],
    "domains": [],
    "task_subtypes": [],
    "license": "cc-by-4.0",
    "annotations_creators": "derived",
    "modalities": ["text"],
    "sample_creation": "found",
    "bibtex_citation": "",
}


class Topical:
    """An encoder that knows four words; it tells which of its methods was called with what."""

    name = "topical"
    fingerprint = "f" * 64
    dimension = 5

    def __init__(self, broken: str | None = None) -> None:
        self.prompts = {"query": "query: ", "document": "passage: "}
        self.truncated = 0
        self.seen: dict[str, list[str]] = {"query": [], "document": [], "text": []}
        self.broken = broken

    def _encode(self, texts: Sequence[str], role: str) -> np.ndarray:
        self.seen[role] += texts
        self.truncated += sum(len(text) > 60 for text in texts)
        rows = np.array([[text.lower().count(t) for t in TOPICS] + [0.1] for text in texts])
        if self.broken == "nan":
            rows[0, 0] = math.nan
        if self.broken == "shape":
            rows = rows[:, 1:]
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return self._encode(texts, "text")

    def encode_query(self, texts: Sequence[str]) -> np.ndarray:
        return self._encode(texts, "query")

    def encode_document(self, texts: Sequence[str]) -> np.ndarray:
        return self._encode(texts, "document")


@pytest.fixture
def retrieval() -> Any:
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class TinyRetrieval(AbsTaskRetrieval):
        metadata = TaskMetadata(
            **{**ABOUT, "name": "TinyRetrieval", "type": "Retrieval", "main_score": "ndcg_at_10"}
        )

        def load_data(self, **_: Any) -> None:
            queries = [{"id": f"q{n}", "text": f"what helps {topic}?"} for n, topic in
                       enumerate(TOPICS)]  # fmt: skip
            corpus = [
                {"id": f"d{n}", "title": "", "text": f"{topic} and its treatment, " + "long " * n}
                for n, topic in enumerate(TOPICS)
            ]
            # The last query's answer is about something else: it cannot be found first.
            right = {"q0": "d0", "q1": "d1", "q2": "d2", "q3": "d0"}
            split = {
                "queries": Dataset.from_list(queries),
                "corpus": Dataset.from_list(corpus),
                "relevant_docs": {query: {document: 1} for query, document in right.items()},
                "top_ranked": None,
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return TinyRetrieval()


@pytest.fixture
def similarity() -> Any:
    from datasets import Dataset, DatasetDict
    from mteb.abstasks.sts import AbsTaskSTS
    from mteb.abstasks.task_metadata import TaskMetadata

    class TinySts(AbsTaskSTS):
        metadata = TaskMetadata(
            **{**ABOUT, "name": "TinySts", "type": "STS", "main_score": "cosine_spearman"}
        )

        def load_data(self, **_: Any) -> None:
            pairs = {
                "sentence1": ["fever", "fever", "gout"],
                "sentence2": ["fever", "fever cough", "asthma"],
                "score": [5.0, 3.0, 1.0],
            }
            self.dataset = DatasetDict({"test": Dataset.from_dict(pairs)})
            self.data_loaded = True

    return TinySts()


def test_mteb_runs_our_encoder(retrieval: Any, similarity: Any, tmp_path: Path) -> None:
    encoder = Topical()
    told: list[tuple[str, int, int]] = []
    scores = run_mteb(
        encoder, [retrieval, similarity], out=tmp_path / "out", progress=lambda *at: told.append(at)
    )
    assert [(s.task, s.kind, s.metric, s.revision) for s in scores] == [
        ("TinyRetrieval", "Retrieval", "ndcg_at_10", "1"),
        ("TinySts", "STS", "cosine_spearman", "1"),
    ]
    # Three answers are first; the fourth, of equal cosine with two others, is among the last three.
    low, high = ((3 + 1 / math.log2(rank + 1)) / 4 for rank in (4, 2))
    assert low - 1e-4 <= scores[0].score <= high + 1e-4
    assert scores[1].score == pytest.approx(1.0)
    assert told == [("TinyRetrieval", 0, 2), ("TinySts", 1, 2)]

    # Queries go through encode_query, documents through encode_document, pairs through neither.
    assert sorted(encoder.seen["query"]) == sorted(f"what helps {topic}?" for topic in TOPICS)
    assert len(encoder.seen["document"]) == 4
    assert set(encoder.seen["text"]) == {"fever", "fever cough", "gout", "asthma"}
    assert [s.truncated for s in scores] == [0, 0]

    kept = json.loads((tmp_path / "out" / "TinyRetrieval.json").read_text())
    assert kept["scores"]["test"][0]["ndcg_at_10"] == pytest.approx(scores[0].score, abs=1e-5)
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.kind == "mteb results"
    assert manifest.inputs == {"model": encoder.fingerprint}
    assert manifest.settings["prompts"] == encoder.prompts
    assert [s["task"] for s in manifest.settings["scores"]] == ["TinyRetrieval", "TinySts"]


def test_prompts_reach_the_model(retrieval: Any, tiny_model: Path) -> None:
    from modernpubmed.encoder import Encoder

    heard: list[str] = []

    class Listening(Encoder):
        def encode(self, texts: Sequence[str], *, prompt: str = "", batch_size: int = 32) -> Any:
            heard.extend(prompt + text for text in texts)
            return super().encode(texts, prompt=prompt, batch_size=batch_size)

    encoder = Listening.load(tiny_model, prompts={"query": "ask: ", "document": "told: "})
    (score,) = run_mteb(encoder, [retrieval])
    assert 0 < score.score <= 1
    assert sorted({text.partition(":")[0] for text in heard}) == ["ask", "told"]
    assert len(heard) == 8


def test_our_own_figure_is_mtebs(retrieval: Any, tiny_model: Path) -> None:
    from modernpubmed.encoder import Encoder
    from modernpubmed.evaluation import evaluate
    from modernpubmed.suites import Suite

    encoder = Encoder.load(tiny_model)
    (score,) = run_mteb(encoder, [retrieval])
    retrieval.load_data()
    data = retrieval.dataset["default"]["test"]
    suite = Suite(
        "tiny",
        tuple(data["queries"]["id"]),
        tuple(data["queries"]["text"]),
        tuple(data["corpus"]["id"]),
        tuple(data["corpus"]["text"]),
        data["relevant_docs"],
    )
    ours = evaluate(encoder, suite).trec_metrics["nDCG@10"]
    assert score.score == pytest.approx(ours, abs=2e-5)  # MTEB rounds to five places


@pytest.mark.parametrize("broken", ["nan", "shape"])
def test_a_broken_model_is_refused(retrieval: Any, broken: str, tmp_path: Path) -> None:
    with pytest.raises(ModernPubMedError, match=r"TinyRetrieval: topical gave vectors of shape"):
        run_mteb(Topical(broken), [retrieval], out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(ModernPubMedError, match=r"no task 'NFCorpsu'; it has NFCorpus") as caught:
        run_mteb(Topical(), ["NFCorpsu"])
    assert "CUREv1" in str(caught.value)
    with pytest.raises(ModernPubMedError, match="no task named"):
        run_mteb(Topical(), [])


def test_data_that_cannot_be_had(retrieval: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**_: Any) -> None:
        raise ConnectionError("no way out")

    monkeypatch.setattr(retrieval, "load_data", offline)
    message = r"TinyRetrieval: MTEB cannot get the data of this task \(ConnectionError"
    with pytest.raises(ModernPubMedError, match=message):
        run_mteb(Topical(), [retrieval])


def test_the_medical_tasks_are_english() -> None:
    assert medical_tasks() == [
        "CUREv1",
        "NFCorpus",
        "TRECCOVID",
        "SciFact",
        "MedicalQARetrieval",
        "PublicHealthQA",
        "MedrxivClusteringP2P.v2",
        "MedrxivClusteringS2S.v2",
    ]


def test_english_subsets_only() -> None:
    from modernpubmed.evaluation.mteb_tasks import _tasks

    cure, health, covid = _tasks(["CUREv1", "PublicHealthQA", "TRECCOVID-PL"])
    assert cure.hf_subsets == ["en"]
    assert health.hf_subsets == ["english"]
    assert covid.hf_subsets == ["default"]  # named outright: Polish, and run as it is


def test_without_mteb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mteb", None)
    with pytest.raises(MissingExtraError, match="needs the extra 'mteb'"):
        run_mteb(Topical())
