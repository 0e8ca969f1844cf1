"""Retrieval metrics at any cutoff, per query, in the two conventions that people compare with.

Both know six measures: Accuracy, Precision, Recall, MRR, nDCG and MAP, each at a k. They differ,
on the same run, in three ways, so a figure is only worth something with its convention's name:

- ``sentence-transformers``, as its ``InformationRetrievalEvaluator`` computes from version 6 on:
  a document is relevant or not whatever its grade, MAP@k divides by min(k, R) with R the number
  of relevant documents, and equal scores are put in rising order of the document ids.
- ``trec_eval``, as its measures ``success_k``, ``P_k``, ``recall_k``, ``recip_rank`` (of the
  first k), ``ndcg_cut_k`` and ``map_cut_k`` (Buckley, https://github.com/usnistgov/trec_eval):
  nDCG's gain is the grade, MAP@k divides by R, and equal scores are put in falling order.

In both a document without a judgement counts as not relevant, and so does a grade below 0. Given
up: measures that need more than a run and its judgements (bpref, infAP), and other gains.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.ranking import Run, id_order
from modernpubmed.suites import Suite

#: How deep a run has to be for the default metrics of both conventions.
DEPTH = 100

#: The names of the conventions.
SENTENCE_TRANSFORMERS, TREC_EVAL = "sentence-transformers", "trec_eval"

#: The eight published metrics: our name of each, and sentence-transformers'.
METRICS: Mapping[str, str] = {
    "Accuracy@1": "cosine_accuracy@1",
    "Accuracy@3": "cosine_accuracy@3",
    "Accuracy@5": "cosine_accuracy@5",
    "Accuracy@10": "cosine_accuracy@10",
    "nDCG@5": "cosine_ndcg@5",
    "nDCG@10": "cosine_ndcg@10",
    "MRR@10": "cosine_mrr@10",
    "MAP@100": "cosine_map@100",
}

#: What is reported in trec_eval's convention: our name of each, and trec_eval's.
TREC_METRICS: Mapping[str, str] = {
    "Accuracy@1": "success_1",
    "Precision@10": "P_10",
    "Recall@10": "recall_10",
    "Recall@100": "recall_100",
    "MRR@10": "recip_rank of the first 10",
    "nDCG@10": "ndcg_cut_10",
    "MAP@100": "map_cut_100",
}

_MEASURES = ("Accuracy", "Precision", "Recall", "MRR", "nDCG", "MAP")
_ALIASES = {"success": "Accuracy", "p": "Precision", "r": "Recall", "rr": "MRR", "ap": "MAP"}
_SPELLINGS = {measure.lower(): measure for measure in _MEASURES} | _ALIASES


@dataclass(frozen=True, slots=True, order=True)
class Metric:
    """A measure at a cutoff.

    Attributes:
        measure: ``Accuracy``, ``Precision``, ``Recall``, ``MRR``, ``nDCG`` or ``MAP``.
        k: How many of the first documents it looks at; 1 or more.
    """

    measure: str
    k: int

    def __str__(self) -> str:
        return f"{self.measure}@{self.k}"


def parse_metric(name: str) -> Metric:
    """Reads a metric's name; case does not matter, and ir_measures' short names are known too.

    Raises:
        ModernPubMedError: There is no such measure, or no cutoff of 1 or more.

    >>> str(parse_metric("ndcg@20")), str(parse_metric("P@5")), str(parse_metric("Success@1"))
    ('nDCG@20', 'Precision@5', 'Accuracy@1')
    """
    found = re.fullmatch(r"([a-z]+)@([1-9][0-9]{0,5})", name.strip().lower(), re.ASCII)
    measure = _SPELLINGS.get(found[1]) if found else None
    if found is None or measure is None:
        raise ModernPubMedError(
            f"no such metric: {name!r}",
            remedy=f"give one of {', '.join(_MEASURES)} with a cutoff of 1 to 999999, as nDCG@20",
        )
    return Metric(measure, int(found[2]))


def metric_names(default: Iterable[str], further: Iterable[str] = ()) -> tuple[str, ...]:
    """The names of the default metrics and of further ones, each once, in our spelling.

    Raises:
        ModernPubMedError: One of them is no metric.

    >>> metric_names(["MRR@10"], ["ndcg@20", "mrr@10"])
    ('MRR@10', 'nDCG@20')
    """
    return tuple(dict.fromkeys(str(parse_metric(name)) for name in (*default, *further)))


def depth_of(metrics: Iterable[str]) -> int:
    """How deep a run has to be for the default metrics and these.

    >>> depth_of(["nDCG@20"]), depth_of(["Recall@1000"])
    (100, 1000)
    """
    return max([DEPTH, *(parse_metric(name).k for name in metrics)])


def score(
    run: Run, suite: Suite, metrics: Sequence[str] = tuple(METRICS)
) -> dict[str, NDArray[np.float64]]:
    """Each metric's value for each query, in sentence-transformers' convention.

    Args:
        run: The ranking of ``suite``'s documents for its queries, as deep as the largest k or the
            whole corpus; what a shorter run lacks counts as not found.
        suite: Where the relevant documents are.
        metrics: Names of metrics; the eight published ones.

    Returns:
        float64 ``[n]`` by the names in our spelling; a metric of the suite is the mean.

    Raises:
        ModernPubMedError: One of the names is no metric.

    >>> suite = Suite("tiny", ("q",), ("fever",), ("a", "b"), ("x", "y"), {"q": {"b": 1}})
    >>> run = Run(np.array([[0, 1]]), np.array([[0.9, 0.8]], dtype=np.float32))
    >>> [float(score(run, suite)[name][0]) for name in ("Accuracy@1", "Accuracy@3", "MRR@10")]
    [0.0, 1.0, 0.5]
    """
    return _score(_grades(run.documents, suite) > 0, suite, metrics, graded=False)


def score_trec(
    run: Run, suite: Suite, metrics: Sequence[str] = tuple(TREC_METRICS)
) -> dict[str, NDArray[np.float64]]:
    """Each metric's value for each query, in trec_eval's convention.

    Args:
        run: As in ``score``. trec_eval sorts what it reads, so the order of documents of equal
            score within the run does not matter; which documents are in it does.
        suite: Where the grades are.
        metrics: Names of metrics; those of ``TREC_METRICS``.

    Returns:
        float64 ``[n]`` by the names in our spelling.

    Raises:
        ModernPubMedError: One of the names is no metric.

    >>> suite = Suite("tiny", ("q",), ("fever",), ("a", "b"), ("x", "y"), {"q": {"b": 1}})
    >>> run = Run(np.array([[0, 1]]), np.array([[0.9, 0.9]], dtype=np.float32))
    >>> float(score_trec(run, suite, ["MRR@10"])["MRR@10"][0])
    1.0
    """
    documents = _ties_falling(run, suite.corpus_ids)
    return _score(_grades(documents, suite), suite, metrics, graded=True)


def _ties_falling(run: Run, ids: Sequence[str]) -> NDArray[np.int64]:
    """The run's documents by falling score, equal scores by falling id: trec_eval's order."""
    place = np.empty(len(ids) + 1, dtype=np.int64)
    place[id_order(ids)] = np.arange(len(ids))
    place[-1] = -1  # where fewer were found (position -1): last among its own kind
    # Most rows of most runs fall all the way and are in that order already.
    rows = np.flatnonzero((run.scores[:, 1:] >= run.scores[:, :-1]).any(axis=1))
    documents, scores = run.documents[rows], run.scores[rows]
    order = np.lexsort((-place[documents], -scores))
    ordered = run.documents.copy()
    ordered[rows] = np.take_along_axis(documents, order, axis=1)
    return ordered


def _grades(documents: NDArray[np.int64], suite: Suite) -> NDArray[np.int64]:
    """The grade of what stands at each rank, ``[n, k]``; 0 if it is not judged, or below 0."""
    positions = {identifier: position for position, identifier in enumerate(suite.corpus_ids)}
    # One number for each pair of query and document, so that all are looked up at once.
    size = len(positions)
    judged = {
        row * size + positions[document]: grade
        for row, query_id in enumerate(suite.query_ids)
        for document, grade in suite.qrels[query_id].items()
        if grade > 0
    }
    grades = np.zeros(documents.shape, dtype=np.int64)
    if not judged or not documents.size:
        return grades
    keys = np.fromiter(judged, dtype=np.int64, count=len(judged))
    values = np.fromiter(judged.values(), dtype=np.int64, count=len(judged))
    order = np.argsort(keys)
    keys, values = keys[order], values[order]
    wanted = np.arange(len(documents))[:, None] * size + documents
    found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    # A position of -1 (nothing found) is the last document of the query before: not looked up.
    hit = (keys[found] == wanted) & (documents >= 0)
    grades[hit] = values[found[hit]]
    return grades


def _score(
    gains: NDArray[np.int64] | NDArray[np.bool_],
    suite: Suite,
    metrics: Sequence[str],
    *,
    graded: bool,
) -> dict[str, NDArray[np.float64]]:
    """The metrics of gains ``[n, depth]``; graded is trec_eval's convention."""
    hits = gains > 0
    relevant = np.array([len(suite.relevant(query_id)) for query_id in suite.query_ids])
    values: dict[str, NDArray[np.float64]] = {}
    value: NDArray[np.float64]
    for metric in map(parse_metric, metrics):
        k, first = metric.k, hits[:, : metric.k]
        found: NDArray[np.int64] = first.sum(axis=1)
        match metric.measure:
            case "Accuracy":
                value = (found > 0).astype(np.float64)
            case "Precision":
                value = found / k
            case "Recall":
                value = found / relevant
            case "MRR":
                value = _reciprocal_rank(first)
            case "nDCG":
                ideal = _ideal(suite, k) if graded else _ideal_binary(relevant, k)
                value = _discounted(gains[:, :k]) / ideal
            case _:
                value = _precision_sum(first) / (relevant if graded else np.minimum(relevant, k))
        values[str(metric)] = value
    return values


