"""Similarity of single pairs: the two published examples, and correlation with human judgement.

The examples are the first thing a reader of a table understands: two sentences that mean the same
should be near, a disease and a line of Python should not. The correlation is that of STS
benchmarks: Spearman's (of ranks, ties given their average rank) and Pearson's between the
cosines and the scores people gave. Written with NumPy because SciPy is no part of the core.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modernpubmed.encoder import TruncationWarning
from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.measured import Estimate
from modernpubmed.manifest import replacing
from modernpubmed.protocols import TextEncoder
from modernpubmed.suites import SentencePairs, suite_checksum

_SIMILARITY_NAME = "similarity.json"
_DRAWS = 2_000

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ExamplePair:
    """Two texts, and what is to be expected of them.

    Attributes:
        kind: ``related`` or ``non-medical``.
        first: The one text.
        second: The other.
    """

    kind: str
    first: str
    second: str


#: The published examples: the first pair should be near, the second should not.
EXAMPLES = (
    ExamplePair(
        "related",
        "The patient was diagnosed with hypertension.",
        "The patient has high blood pressure.",
    ),
    ExamplePair("non-medical", "diabetes type 2", "asyncio.run()"),
)


@dataclass(frozen=True, slots=True)
class ExampleScore:
    """The cosine that one model gives an example pair."""

    model: str
    pair: ExamplePair
    cosine: float


@dataclass(frozen=True, slots=True)
class Correlation:
    """How well a model's cosines agree with people's judgements of sentence pairs.

    Attributes:
        model: The model's short name.
        suite: The name of the file of pairs.
        pairs: How many.
        spearman: Correlation of the ranks, -1 to 1, with its 95 % interval.
        pearson: Correlation of the values, the same.
        truncated: How many sentences were cut to the model's length.
        version: SHA-256 of the pairs, as ``suite_checksum`` gives it.
        fingerprint: The model's.
    """

    model: str
    suite: str
    pairs: int
    spearman: Estimate
    pearson: Estimate
    truncated: int
    version: str
    fingerprint: str


def similarity_examples(encoder: TextEncoder) -> tuple[ExampleScore, ...]:
    """The cosines of ``EXAMPLES``."""
    first = tuple(pair.first for pair in EXAMPLES)
    second = tuple(pair.second for pair in EXAMPLES)
    cosines = _cosines(encoder, first, second)
    return tuple(
        ExampleScore(encoder.name, pair, float(cosine))
        for pair, cosine in zip(EXAMPLES, cosines, strict=True)
    )


def correlate(encoder: TextEncoder, pairs: SentencePairs) -> Correlation:
    """Spearman's and Pearson's correlation of a model's cosines with the scores of ``pairs``.

    The intervals are percentile bootstrap over pairs (2,000 draws, always the same ones).

    Raises:
        ModernPubMedError: All scores or all cosines are equal, so no correlation is defined.
    """
    before = encoder.truncated
    cosines = _cosines(encoder, pairs.first, pairs.second)
    scores = np.array(pairs.scores)
    for values, what in ((scores, "scores"), (cosines, f"cosines of {encoder.name}")):
        if values.min() == values.max():
            raise ModernPubMedError(
                f"all {what} are equal, so no correlation is defined",
                file=pairs.name,
                remedy="give pairs of different scores, and an encoder that tells them apart",
            )
    return Correlation(
        model=encoder.name,
        suite=pairs.name,
        pairs=len(scores),
        spearman=_with_interval(spearman, scores, cosines),
        pearson=_with_interval(pearson, scores, cosines),
        truncated=encoder.truncated - before,
        version=suite_checksum(pairs),
        fingerprint=encoder.fingerprint,
    )


def _with_interval(
    correlation: Callable[[_Floats, _Floats], float], a: _Floats, b: _Floats
) -> Estimate:
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(_DRAWS):
        rows = generator.integers(0, len(a), len(a))
        x, y = a[rows], b[rows]
        # A sample of one value only has no correlation; of more than a few pairs none is like that.
        if x.min() < x.max() and y.min() < y.max():
            drawn.append(correlation(x, y))
    value = correlation(a, b)
    low, high = np.quantile(drawn, (0.025, 0.975)) if drawn else (value, value)
    return Estimate(value, float(low), float(high))


def pearson(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson's correlation of two vectors ``[n]`` that are not constant.

    >>> round(pearson(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0])), 4)
    0.982
    """
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's rank correlation of two vectors ``[n]`` that are not constant.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 400.0]))
    1.0
    """
    return pearson(average_ranks(a), average_ranks(b))


def average_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, equal values sharing the average of the ranks they take up.

    >>> average_ranks(np.array([30.0, 10.0, 10.0])).tolist()
    [3.0, 1.5, 1.5]
    """
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    average: NDArray[np.float64] = np.cumsum(sizes) - (sizes - 1) / 2
    return average[group]


def write_similarity(
    folder: str | Path,
    examples: Sequence[ExampleScore],
    correlations: Sequence[Correlation] = (),
) -> Path:
    """Writes ``similarity.json`` and returns its path.

    What is there of other models, or of these on other files of pairs, stays; a file that is not
    readable is replaced.
    """
    path = Path(folder) / _SIMILARITY_NAME
    new_examples = {(score.model, score.pair) for score in examples}
    new_correlations = {(found.model, found.suite) for found in correlations}
    try:
        old_examples, old_correlations = read_similarity(folder)
    except ModernPubMedError:
        old_examples, old_correlations = (), ()
    kept = [one for one in old_examples if (one.model, one.pair) not in new_examples]
    others = [one for one in old_correlations if (one.model, one.suite) not in new_correlations]
    content = {
        "examples": [asdict(example) for example in (*kept, *examples)],
        "correlations": [asdict(correlation) for correlation in (*others, *correlations)],
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return path


def read_similarity(
    folder: str | Path,
) -> tuple[tuple[ExampleScore, ...], tuple[Correlation, ...]]:
    """Reads what ``write_similarity`` wrote: the examples and the correlations.

    Raises:
        ModernPubMedError: There is no such file, or it is not one of ours.
    """
    file = Path(folder) / _SIMILARITY_NAME
    try:
        content = json.loads(file.read_text("utf-8"))
        examples = tuple(
            ExampleScore(**{**row, "pair": ExamplePair(**row["pair"])})
            for row in content["examples"]
        )
        correlations = tuple(
            Correlation(
                **{
                    **row,
                    "spearman": Estimate(**row["spearman"]),
                    "pearson": Estimate(**row["pearson"]),
                }
            )
            for row in content["correlations"]
        )
        return examples, correlations
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModernPubMedError(
            f"no readable similarities ({error})", file=file, remedy="evaluate again"
        ) from error


def _cosines(
    encoder: TextEncoder, first: Sequence[str], second: Sequence[str]
) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # the correlation counts them
        vectors = np.asarray(encoder.encode([*first, *second]), dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != 2 * len(first) or not np.isfinite(vectors).all():
        raise ModernPubMedError(
            f"{encoder.name} gave vectors of shape {vectors.shape}, or not finite ones",
            remedy="give an encoder that returns one finite row a text",
        )
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosines: NDArray[np.float64] = np.einsum(
        "nd,nd->n", vectors[: len(first)], vectors[len(first) :]
    )
    return cosines
