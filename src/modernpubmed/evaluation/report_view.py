"""Results as the words, tables and pictures of the report, before any HTML.

Everything a reader sees is made here, from results that are already there; the template only
prints. Figures keep four digits, intervals three, so that a table can be read across.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modernpubmed.evaluation.charts import distributions, grouped_bars, speed_and_quality
from modernpubmed.evaluation.comparison import Comparison
from modernpubmed.evaluation.measured import (
    Contamination,
    ContrastScore,
    Discrimination,
    Estimate,
    Robustness,
    Speed,
)
from modernpubmed.evaluation.measurements import Measurements


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it says.
        small: A second line, in small print.
        kind: ``good``, ``bad``, ``words`` (left-aligned) or nothing.
    """

    text: str
    small: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row: its heading, then cells.

    Attributes:
        heading: The first column.
        values: The others.
        emphasis: Whether it stands out (a mean).
    """

    heading: str
    values: tuple[Cell, ...]
    emphasis: bool = False

    @property
    def cells(self) -> tuple[str | Cell, ...]:
        """All columns, the heading first."""
        return (self.heading, *self.values)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the report.

    Attributes:
        header: The columns' names, that of the heading first.
        rows: Its rows.
        caption: What it shows.
        notes: What has to be said with it.
    """

    header: tuple[str, ...]
    rows: tuple[TableRow, ...]
    caption: str = ""
    notes: tuple[str, ...] = ()


def estimated(estimate: Estimate | None, digits: int = 4) -> Cell:
    """A figure with its interval below.

    >>> estimated(Estimate(0.5, 0.41, 0.59))
    Cell(text='0.5000', small='[0.410, 0.590]', kind='')
    """
    if estimate is None:
        return Cell("–")
    low, high = (f"{end:.{digits - 1}f}" for end in (estimate.low, estimate.high))
    return Cell(f"{estimate.value:.{digits}f}", f"[{low}, {high}]")


def difference(estimate: Estimate | None, digits: int = 4, small: str = "") -> Cell:
    """A difference with its interval, coloured where the interval leaves out 0.

    >>> difference(Estimate(-0.02, -0.03, -0.01)).kind
    'bad'
    """
    if estimate is None:
        return Cell("–")
    kind = "good" if estimate.low > 0 else "bad" if estimate.high < 0 else ""
    interval = f"[{estimate.low:+.{digits - 1}f}, {estimate.high:+.{digits - 1}f}]"
    return Cell(f"{estimate.value:+.{digits}f}", f"{interval}{small}", kind)


def discrimination_table(found: Sequence[Discrimination]) -> Table:
    """AUROC, overlap and false similarity of each model, for both kinds of unlike pairs."""
    groups = [group for group in found[0].pairs if group != "related"]
    header = ["Model"]
    for group in groups:
        header += [f"AUROC, {group}", f"overlap, {group}", f"false similarity, {group}"]
    rows = []
    for one in found:
        cells = []
        for group in groups:
            cells += [
                estimated(one.auroc[group]),
                Cell(f"{one.overlap[group]:.3f}"),
                estimated(one.false_similarity[group]),
            ]
        rows.append(TableRow(one.model, tuple(cells)))
    counts = ", ".join(f"{count:,} {group}" for group, count in found[0].pairs.items())
    return Table(
        tuple(header),
        tuple(rows),
        notes=(
            f"{counts} pairs. AUROC: the chance that a related pair's cosine is higher than that "
            "of a pair of the other group. Overlap: the part of the two distributions in common. "
            "False similarity: the share of the other group at or above the cosine that keeps "
            f"{found[0].recall:.0%} of the related pairs.",
            *_middles(found),
        ),
    )


def _middles(found: Sequence[Discrimination]) -> list[str]:
    return [
        f"{one.model}, middle half of the cosines: "
        + "; ".join(
            f"{group} {values[2]:.2f} to {values[4]:.2f}" for group, values in one.quantiles.items()
        )
        + "."
        for one in found
    ]


def distribution_pictures(found: Sequence[Discrimination]) -> tuple[tuple[str, str], ...]:
    """Name and picture of each model's distributions."""
    return tuple(
        (one.model, distributions(one, title=f"{one.model}: cosines of pairs")) for one in found
    )


