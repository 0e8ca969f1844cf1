"""A comparison as text for a terminal and as Markdown for a README.

First two compact tables of the main metric: every suite and model with its interval; how far the
first model is ahead, and whether that is more than luck. Then the tables in their published form,
the similarities, and the queries that the first model loses most on. Nothing is computed here.
Given up: the tests of the metrics that are not the main one, which ``comparison.json`` and the
HTML report carry.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from itertools import groupby

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.comparison import (
    Answer,
    Average,
    Comparison,
    Difference,
    HurtQuery,
    Improvement,
    SuiteTable,
)
from modernpubmed.evaluation.measured import Estimate
from modernpubmed.evaluation.metrics import SENTENCE_TRANSFORMERS, TREC_EVAL

#: What a convention is called in print.
CONVENTIONS = {SENTENCE_TRANSFORMERS: "sentence-transformers ≥ 6", TREC_EVAL: "trec_eval"}

_Block = tuple[str, list[str], list[list[str]], tuple[str, ...]]

_LEVEL = 0.05
# Queries shown for each suite and rival, and characters of a text.
_QUERIES = 3
_LONGEST = 100
# Columns of a note or an answer on a terminal; a table is as wide as it is.
_WIDTH = 96


def render_markdown(comparison: Comparison, *, convention: str = SENTENCE_TRANSFORMERS) -> str:
    """The comparison as Markdown: tables with a heading and notes each, then the worst queries.

    Args:
        comparison: What to print.
        convention: ``sentence-transformers`` or ``trec_eval``: whose metrics.

    Raises:
        ModernPubMedError: There is no such convention.
    """
    parts = []
    for title, header, rows, notes in _blocks(comparison, convention):
        lines = [
            "| " + " | ".join(_escape(cell) for cell in header) + " |",
            "| :-- " + "| --: " * (len(header) - 1) + "|",
            *("| " + " | ".join(_escape(cell) for cell in row) + " |" for row in rows),
        ]
        parts.append("\n".join([f"### {title}", "", *lines, *(f"\n{note}." for note in notes)]))
    if comparison.hurt:
        lines = [f"### {_hurt_title(comparison)}"]
        for heading, queries in _hurt(comparison):
            lines += ["", f"{heading}:", ""]
            for query in queries:
                first, *rest = _query_lines(query)
                lines += [f"- {_literal(first)}", *(f"  - {_literal(line)}" for line in rest)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def render_text(comparison: Comparison, *, convention: str = SENTENCE_TRANSFORMERS) -> str:
    """The comparison as plain text in columns, for a terminal.

    Args:
        comparison: What to print.
        convention: ``sentence-transformers`` or ``trec_eval``: whose metrics.

    Raises:
        ModernPubMedError: There is no such convention.
    """
    parts = []
    for title, header, rows, notes in _blocks(comparison, convention):
        widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
        lines = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in [header, ["-" * width for width in widths], *rows]
        ]
        parts.append("\n".join([title, *lines, *(_wrapped(f"({note})") for note in notes)]))
    if comparison.hurt:
        lines = [_hurt_title(comparison)]
        for heading, queries in _hurt(comparison):
            lines.append(f"{heading}:")
            for query in queries:
                first, *rest = _query_lines(query)
                lines += [_wrapped(f"  {first}", 6), *(_wrapped(f"    {line}", 6) for line in rest)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _blocks(comparison: Comparison, convention: str) -> list[_Block]:
    """Title, header, rows and notes of every table, as strings."""
    if convention not in CONVENTIONS:
        raise ModernPubMedError(
            f"no such convention: {convention!r}", remedy=f"give one of {', '.join(CONVENTIONS)}"
        )
    tables, averages = comparison.tables, comparison.averages
    if convention == TREC_EVAL:
        tables, averages = comparison.trec_tables, comparison.trec_averages
    blocks: list[_Block] = []
    if tables:
        blocks.append(_summary(comparison, tables, averages, CONVENTIONS[convention]))
    if tables and comparison.method.family:
        blocks.append(_tests(comparison, tables, averages, CONVENTIONS[convention]))
    blocks += [_published(table, CONVENTIONS[convention]) for table in tables]
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
                f"{found.spearman.value:.4f} {_interval(found.spearman)}",
                f"{found.pearson.value:.4f} {_interval(found.pearson)}",
                f"{found.truncated:,}",
            ]
            for found in comparison.correlations
        ]
        blocks.append(("Sentence similarity", header, rows, ()))
    return blocks


def _summary(
    comparison: Comparison,
    tables: Sequence[SuiteTable],
    averages: Sequence[Average],
    convention: str,
) -> _Block:
    """The main metric of every suite and model."""
    metric = comparison.method.metric
    models = [model.name for model in comparison.models]
    rows = []
    for table in tables:
        (row,) = (row for row in table.rows if row.metric == metric)
        scores = dict(zip(table.models, row.intervals, strict=True))
        rows.append([table.suite, *(_score(scores.get(model)) for model in models)])
    notes = ["in brackets: 95 % interval by bootstrap over queries"]
    if len(tables) > 1:
        whole = {each.model: each.score for each in averages if len(each.suites) == len(tables)}
        rows.append(["mean of suites", *(_score(whole.get(model)) for model in models)])
        notes.append("the mean weighs each suite the same and is given where all are there")
    return f"Summary: {metric} ({convention})", ["Suite", *models], rows, tuple(notes)


def _tests(
    comparison: Comparison,
    tables: Sequence[SuiteTable],
    averages: Sequence[Average],
    convention: str,
) -> _Block:
    """The first model against each other one, on the main metric."""
    method, ours = comparison.method, comparison.models[0].name
    header = ["Suite", "Against", "Ahead by", "95 % interval", "Holm p", "Won/tied/lost"]
    rows = []
    for table in tables:
        (row,) = (row for row in table.rows if row.metric == method.metric)
        rows += [
            [table.suite, difference.rival, *_against(difference)] for difference in row.differences
        ]
    if len(tables) > 1:
        rows += [
            [
                f"mean of {len(average.suites)} suites",
                average.model,
                f"{average.difference.value:+.4f}",
                _interval(average.difference, sign="+"),
                "",
                "",
            ]
            for average in averages
            if average.difference is not None
        ]
    notes = (
        "Holm p: paired randomisation test / paired bootstrap test, two-sided, corrected for the "
        f"{method.family:,} comparisons of {ours} with another model on a suite; "
        f"* both below {_LEVEL}",
        f"{method.draws:,} draws, seed {method.seed}; wins, ties and losses count queries",
    )
    title = f"{ours} against the others: {method.metric} ({convention})"
    return title, header, rows, notes


def _against(difference: Difference) -> list[str]:
    test = difference.test
    corrected = (difference.randomisation_holm, difference.bootstrap_holm)
    sure = all(p is not None and p < _LEVEL for p in corrected)
    return [
        f"{test.difference.value:+.4f}",
        _interval(test.difference, sign="+"),
        f"{' / '.join(_p(p) for p in corrected)}{' *' if sure else ''}",
        f"{test.wins:,}/{test.ties:,}/{test.losses:,}",
    ]


def _published(table: SuiteTable, convention: str) -> _Block:
    header = ["Metric", table.models[0]]
    for model in table.models[1:]:
        header += [model, "improvement"]
    rows = []
    for row in table.rows:
        cells = [row.metric, f"{row.values[0]:.4f}"]
        for value, improvement in zip(row.values[1:], row.improvements, strict=True):
            cells += [f"{value:.4f}", _improvement(improvement)]
        rows.append(cells)
    return f"{table.suite} ({convention})", header, rows, table.notes


def _hurt_title(comparison: Comparison) -> str:
    return (
        f"Where {comparison.models[0].name} loses most ({comparison.method.metric}, "
        f"{CONVENTIONS[SENTENCE_TRANSFORMERS]}; up to {_QUERIES} queries a suite and rival)"
    )


def _hurt(comparison: Comparison) -> list[tuple[str, list[HurtQuery]]]:
    return [
        (f"{suite}, against {rival}", list(queries)[:_QUERIES])
        for (suite, rival), queries in groupby(
            comparison.hurt, key=lambda query: (query.suite, query.rival)
        )
    ]


def _query_lines(query: HurtQuery) -> list[str]:
    """The query with its loss, what ours and the rival put first, and what is relevant."""
    lines = [f"−{query.loss:.4f}  {_quoted(query.query_id, query.query)}"]
    ours, rival = query.answers[0], query.rival
    lines += [
        f"{answer.model}: {_first(answer)}"
        for answer in (ours, *(each for each in query.answers if each.model == rival))
    ]
    more = query.relevant_count - 1
    wanted = query.relevant[0]
    also = f" and {more:,} more" if more else ""
    return [*lines, f"relevant: {_quoted(wanted.id, wanted.text)}{also}"]


def _first(answer: Answer) -> str:
    if answer.documents is None:
        return "no run file, so nothing to show"
    if not answer.documents:
        return "found nothing"
    best = answer.documents[0]
    found = _quoted(best.id, best.text)
    if answer.first_relevant == 1:
        return f"{found}, relevant"
    if answer.first_relevant is None:
        return f"{found}; nothing relevant found"
    return f"{found}; the first relevant one at rank {answer.first_relevant}"


def _quoted(identifier: str, text: str) -> str:
    line = " ".join(text.split())
    cut = line if len(line) <= _LONGEST else line[: _LONGEST - 1].rstrip() + "…"
    return f"{identifier} “{cut}”"


def _wrapped(line: str, indent: int = 0) -> str:
    return textwrap.fill(
        line,
        _WIDTH,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def _score(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{estimate.value:.4f} {_interval(estimate)}"


def _interval(estimate: Estimate, sign: str = "") -> str:
    return f"[{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _improvement(improvement: Improvement) -> str:
    percent = "" if improvement.percent is None else f" ({improvement.percent:+.1f} %)"
    return f"{improvement.absolute:+.4f}{percent}"


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|")


def _literal(text: str) -> str:
    """Text of a corpus that Markdown is not to take for its own marks."""
    return re.sub(r"([\\`*_<\[])", r"\\\1", text)
