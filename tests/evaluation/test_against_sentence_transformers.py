"""Our metrics against the evaluator that defines them, on rankings full of ties."""

from __future__ import annotations

import numpy as np
import pytest

from modernpubmed.evaluation import ranking
from modernpubmed.evaluation.metrics import METRICS, depth_of, score
from modernpubmed.suites import Suite

#: What the evaluator can be asked for beside the eight.
FURTHER = [
    *(f"{measure}@{k}" for k in (1, 2, 7, 200) for measure in ("Precision", "Recall")),
    *("Accuracy@7", "MRR@7", "MRR@200", "nDCG@1", "nDCG@200", "MAP@1", "MAP@7", "MAP@200"),
]
NAMES = {**METRICS, **{name: f"cosine_{name.lower()}" for name in FURTHER}}


def quantised(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Unit vectors with four entries of ±0.5 out of eight.

    Lengths and dot products are exact in float32 in whatever order they are summed, and there are
    only nine different cosines: equal scores are equal in torch and in NumPy.
    """
    vectors = np.zeros((rows, 8), dtype=np.float32)
    for row in vectors:
        row[rng.choice(8, 4, replace=False)] = rng.choice([-0.5, 0.5], 4)
    return vectors


def build(seed: int, documents: int, queries: int = 40) -> tuple[Suite, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corpus = quantised(rng, documents)
    corpus[documents // 2 : documents // 2 + documents // 4] = corpus[: documents // 4]
    # Ids whose order as strings is neither that of the positions nor that of the numbers.
    ids = [f"d{number}" for number in rng.permutation(documents)]
    qrels = {}
    for query in range(queries):
        count = int(rng.integers(1, min(documents, 130) + 1 if query % 8 == 0 else 6))
        chosen = rng.choice(documents, count, replace=False)
        # Grades other than 1 count as 1; grade 0 does not count.
        qrels[f"q{query}"] = {ids[place]: int(rng.integers(1, 4)) for place in chosen}
        qrels[f"q{query}"][ids[int(rng.integers(documents))]] = 0 if count > 1 else 1
    qrels = {query: row for query, row in qrels.items() if any(row.values())}
    suite = Suite(
        name="random",
        query_ids=tuple(qrels),
        queries=tuple(qrels),
        corpus_ids=tuple(ids),
        corpus=tuple(str(place) for place in range(documents)),
        qrels=qrels,
    )
    return suite, quantised(rng, len(qrels)), corpus


def their_metrics(
    suite: Suite, queries: np.ndarray, corpus: np.ndarray, **options: int
) -> dict[str, float]:
    torch = pytest.importorskip("torch")
    pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.evaluation import (
        InformationRetrievalEvaluator,
    )
    from sentence_transformers.util import cos_sim

    class Precomputed:
        similarity_fn_name = "cosine"
        similarity = staticmethod(cos_sim)

        class model_card_data:  # noqa: N801
            @staticmethod
            def set_evaluation_metrics(*_args: object, **_options: object) -> None:
                return

        def encode_query(self, texts, **_options):
            assert list(texts) == list(suite.queries)
            return torch.from_numpy(queries)

        def encode_document(self, texts, **_options):
            return torch.from_numpy(corpus[[int(text) for text in texts]])

    evaluator = InformationRetrievalEvaluator(
        dict(zip(suite.query_ids, suite.queries, strict=True)),
        dict(zip(suite.corpus_ids, suite.corpus, strict=True)),
        {query: set(suite.relevant(query)) for query in suite.query_ids},
        accuracy_at_k=[1, 3, 5, 10, 7],
        precision_recall_at_k=[1, 2, 7, 200],
        mrr_at_k=[10, 7, 200],
        ndcg_at_k=[5, 10, 1, 200],
        map_at_k=[100, 1, 7, 200],
        write_csv=False,
        **options,
    )
    return evaluator(Precomputed())


def our_metrics(suite: Suite, queries: np.ndarray, corpus: np.ndarray) -> dict[str, float]:
    run = ranking.rank(queries, corpus, suite.corpus_ids, depth_of(FURTHER))
    values = score(run, suite, [*METRICS, *FURTHER])
    # The eight do not depend on how much deeper the run is than they need.
    for name, row in score(ranking.rank(queries, corpus, suite.corpus_ids), suite).items():
        assert (values[name] == row).all()
    return {NAMES[name]: float(row.mean()) for name, row in values.items()}


def assert_equal(ours: dict[str, float], theirs: dict[str, float]) -> None:
    assert list(ours) == list(NAMES.values())
    for name, value in ours.items():
        assert value == pytest.approx(theirs[name], abs=1e-9, rel=0), name


@pytest.mark.parametrize("documents", [30, 100, 101, 400])
@pytest.mark.parametrize("seed", range(5))
def test_equal_on_ties(seed: int, documents: int) -> None:
    suite, queries, corpus = build(seed, documents)
    run = ranking.rank(queries, corpus, suite.corpus_ids)
    assert (run.scores[:, :-1] == run.scores[:, 1:]).mean() > 0.7  # ties they are
    theirs = their_metrics(suite, queries, corpus)
    assert_equal(our_metrics(suite, queries, corpus), theirs)
    assert 0 < theirs["cosine_map@100"] < 1


@pytest.mark.parametrize("chunk", [1, 64, 100, 50000])
def test_equal_whatever_their_chunk_and_our_blocks(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, queries, corpus = build(7, 300)
    monkeypatch.setattr(ranking, "_QUERY_BLOCK", 7)
    monkeypatch.setattr(ranking, "_CORPUS_BLOCK", 11)
    theirs = their_metrics(suite, queries, corpus, corpus_chunk_size=chunk)
    assert_equal(our_metrics(suite, queries, corpus), theirs)


def test_equal_where_everything_ties() -> None:
    suite, queries, corpus = build(3, 250)
    queries[:], corpus[:] = queries[0], corpus[0]
    assert_equal(our_metrics(suite, queries, corpus), their_metrics(suite, queries, corpus))


def test_equal_on_vectors_of_any_length_and_on_zeros() -> None:
    suite, queries, corpus = build(5, 300)
    queries *= np.float32(4)
    corpus *= np.exp2(np.arange(len(corpus)) % 5).astype(np.float32)[:, None]
    corpus[::9] = 0
    assert_equal(our_metrics(suite, queries, corpus), their_metrics(suite, queries, corpus))


def test_equal_on_real_valued_vectors() -> None:
    suite, _, _ = build(11, 500)
    rng = np.random.default_rng(11)
    corpus = rng.standard_normal((500, 64), dtype=np.float32)
    queries = rng.standard_normal((len(suite.queries), 64), dtype=np.float32)
    assert_equal(our_metrics(suite, queries, corpus), their_metrics(suite, queries, corpus))
