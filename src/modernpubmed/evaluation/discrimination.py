"""Discrimination: are related medical texts near, and unrelated or non-medical ones far?

Three groups of pairs. *Related*: two medical texts that belong together. *Unrelated*: the first
text of one such pair with the second of another. *Non-medical*: a medical text with one that is
not medical at all. Of each model we keep the distribution of cosines and three figures for each
of the two latter groups against the first:

- AUROC, the chance that a related pair's cosine is higher (the Mann-Whitney statistic, ties 1/2),
  with DeLong's interval (DeLong, DeLong & Clarke-Pearson 1988, doi:10.2307/2531595);
- the overlapping coefficient of the two distributions, from 200 bins of 0.01 (Inman & Bradley
  1989, doi:10.1080/03610928908830127);
- the false-similarity rate: the share of the other group at or above the cosine that keeps 95 % of
  the related pairs, with Wilson's interval.

Cosines of different models are not on one scale, so only these are compared, never the cosines.
The built-in texts are our own: sentence and paraphrase of the clinical contrast suite, and close
to 300 everyday and technical sentences. Give your own pairs for a figure about your own texts.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modernpubmed.encoder import TruncationWarning
from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.contrast import CONTRAST_SUITE, read_contrast_suite, wilson
from modernpubmed.evaluation.measured import Discrimination, Estimate
from modernpubmed.evaluation.similarity import average_ranks
from modernpubmed.lines import text_lines
from modernpubmed.manifest import sha256
from modernpubmed.protocols import DocumentEncoder

#: Non-medical texts of our own.
NON_MEDICAL = CONTRAST_SUITE / "non_medical.txt"
#: The groups, in order.
GROUPS = ("related", "unrelated", "non-medical")
#: Bins of the histograms, equal ones from -1 to 1.
BINS = 200

_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_Z = 1.959963984540054

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DiscriminationTexts:
    """What to tell apart.

    Attributes:
        related: Pairs of medical texts that belong together.
        non_medical: Texts that are not medical.
        sources: SHA-256 of where they are from, by name.
    """

    related: tuple[tuple[str, str], ...]
    non_medical: tuple[str, ...]
    sources: Mapping[str, str] = field(default_factory=dict)


def discrimination_texts(
    related: str | Path | None = None,
    non_medical: str | Path | None = None,
    *,
    pairs: int = 10_000,
    seed: int = 0,
) -> DiscriminationTexts:
    """The built-in texts, or those of files.

    Args:
        related: A Parquet file of pairs (columns ``anchor`` and ``positive``); None is sentence and
            paraphrase of the clinical contrast suite.
        non_medical: A file of one text a line; None is ours.
        pairs: Take this many pairs at random where the file has more.
        seed: What the draw starts from.

    Raises:
        ModernPubMedError: A file cannot be read, or holds fewer than two pairs or no text.
    """
    sources = {}
    if related is None:
        suite = read_contrast_suite()
        rows = [(triple.sentence, triple.paraphrase) for triple in suite.triples]
        sources["clinical contrast suite"] = suite.version
    else:
        file = Path(related)
        rows = _pairs(file)
        sources[file.name] = sha256(file)
    if len(rows) > pairs:
        chosen = np.random.default_rng(seed).choice(len(rows), pairs, replace=False)
        rows = [rows[row] for row in np.sort(chosen)]
    texts = Path(NON_MEDICAL if non_medical is None else non_medical)
    lines = tuple(dict.fromkeys(line.strip() for _, line in text_lines(texts) if line.strip()))
    if not lines:
        raise ModernPubMedError("no text", file=texts, remedy="write one text a line")
    sources[texts.name] = sha256(texts)
    return DiscriminationTexts(tuple(rows), lines, sources)


def measure_discrimination(
    encoder: DocumentEncoder,
    texts: DiscriminationTexts,
    *,
    recall: float = 0.95,
    seed: int = 0,
) -> Discrimination:
    """How well a model tells the three groups apart.

    As many pairs of each group as there are related ones. An unrelated pair never joins two texts
    that are, or share a text with, a related pair; each text is encoded once.

    Args:
        encoder: The model.
        texts: What to tell apart.
        recall: The share of related pairs to keep, for the false-similarity rate.
        seed: What the drawing of pairs starts from.

    Raises:
        ModernPubMedError: Fewer than two related pairs, or none that can be mixed; no non-medical
            text; a recall outside (0, 1]; the encoder gives vectors that do not fit.
    """
    if not 0 < recall <= 1:
        raise ModernPubMedError(f"recall is {recall}", remedy="give more than 0, at most 1")
    if not texts.non_medical:
        raise ModernPubMedError("no non-medical text", remedy="give at least one")
    generator = np.random.default_rng(seed)
    first, second = zip(*texts.related, strict=True) if texts.related else ((), ())
    partners = _strangers(texts.related, generator)
    others = generator.integers(0, len(texts.non_medical), len(first))
    groups = {
        "related": list(zip(first, second, strict=True)),
        "unrelated": [(first[a], second[b]) for a, b in enumerate(partners)],
        "non-medical": [(first[row], texts.non_medical[other]) for row, other in enumerate(others)],
    }
    cosines = _cosines(encoder, groups)
    related = cosines["related"]
    threshold = float(np.quantile(related, 1 - recall, method="lower"))
    edges = np.linspace(-1, 1, BINS + 1)
    histograms = {
        name: np.histogram(np.clip(values, -1, 1), edges)[0] for name, values in cosines.items()
    }
    rest = GROUPS[1:]
    return Discrimination(
        model=encoder.name,
        pairs={name: len(values) for name, values in cosines.items()},
        histograms={name: tuple(counts.tolist()) for name, counts in histograms.items()},
        quantiles={
            name: tuple(np.quantile(values, _QUANTILES).round(6).tolist())
            for name, values in cosines.items()
        },
        auroc={name: auroc(related, cosines[name]) for name in rest},
        overlap={
            name: float(
                np.minimum(
                    histograms["related"] / len(related), histograms[name] / len(cosines[name])
                ).sum()
            )
            for name in rest
        },
        false_similarity={
            name: wilson(int((cosines[name] >= threshold).sum()), len(cosines[name]))
            for name in rest
        },
        recall=recall,
        sources=texts.sources,
        fingerprint=encoder.fingerprint,
    )


def auroc(positive: _Floats, negative: _Floats) -> Estimate:
    """The chance that a value of the first is higher than one of the second, ties 1/2.

    Args:
        positive: ``[n]``.
        negative: ``[m]``.

    Returns:
        With DeLong's 95 % interval, cut at 0 and 1. From a single value on either side, or where
        all are told apart, the variance is 0 and so is the interval's width.

    >>> auroc(np.array([0.9, 0.8]), np.array([0.1, 0.8])).value
    0.875
    """
    n, m = len(positive), len(negative)
    together = average_ranks(np.concatenate([positive, negative]))
    # The share of the other side that each value beats: DeLong's placements.
    above = (together[:n] - average_ranks(positive)) / m
    below = 1 - (together[n:] - average_ranks(negative)) / n
    value = float(above.mean())
    variance = sum(float(part.var(ddof=1)) / len(part) for part in (above, below) if len(part) > 1)
    reach = _Z * variance**0.5
    return Estimate(value, max(0.0, value - reach), min(1.0, value + reach))


def _strangers(
    related: Sequence[tuple[str, str]], generator: np.random.Generator
) -> NDArray[np.int64]:
    """For each pair another one whose second text is a stranger to this one's first."""
    if len(related) < 2:
        raise ModernPubMedError(
            f"{len(related)} related pairs", remedy="give at least two, of different texts"
        )
    partners_of: dict[str, set[str]] = {}
    for first, second in related:
        partners_of.setdefault(first, {first}).add(second)
        partners_of.setdefault(second, {second}).add(first)
    chosen = np.empty(len(related), dtype=np.int64)
    for row, (first, _) in enumerate(related):
        known = partners_of[first]
        for _ in range(100):
            other = int(generator.integers(len(related)))
            if other != row and related[other][1] not in known:
                chosen[row] = other
                break
        else:
            raise ModernPubMedError(
                "no unrelated pair can be made of these",
                record=f"pair {row + 1}",
                remedy="give pairs of more different texts",
            )
    return chosen


