"""The report prints what the results say, needs nothing but itself, and escapes what it shows."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation import charts
from modernpubmed.evaluation.compare import compare
from modernpubmed.evaluation.comparison import read_comparison
from modernpubmed.evaluation.measured import (
    Condition,
    Contamination,
    ContrastClass,
    ContrastScore,
    Discrimination,
    Estimate,
    Robustness,
    Speed,
    write_measured,
)
from modernpubmed.evaluation.measurements import read_measurements, with_first
from modernpubmed.evaluation.report import write_report
from modernpubmed.suites import SentencePairs, Suite

HALF = Estimate(0.5, 0.4, 0.6)
VOID = {"area", "base", "br", "circle", "col", "hr", "img", "line", "link", "meta", "rect"}


class Page(HTMLParser):
    """A page's text by element, and whether its tags close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if "id" in dict(attrs):
            self.ids.append(str(dict(attrs)["id"]))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data if self.open[-1] != "small" else f" {data}"


@pytest.fixture
def nasty(suite: Suite) -> Suite:
    """A query that would run if it were not escaped; the weak model misses it."""
    return replace(
        suite,
        queries=("<script>alert(1)</script> fever & chills", *suite.queries[1:]),
        corpus=(*suite.corpus[:1], "A dry <b>cough</b>.", *suite.corpus[2:]),
    )


@pytest.fixture
def folder(bag: type, nasty: Suite, tmp_path: Path) -> Path:
    out = tmp_path / "results"
    compare(
        [bag("ours", dimension=3), bag("rival", dimension=512, longest=50)],
        [nasty],
        pairs=[SentencePairs("judged", ("a b", "c d", "e f"), ("a b", "c x", "y z"), (1, 0.5, 0))],
        out=out,
    )
    return out


def contrast(model: str, accuracy: float) -> ContrastScore:
    right = Estimate(accuracy, accuracy - 0.1, accuracy + 0.1)
    count = round(10 * accuracy)
    margins = {f"negation-{n}": 0.1 if n < count else -0.1 for n in range(10)}
    margins |= {f"dose-{n}": 0.1 if n < count else -0.1 for n in range(10)}
    classes = {name: ContrastClass(10, right, 0.01) for name in ("negation", "dose")}
    return ContrastScore(model, "test", "c0ffee", right, classes, {"near": HALF}, margins, "f00d")


def further(out: Path) -> None:
    for model in ("rival", "ours"):
        write_measured(contrast(model, 0.3 if model == "ours" else 0.2), out)
        write_measured(
            Discrimination(
                model,
                {"related": 4, "unrelated": 4, "non-medical": 4},
                {
                    "related": (0, 0, 0, 1, 3),
                    "unrelated": (0, 1, 2, 1, 0),
                    "non-medical": (0, 3, 1, 0, 0),
                },
                dict.fromkeys(("related", "unrelated"), (0, 0, 0, 0.1, 0.2, 0.3, 0.4)),
                {"unrelated": HALF, "non-medical": Estimate(0.99, 0.98, 1.0)},
                {"unrelated": 0.4, "non-medical": 0.1},
                {"unrelated": HALF, "non-medical": HALF},
                0.95,
                {"texts": "ab"},
                "f00d",
            ),
            out,
        )
        conditions = (
            Condition("typing errors", "perturbation", 3, 3, HALF, Estimate(-0.1, -0.2, -0.05)),
            Condition("documents cut at 64 tokens", "truncation", 3, 2, HALF, HALF),
            Condition("published 2001–2004", "stratum", 5, 0, HALF),
        )
        write_measured(Robustness(model, "tiny", "v1", "nDCG@10", HALF, conditions, "f00d"), out)
        write_measured(Speed(model, 10.0, 8.0, 12.0, "9 texts", 46.0, 384, "a machine"), out)
    write_measured(
        Contamination(
            "ours", "tiny", "v1", "nDCG@10", 99, 1, 2, 3, 4, 1, 2, HALF, None,
            ("query q1 “<i>x</i>” exact",), {"train_pairs": "a"}, {"train_pairs/b": "b"},
        ),
        out,
    )  # fmt: skip


