"""The report: one HTML file to look at, and Markdown for a README, from results on disk.

The page needs nothing but itself: no network, no script, pictures inline; it follows the reader's
light or dark mode and prints. What it says is prepared by ``report_view.py`` and this file from
``comparison.json`` and the measurements beside it; nothing is measured here, so a report can be
made again from the same folder and is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modernpubmed.errors import ModernPubMedError, needs_extra
from modernpubmed.evaluation import report_view as view
from modernpubmed.evaluation.charts import ForestRow, forest
from modernpubmed.evaluation.comparison import Comparison, Difference, HurtQuery, SuiteTable
from modernpubmed.evaluation.measured import ContrastScore
from modernpubmed.evaluation.measurements import Measurements, read_measurements
from modernpubmed.evaluation.rendering import render_markdown
from modernpubmed.evaluation.report_view import Cell, Table, TableRow, further_markdown
from modernpubmed.manifest import code_version, replacing

HTML_NAME, MARKDOWN_NAME = "report.html", "report.md"
_ALPHA = 0.05
_SHOWN_DOCUMENTS = 5
_SHOWN_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    published: Table
    trec: Table


@dataclass(frozen=True, slots=True)
class _Found:
    text: str
    score: str
    relevant: bool


@dataclass(frozen=True, slots=True)
class _Answered:
    model: str
    documents: tuple[_Found, ...]
    first: str


@dataclass(frozen=True, slots=True)
class _Failure:
    query: str
    loss: str
    wanted: str
    answers: tuple[_Answered, ...]


@dataclass(frozen=True, slots=True)
class _Failures:
    name: str
    failures: tuple[_Failure, ...]


@dataclass(frozen=True, slots=True)
class _Page:
    """What the template prints."""

    title: str
    lead: str
    models: tuple[str, ...]
    footer: str
    provenance: tuple[Table, ...]
    findings: tuple[str, ...] = ()
    summary: Table | None = None
    forests: tuple[tuple[str, str], ...] = ()
    forest_caption: str = ""
    tables: tuple[_Section, ...] = ()
    similarity: tuple[Table, ...] = ()
    discrimination: Table | None = None
    groups: tuple[str, ...] = ()
    distributions: tuple[tuple[str, str], ...] = ()
    contrast: Table | None = None
    contrast_lead: str = ""
    contrast_bars: str = ""
    robustness: tuple[Table, ...] = ()
    contamination: Table | None = None
    overlaps: tuple[tuple[str, tuple[str, ...]], ...] = ()
    speed: Table | None = None
    speed_chart: str = ""
    failures: tuple[_Failures, ...] = ()
    contents: tuple[tuple[str, str], ...] = ()


def write_report(folders: Sequence[str | Path], out: str | Path) -> tuple[Path, Path]:
    """Writes ``report.html`` and ``report.md`` to a folder.

    Args:
        folders: As in ``read_measurements``.
        out: Where to; files of these names are replaced.

    Returns:
        Their paths.

    Raises:
        ModernPubMedError: As ``read_measurements`` does; ``out`` is a file.
        MissingExtraError: Jinja is not installed.
    """
    target = Path(out)
    if target.exists() and not target.is_dir():
        raise ModernPubMedError("is a file", file=target, remedy="name a folder")
    measured = read_measurements(folders)
    html, markdown = render_html(measured), render_markdown_report(measured)
    for name, content in ((HTML_NAME, html), (MARKDOWN_NAME, markdown)):
        with replacing(target / name) as temporary:
            temporary.write_text(content, "utf-8")
    return target / HTML_NAME, target / MARKDOWN_NAME


def render_html(measured: Measurements) -> str:
    """The page as HTML.

    Raises:
        MissingExtraError: Jinja is not installed.
    """
    with needs_extra("report", "the HTML report"):
        import jinja2
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("modernpubmed.evaluation", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(r=_page(measured)) + "\n"


def render_markdown_report(measured: Measurements) -> str:
    """The same figures as Markdown, for a README: summary, tables, and the further measurements."""
    parts = [render_markdown(measured.comparison).rstrip()]
    return "\n\n".join([*parts, further_markdown(measured)]) + "\n"


def _page(measured: Measurements) -> _Page:
    comparison = measured.comparison
    models = tuple(model.name for model in comparison.models)
    rivals = " and ".join([", ".join(models[1:-1]), models[-1]] if len(models) > 2 else models[1:])
    page = _Page(
        title=f"{models[0]} against {rivals}" if rivals else models[0],
        lead=_lead(comparison),
        models=models,
        footer=f"Made by modernpubmed {code_version()} from results on disk; nothing was measured "
        "while this page was made.",
        provenance=_provenance(comparison),
    )
    if comparison.tables:
        page = replace(
            page,
            findings=tuple(_findings(comparison)),
            summary=_summary(comparison),
            forests=_forests(comparison),
            forest_caption=f"{comparison.method.metric} with the 95 % bootstrap interval over "
            "queries, each rival on a scale of its own. Filled: Holm-corrected p < 0.05 in the "
            "paired randomisation test.",
            tables=_sections(comparison),
            failures=_failures(comparison.hurt),
        )
    if measured.discrimination:
        page = replace(
            page,
            discrimination=view.discrimination_table(measured.discrimination),
            groups=tuple(measured.discrimination[0].histograms),
            distributions=view.distribution_pictures(measured.discrimination),
        )
    if measured.contrast:
        page = replace(
            page,
            contrast=view.contrast_table(measured.contrast),
            contrast_lead=_contrast_lead(measured.contrast),
            contrast_bars=view.contrast_bars(measured.contrast, models),
        )
    if measured.contamination:
        page = replace(
            page,
            contamination=view.contamination_table(measured.contamination),
            overlaps=tuple(
                (f"{one.model} on {one.suite}", one.examples)
                for one in measured.contamination
                if one.examples
            ),
        )
    if measured.speed:
        quality = view.mean_quality(comparison)
        page = replace(
            page,
            speed=view.speed_table(measured.speed, quality),
            speed_chart=view.speed_chart(measured.speed, quality),
        )
    page = replace(
        page,
        similarity=_similarity(comparison),
        robustness=view.robustness_tables(measured.robustness),
    )
    sections = (
        ("summary", "Summary", page.summary),
        ("differences", "Differences", page.forests),
        ("retrieval", "Retrieval", page.tables),
        ("similarity", "Similarity", page.similarity),
        ("discrimination", "Non-medical text", page.discrimination),
        ("contrast", "Clinical contrast", page.contrast),
        ("robustness", "Robustness", page.robustness),
        ("contamination", "Contamination", page.contamination),
        ("speed", "Speed", page.speed),
        ("failures", "Failures", page.failures),
        ("provenance", "Provenance", page.provenance),
    )
    return replace(page, contents=tuple((name, words) for name, words, there in sections if there))


def _lead(comparison: Comparison) -> str:
    queries = sum(table.queries for table in comparison.tables)
    parts = []
    if comparison.tables:
        parts.append(f"{len(comparison.tables)} retrieval suites with {queries:,} queries")
    if comparison.correlations:
        files = {found.suite for found in comparison.correlations}
        parts.append(f"{len(files)} files of judged pairs")
    method = comparison.method
    return (
        ", ".join(parts)
        + f". Intervals: 95 %, bootstrap, {method.draws:,} draws (seed {method.seed})."
    )


def _findings(comparison: Comparison) -> list[str]:
    """What the summary says in words, from the corrected tests."""
    first = comparison.models[0].name
    sentences = []
    for model in comparison.models[1:]:
        groups: dict[str, list[str]] = {"better": [], "worse": [], "level": []}
        for table in comparison.tables:
            found = _against(table, comparison.method.metric, model.name)
            if found is None:
                continue
            p = found.randomisation_holm
            sure = p is not None and p < _ALPHA
            value = found.test.difference.value
            groups["level" if not sure else "better" if value > 0 else "worse"].append(table.suite)
        words = [
            f"{how} on {', '.join(suites)}"
            for how, suites in (
                ("significantly better", groups["better"]),
                ("significantly worse", groups["worse"]),
                ("not told apart", groups["level"]),
            )
            if suites
        ]
        if words:
            sentences.append(f"{first} against {model.name}: {'; '.join(words)}.")
    return sentences


def _summary(comparison: Comparison) -> Table:
    method, models = comparison.method, comparison.models
    header = ["Suite", "queries", *(model.name for model in models)]
    header += [f"over {model.name}" for model in models[1:]]
    rows = []
    for table in comparison.tables:
        row = next(row for row in table.rows if row.metric == method.metric)
        scores = dict(zip(table.models, row.intervals, strict=True))
        rows.append(
            TableRow(
                table.suite,
                (
                    Cell(f"{table.queries:,}"),
                    *(view.estimated(scores.get(model.name)) for model in models),
                    *(_tested(_against(table, method.metric, model.name)) for model in models[1:]),
                ),
            )
        )
    averages = {average.model: average for average in comparison.averages}
    if len(comparison.tables) > 1:
        rows.append(
            TableRow(
                "mean of the suites",
                (
                    Cell(""),
                    *(
                        view.estimated(averages[m.name].score if m.name in averages else None)
                        for m in models
                    ),
                    *(
                        view.difference(averages[m.name].difference if m.name in averages else None)
                        for m in models[1:]
                    ),
                ),
                emphasis=True,
            )
        )
    notes = [
        f"{method.metric}, sentence-transformers' convention, cosine. p: paired randomisation "
        f"test, two-sided, Holm-corrected over {method.family} comparisons."
    ]
    for model in models:
        if prompts := {role: text for role, text in model.prompts.items() if text}:
            said = ", ".join(f"{role} “{text}”" for role, text in prompts.items())
            notes.append(f"Prompts of {model.name}: {said}.")
    return Table(tuple(header), tuple(rows), notes=tuple(notes))


def _against(table: SuiteTable, metric: str, rival: str) -> Difference | None:
    row = next((row for row in table.rows if row.metric == metric), None)
    if row is None:
        return None
    return next((found for found in row.differences if found.rival == rival), None)


def _tested(found: Difference | None) -> Cell:
    if found is None:
        return Cell("–")
    p = found.randomisation_holm
    return view.difference(found.test.difference, small="" if p is None else f"\n{_p(p)}")


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _forests(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """For each rival a plot on an axis of its own: BM25 is further away than another model."""
    metric, first = comparison.method.metric, comparison.models[0].name
    plots = []
    for number, model in enumerate(comparison.models[1:], start=1):
        rows = []
        for table in comparison.tables:
            found = _against(table, metric, model.name)
            if found is None:
                continue
            p, value = found.randomisation_holm, found.test.difference
            note = f"{value.value:+.4f} [{value.low:+.3f}, {value.high:+.3f}]"
            rows.append(
                ForestRow(
                    label=table.suite,
                    model=number,
                    difference=value,
                    note=note if p is None else f"{note}  {_p(p)}",
                    significant=p is not None and p < _ALPHA,
                )
            )
        if rows:
            title = f"{first} minus {model.name}"
            plots.append((title, forest(rows, title=title, axis=f"difference in {metric}")))
    return tuple(plots)


def _sections(comparison: Comparison) -> tuple[_Section, ...]:
    trec = {table.suite: table for table in comparison.trec_tables}
    return tuple(
        _Section(table.suite, _published(table), _published(trec[table.suite]))
        for table in comparison.tables
    )


def _published(table: SuiteTable) -> Table:
    """The published table's form: metric, ours, then each rival with our improvement over it."""
    header = ["Metric", table.models[0]]
    for model in table.models[1:]:
        header += [model, "improvement", "won / tied / lost"]
    rows = []
    for row in table.rows:
        cells = [Cell(f"{row.values[0]:.4f}")]
        for value, better, found in zip(
            row.values[1:], row.improvements, row.differences, strict=True
        ):
            percent = "" if better.percent is None else f"{better.percent:+.1f} %"
            kind = view.difference(found.test.difference).kind
            counts = f"{found.test.wins:,} / {found.test.ties:,} / {found.test.losses:,}"
            cells += [
                Cell(f"{value:.4f}"),
                Cell(f"{better.absolute:+.4f}", percent, kind),
                Cell(counts),
            ]
        rows.append(TableRow(row.metric, tuple(cells)))
    return Table(tuple(header), tuple(rows), notes=tuple(f"{note}." for note in table.notes))


