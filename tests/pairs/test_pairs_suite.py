"""A title → abstract suite of articles of our own."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import sha256
from modernpubmed.pairs.dates import (
    INEXACT,
    NO_DATE,
    TOO_EARLY,
    TOO_LATE,
    day_of,
    publication_span,
)
from modernpubmed.pairs.store import write_pairs
from modernpubmed.pairs.suite import (
    NOT_DRAWN,
    OPENS_WITH_TITLE,
    title_abstract_suite,
)
from modernpubmed.records import AbstractSection, Article, Pair, article_to_row
from modernpubmed.schemas import ARTICLE_SCHEMA
from modernpubmed.suites import read_suite, suite_checksum, write_suite


def abstract(number: int) -> str:
    return (
        f"Background number {number}: the treatment of the disease was compared with that of the "
        "other disease in this trial, and the outcomes of the patients were recorded by the staff "
        "for a year. The treatment of the first kind was better for the patients of group "
        f"{number}."
    )


def article(number: int, when: str | None = "2024 Mar 05", **changes: object) -> Article:
    year = None if when is None else int(when[:4])
    made = Article(
        pmid=1000 + number,
        title=f"Invented treatment {number} of an invented disease.",
        sections=(AbstractSection(abstract(number)),),
        languages=("eng",),
        date=when,
        year=year,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def table(folder: Path, articles: list[Article]) -> Path:
    folder.mkdir(exist_ok=True)
    rows = [article_to_row(one) for one in articles]
    pq.write_table(pa.Table.from_pylist(rows, schema=ARTICLE_SCHEMA), folder / "articles.parquet")
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return table(tmp_path / "articles", [article(number) for number in range(40)])


def test_titles_find_their_abstracts(corpus: Path, tmp_path: Path) -> None:
    suite = title_abstract_suite(corpus, queries=5, distractors=20)
    assert len(suite.queries) == 5
    assert len(suite.corpus) == 25
    assert set(suite.query_ids) < set(suite.corpus_ids)
    assert suite.qrels == {pmid: {pmid: 1} for pmid in suite.query_ids}
    for pmid, title in zip(suite.query_ids, suite.queries, strict=True):
        assert title == f"Invented treatment {int(pmid) - 1000} of an invented disease."
    for pmid, text in zip(suite.corpus_ids, suite.corpus, strict=True):
        assert text == abstract(int(pmid) - 1000)
    assert list(suite.corpus_ids) == sorted(suite.corpus_ids)
    assert suite.dropped == {NOT_DRAWN: 15}
    assert suite.sources == {"articles.parquet": sha256(corpus / "articles.parquet")}
    write_suite(suite, tmp_path / "beir")
    assert suite_checksum(read_suite(tmp_path / "beir")) == suite_checksum(suite)


def test_the_draw_depends_on_the_seed_only(corpus: Path, tmp_path: Path) -> None:
    suite = title_abstract_suite(corpus, queries=5, distractors=20)
    # The same articles in another order, in another file.
    turned = table(tmp_path / "turned", [article(number) for number in reversed(range(40))])
    again = title_abstract_suite(turned, queries=5, distractors=20)
    assert suite_checksum(again) == suite_checksum(suite)
    other = title_abstract_suite(corpus, queries=5, distractors=20, seed=1)
    assert set(other.query_ids) != set(suite.query_ids)
    # More distractors change no query, and keep those that there were.
    more = title_abstract_suite(corpus, queries=5, distractors=30)
    assert more.query_ids == suite.query_ids
    assert set(suite.corpus_ids) < set(more.corpus_ids)


def test_as_of_a_date(tmp_path: Path) -> None:
    dated = ["2023 Dec 31", "2024 Jan 01", "2024 Jan 31", "2024 Feb 01", "2024 Jan", "2024",
             "2023 Dec-2024 Jan", None]  # fmt: skip
    source = table(tmp_path / "a", [article(n, when) for n, when in enumerate(dated)])
    suite = title_abstract_suite(
        source, queries=3, distractors=0, since="2024-01-01", until="2024-01"
    )
    assert suite.query_ids == ("1001", "1002", "1004")
    assert suite.dropped == {TOO_EARLY: 1, TOO_LATE: 1, INEXACT: 2, NO_DATE: 1}
    suite = title_abstract_suite(source, queries=5, distractors=0, since=date(2024, 1, 1))
    assert suite.query_ids == ("1001", "1002", "1003", "1004", "1005")
    suite = title_abstract_suite(source, queries=1, distractors=0, until="2023")
    assert suite.query_ids == ("1000",)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    title = "Invented treatment of a well-known disease."
    articles = [
        *(article(number) for number in range(4)),
        article(10, sections=()),
        article(11, title="Editorial."),
        article(12, publication_types=("Retracted Publication",)),
        article(13, languages=("spa",)),
        article(14, title=title, sections=(AbstractSection(f"{title} {abstract(14)}"),)),
        article(15, sections=article(0).sections),  # the abstract of the first again
        article(16, title="Translated treatment of a disease", languages=("ger",), translated=True),
    ]
    suite = title_abstract_suite(table(tmp_path / "a", articles), queries=5, distractors=0)
    assert suite.query_ids == ("1000", "1001", "1002", "1003", "1016")
    assert suite.dropped == {
        "no abstract": 1,
        "generic title": 1,
        "retracted": 1,
        "not English": 1,
        OPENS_WITH_TITLE: 1,
        "same positive": 1,
    }
    assert len(articles) == len(suite.queries) + sum(suite.dropped.values())


def test_of_pairs(tmp_path: Path) -> None:
    pairs = [Pair(f"Title number {n} of ours", abstract(n), year=2020 + n) for n in range(4)]
    write_pairs(pairs, tmp_path / "pairs.parquet")
    suite = title_abstract_suite(
        tmp_path / "pairs.parquet", queries=2, distractors=0, since="2021", until="2022"
    )
    assert set(suite.queries) == {"Title number 1 of ours", "Title number 2 of ours"}
    assert all(name.startswith("title-") for name in suite.query_ids)
    write_pairs([replace(pairs[0], kind="synonym-name")], tmp_path / "other.parquet")
    with pytest.raises(ModernPubMedError, match="pair 1: this pair is of the kind synonym-name"):
        title_abstract_suite(tmp_path / "other.parquet", queries=1, distractors=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queries": 30, "distractors": 11}, r"articles\.parquet: 40 usable articles, 41 wanted"),
        ({"queries": 0, "distractors": 1}, "0 queries and 1 distractors"),
        ({"queries": 1, "distractors": -1}, "1 queries and -1 distractors"),
        ({"queries": 1, "distractors": 1, "since": "soon"}, "'soon' is no date"),
        ({"queries": 1, "distractors": 1, "until": "2024-13"}, "'2024-13' is no date"),
        (
            {"queries": 1, "distractors": 1, "since": "2024", "until": "2023"},
            "nothing lies between 2024-01-01 and 2023-12-31",
        ),
        (
            {"queries": 1, "distractors": 1, "since": "2025"},
            r"0 usable articles, 2 wanted \(left out: published before the span 40\)",
        ),
    ],
)
def test_bad_orders(corpus: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ModernPubMedError, match=message):
        title_abstract_suite(corpus, **options)  # type: ignore[arg-type]


def test_bad_sources(tmp_path: Path) -> None:
    with pytest.raises(ModernPubMedError, match="there is no such file or folder"):
        title_abstract_suite(tmp_path / "none", queries=1, distractors=0)
    with pytest.raises(ModernPubMedError, match=r"neither pairs\.parquet nor articles\.parquet"):
        title_abstract_suite(tmp_path, queries=1, distractors=0)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2024 Mar 05", "2024-03-05", "2024-03-05"),
        ("2024 Mar", "2024-03-01", "2024-03-31"),
        ("2024", "2024-01-01", "2024-12-31"),
        ("2024 03 05", "2024-03-05", "2024-03-05"),
        ("2023 Nov-Dec", "2023-11-01", "2023-12-31"),
        ("2023 Dec-2024 Feb", "2023-12-01", "2024-02-29"),
        ("1999-2000", "1999-01-01", "2000-12-31"),
        ("2020 Dec 23-30", "2020-12-23", "2020-12-30"),
        ("2020 Oct 30-Nov 5", "2020-10-30", "2020-11-05"),
        ("2019 Spring", "2019-01-01", "2019-12-31"),
        ("2000 Feb 31", "2000-02-01", "2000-02-29"),
    ],
)
def test_publication_span(text: str, first: str, last: str) -> None:
    assert publication_span(text) == (date.fromisoformat(first), date.fromisoformat(last))


def test_no_publication_span() -> None:
    assert publication_span(None) is None
    assert publication_span("in press") is None
    assert publication_span("in press", 2001) == (date(2001, 1, 1), date(2001, 12, 31))


def test_day_of() -> None:
    assert day_of("2024", last=False) == date(2024, 1, 1)
    assert day_of("2024", last=True) == date(2024, 12, 31)
    assert day_of("2024-02-30", last=True) is None
    assert day_of("0000", last=True) is None


@pytest.mark.real
def test_of_nlm_files(shared_data: Path, tmp_path: Path) -> None:
    from modernpubmed.pubmed import parse_files

    manifest = parse_files([shared_data / "pubmed" / "pubmed20n1016.xml.gz"], tmp_path / "articles")
    suite = title_abstract_suite(tmp_path / "articles", queries=100, distractors=300)
    left_out = sum(suite.dropped.values())
    assert len(suite.corpus) + left_out == manifest.counts["articles"]
    assert NO_DATE not in suite.dropped
