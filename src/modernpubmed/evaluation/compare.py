"""Several models on several suites, in the form of the published table.

One table a suite: a row for each of the eight metrics, a column for the first model, then for
every other model its value and the first one's improvement over it, absolute and in per cent.
BM25 always stands beside the models: a figure without it says little. Improvements are worked out
here once; the text and Markdown forms only print them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.bm25 import BM25
from modernpubmed.evaluation.evaluate import (
    Progress,
    Result,
    evaluate,
    evaluate_bm25,
    read_result,
    result_path,
    write_result,
)
from modernpubmed.evaluation.metrics import METRICS
from modernpubmed.evaluation.similarity import (
    Correlation,
    ExampleScore,
    correlate,
    similarity_examples,
    write_similarity,
)
from modernpubmed.manifest import code_version
from modernpubmed.protocols import TextEncoder
from modernpubmed.suites import SentencePairs, Suite


@dataclass(frozen=True, slots=True)
class Improvement:
    """How much better the first model is than another.

    Attributes:
        absolute: The difference of the metric.
        percent: The difference in per cent of the other's value; None where that is 0.
    """

    absolute: float
    percent: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one suite.

    Attributes:
        metric: Its name.
        values: Each model's value, the first model first.
        improvements: The first model's improvement over each of the others, in their order.
    """

    metric: str
    values: tuple[float, ...]
    improvements: tuple[Improvement, ...]


@dataclass(frozen=True, slots=True)
class SuiteTable:
    """One suite's table.

    Attributes:
        suite: Its name.
        models: The names of the models, ``BM25`` last.
        rows: One for each of the eight metrics.
        notes: What has to be said with it: sizes, what was left out, texts that were cut.
    """

    suite: str
    models: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Models side by side.

    Attributes:
        tables: One for each suite.
        results: What the tables were made of, per-query scores and all.
        examples: The similarity examples of each model.
        correlations: Each model's agreement with each file of judged pairs.
    """

    tables: tuple[SuiteTable, ...]
    results: tuple[Result, ...]
    examples: tuple[ExampleScore, ...] = ()
    correlations: tuple[Correlation, ...] = ()


def compare(
    encoders: Sequence[TextEncoder],
    suites: Sequence[Suite],
    *,
    pairs: Sequence[SentencePairs] = (),
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Evaluates models and BM25 on suites and puts them side by side.

    Args:
        encoders: The models; improvements are those of the first.
        suites: What to measure on.
        pairs: Judged sentence pairs, for correlations.
        out: A folder for one result JSON per model and suite (each written as soon as it is
            there) and ``similarity.json``. A result that is there already, of the same model,
            suite and version of this code, is not measured again: a comparison that was stopped
            goes on.
        progress: Called while encoding.

    Raises:
        ModernPubMedError: No encoder, neither suite nor pairs, or two of one name.
    """
    _unique("encoder", [*(encoder.name for encoder in encoders), BM25])
    _unique("suite", [suite.name for suite in suites])
    _unique("file of pairs", [file.name for file in pairs])
    if not encoders:
        raise ModernPubMedError("no encoder to compare", remedy="give at least one")
    if not suites and not pairs:
        raise ModernPubMedError("nothing to compare on", remedy="give at least one suite")
    results = []
    for suite in suites:
        for encoder in encoders:
            inputs = {**suite.sources, "model": encoder.fingerprint}
            known = _known(out, encoder.name, suite, inputs)
            results.append(known or _keep(evaluate(encoder, suite, progress=progress), out))
        known = _known(out, BM25, suite, suite.sources)
        results.append(known or _keep(evaluate_bm25(suite), out))
    examples = tuple(score for encoder in encoders for score in similarity_examples(encoder))
    correlations = tuple(correlate(encoder, file) for file in pairs for encoder in encoders)
    if out is not None:
        write_similarity(out, examples, correlations)
    return compare_results(results, examples, correlations)


def compare_results(
    results: Sequence[Result],
    examples: Sequence[ExampleScore] = (),
    correlations: Sequence[Correlation] = (),
) -> Comparison:
    """Puts results that are already there side by side; suites and models in their order.

    Raises:
        ModernPubMedError: A model has two results on a suite, or the results of a suite were
            not measured on the same queries and documents.
    """
    tables = []
    for suite in dict.fromkeys(result.suite for result in results):
        group = [result for result in results if result.suite == suite]
        _unique(f"result on {suite} of", [result.model for result in group])
        tables.append(_table(suite, group))
    return Comparison(tuple(tables), tuple(results), tuple(examples), tuple(correlations))