def _similarity(comparison: Comparison) -> tuple[Table, ...]:
    tables = []
    if comparison.examples:
        models = list(dict.fromkeys(score.model for score in comparison.examples))
        cosines = {(score.model, score.pair): score.cosine for score in comparison.examples}
        tables.append(
            Table(
                ("Pair", *models),
                tuple(
                    TableRow(
                        f"{pair.kind}: “{pair.first}” – “{pair.second}”",
                        tuple(Cell(f"{cosines[model, pair]:.4f}") for model in models),
                    )
                    for pair in dict.fromkeys(score.pair for score in comparison.examples)
                ),
                caption="The published examples (cosine)",
            )
        )
    if comparison.correlations:
        tables.append(
            Table(
                ("Judged pairs", "model", "pairs", "Spearman", "Pearson"),
                tuple(
                    TableRow(
                        found.suite,
                        (
                            Cell(found.model, kind="words"),
                            Cell(f"{found.pairs:,}"),
                            view.estimated(found.spearman),
                            view.estimated(found.pearson),
                        ),
                    )
                    for found in comparison.correlations
                ),
                caption="Agreement with human judgement",
            )
        )
    return tuple(tables)


def _contrast_lead(scores: Sequence[ContrastScore]) -> str:
    first = scores[0]
    worst = sorted(first.classes, key=lambda name: first.classes[name].accuracy.value)[:3]
    lost = [f"{name} ({first.classes[name].accuracy.value:.0%})" for name in worst]
    return (
        f"Each triple asks whether a sentence lies nearer to the same meaning in other words than "
        f"to a near-identical sentence that means something else. {first.model} is worst on "
        f"{', '.join(lost)}. A coin would be right in half; a model that goes by words is right "
        "less often, because the wrong sentence shares more of them."
    )