def contrast_table(scores: Sequence[ContrastScore]) -> Table:
    """Accuracy of each model by class, worst class of the first model first."""
    from modernpubmed.evaluation.contrast import compare_contrast

    first = scores[0]
    differences = {score.model: compare_contrast(first, score) for score in scores[1:]}
    header = ["Class", "triples", *(score.model for score in scores)]
    header += [f"over {model}" for model in differences]
    mean = TableRow(
        "mean of the classes",
        (
            Cell(f"{sum(one.triples for one in first.classes.values()):,}"),
            *(estimated(score.overall) for score in scores),
            *(difference(by_class.get("overall")) for by_class in differences.values()),
        ),
        emphasis=True,
    )
    rows = [
        TableRow(
            name,
            (
                Cell(f"{first.classes[name].triples:,}"),
                *(estimated(score.classes[name].accuracy, 3) for score in scores),
                *(difference(by_class.get(name), 3) for by_class in differences.values()),
            ),
        )
        for name in sorted(first.classes, key=lambda name: first.classes[name].accuracy.value)
    ]
    rows += [
        TableRow(
            f"all classes, {wording} paraphrases",
            (
                Cell(""),
                *(estimated(score.wordings.get(wording), 3) for score in scores),
                *(Cell("") for _ in differences),
            ),
        )
        for wording in first.wordings
    ]
    return Table(
        tuple(header),
        (mean, *rows),
        notes=(
            f"Half: {first.half}. Accuracy: the share of triples in which the paraphrase is nearer "
            "than the near-identical sentence that means something else; a tie is wrong. Wilson "
            "intervals by class; the mean's is a bootstrap within classes. Near paraphrases "
            "change as few words as the contrast does, free ones use words of their own.",
        ),
    )


def contrast_bars(scores: Sequence[ContrastScore], models: Sequence[str]) -> str:
    """The picture of the same, a bar a model."""
    by_model = {score.model: score for score in scores}
    first = scores[0]
    classes = sorted(first.classes, key=lambda name: first.classes[name].accuracy.value)
    return grouped_bars(
        ["mean", *classes],
        {
            model: [
                by_model[model].overall if model in by_model else None,
                *(
                    by_model[model].classes[name].accuracy if model in by_model else None
                    for name in classes
                ),
            ]
            for model in models
        },
        title="Clinical contrast: accuracy by class",
        axis="share of triples in which the paraphrase is nearer (95 % intervals)",
        reference=0.5,
        reference_label="a coin",
    )


def robustness_tables(found: Sequence[Robustness]) -> tuple[Table, ...]:
    """For each suite a table: conditions down, models across."""
    tables = []
    for suite in dict.fromkeys(one.suite for one in found):
        group = [one for one in found if one.suite == suite]
        names = dict.fromkeys(
            (condition.kind, condition.name) for one in group for condition in one.conditions
        )
        by_model = [{condition.name: condition for condition in one.conditions} for one in group]
        header = ["Condition", "queries", *(one.model for one in group)]
        rows = [
            TableRow(
                "as it is", (Cell(""), *(estimated(one.clean) for one in group)), emphasis=True
            )
        ]
        for kind, name in names:
            there = [conditions.get(name) for conditions in by_model]
            counts = {condition.queries for condition in there if condition is not None}
            cells = []
            for condition in there:
                if condition is None:
                    cells.append(Cell("–"))
                elif condition.difference is None:
                    cells.append(estimated(condition.score))
                else:
                    cut = f", {condition.changed:,} cut" if kind == "truncation" else ""
                    cells.append(
                        difference(
                            condition.difference, small=f" to {condition.score.value:.3f}{cut}"
                        )
                    )
            rows.append(
                TableRow(name, (Cell(" / ".join(f"{count:,}" for count in sorted(counts))), *cells))
            )
        tables.append(
            Table(
                tuple(header),
                tuple(rows),
                caption=f"{suite}, {group[0].metric}",
                notes=(
                    "Perturbed queries and cut documents: the change against the same queries "
                    "unchanged, and the score that is left. Lengths and years: the score of that "
                    "quarter of the queries.",
                ),
            )
        )
    return tuple(tables)


