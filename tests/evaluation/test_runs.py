from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.evaluate import evaluate, evaluate_bm25, run_path, score_run
from modernpubmed.evaluation.ranking import Run, rank
from modernpubmed.evaluation.runs import match_run, read_run, write_run
from modernpubmed.suites import Suite


def test_a_run_file_as_trec_has_it(suite: Suite, tmp_path: Path) -> None:
    documents = np.array([[1, 0], [2, -1], [-1, -1]])
    scores = np.array([[0.1, -1e-9], [0.5, -np.inf], [-np.inf, -np.inf]], np.float32)
    path = write_run(Run(documents, scores), suite, tmp_path / "new" / "a.run", "my model")
    assert path.read_text() == (
        "q1 Q0 d2 1 0.100000001 my_model\n"
        "q1 Q0 d1 2 -9.99999972e-10 my_model\n"
        "q2 Q0 d3 1 0.5 my_model\n"
    )
    assert read_run(path)["q2"] == [("d3", 0.5)]
    again, missing = match_run(read_run(path), suite, path)
    assert missing == 1
    assert again.documents.tolist() == documents.tolist()
    assert again.scores.tolist() == scores.tolist()


def test_the_same_run_gives_the_same_bytes_packed(suite: Suite, tmp_path: Path) -> None:
    run = Run(np.array([[0], [1], [2]]), np.ones((3, 1), np.float32))
    first, second = (write_run(run, suite, tmp_path / name, "m") for name in ("a.gz", "b.gz"))
    plain = write_run(run, suite, tmp_path / "a.run", "m")
    assert first.read_bytes() == second.read_bytes()
    assert gzip.decompress(first.read_bytes()) == plain.read_bytes()


def test_ties_survive_whichever_way_they_are_broken(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    ids = tuple(f"d{number}" for number in rng.permutation(300))
    names = tuple(f"q{number}" for number in range(50))
    suite = Suite("s", names, names, ids, ids, {name: {ids[0]: 1} for name in names})
    corpus = rng.standard_normal((300, 16), dtype=np.float32)
    corpus[150:250] = corpus[:100]
    run = rank(rng.standard_normal((50, 16), dtype=np.float32), corpus, ids, 300)
    found = read_run(write_run(run, suite, tmp_path / "a.run.gz", "m"))
    for row, name in enumerate(names):
        memory = {
            ids[place]: float(run.scores[row, rank_])
            for rank_, place in enumerate(run.documents[row])
        }
        assert {d: np.float32(s) for d, s in found[name]} == memory
        assert len(set(memory.values())) < 300
        for reverse in (False, True):
            first = sorted(sorted(memory, reverse=reverse), key=lambda d: -memory[d])
            double = dict(found[name])
            assert first == sorted(sorted(double, reverse=reverse), key=lambda d: -double[d])


@pytest.mark.parametrize("bad", ["d 1", "", "d\t1", " d1", "d\u00a01"])
def test_ids_that_the_format_cannot_carry_are_refused(
    bad: str, suite: Suite, tmp_path: Path
) -> None:
    run = Run(np.array([[0], [1], [2]]), np.ones((3, 1), np.float32))
    for spoilt, what in (
        (replace(suite, corpus_ids=(*suite.corpus_ids[:3], bad)), "document"),
        (replace(suite, query_ids=("q1", "q2", bad)), "query"),
    ):
        with pytest.raises(ModernPubMedError, match=f"the {what} id .*white space.*rename the id"):
            write_run(run, spoilt, tmp_path / "a.run", "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("q1 Q0 d1 1 0.5\n", "line 1: 5 fields where a TREC run has six"),
        ("q1 Q0 d1 1 0.5 m\n\nq1 Q0 d2 2 0.4 m m\n", "line 3: 7 fields"),
        ("q1 Q0 d1 1 nan m\n", "line 1: the score 'nan' is no finite float32 number"),
        ("q1 Q0 d1 1 -inf m\n", "line 1: the score '-inf' is no finite"),
        ("q1 Q0 d1 1 1e39 m\n", "line 1: the score '1e39' is no finite"),
        ("q1 Q0 d1 1 high m\n", "line 1: the score 'high' is no finite"),
        (
            "q1 Q0 d1 1 0.5 m\nq2 Q0 d1 1 0.5 m\nq1 Q0 d1 2 0.4 m\n",
            "line 3: the document 'd1' is there already for the query 'q1'",
        ),
        ("\n", "the run is empty"),
    ],
)
def test_bad_lines_are_refused(lines: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.run"
    path.write_text(lines)
    with pytest.raises(ModernPubMedError, match=rf"bad\.run: {message}"):
        read_run(path)


def test_files_that_are_not_there_or_cut_short(suite: Suite, tmp_path: Path) -> None:
    with pytest.raises(ModernPubMedError, match=r"none\.run: cannot be read"):
        read_run(tmp_path / "none.run")
    run = Run(np.array([[0], [1], [2]]), np.ones((3, 1), np.float32))
    path = write_run(run, suite, tmp_path / "a.run.gz", "m")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModernPubMedError, match=r"a\.run\.gz: .*cannot be read"):
        read_run(path)


def test_a_run_on_another_suite_is_refused_by_name(suite: Suite, tmp_path: Path) -> None:
    path = tmp_path / "a.run"
    path.write_text("q1 Q0 d1 1 0.5 m\nq9 Q0 d1 1 0.5 m\n")
    with pytest.raises(ModernPubMedError, match="the query 'q9' is not in the suite tiny"):
        score_run(path, suite)
    path.write_text("q1 Q0 x7 1 0.5 m\n")
    with pytest.raises(ModernPubMedError, match="the document 'x7' is not in the suite tiny"):
        score_run(path, suite)


def test_missing_queries_count_nothing(suite: Suite, tmp_path: Path) -> None:
    path = tmp_path / "theirs.run.gz"
    with gzip.open(path, "wt") as file:
        file.write("q2 Q0 d2 1 9 m\nq2 Q0 d1 1 8 m\n")
    result = score_run(path, suite, metrics=["nDCG@1"])
    assert (result.model, result.suite, result.dimension) == ("theirs", "tiny", 0)
    assert result.per_query["nDCG@1"] == (0.0, 1.0, 0.0)
    assert result.trec_metrics["MRR@10"] == pytest.approx(1 / 3)
    assert result.manifest.counts["queries_missing_from_run"] == 2
    assert set(result.manifest.inputs) == {"corpus.jsonl", "run"}


def test_a_written_run_scores_as_the_evaluation_did(bag, suite: Suite, tmp_path: Path) -> None:
    for result in (
        evaluate(bag("owner/model"), suite, runs=tmp_path, metrics=["nDCG@150"]),
        evaluate_bm25(suite, runs=tmp_path, metrics=["nDCG@150"]),
    ):
        path = run_path(tmp_path, result.model, suite.name)
        again = score_run(path, suite, model=result.model, metrics=["nDCG@150"])
        assert again.per_query == result.per_query
        assert again.trec_per_query == result.trec_per_query
        assert again.suite_version == result.suite_version
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "BM25__tiny.run.gz",
        "owner_model__tiny.run.gz",
    ]