def _failures(hurt: Sequence[HurtQuery]) -> tuple[_Failures, ...]:
    groups = dict.fromkeys((query.suite, query.rival) for query in hurt)
    return tuple(
        _Failures(
            f"{suite}, against {rival}",
            tuple(
                _failure(query) for query in hurt if (query.suite, query.rival) == (suite, rival)
            ),
        )
        for suite, rival in groups
    )


def _failure(query: HurtQuery) -> _Failure:
    wanted = "; ".join(
        f"{document.id} “{_short(document.text)}”" for document in query.relevant[:3]
    )
    more = query.relevant_count - min(len(query.relevant), 3)
    return _Failure(
        query=query.query,
        loss=f"−{query.loss:.3f}",
        wanted=f"Relevant: {wanted}" + (f" and {more} more" if more > 0 else ""),
        answers=tuple(
            _Answered(
                model=f"{answer.model} ({answer.value:.3f})",
                documents=tuple(
                    _Found(
                        _short(document.text),
                        "" if document.score is None else f"{document.score:.3f}",
                        document.grade > 0,
                    )
                    for document in (answer.documents or ())[:_SHOWN_DOCUMENTS]
                ),
                first="no run file at hand"
                if answer.documents is None
                else "no relevant document in the run"
                if answer.first_relevant is None
                else f"first relevant document at rank {answer.first_relevant}",
            )
            for answer in query.answers
        ),
    )