def contamination_table(found: Sequence[Contamination]) -> Table:
    """Overlap of the training pairs with each suite, and scores on all and on clean queries."""
    rows = [
        TableRow(
            f"{one.model} on {one.suite}",
            (
                Cell(f"{one.exact_queries:,}", f"near {one.near_queries:,}"),
                Cell(f"{one.exact_documents:,}", f"near {one.near_documents:,}"),
                Cell(f"{one.exact_pairs:,}"),
                Cell(f"{one.clean_queries:,}"),
                estimated(one.full),
                estimated(one.clean),
            ),
        )
        for one in found
    ]
    notes = [
        f"{found[0].training_texts:,} training texts. Exact: the same but for case, spacing and "
        "punctuation. Near: 70 % or more of the three-word shingles in common. Both in one pair: "
        "the query stood in one training pair with its answer. Clean: neither the query nor a "
        "document relevant to it was seen; such queries may be easier or harder than the others, "
        "so the two scores need not agree in a model that saw nothing."
    ]
    unseen = {name for one in found for name in one.unseen_sources}
    if unseen:
        notes.append(
            f"Not compared, as it was not given: {', '.join(sorted(unseen))}. The counts are lower "
            "bounds."
        )
    return Table(
        (
            "Model and suite",
            "queries seen",
            "documents seen",
            "both in one pair",
            "clean queries",
            f"{found[0].metric}, all",
            "clean",
        ),
        tuple(rows),
        notes=tuple(notes),
    )


def speed_table(speeds: Sequence[Speed], quality: Mapping[str, float]) -> Table:
    """Texts a second, size, dimension and quality of each model."""
    fastest = speeds[0]
    rows = [
        TableRow(
            speed.model,
            (
                Cell(f"{speed.texts_per_second:,.1f}", f"[{speed.low:,.1f}, {speed.high:,.1f}]"),
                Cell(f"{speed.texts_per_second / fastest.texts_per_second:.2f}"),
                Cell(f"{speed.megabytes:,.0f}" if speed.megabytes else "–"),
                Cell(f"{speed.dimension:,}"),
                Cell(f"{quality[speed.model]:.4f}" if speed.model in quality else "–"),
            ),
        )
        for speed in speeds
    ]
    return Table(
        ("Model", "texts/s", f"of {fastest.model}'s", "MB", "dimension", "mean nDCG@10"),
        tuple(rows),
        notes=(f"{fastest.texts}; {fastest.machine}. Median of rounds taken in turns.",),
    )


def speed_chart(speeds: Sequence[Speed], quality: Mapping[str, float]) -> str:
    """The picture of the same; empty without a model that has both."""
    if not any(speed.model in quality for speed in speeds):
        return ""
    return speed_and_quality(
        speeds, quality, title="Quality against speed", axis="mean nDCG@10 over the suites"
    )


def further_markdown(measured: Measurements) -> str:
    """What was measured beside retrieval as Markdown, with a heading of the third level each."""
    parts = []
    for title, tables in _further(measured):
        parts += [f"### {title}", *map(table_markdown, tables)]
    return "\n\n".join(parts)


def _further(measured: Measurements) -> list[tuple[str, tuple[Table, ...]]]:
    """The tables beside retrieval, by title."""
    tables: list[tuple[str, tuple[Table, ...]]] = []
    if measured.contrast:
        tables.append(("Clinical contrast", (contrast_table(measured.contrast),)))
    if measured.discrimination:
        table = discrimination_table(measured.discrimination)
        tables.append(("Related, unrelated, non-medical", (table,)))
    if measured.robustness:
        tables.append(("Robustness", robustness_tables(measured.robustness)))
    if measured.contamination:
        table = contamination_table(measured.contamination)
        tables.append(("Contamination", (table,)))
    if measured.speed:
        table = speed_table(measured.speed, mean_quality(measured.comparison))
        tables.append(("Speed and size", (table,)))
    return tables


def table_markdown(table: Table) -> str:
    """A table as Markdown."""

    def cell(cell: Cell | str) -> str:
        words = cell if isinstance(cell, str) else f"{cell.text} {cell.small}".rstrip()
        return words.replace("|", "\\|")

    lines = [f"**{table.caption}**\n"] if table.caption else []
    lines.append("| " + " | ".join(map(cell, table.header)) + " |")
    lines.append("| :-- " + "| --: " * (len(table.header) - 1) + "|")
    lines += ["| " + " | ".join(map(cell, row.cells)) + " |" for row in table.rows]
    lines += [f"\n{note}" for note in table.notes]
    return "\n".join(lines)


def mean_quality(comparison: Comparison) -> Mapping[str, float]:
    """Each model's mean over the suites, of those that were measured on all of them."""
    names = {table.suite for table in comparison.tables}
    return {
        average.model: average.score.value
        for average in comparison.averages
        if names and set(average.suites) == names
    }
