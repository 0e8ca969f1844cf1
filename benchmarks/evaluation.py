"""Our ranking and metrics against sentence-transformers' evaluator, from the same vectors.

Ours works out both conventions, theirs its own; both agree to 1e-9 before the clock starts. The
vectors are random and of length 1. As in real suites some documents are in the corpus twice
(ICD-10-CM's inclusion terms: 1.6 %), which costs the reference a second, slower selection.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modernpubmed.evaluation.metrics import METRICS, score, score_trec
from modernpubmed.evaluation.ranking import rank
from modernpubmed.suites import Suite

DIMENSION = 384
# What sentence-transformers reports beside our eight, so that both do the same work.
FURTHER = [f"{measure}@{k}" for k in (1, 3, 5, 10) for measure in ("Precision", "Recall")]


def make(
    queries: int, documents: int, repeated: float
) -> tuple[Suite, NDArray[np.float32], NDArray[np.float32]]:
    """A suite and its vectors; the relevant document of a query is a noisy copy of it."""
    generator = np.random.default_rng(1)
    asked = generator.standard_normal((queries, DIMENSION), dtype=np.float32)
    corpus = generator.standard_normal((documents, DIMENSION), dtype=np.float32)
    relevant = min(queries, documents // 2)
    corpus[:relevant] *= np.float32(0.98)
    corpus[:relevant] += np.float32(0.2) * asked[:relevant]
    twice = int(documents * repeated)
    corpus[documents - twice :] = corpus[documents - 2 * twice : documents - twice]
    for vectors in (asked, corpus):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query_ids = tuple(map(str, range(queries)))
    corpus_ids = tuple(map(str, range(documents)))
    qrels = {name: {corpus_ids[row % relevant]: 1} for row, name in enumerate(query_ids)}
    suite = Suite("random", query_ids, query_ids, corpus_ids, corpus_ids, qrels)
    return suite, asked, corpus


def ours(
    suite: Suite, queries: NDArray[np.float32], corpus: NDArray[np.float32]
) -> dict[str, float]:
    """Ranking and the metrics of both conventions; those of sentence-transformers by its names."""
    run = rank(queries, corpus, suite.corpus_ids)
    score_trec(run, suite)
    values = score(run, suite, [*METRICS, *FURTHER])
    names = {**METRICS, **{name: f"cosine_{name.lower()}" for name in FURTHER}}
    return {names[name]: float(row.mean()) for name, row in values.items()}


def compare(suite: Suite, queries: NDArray[np.float32], corpus: NDArray[np.float32]) -> Any:
    """Their way of doing the same, as a function of nothing."""
    import torch
    from sentence_transformers.sentence_transformer.evaluation import (
        InformationRetrievalEvaluator,
    )
    from sentence_transformers.util import cos_sim

    class Given:
        """A model whose vectors were made beforehand; a text is the number of its row."""

        similarity_fn_name = "cosine"
        similarity = staticmethod(cos_sim)

        class model_card_data:  # noqa: N801
            """The evaluator reports to the model's card."""

            @staticmethod
            def set_evaluation_metrics(*_: object, **__: object) -> None:
                """We want none."""

        def encode_query(self, texts: list[str], **_: Any) -> torch.Tensor:
            """The rows of the queries."""
            return torch.from_numpy(queries)[[int(text) for text in texts]]

        def encode_document(self, texts: list[str], **_: Any) -> torch.Tensor:
            """The rows of the documents."""
            return torch.from_numpy(corpus)[[int(text) for text in texts]]

    evaluator = InformationRetrievalEvaluator(
        dict(zip(suite.query_ids, suite.queries, strict=True)),
        dict(zip(suite.corpus_ids, suite.corpus, strict=True)),
        {name: set(suite.relevant(name)) for name in suite.query_ids},
        ndcg_at_k=[5, 10],
        write_csv=False,
    )
    model = Given()
    return lambda: evaluator(model)


def memory(queries: int, documents: int, repeated: float) -> int:
    """Peak resident memory of our way, interpreter and vectors included, in MiB."""
    sizes = [str(value) for value in (queries, documents, repeated)]
    done = subprocess.run(  # noqa: S603 - this very file
        [sys.executable, str(Path(__file__)), "--only-ours", *sizes],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout)


def main() -> None:
    """Memory in a process of its own, agreement, then the clock."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=4_000)
    parser.add_argument("--documents", type=int, default=40_000)
    parser.add_argument("--repeated", type=float, default=0.016, help="share of repeated documents")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="only ours, only its memory")
    parser.add_argument("--only-ours", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only_ours:
        queries, documents, repeated = given.only_ours
        ours(*make(int(queries), int(documents), float(repeated)))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    size = f"{given.queries} x {given.documents} x {DIMENSION}"
    peak = memory(given.queries, given.documents, given.repeated)
    if given.memory:
        print(json.dumps({"name": f"memory of {size}", "mib": peak}))
        return
    from _side_by_side import side_by_side

    suite, queries, corpus = make(given.queries, given.documents, given.repeated)
    theirs = compare(suite, queries, corpus)
    reference = theirs()
    for name, value in ours(suite, queries, corpus).items():
        assert abs(value - reference[name]) < 1e-9, (name, value, reference[name])
    side_by_side(
        f"rank and score {size}, {given.repeated:.1%} of the documents repeated: ours "
        f"({peak} MiB at most) against InformationRetrievalEvaluator",
        lambda: ours(suite, queries, corpus),
        theirs,
        rounds=given.rounds,
        target=4.0,
    )


if __name__ == "__main__":
    main()