def render_markdown(comparison: Comparison) -> str:
    """The comparison as Markdown: the tables with a heading and notes each, then the examples."""
    parts = []
    for title, header, rows, notes in _blocks(comparison):
        lines = [
            "| " + " | ".join(_escape(cell) for cell in header) + " |",
            "| :-- " + "| --: " * (len(header) - 1) + "|",
            *("| " + " | ".join(_escape(cell) for cell in row) + " |" for row in rows),
        ]
        parts.append("\n".join([f"### {title}", "", *lines, *(f"\n{note}." for note in notes)]))
    return "\n\n".join(parts) + "\n"


def render_text(comparison: Comparison) -> str:
    """The comparison as plain text in columns, for a terminal."""
    parts = []
    for title, header, rows, notes in _blocks(comparison):
        widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
        lines = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in [header, ["-" * width for width in widths], *rows]
        ]
        parts.append("\n".join([title, *lines, *(f"({note})" for note in notes)]))
    return "\n\n".join(parts) + "\n"


def _known(
    out: str | Path | None, model: str, suite: Suite, inputs: Mapping[str, str]
) -> Result | None:
    """The result in ``out`` that measuring again would give, if there is one."""
    if (
        out is None
        or not suite.sources
        or not (path := result_path(out, model, suite.name)).exists()
    ):
        return None
    result = read_result(path)
    same = result.manifest.inputs == inputs and result.manifest.version == code_version()
    return result if same and (result.model, result.suite) == (model, suite.name) else None


def _keep(result: Result, out: str | Path | None) -> Result:
    if out is not None:
        write_result(result, out)
    return result


_Block = tuple[str, list[str], list[list[str]], tuple[str, ...]]


def _blocks(comparison: Comparison) -> list[_Block]:
    """Title, header, rows and notes of every table, as strings."""
    blocks: list[_Block] = []
    for table in comparison.tables:
        header = ["Metric", table.models[0]]
        for model in table.models[1:]:
            header += [model, "improvement"]
        rows = []
        for row in table.rows:
            cells = [row.metric, f"{row.values[0]:.4f}"]
            for value, improvement in zip(row.values[1:], row.improvements, strict=True):
                cells += [f"{value:.4f}", _improvement(improvement)]
            rows.append(cells)
        blocks.append((table.suite, header, rows, table.notes))
    if comparison.examples:
        models = list(dict.fromkeys(score.model for score in comparison.examples))
        cosines = {(score.model, score.pair): score.cosine for score in comparison.examples}
        rows = [
            [
                f"{pair.kind}: “{pair.first}” – “{pair.second}”",
                *(f"{cosines[model, pair]:.4f}" for model in models),
            ]
            for pair in dict.fromkeys(score.pair for score in comparison.examples)
        ]
        blocks.append(("Similarity examples (cosine)", ["Pair", *models], rows, ()))
    if comparison.correlations:
        header = ["Suite", "Model", "Pairs", "Spearman", "Pearson", "Texts cut"]
        rows = [
            [
                found.suite,
                found.model,
                f"{found.pairs:,}",
                f"{found.spearman:.4f}",
                f"{found.pearson:.4f}",
                f"{found.truncated:,}",
            ]
            for found in comparison.correlations
        ]
        blocks.append(("Sentence similarity", header, rows, ()))
    return blocks


def _table(suite: str, results: Sequence[Result]) -> SuiteTable:
    first = results[0]
    for other in results[1:]:
        if other.query_ids != first.query_ids or other.documents != first.documents:
            raise ModernPubMedError(
                f"{first.model} and {other.model} were not measured on the same queries and "
                "documents",
                file=suite,
                remedy="evaluate both on the same suite",
            )
    rows = []
    for metric in METRICS:
        values = tuple(result.metrics[metric] for result in results)
        improvements = tuple(
            Improvement(values[0] - value, 100 * (values[0] - value) / value if value else None)
            for value in values[1:]
        )
        rows.append(Row(metric, values, improvements))
    notes = [f"{len(first.query_ids):,} queries, {first.documents:,} documents"]
    notes += [f"{count:,} left out: {reason}" for reason, count in first.manifest.dropped.items()]
    notes += [
        f"{result.model} cut {result.truncated_queries:,} queries and "
        f"{result.truncated_documents:,} documents to its length"
        for result in results
        if result.truncated_queries or result.truncated_documents
    ]
    return SuiteTable(suite, tuple(result.model for result in results), tuple(rows), tuple(notes))


def _improvement(improvement: Improvement) -> str:
    percent = "" if improvement.percent is None else f" ({improvement.percent:+.1f} %)"
    return f"{improvement.absolute:+.4f}{percent}"


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|")


def _unique(what: str, names: Sequence[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ModernPubMedError(
            f"more than one {what} {repeated[0]!r}", remedy="give each its own name, once"
        )
