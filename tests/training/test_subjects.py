"""Batches of one subject."""

from __future__ import annotations

import numpy as np
import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.training.batches import Source, batch_at, plan
from modernpubmed.training.subjects import LEAF, by_subject
from modernpubmed.training.tokens import Ragged

TOPICS, TOKENS_A_TOPIC, COMMON = 8, 40, 30


def _documents(count: int, seed: int = 0) -> tuple[Ragged, np.ndarray]:
    """Documents of one topic's words each, among words that all share; and their topics."""
    random = np.random.default_rng(seed)
    topics = random.integers(TOPICS, size=count)
    texts = [
        np.concatenate(
            [
                random.integers(COMMON, size=30),
                COMMON + topic * TOKENS_A_TOPIC + random.integers(TOKENS_A_TOPIC, size=20),
            ]
        )
        for topic in topics
    ]
    offsets = np.concatenate(([0], np.cumsum([len(text) for text in texts])))
    return Ragged(np.concatenate(texts).astype(np.uint32), offsets), topics


def _embeddings(seed: int = 0) -> np.ndarray:
    """Tokens of a topic look alike, a little."""
    random = np.random.default_rng(seed)
    tokens = COMMON + TOPICS * TOKENS_A_TOPIC
    vectors = random.normal(size=(tokens, 64))
    centres = random.normal(size=(TOPICS, 64))
    vectors[COMMON:] += np.repeat(centres, TOKENS_A_TOPIC, axis=0)
    return vectors.astype(np.float32)


def test_neighbours_are_of_one_topic() -> None:
    documents, topics = _documents(1_024)
    order = np.argsort(by_subject(documents, _embeddings()))
    shares = [
        np.bincount(topics[order[start : start + 64]], minlength=TOPICS).max() / 64
        for start in range(0, 1_024, 64)
    ]
    assert np.mean(shares) > 0.75  # at random: 0.2


def test_every_place_is_given_once_and_the_same_again() -> None:
    documents, _ = _documents(500)
    places = by_subject(documents, _embeddings())
    assert sorted(places.tolist()) == list(range(1, 501))
    np.testing.assert_array_equal(places, by_subject(documents, _embeddings()))


def test_empty_documents_and_few_of_them() -> None:
    ids = np.array([3, 4], dtype=np.uint32)
    documents = Ragged(ids, np.array([0, 0, 2, 2]))
    assert sorted(by_subject(documents, _embeddings()).tolist()) == [1, 2, 3]
    none = Ragged(ids[:0], np.zeros(1, dtype=np.int64))
    assert by_subject(none, _embeddings()).tolist() == []
    alike = Ragged(np.full(4 * LEAF, 3, dtype=np.uint32), np.arange(4 * LEAF + 1))
    assert sorted(by_subject(alike, _embeddings()).tolist()) == list(range(1, 4 * LEAF + 1))


def test_batches_follow_the_order_not_the_lengths() -> None:
    documents, topics = _documents(1_024)
    lengths = np.random.default_rng(1).integers(5, 200, size=1_024).astype(np.int32)
    keys = np.zeros((1_024, 0), dtype=np.uint64)
    by_topic = plan(
        [Source("a", 1.0, lengths, keys, 64, order=by_subject(documents, _embeddings()))], seed=3
    )
    by_length = plan([Source("a", 1.0, lengths, keys, 64)], seed=3)

    def purity(made: object) -> float:
        rows = [batch_at(made, step).rows for step in range(16)]  # type: ignore[arg-type]
        assert sorted(np.concatenate(rows).tolist()) == list(range(1_024))
        return float(np.mean([np.bincount(topics[row]).max() / 64 for row in rows]))

    assert purity(by_topic) > 0.75
    assert purity(by_length) < 0.35


@pytest.mark.parametrize(
    ("order", "tokens"), [(np.arange(9, dtype=np.int32), None), (np.arange(10), 40)]
)
def test_an_order_that_does_not_fit_is_refused(order: np.ndarray, tokens: int | None) -> None:
    lengths, keys = np.full(10, 5, dtype=np.int32), np.zeros((10, 0), dtype=np.uint64)
    size = None if tokens else 2
    with pytest.raises(ModernPubMedError, match=r"source 'a'.*order"):
        plan([Source("a", 1.0, lengths, keys, size, tokens, order)], seed=0)