def test_the_page_is_well_formed_and_needs_nothing_else(folder: Path, tmp_path: Path) -> None:
    further(folder)
    html, _ = write_report([folder], tmp_path / "report")
    text = html.read_text()
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "b"} & {tag for tag, _ in page.tags}
    addresses = [
        value
        for tag, attributes in page.tags
        for name, value in attributes.items()
        if name in ("href", "src", "action") and value
    ]
    assert addresses
    assert all(address.startswith("#") for address in addresses)
    assert {address[1:] for address in addresses} == set(page.ids)
    assert not re.search(r"@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_every_section_is_there_with_its_figures(folder: Path, tmp_path: Path) -> None:
    further(folder)
    html, _ = write_report([folder], tmp_path / "report")
    page = Page(html.read_text())
    assert page.ids == [
        "summary", "differences", "retrieval", "similarity", "discrimination", "contrast",
        "robustness", "contamination", "speed", "failures", "provenance",
    ]  # fmt: skip
    comparison = read_comparison(folder)
    (row,) = (row for row in comparison.tables[0].rows if row.metric == "nDCG@10")
    summary = next(cells for cells in page.rows if cells[0] == "tiny")
    assert summary[2:5] == [
        f"{found.value:.4f} [{found.low:.3f}, {found.high:.3f}]" for found in row.intervals
    ]
    assert any(cells[:2] == ["typing errors", "3"] for cells in page.rows)
    assert any(cells[0] == "ours on tiny" and cells[4] == "2" for cells in page.rows)
    assert any(cells[0] == "negation" and cells[2].startswith("0.300") for cells in page.rows)
    assert sum(tag == "svg" for tag, _ in page.tags) == 6  # 2 × forest, bars, 2 × areas, speed
    words = " ".join(page.words)
    assert "train_pairs/b" in words  # training data that was not looked at is named


def test_texts_of_the_suite_are_escaped(folder: Path, tmp_path: Path) -> None:
    html, _ = write_report([folder], tmp_path / "report")
    text = html.read_text()
    assert read_comparison(folder).hurt, "the fixture should have a failure to show"
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; fever &amp; chills" in text


def test_retrieval_alone_makes_a_report_too(bag: type, suite: Suite, tmp_path: Path) -> None:
    compare([bag("ours")], [suite], out=tmp_path / "r")
    html, markdown = write_report([tmp_path / "r"], tmp_path / "report")
    page = Page(html.read_text())
    assert page.open == []
    assert "contrast" not in page.ids
    assert "speed" not in page.ids
    assert "| Metric | ours | BM25 | improvement |" in markdown.read_text()


def test_the_markdown_has_the_further_tables(folder: Path, tmp_path: Path) -> None:
    further(folder)
    _, markdown = write_report([folder], tmp_path / "report")
    text = markdown.read_text()
    for heading in ("Clinical contrast", "Robustness", "Contamination", "Speed and size"):
        assert f"### {heading}\n" in text
    assert "| negation | 10 | 0.300 [0.20, 0.40] | 0.200 [0.10, 0.30] |" in text


def test_the_same_results_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    further(folder)
    one, two = (write_report([folder], tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_several_folders_become_one_report(
    folder: Path, bag: type, suite: Suite, tmp_path: Path
) -> None:
    other = replace(suite, name="another")
    compare([bag("ours", dimension=3), bag("third", dimension=64)], [other], out=tmp_path / "more")
    measured = read_measurements([folder, tmp_path / "more"])
    assert measured.comparison.models[0].name == "ours"
    assert {table.suite for table in measured.comparison.tables} == {"tiny", "another"}
    assert measured.comparison.hurt == tuple(
        query for one in (folder, tmp_path / "more") for query in read_comparison(one).hurt
    )


def test_another_model_can_come_first(folder: Path) -> None:
    further(folder)
    measured = with_first(read_measurements([folder]), "rival")
    assert [model.name for model in measured.comparison.models] == ["rival", "ours", "BM25"]
    assert [score.model for score in measured.contrast] == ["rival", "ours"]
    assert measured.comparison.tables[0].models[0] == "rival"


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModernPubMedError, match="no results to report"):
        write_report([], tmp_path / "report")
    with pytest.raises(ModernPubMedError, match=r"comparison\.json"):
        write_report([tmp_path], tmp_path / "report")
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ModernPubMedError, match="is a file"):
        write_report([folder], file)
    assert file.read_text() == "mine"
    write_measured(contrast("ours", 0.3), folder)
    write_measured(replace(contrast("rival", 0.3), version="other"), folder)
    with pytest.raises(ModernPubMedError, match="different versions of the clinical contrast"):
        write_report([folder], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_marks_stand_where_their_figures_say() -> None:
    rows = [
        charts.ForestRow("a", 1, Estimate(0.02, 0.01, 0.03), "+0.02", significant=True),
        charts.ForestRow("b", 1, Estimate(-0.04, -0.05, -0.03), "-0.04", significant=False),
    ]
    svg = charts.forest(rows, title="t", axis="difference")
    zero = float(re.search(r'class="zero" x1="([\d.]+)"', svg).group(1))
    first, second = (float(x) for x in re.findall(r'<circle[^>]* cx="([\d.]+)"', svg))
    assert second < zero < first
    # One scale: twice the difference is twice as far from zero.
    assert (zero - second) / (first - zero) == pytest.approx(2, rel=0.01)
    assert svg.count("hollow") == 1


def test_bars_are_as_long_as_their_shares() -> None:
    svg = charts.grouped_bars(
        ["x"], {"a": [Estimate(0.4, 0.3, 0.5)], "b": [Estimate(0.8, 0.7, 0.9)], "c": [None]},
        title="t", axis="share",
    )  # fmt: skip
    short, long = (float(w) for w in re.findall(r'class="bar"[^>]*width="([\d.]+)"', svg))
    assert long == pytest.approx(2 * short, rel=0.01)
    assert "not measured" in svg