def _discounted(gains: NDArray[np.int64] | NDArray[np.bool_]) -> NDArray[np.float64]:
    value: NDArray[np.float64] = gains @ (1 / np.log2(np.arange(2, gains.shape[1] + 2)))
    return value


def _ideal_binary(relevant: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    deepest = min(k, int(relevant.max(initial=1)))
    ideal: NDArray[np.float64] = np.cumsum(1 / np.log2(np.arange(2, deepest + 2)))[
        np.minimum(relevant, k) - 1
    ]
    return ideal


def _ideal(suite: Suite, k: int) -> NDArray[np.float64]:
    """Each query's best possible discounted gain with k documents, whatever the run found."""
    best = [
        sorted((grade for grade in suite.qrels[query_id].values() if grade > 0), reverse=True)[:k]
        for query_id in suite.query_ids
    ]
    gains = np.zeros((len(best), max(map(len, best), default=0)), dtype=np.int64)
    for row, grades in enumerate(best):
        gains[row, : len(grades)] = grades
    return _discounted(gains)


def _reciprocal_rank(hits: NDArray[np.bool_]) -> NDArray[np.float64]:
    value: NDArray[np.float64] = hits.any(axis=1) / (hits.argmax(axis=1) + 1.0)
    return value


def _precision_sum(hits: NDArray[np.bool_]) -> NDArray[np.float64]:
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    value: NDArray[np.float64] = (precision * hits).sum(axis=1)
    return value
