"""The eight published metrics, per query and on average.

They are those of sentence-transformers' ``InformationRetrievalEvaluator``, to the last digit:
Accuracy@1, @3, @5, @10 (is a relevant document among the first k), nDCG@5, @10 (gains of 0 and 1
whatever the grade), MRR@10 (1 / rank of the first relevant document) and MAP@100 (precision at
each relevant document, summed and divided by min(100, number of relevant documents)). trec_eval
defines nDCG and MAP otherwise (graded gains, division by all relevant documents): its figures
for the same run differ where documents have grades or are more than 100.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from modernpubmed.evaluation.ranking import Run
from modernpubmed.suites import Suite

#: How deep a run has to be for the metrics.
DEPTH = 100

#: Our name of each metric, and sentence-transformers'.
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


def score(run: Run, suite: Suite) -> dict[str, NDArray[np.float64]]:
    """Each metric's value for each query.

    Args:
        run: The ranking of ``suite``'s documents for its queries, 100 deep or the whole corpus.
        suite: Where the relevant documents are.

    Returns:
        float64 ``[n]`` by the names in ``METRICS``; a metric of the suite is the mean.

    >>> suite = Suite("tiny", ("q",), ("fever",), ("a", "b"), ("x", "y"), {"q": {"b": 1}})
    >>> run = Run(np.array([[0, 1]]), np.array([[0.9, 0.8]], dtype=np.float32))
    >>> [float(score(run, suite)[name][0]) for name in ("Accuracy@1", "Accuracy@3", "MRR@10")]
    [0.0, 1.0, 0.5]
    """
    hits = _hits(run, suite)
    relevant = np.array([len(suite.relevant(query_id)) for query_id in suite.query_ids])
    values: dict[str, NDArray[np.float64]] = {
        f"Accuracy@{k}": np.asarray(hits[:, :k].any(axis=1), dtype=np.float64)
        for k in (1, 3, 5, 10)
    }
    values |= {f"nDCG@{k}": _ndcg(hits, relevant, k) for k in (5, 10)}
    values["MRR@10"] = _reciprocal_rank(hits[:, :10])
    values[f"MAP@{DEPTH}"] = _average_precision(hits, relevant)
    return values


def _hits(run: Run, suite: Suite) -> NDArray[np.bool_]:
    """Whether what stands at each rank is relevant: ``[n, 100]``, False beyond the corpus."""
    positions = {identifier: position for position, identifier in enumerate(suite.corpus_ids)}
    hits = np.zeros((len(suite.query_ids), DEPTH), dtype=np.bool_)
    for row, query_id in enumerate(suite.query_ids):
        wanted = [positions[document] for document in suite.relevant(query_id)]
        found = np.isin(run.documents[row, :DEPTH], wanted)
        hits[row, : len(found)] = found
    return hits


def _ndcg(hits: NDArray[np.bool_], relevant: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discounts)[np.minimum(relevant, k) - 1]
    value: NDArray[np.float64] = hits[:, :k] @ discounts / ideal
    return value


def _reciprocal_rank(hits: NDArray[np.bool_]) -> NDArray[np.float64]:
    value: NDArray[np.float64] = hits.any(axis=1) / (hits.argmax(axis=1) + 1.0)
    return value


def _average_precision(hits: NDArray[np.bool_], relevant: NDArray[np.int64]) -> NDArray[np.float64]:
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    value: NDArray[np.float64] = (precision * hits).sum(axis=1) / np.minimum(relevant, DEPTH)
    return value
