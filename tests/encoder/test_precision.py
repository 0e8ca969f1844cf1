"""Shorter and coarser vectors, and finding by signs."""

from __future__ import annotations

import numpy as np
import pytest

from modernpubmed.encoder import quantize, search_binary, shorten
from modernpubmed.encoder.pooling import normalize
from modernpubmed.errors import ModernPubMedError


def unit(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    return normalize(np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32))


def test_a_shortened_vector_is_a_unit_vector_of_the_first_numbers():
    vectors = unit(5, 8)
    short = shorten(vectors, 3)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(short[:, 0] / short[:, 1], vectors[:, 0] / vectors[:, 1], rtol=1e-5)
    assert shorten(vectors, None) is vectors
    assert shorten(vectors, 8) is vectors
    for dim in (0, -1, 9):
        with pytest.raises(ModernPubMedError, match=f"8 numbers cannot be cut to {dim}"):
            shorten(vectors, dim)


def test_int8_keeps_directions():
    vectors = unit(200, 384)
    stored = quantize(vectors, "int8")
    assert stored.dtype == np.int8
    assert (np.abs(stored.astype(int)).max(axis=1) == 127).all()
    cosine = (normalize(stored.astype(np.float32)) * vectors).sum(axis=1)
    assert cosine.min() > 0.9995
    assert quantize(np.zeros((1, 4), np.float32), "int8").tolist() == [[0, 0, 0, 0]]


def test_binary_is_what_sentence_transformers_calls_ubinary():
    from sentence_transformers.quantization import quantize_embeddings

    vectors = unit(20, 384)
    np.testing.assert_array_equal(
        quantize(vectors, "binary"), quantize_embeddings(vectors, precision="ubinary")
    )
    assert quantize(unit(2, 20), "binary").shape == (2, 3)


def test_an_unknown_type_is_refused():
    with pytest.raises(ModernPubMedError, match="no vector type 'int4'"):
        quantize(unit(1, 4), "int4")  # type: ignore[arg-type]


def test_binary_search_that_rescores_all_ranks_as_what_it_rescores_with():
    queries, documents = unit(70, 64), unit(300, 64, seed=1)
    signs, small = quantize(documents, "binary"), quantize(documents, "int8")
    rows, scores = search_binary(queries, signs, 10, oversample=30, rescored_by=small)
    expected = queries @ normalize(small.astype(np.float32)).T
    np.testing.assert_array_equal(rows, np.argsort(-expected, axis=1, kind="stable")[:, :10])
    np.testing.assert_allclose(scores, np.take_along_axis(expected, rows, axis=1), atol=1e-6)
    rows, _ = search_binary(queries, signs, 10, oversample=30)
    by_signs = queries @ np.where(documents > 0, 1.0, -1.0).T
    found = np.take_along_axis(by_signs, rows, axis=1)
    np.testing.assert_allclose(found, -np.sort(-by_signs, axis=1)[:, :10], rtol=1e-5)


def test_oversampling_finds_more_of_the_true_neighbours():
    generator = np.random.default_rng(2)
    documents = unit(2000, 128, seed=3)
    queries = normalize(
        documents[:50] + 0.08 * generator.standard_normal((50, 128), dtype=np.float32)
    )
    true = np.argsort(-(queries @ documents.T), axis=1)[:, :10]
    signs, small = quantize(documents, "binary"), quantize(documents, "int8")
    recall = []
    for oversample in (1, 4, 16):
        rows, _ = search_binary(queries, signs, 10, oversample=oversample, rescored_by=small)
        hits = [len(set(a) & set(b)) for a, b in zip(rows, true, strict=True)]
        recall.append(np.mean(hits) / 10)
        assert (rows[:, 0] == np.arange(50)).all()
    assert recall == sorted(recall)
    assert recall[2] > recall[0] + 0.1


def test_ties_go_to_the_first_document_and_k_may_exceed_the_corpus():
    documents = quantize(np.repeat(unit(1, 8), 3, axis=0), "binary")
    rows, scores = search_binary(unit(1, 8), documents, 9)
    assert rows.tolist() == [[0, 1, 2]]
    assert scores.shape == (1, 3)


@pytest.mark.parametrize(
    ("k", "oversample", "dim", "cause"),
    [(0, 4, 64, "k is 0"), (1, 0, 64, "oversample 0"), (1, 1, 56, "do not fit")],
)
def test_bad_searches_are_refused(k: int, oversample: int, dim: int, cause: str):
    documents = quantize(unit(3, 64), "binary")
    with pytest.raises(ModernPubMedError, match=cause):
        search_binary(unit(1, dim), documents, k, oversample=oversample)
    with pytest.raises(ModernPubMedError, match="do not fit"):
        search_binary(unit(1, 64), documents, 1, rescored_by=np.zeros((2, 64), np.int8))
