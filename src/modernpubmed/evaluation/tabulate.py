"""Results side by side: tables with improvements, intervals, tests, averages, worst queries.

Everything that a comparison shows is worked out here, once, of results alone; nothing is encoded.
The statistics are those of ``significance.py``. On one main metric the p-values are corrected for
the number of comparisons.

Given up: a correction over all metrics. They are views of one ranking, and a family of hundreds
of dependent tests would hide what the main metric shows; p-values of the others are uncorrected
and called so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.comparison import (
    Average,
    Comparison,
    Difference,
    HurtQuery,
    Improvement,
    Method,
    Model,
    Row,
    SuiteTable,
)
from modernpubmed.evaluation.evaluate import Result
from modernpubmed.evaluation.hurt import worst_hurt
from modernpubmed.evaluation.measured import Estimate
from modernpubmed.evaluation.metrics import (
    METRICS,
    SENTENCE_TRANSFORMERS,
    TREC_EVAL,
    TREC_METRICS,
    parse_metric,
)
from modernpubmed.evaluation.significance import (
    DRAWS,
    SEED,
    PairedTest,
    bootstrap_mean,
    holm,
    mean_over_suites,
    paired_test,
)
from modernpubmed.evaluation.similarity import Correlation, ExampleScore
from modernpubmed.suites import Suite, suite_checksum

#: The metric whose p-values are corrected and whose worst queries are shown.
MAIN_METRIC = "nDCG@10"


def compare_results(
    results: Sequence[Result],
    examples: Sequence[ExampleScore] = (),
    correlations: Sequence[Correlation] = (),
    *,
    suites: Sequence[Suite] = (),
    runs: str | Path | None = None,
    metric: str = MAIN_METRIC,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Comparison:
    """Puts results that are already there side by side; suites and models in their order.

    Args:
        results: The first one's model is the first in every table.
        examples: The similarity examples of the models.
        correlations: Their agreement with judged pairs.
        suites: What they were measured on: of these, the worst-hurt queries are shown.
        runs: The folder of their run files, to show what was returned.
        metric: The main metric.
        draws: Bootstrap samples and sets of signs.
        seed: What they start from.

    Raises:
        ModernPubMedError: A model has two results on a suite, or results of two models under one
            name; the results of a suite were measured on different versions of it (names both
            checksums), or not on the same queries and documents; the first model has no result
            on a suite; a result lacks the main metric; a suite of ``suites`` is another version.
    """
    metric = str(parse_metric(metric))
    models = _models(results)
    places = {model.name: place for place, model in enumerate(models)}
    groups = []
    for suite in dict.fromkeys(result.suite for result in results):
        group = [result for result in results if result.suite == suite]
        group.sort(key=lambda result: places[result.model])
        _check(suite, group, models[0].name, metric)
        groups.append(group)

    # Metrics and conventions often agree on every query (Accuracy@1 is nDCG@1): drawn once.
    @cache
    def mean(values: tuple[float, ...]) -> Estimate:
        return bootstrap_mean(values, draws=draws, seed=seed)

    @cache
    def test(ids: tuple[str, ...], *both: tuple[float, ...]) -> PairedTest:
        ours, theirs = (dict(zip(ids, values, strict=True)) for values in both)
        return paired_test(ours, theirs, draws=draws, seed=seed)

    plain, trec = (
        (
            _corrected([_table(group, convention, mean, test) for group in groups], metric),
            _averages(groups, convention, models, metric, draws, seed),
        )
        for convention in (SENTENCE_TRANSFORMERS, TREC_EVAL)
    )
    return Comparison(
        tables=plain[0],
        results=tuple(results),
        examples=tuple(examples),
        correlations=tuple(correlations),
        trec_tables=trec[0],
        averages=plain[1],
        trec_averages=trec[1],
        hurt=_hurt(groups, suites, metric, runs),
        models=models,
        method=Method(metric, sum(len(group) - 1 for group in groups), draws, seed),
    )


def _models(results: Sequence[Result]) -> tuple[Model, ...]:
    models: dict[str, Model] = {}
    for result in results:
        fingerprint = result.manifest.inputs.get("model", "")
        model = Model(result.model, fingerprint, dict(result.prompts), result.dimension)
        known = models.setdefault(result.model, model)
        if known != model:
            raise ModernPubMedError(
                f"results of two models (or of one with other prompts) named {result.model}: "
                f"fingerprints {known.fingerprint or 'none'} and {fingerprint or 'none'}, "
                f"prompts {dict(known.prompts)} and {dict(model.prompts)}, "
                f"{known.dimension} and {model.dimension} dimensions",
                file=result.suite,
                remedy="evaluate the model again on all suites, or rename one of the two",
            )
    return tuple(models.values())


def _check(suite: str, results: Sequence[Result], model: str, metric: str) -> None:
    """Refuses results that do not belong in one table."""
    refuse_repeated(f"result on {suite} of", [result.model for result in results])
    first = results[0]
    if first.model != model:
        raise ModernPubMedError(
            f"{model} has no result on it, others have",
            file=suite,
            remedy="evaluate it there too, or leave the suite out",
        )
    for other in results:
        if other.suite_version != first.suite_version:
            raise ModernPubMedError(
                f"{first.model} and {other.model} were measured on different versions of it, "
                f"{first.suite_version} and {other.suite_version}",
                file=suite,
                remedy="evaluate both on the same version",
            )
        if other.query_ids != first.query_ids or other.documents != first.documents:
            raise ModernPubMedError(
                f"{first.model} and {other.model} were not measured on the same queries and "
                "documents",
                file=suite,
                remedy="evaluate both on the same suite",
            )
        if metric not in other.metrics or metric not in other.trec_metrics:
            raise ModernPubMedError(
                f"the result of {other.model} has no {metric}",
                file=suite,
                remedy="compare by another metric, or evaluate again with this one",
            )


def _per_query(result: Result, convention: str) -> Mapping[str, tuple[float, ...]]:
    return result.per_query if convention == SENTENCE_TRANSFORMERS else result.trec_per_query


def _metrics(result: Result, convention: str) -> Mapping[str, float]:
    return result.metrics if convention == SENTENCE_TRANSFORMERS else result.trec_metrics


def _table(
    results: Sequence[Result],
    convention: str,
    mean: Callable[[tuple[float, ...]], Estimate],
    test: Callable[..., PairedTest],
) -> SuiteTable:
    first = results[0]
    default = METRICS if convention == SENTENCE_TRANSFORMERS else TREC_METRICS
    scores = [_per_query(result, convention) for result in results]
    every = dict.fromkeys(name for each in scores for name in each)
    common = [name for name in every if all(name in each for each in scores)]

    rows = []
    for name in common:
        intervals = tuple(mean(each[name]) for each in scores)
        values = tuple(_metrics(result, convention)[name] for result in results)
        rows.append(
            Row(
                metric=name,
                values=values,
                improvements=tuple(
                    Improvement(
                        values[0] - value, 100 * (values[0] - value) / value if value else None
                    )
                    for value in values[1:]
                ),
                intervals=intervals,
                differences=tuple(
                    Difference(result.model, test(first.query_ids, scores[0][name], each[name]))
                    for result, each in zip(results[1:], scores[1:], strict=True)
                ),
            )
        )
    notes = [f"{len(first.query_ids):,} queries, {first.documents:,} documents"]
    notes += [f"{count:,} left out: {reason}" for reason, count in first.manifest.dropped.items()]
    notes += [
        f"{result.model} cut {result.truncated_queries:,} queries and "
        f"{result.truncated_documents:,} documents to its length"
        for result in results
        if result.truncated_queries or result.truncated_documents
    ]
    notes += [_prompts(result) for result in results if any(result.prompts.values())]
    notes += [
        f"the run of {result.model} lacks {missing:,} queries, which count 0"
        for result in results
        if (missing := result.manifest.counts.get("queries_missing_from_run", 0))
    ]
    if partial := [name for name in every if name not in common and name not in default]:
        notes.append(f"not shown, as not all have it: {', '.join(partial)}")
    return SuiteTable(
        suite=first.suite,
        models=tuple(result.model for result in results),
        rows=tuple(rows),
        notes=tuple(notes),
        convention=convention,
        version=first.suite_version,
        queries=len(first.query_ids),
        documents=first.documents,
    )


def _prompts(result: Result) -> str:
    named = [f"{role} prompt “{prompt}”" for role, prompt in result.prompts.items() if prompt]
    return f"{result.model}: {', '.join(named)}"


def _corrected(tables: Sequence[SuiteTable], metric: str) -> tuple[SuiteTable, ...]:
    """The tables with Holm's correction on the main metric, over all suites and rivals."""
    family = [
        difference.test
        for table in tables
        for row in table.rows
        if row.metric == metric
        for difference in row.differences
    ]
    bootstrap = iter(holm([test.bootstrap_p for test in family]))
    randomisation = iter(holm([test.randomisation_p for test in family]))
    return tuple(
        replace(
            table,
            rows=tuple(
                replace(
                    row,
                    differences=tuple(
                        replace(
                            difference,
                            bootstrap_holm=next(bootstrap),
                            randomisation_holm=next(randomisation),
                        )
                        for difference in row.differences
                    ),
                )
                if row.metric == metric
                else row
                for row in table.rows
            ),
        )
        for table in tables
    )


