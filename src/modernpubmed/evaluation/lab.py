"""The measurements beside retrieval, of several models in one go, kept beside their results.

``compare`` puts retrieval side by side; this adds what else a reader of the report asks: clinical
contrast, non-medical text, robustness, contamination, speed. Each measurement is written as soon
as it is there, and one of the same model on the same texts is not made again, so a session that
was stopped goes on. Speed is always measured again: it is a matter of one run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.bm25 import BM25
from modernpubmed.evaluation.comparison import Comparison
from modernpubmed.evaluation.contamination import measure_contamination, training_pairs
from modernpubmed.evaluation.contrast import (
    read_contrast_suite,
    score_contrast,
    score_contrast_bm25,
)
from modernpubmed.evaluation.discrimination import DiscriminationTexts, measure_discrimination
from modernpubmed.evaluation.evaluate import Progress
from modernpubmed.evaluation.measured import (
    ContrastScore,
    Discrimination,
    Measured,
    Robustness,
    read_measured,
    write_measured,
)
from modernpubmed.evaluation.robustness import measure_robustness
from modernpubmed.evaluation.speed import measure_speed
from modernpubmed.protocols import TextEncoder
from modernpubmed.suites import Suite, suite_checksum

_M = TypeVar("_M", ContrastScore, Discrimination, Robustness)


@dataclass(frozen=True, slots=True)
class Lab:
    """What to measure beside retrieval.

    Attributes:
        contrast: Which half of the clinical contrast suite: ``dev``, ``test``, ``all``; None
            leaves it out.
        discrimination: The related pairs and the non-medical texts; None leaves it out.
        robustness: The suites whose queries to perturb and whose documents to cut, by name; empty
            is all of them, None leaves it out.
        years: Of publication, by suite and document id, for the strata.
        trained_on: The first model's training pairs, to look for in the suites; may be empty.
        speed: Whether to measure texts a second.
    """

    contrast: str | None = None
    discrimination: DiscriminationTexts | None = None
    robustness: Sequence[str] | None = None
    years: Mapping[str, Mapping[str, int]] | None = None
    trained_on: Sequence[Path] = ()
    speed: bool = False


def check(lab: Lab, suites: Sequence[Suite], folder: Path | None) -> None:
    """Refuses what could not be measured, before anything is.

    Args:
        lab: What to measure.
        suites: What is compared on.
        folder: The first model's.

    Raises:
        ModernPubMedError: Robustness on a suite that is not there; pairs that the first model was
            not trained on.
    """
    if unknown := set(lab.robustness or ()) - {suite.name for suite in suites}:
        raise ModernPubMedError(
            f"no suite {min(unknown)!r} is compared on",
            remedy=f"name some of {', '.join(suite.name for suite in suites)}",
        )
    if lab.trained_on:
        if folder is None:
            raise ModernPubMedError(
                "the first model has no folder, so no manifest", remedy="give a model folder"
            )
        training_pairs(folder, lab.trained_on)


def measure(
    lab: Lab,
    encoders: Sequence[TextEncoder],
    suites: Sequence[Suite],
    comparison: Comparison,
    out: str | Path,
    *,
    folders: Mapping[str, Path],
    cut: Callable[[str, int], TextEncoder],
    vectors: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """Makes every measurement asked for and writes it to the folder of results.

    Args:
        lab: What to measure.
        encoders: The models, ours first.
        suites: For robustness and contamination.
        comparison: Where the scores of the contaminated queries are.
        out: The folder of results.
        folders: The models' folders by name, for their size and the first one's manifest.
        cut: Gives a model, by name, that reads so many tokens.
        vectors: A folder that keeps vectors.
        progress: Called while encoding.

    Raises:
        ModernPubMedError: As each of the measurements does.
    """
    if lab.contrast is not None:
        triples = read_contrast_suite(half=lab.contrast)
        known = _known(out, ContrastScore)
        for encoder in encoders:
            there = known.get((encoder.name, lab.contrast))
            if there is None or (there.version, there.fingerprint) != (
                triples.version,
                encoder.fingerprint,
            ):
                _keep(score_contrast(encoder, triples), out)
        _keep(score_contrast_bm25(triples), out)
    if lab.discrimination is not None:
        texts = lab.discrimination
        measured = _known(out, Discrimination)
        for encoder in encoders:
            found = measured.get((encoder.name, ""))
            if found is None or (found.sources, found.fingerprint) != (
                texts.sources,
                encoder.fingerprint,
            ):
                _keep(measure_discrimination(encoder, texts), out)
    if lab.robustness is not None:
        robust = _known(out, Robustness)
        for suite in suites:
            if lab.robustness and suite.name not in lab.robustness:
                continue
            version = suite_checksum(suite)
            for encoder in encoders:
                last = robust.get((encoder.name, suite.name))
                if last is not None and (last.version, last.fingerprint) == (
                    version,
                    encoder.fingerprint,
                ):
                    continue
                _keep(
                    measure_robustness(
                        encoder,
                        suite,
                        metric=comparison.method.metric,
                        cut_at=lambda tokens, name=encoder.name: cut(name, tokens),  # type: ignore[misc]
                        years=(lab.years or {}).get(suite.name),
                        vectors=vectors,
                        progress=progress,
                    ),
                    out,
                )
    if lab.trained_on:
        name = encoders[0].name
        for overlap in measure_contamination(
            folders[name],
            lab.trained_on,
            suites,
            results=comparison.results,
            metric=comparison.method.metric,
            name=name,
            progress=progress,
        ):
            _keep(overlap, out)
    if lab.speed:
        sizes = {name: _megabytes(folder) for name, folder in folders.items()}
        for speed in measure_speed(encoders, sizes=sizes, progress=progress):
            _keep(speed, out)


def _known(out: str | Path, kind: type[_M]) -> dict[tuple[str, str], _M]:
    """What is there of a kind, by model and subject; BM25 costs nothing to measure again."""
    return {
        (found.model, getattr(found, "suite", getattr(found, "half", ""))): found
        for found in read_measured(out, kind)
        if found.model != BM25
    }


def _keep(measured: Measured, out: str | Path) -> None:
    write_measured(measured, out)


def _megabytes(folder: Path) -> float:
    """Size of what the model needs to run: its weights, graph and tokenizer."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