def _short(text: str) -> str:
    return (
        text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1].rstrip("…") + "…"
    )


def _provenance(comparison: Comparison) -> tuple[Table, ...]:
    models = Table(
        ("Model", "fingerprint", "dimension", "prompts"),
        tuple(
            TableRow(
                model.name,
                (
                    Cell(model.fingerprint[:16] or "–"),
                    Cell(str(model.dimension or "–")),
                    Cell(
                        ", ".join(f"{k}: “{v}”" for k, v in model.prompts.items() if v) or "none",
                        kind="words",
                    ),
                ),
            )
            for model in comparison.models
        ),
        caption="Models (first 16 digits of the SHA-256 of what computes the vectors)",
    )
    suites = Table(
        ("Suite", "version", "queries", "documents", "left out"),
        tuple(
            TableRow(
                table.suite,
                (
                    Cell(table.version[:16]),
                    Cell(f"{table.queries:,}"),
                    Cell(f"{table.documents:,}"),
                    Cell(_left_out(comparison, table.suite), kind="words"),
                ),
            )
            for table in comparison.tables
        ),
        caption="Suites (first 16 digits of the SHA-256 of their content)",
    )
    results = Table(
        ("Result", "made", "by version", "seconds", "queries cut", "documents cut"),
        tuple(
            TableRow(
                f"{result.model} on {result.suite}",
                (
                    Cell(result.manifest.created),
                    Cell(result.manifest.version),
                    Cell(f"{result.seconds:,.1f}"),
                    Cell(f"{result.truncated_queries:,}"),
                    Cell(f"{result.truncated_documents:,}"),
                ),
            )
            for result in comparison.results
        ),
        caption="Results",
    )
    return tuple(table for table in (models, suites, results) if table.rows)


def _left_out(comparison: Comparison, suite: str) -> str:
    result = next(result for result in comparison.results if result.suite == suite)
    dropped = result.manifest.dropped
    return ", ".join(f"{count:,} {reason}" for reason, count in dropped.items()) or "nothing"
