"""Our metrics in trec_eval's convention against trec_eval's own code, on random runs of all sorts.

Through ``pytrec_eval``, which is trec_eval compiled in, and ``ir_measures`` on top of it. Runs are
full of ties and shorter than k, lack queries and hold documents that nobody judged; grades are
0, negative and up to 4.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modernpubmed.evaluation.metrics import TREC_METRICS, score_trec
from modernpubmed.evaluation.ranking import rank
from modernpubmed.evaluation.runs import match_run, read_run, write_run
from modernpubmed.suites import Suite

CUTOFFS = (1, 3, 10, 100)
OURS = {
    f"{ours}@{k}": f"{theirs}_{k}"
    for ours, theirs in (
        ("Accuracy", "success"),
        ("Precision", "P"),
        ("Recall", "recall"),
        ("nDCG", "ndcg_cut"),
        ("MAP", "map_cut"),
    )
    for k in CUTOFFS
}

Found = dict[str, list[tuple[str, float]]]


def random_suite(rng: np.random.Generator) -> Suite:
    documents = int(rng.integers(2, 160))
    ids = [f"d{number}" for number in rng.permutation(documents)]
    ids[0] = "é" + ids[0]  # by bytes and by code points it comes last
    qrels: dict[str, dict[str, int]] = {}
    for query in range(int(rng.integers(1, 9))):
        judged = rng.choice(documents, int(rng.integers(1, min(documents, 130) + 1)), replace=False)
        grades = rng.integers(-2, 5, len(judged))
        qrels[f"q{query}"] = {ids[p]: int(g) for p, g in zip(judged, grades, strict=True)}
    qrels = {query: row for query, row in qrels.items() if max(row.values()) > 0}
    qrels = qrels or {"q0": {ids[0]: 1}}
    return Suite("random", tuple(qrels), tuple(qrels), tuple(ids), tuple(ids), qrels)


def random_run(rng: np.random.Generator, suite: Suite) -> Found:
    found: Found = {}
    levels = int(rng.choice([1, 2, 5, 1000]))
    for query in suite.query_ids:
        count = int(rng.integers(0, len(suite.corpus_ids) + 1))
        if count and rng.random() > 0.15:
            chosen = rng.choice(len(suite.corpus_ids), count, replace=False)
            scores = rng.integers(0, levels, count) / np.float32(levels) - 0.5
            found[query] = [
                (suite.corpus_ids[place], float(np.float32(value)))
                for place, value in zip(chosen, scores, strict=True)
            ]
    return found


def trec_evals(suite: Suite, found: Found, names: dict[str, str]) -> dict[str, list[float]]:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    qrels = {query: dict(row) for query, row in suite.qrels.items()}
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, set(names.values()))
    values = evaluator.evaluate({query: dict(row) for query, row in found.items()})
    return {
        ours: [values.get(query, {}).get(theirs, 0.0) for query in suite.query_ids]
        for ours, theirs in names.items()
    }


@pytest.mark.parametrize("seed", range(300))
def test_equal_to_pytrec_eval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    suite = random_suite(rng)
    found = random_run(rng, suite)
    run, missing = match_run(found, suite, "random")
    assert missing == len(suite.query_ids) - len(found)
    ours = score_trec(run, suite, [*OURS, "MRR@999999"])
    theirs = trec_evals(suite, found, {**OURS, "MRR@999999": "recip_rank"})
    for name, row in theirs.items():
        assert ours[name].tolist() == pytest.approx(row, abs=1e-12, rel=0), name


@pytest.mark.parametrize("seed", range(40))
def test_equal_to_ir_measures(seed: int) -> None:
    ir_measures = pytest.importorskip("ir_measures")
    rng = np.random.default_rng(1000 + seed)
    suite = random_suite(rng)
    found = random_run(rng, suite)
    if not found:
        return
    run, _ = match_run(found, suite, "random")
    names = {
        "Accuracy@1": "Success@1",
        "Precision@10": "P@10",
        "Recall@10": "R@10",
        "Recall@100": "R@100",
        "nDCG@10": "nDCG@10",
        "MAP@100": "AP@100",
    }
    measures = {ir_measures.parse_measure(theirs): ours for ours, theirs in names.items()}
    qrels = {query: dict(row) for query, row in suite.qrels.items()}
    theirs = ir_measures.calc_aggregate(
        list(measures), qrels, {query: dict(row) for query, row in found.items()}
    )
    ours = score_trec(run, suite)
    assert set(names) | {"MRR@10"} == set(TREC_METRICS)
    for measure, name in measures.items():
        assert ours[name].mean() == pytest.approx(theirs[measure], abs=1e-12, rel=0), name


@pytest.mark.parametrize("seed", range(20))
def test_the_file_we_write_gives_the_same_figures(seed: int, tmp_path: Path) -> None:
    """What is scored in memory and what trec_eval makes of the written run are one."""
    rng = np.random.default_rng(seed)
    suite = random_suite(rng)
    corpus = rng.integers(-1, 2, (len(suite.corpus_ids), 4)).astype(np.float32)
    queries = rng.standard_normal((len(suite.query_ids), 4), dtype=np.float32)
    run = rank(queries, corpus, suite.corpus_ids, 20)
    found = read_run(write_run(run, suite, tmp_path / "a.run.gz", "ours"))
    ours = score_trec(run, suite, list(OURS))
    for name, row in trec_evals(suite, found, OURS).items():
        assert ours[name].tolist() == pytest.approx(row, abs=1e-12, rel=0), name
