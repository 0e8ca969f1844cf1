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


def test_vectors_that_are_not_finite_are_refused() -> None:
    good, bad = np.ones((3, 2), np.float32), np.ones((3, 2), np.float32)
    bad[1, 0] = np.nan
    with pytest.raises(ModernPubMedError, match="vector of document 1 is not finite"):
        rank(good, bad, ["a", "b", "c"])
    with pytest.raises(ModernPubMedError, match="vector of query 1 is not finite"):
        rank(bad, good, ["a", "b", "c"])


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModernPubMedError, match=r"shape \(1, 3\) and documents of shape \(2, 2\)"):
        rank(np.ones((1, 3), np.float32), np.ones((2, 2), np.float32), ["a", "b"])
    with pytest.raises(ModernPubMedError, match="1 ids for 2 documents"):
        rank(np.ones((1, 2), np.float32), np.ones((2, 2), np.float32), ["a"])
