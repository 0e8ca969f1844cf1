"""Our eight metrics against sentence-transformers' evaluator, from the same vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.util import cos_sim

from _side_by_side import side_by_side
from modernpubmed.evaluation.metrics import METRICS, score
from modernpubmed.evaluation.ranking import rank
from modernpubmed.suites import Suite

QUERIES, DOCUMENTS, DIMENSION = 2_000, 20_000, 384


class Given:
    """A model whose vectors were made beforehand; a text is the number of its row."""

    similarity_fn_name = "cosine"
    similarity = staticmethod(cos_sim)

    class model_card_data:  # noqa: N801
        """The evaluator reports to the model's card."""

        @staticmethod
        def set_evaluation_metrics(*_: object, **__: object) -> None:
            """We want none."""

    def __init__(self, queries: NDArray[np.float32], corpus: NDArray[np.float32]) -> None:
        self.queries, self.corpus = torch.from_numpy(queries), torch.from_numpy(corpus)

    def encode_query(self, texts: list[str], **_: Any) -> torch.Tensor:
        """The rows of the queries."""
        return self.queries[[int(text) for text in texts]]

    def encode_document(self, texts: list[str], **_: Any) -> torch.Tensor:
        """The rows of the documents."""
        return self.corpus[[int(text) for text in texts]]


def main() -> None:
    """Random unit vectors; the relevant document of a query is a noisy copy of it."""
    generator = np.random.default_rng(1)
    queries = generator.standard_normal((QUERIES, DIMENSION), dtype=np.float32)
    corpus = generator.standard_normal((DOCUMENTS, DIMENSION), dtype=np.float32)
    corpus[:QUERIES] = 0.2 * queries + 0.98 * corpus[:QUERIES]
    for vectors in (queries, corpus):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query_ids = tuple(map(str, range(QUERIES)))
    corpus_ids = tuple(map(str, range(DOCUMENTS)))
    suite = Suite(
        name="random",
        query_ids=query_ids,
        queries=query_ids,
        corpus_ids=corpus_ids,
        corpus=corpus_ids,
        qrels={name: {name: 1} for name in query_ids},
    )
    evaluator = InformationRetrievalEvaluator(
        dict(zip(query_ids, query_ids, strict=True)),
        dict(zip(corpus_ids, corpus_ids, strict=True)),
        {name: {name} for name in query_ids},
        ndcg_at_k=[5, 10],
        write_csv=False,
    )
    model = Given(queries, corpus)

    def ours() -> dict[str, float]:
        values = score(rank(queries, corpus, corpus_ids), suite)
        return {METRICS[name]: float(row.mean()) for name, row in values.items()}

    def theirs() -> dict[str, float]:
        metrics: dict[str, float] = evaluator(model)
        return metrics

    reference = theirs()
    for name, value in ours().items():
        assert abs(value - reference[name]) < 1e-9, (name, value, reference[name])
    side_by_side(
        f"rank and score {QUERIES} x {DOCUMENTS} x {DIMENSION}: ours against "
        "InformationRetrievalEvaluator",
        ours,
        theirs,
    )


if __name__ == "__main__":
    main()