def _cosines(
    encoder: DocumentEncoder, groups: Mapping[str, Sequence[tuple[str, str]]]
) -> dict[str, _Floats]:
    places: dict[str, int] = {}
    for pairs in groups.values():
        for pair in pairs:
            for text in pair:
                places.setdefault(text, len(places))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        vectors = np.asarray(encoder.encode_document(list(places)), dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(places) or not np.isfinite(vectors).all():
        raise ModernPubMedError(
            f"{encoder.name} gave vectors of shape {vectors.shape}, or not finite ones",
            remedy="give an encoder that returns one finite row a text",
        )
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return {
        name: np.einsum(
            "nd,nd->n",
            vectors[[places[first] for first, _ in pairs]],
            vectors[[places[second] for _, second in pairs]],
        )
        for name, pairs in groups.items()
    }


def _pairs(file: Path) -> list[tuple[str, str]]:
    try:
        table = pq.read_table(file, columns=["anchor", "positive"])
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ModernPubMedError(
            f"cannot be read as pairs ({error})",
            file=file,
            remedy="make it with modernpubmed pairs",
        ) from error
    rows = list(zip(table["anchor"].to_pylist(), table["positive"].to_pylist(), strict=True))
    for number, row in enumerate(rows, start=1):
        if not all((text or "").strip() for text in row):
            raise ModernPubMedError(
                "no anchor or no positive",
                file=file,
                record=f"row {number}",
                remedy="make it with modernpubmed pairs",
            )
    return rows
