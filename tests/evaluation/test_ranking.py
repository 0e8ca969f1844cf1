from __future__ import annotations

import numpy as np
import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation import ranking
from modernpubmed.evaluation.ranking import rank


def slowly(queries: np.ndarray, corpus: np.ndarray, ids: list[str], k: int) -> list[list[int]]:
    scores = queries.astype(np.float64) @ corpus.astype(np.float64).T
    return [
        sorted(range(len(ids)), key=lambda place: (-row[place], ids[place]))[:k] for row in scores
    ]


@pytest.mark.parametrize(("documents", "k"), [(5, 100), (60, 7), (61, 61), (200, 100)])
@pytest.mark.parametrize("blocks", [(1, 1), (4, 16), (1000, 1000)])
def test_equals_sorting_everything(
    documents: int, k: int, blocks: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "_QUERY_BLOCK", blocks[0])
    monkeypatch.setattr(ranking, "_CORPUS_BLOCK", blocks[1])
    rng = np.random.default_rng(documents)
    signs = rng.choice(np.float32([-0.25, 0.25]), (documents + 9, 16))  # unit vectors, exact dots
    ids = [str(number) for number in rng.permutation(documents)]
    run = rank(signs[:9], signs[9:], ids, k)
    assert run.documents.tolist() == slowly(signs[:9], signs[9:], ids, k)
    assert run.scores.dtype == np.float32
    expected = np.take_along_axis(signs[:9] @ signs[9:].T, run.documents, axis=1)
    assert (run.scores == expected).all()


@pytest.mark.parametrize("documents", [101, 1003])
def test_equal_documents_tie_wherever_they_stand(documents: int) -> None:
    # In a matrix product they need not: the last bit depends on the place in the matrix.
    rng = np.random.default_rng(0)
    corpus = np.repeat(rng.standard_normal((1, 384), dtype=np.float32), documents, axis=0)
    queries = rng.standard_normal((7, 384), dtype=np.float32)
    ids = [f"{place:04}" for place in range(documents)]
    run = rank(queries, corpus, ids, k=documents)
    assert (run.scores == run.scores[:, :1]).all()
    assert (run.documents == np.arange(documents)).all()


@pytest.mark.parametrize("threads", [1, 4])
def test_equal_documents_at_the_cutoff_go_by_id(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ten equal documents around place k: the last bit of the product must not choose among them.
    monkeypatch.setattr(ranking, "_THREADS", threads)
    monkeypatch.setattr(ranking, "_QUERY_BLOCK", 16)
    monkeypatch.setattr(ranking, "_CORPUS_BLOCK", 128)
    rng = np.random.default_rng(4)
    queries = rng.standard_normal((40, 384), dtype=np.float32)
    corpus = rng.standard_normal((1001, 384), dtype=np.float32)
    ids = [f"d{number}" for number in rng.permutation(1001)]
    exact = queries.astype(np.float64) @ corpus.astype(np.float64).T
    exact /= np.linalg.norm(corpus.astype(np.float64), axis=1)
    k = 20
    for row in range(40):
        twins = rng.choice(1001, 10, replace=False)
        copy = corpus.copy()
        copy[twins] = corpus[np.argsort(-exact[row])[k - 1]]
        run = rank(queries[row : row + 1], copy, ids, k)
        assert run.documents.tolist() == slowly_by_cosine(queries[row], copy, ids, k)


def slowly_by_cosine(query: np.ndarray, corpus: np.ndarray, ids: list[str], k: int) -> list:
    unit = corpus / np.linalg.norm(corpus, axis=1, keepdims=True)
    scores = np.array([float(np.dot(row.astype(np.float64), query)) for row in unit])
    return [sorted(range(len(ids)), key=lambda place: (-scores[place], ids[place]))[:k]]


def test_the_blocks_do_not_change_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    corpus = rng.standard_normal((1003, 48), dtype=np.float32)
    corpus[500:700] = corpus[:200]
    queries = rng.standard_normal((37, 48), dtype=np.float32)
    ids = [str(number) for number in rng.permutation(1003)]
    run = rank(queries, corpus, ids, 50)
    for blocks in ((37, 60), (5, 64), (1, 333)):
        monkeypatch.setattr(ranking, "_QUERY_BLOCK", blocks[0])
        monkeypatch.setattr(ranking, "_CORPUS_BLOCK", blocks[1])
        other = rank(queries, corpus, ids, 50)
        assert (other.documents == run.documents).all()
        assert (other.scores == run.scores).all()


def test_vectors_that_are_not_finite_are_refused_by_id() -> None:
    good, bad = np.ones((6, 2), np.float32), np.ones((6, 2), np.float32)
    bad[1, 0] = np.nan
    ids = list("abcdef")
    with pytest.raises(ModernPubMedError, match="document 'b': vector is not finite"):
        rank(good, bad, ids)
    with pytest.raises(ModernPubMedError, match="query 'q2': vector is not finite"):
        rank(bad, good, ids, query_ids=[f"q{number}" for number in range(1, 7)])
    with pytest.raises(ModernPubMedError, match="query '1': vector is not finite"):
        rank(bad, good, ids)
    bad[2:, 1] = [np.inf, -np.inf, np.nan, np.nan]
    with pytest.raises(
        ModernPubMedError, match="documents 'b', 'c', 'd' and 2 more: 5 vectors are not finite"
    ):
        rank(good, bad, ids)


def test_large_numbers_are_finite() -> None:
    # Their sum overflows float32; they are no reason to refuse.
    ranking.check_finite(np.full((1, 4), 3e38, np.float32), ["a"], "query")


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModernPubMedError, match=r"shape \(1, 3\) and documents of shape \(2, 2\)"):
        rank(np.ones((1, 3), np.float32), np.ones((2, 2), np.float32), ["a", "b"])
    with pytest.raises(ModernPubMedError, match="1 ids for 2 documents"):
        rank(np.ones((1, 2), np.float32), np.ones((2, 2), np.float32), ["a"])
