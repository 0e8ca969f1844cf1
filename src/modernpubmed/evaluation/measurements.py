"""Everything that was measured of some models, read from their folders of results.

``compare --out`` leaves retrieval results, ``comparison.json`` and one small file a further
measurement. Reports and cards are made of all of them together, and what does not belong in one
table (another version of a suite, other pairs) is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.bm25 import BM25
from modernpubmed.evaluation.comparison import Comparison, read_comparison
from modernpubmed.evaluation.measured import (
    Contamination,
    ContrastScore,
    Discrimination,
    Measured,
    Robustness,
    Speed,
    read_measured,
)
from modernpubmed.evaluation.tabulate import compare_results

_M = TypeVar("_M", ContrastScore, Discrimination, Robustness, Contamination, Speed)


@dataclass(frozen=True, slots=True)
class Measurements:
    """All that a report is made of.

    Attributes:
        comparison: Retrieval, examples and correlations.
        contrast: On the clinical contrast suite, ours first.
        discrimination: Related against unrelated and non-medical.
        robustness: By suite.
        contamination: By suite.
        speed: Measured in one run.
    """

    comparison: Comparison
    contrast: tuple[ContrastScore, ...] = ()
    discrimination: tuple[Discrimination, ...] = ()
    robustness: tuple[Robustness, ...] = ()
    contamination: tuple[Contamination, ...] = ()
    speed: tuple[Speed, ...] = ()


def read_measurements(folders: Sequence[str | Path]) -> Measurements:
    """Everything that ``compare --out`` and its kin left in some folders.

    Args:
        folders: One or more. Of several the results are put side by side anew: the first
            folder's first model stays the first.

    Raises:
        ModernPubMedError: No folder; one holds no comparison; something in it cannot be read; two
            hold results of one model on one suite, or of different versions of one suite.
    """
    if not folders:
        raise ModernPubMedError("no results to report", remedy="give a folder of results")
    comparisons = [read_comparison(folder) for folder in folders]
    comparison = comparisons[0]
    if len(comparisons) > 1:
        comparison = compare_results(
            [result for one in comparisons for result in one.results],
            [score for one in comparisons for score in one.examples],
            [found for one in comparisons for found in one.correlations],
        )
        hurt = tuple(query for one in comparisons for query in one.hurt)
        comparison = replace(comparison, hurt=hurt)

    def all_of(kind: type[_M]) -> tuple[_M, ...]:
        return tuple(one for folder in folders for one in read_measured(folder, kind))

    measured = Measurements(
        comparison=comparison,
        contrast=all_of(ContrastScore),
        discrimination=all_of(Discrimination),
        robustness=all_of(Robustness),
        contamination=all_of(Contamination),
        speed=all_of(Speed),
    )
    _one_version(
        "clinical contrast suite",
        {f"{score.half} {score.version[:12]}" for score in measured.contrast},
    )
    _one_version(
        "pairs to discriminate",
        {str(sorted(found.sources.items())) for found in measured.discrimination},
    )
    for suite in {found.suite for found in measured.robustness}:
        versions = {found.version[:12] for found in measured.robustness if found.suite == suite}
        _one_version(f"suite {suite}", versions)
    return _in_order(measured, [model.name for model in comparison.models])


def with_first(measured: Measurements, name: str) -> Measurements:
    """The same with another model first, on the suites that it was measured on; BM25 last.

    Raises:
        ModernPubMedError: There is no result of it.
    """
    comparison = measured.comparison
    own = {result.suite for result in comparison.results if result.model == name}
    if not own:
        there = ", ".join(model.name for model in comparison.models) or "none"
        raise ModernPubMedError(
            f"no result of {name} (there: {there})",
            remedy="evaluate this model, or give the name it has in the results",
        )
    results = [result for result in comparison.results if result.suite in own]
    results.sort(key=lambda result: (result.model != name, result.model == BM25))
    again = compare_results(
        results,
        sorted(comparison.examples, key=lambda score: score.model != name),
        sorted(comparison.correlations, key=lambda found: found.model != name),
        metric=comparison.method.metric,
        draws=comparison.method.draws,
        seed=comparison.method.seed,
    )
    return _in_order(replace(measured, comparison=again), [model.name for model in again.models])


def _in_order(measured: Measurements, models: Sequence[str]) -> Measurements:
    """Every measurement in the order of the models; those of other models last."""
    places = {model: place for place, model in enumerate(models)}

    def key(one: Measured) -> int:
        return places.get(one.model, len(places))

    return replace(
        measured,
        contrast=tuple(sorted(measured.contrast, key=key)),
        discrimination=tuple(sorted(measured.discrimination, key=key)),
        robustness=tuple(sorted(measured.robustness, key=key)),
        contamination=tuple(sorted(measured.contamination, key=key)),
        speed=tuple(sorted(measured.speed, key=key)),
    )


def _one_version(what: str, versions: set[str]) -> None:
    if len(versions) > 1:
        raise ModernPubMedError(
            f"results on different versions of the {what} in one report",
            record=", ".join(sorted(versions)),
            remedy="measure all models again on one version",
        )
