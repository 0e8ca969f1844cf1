"""An encoder without a model: a hashed bag of words."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest

from modernpubmed.suites import Suite


class BagOfWords:
    fingerprint = "0" * 64

    def __init__(self, name: str = "bag", dimension: int = 64, longest: int = 8) -> None:
        self.name = name
        self.dimension = dimension
        self.longest = longest
        self.truncated = 0
        self.calls: list[int] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(len(texts))
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            words = text.lower().replace(".", " ").split()
            self.truncated += len(words) > self.longest
            for word in words[: self.longest]:
                digest = hashlib.sha256(word.encode()).digest()
                vectors[row, int.from_bytes(digest[:4], "big") % self.dimension] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    encode_query = encode_document = encode


@pytest.fixture
def bag() -> type[BagOfWords]:
    return BagOfWords


@pytest.fixture
def suite() -> Suite:
    return Suite(
        name="tiny",
        query_ids=("q1", "q2", "q3"),
        queries=("acute fever", "dry cough", "back pain that came slowly over many long years"),
        corpus_ids=("d1", "d2", "d3", "d4"),
        corpus=("Fever is heat.", "A dry cough.", "Pain in the back.", "Fever is heat."),
        qrels={"q1": {"d1": 1}, "q2": {"d2": 1}, "q3": {"d3": 1, "d1": 0}},
        dropped={"query without a relevant document": 2},
        sources={"corpus.jsonl": "a" * 64},
    )