def _averages(
    groups: Sequence[Sequence[Result]],
    convention: str,
    models: Sequence[Model],
    metric: str,
    draws: int,
    seed: int,
) -> tuple[Average, ...]:
    averages = []
    for model in models:
        ours, own, suites = [], [], []
        for group in groups:
            for result in group:
                if result.model == model.name:
                    ours.append(_per_query(group[0], convention)[metric])
                    own.append(_per_query(result, convention)[metric])
                    suites.append(result.suite)
        differences = [
            [left - right for left, right in zip(first, second, strict=True)]
            for first, second in zip(ours, own, strict=True)
        ]
        first_model = model.name == models[0].name
        averages.append(
            Average(
                model.name,
                tuple(suites),
                mean_over_suites(own, draws=draws, seed=seed),
                None if first_model else mean_over_suites(differences, draws=draws, seed=seed),
            )
        )
    return tuple(averages)


def _hurt(
    groups: Sequence[Sequence[Result]],
    suites: Sequence[Suite],
    metric: str,
    runs: str | Path | None,
) -> tuple[HurtQuery, ...]:
    known = {suite.name: suite for suite in suites}
    hurt: list[HurtQuery] = []
    for group in groups:
        suite = known.get(group[0].suite)
        if suite is None:
            continue
        if (version := suite_checksum(suite)) != group[0].suite_version:
            raise ModernPubMedError(
                f"the results are of version {group[0].suite_version}, the suite is {version}",
                file=suite.name,
                remedy="evaluate again on the suite as it is",
            )
        hurt += worst_hurt(suite, group, metric, runs)
    return tuple(hurt)


def refuse_repeated(what: str, names: Sequence[str]) -> None:
    """Refuses two of one name.

    Raises:
        ModernPubMedError: A name is there more than once.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ModernPubMedError(
            f"more than one {what} {repeated[0]!r}", remedy="give each its own name, once"
        )
