"""Our records against an independent reading of the same files: lxml's whole tree and XPath."""

import re
from collections import Counter
from pathlib import Path

import pytest
from isal import igzip
from lxml import etree

from modernpubmed.pubmed import ParseCounts, parse, parse_files, read_articles
from modernpubmed.records import Article, Deletion

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "pubmed"
COUNTS = {
    "medline16n0902": (604, 1),
    "pubmed20n1015": (756, 0),
    "pubmed20n1016": (735, 218),
    "pubmed26n1334": (30, 0),
    "pubmed26n1335": (30, 6),
}

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real NLM files are not here"),
]


def squeezed(text):
    # Compared without what the two readings may set differently: spaces and exponent marks.
    return re.sub(r"[\s^_()]", "", text)


def texts(node, path):
    return [squeezed("".join(found.itertext())) for found in node.xpath(path)]


@pytest.mark.parametrize("name", COUNTS)
def test_fields_equal_an_independent_reading(name):
    path = DATA / f"{name}.xml.gz"
    counts = ParseCounts()
    records = list(parse(path, counts))
    articles = [r for r in records if isinstance(r, Article)]
    assert (counts.articles, counts.deletions, counts.books) == (*COUNTS[name], 0)

    with igzip.open(path) as file:
        tree = etree.parse(file)
    deleted = tree.xpath("//DeleteCitation/PMID/text()")
    assert [str(r.pmid) for r in records if isinstance(r, Deletion)] == deleted
    citations = tree.xpath("//MedlineCitation")
    assert len(articles) == len(citations)
    for article, node in zip(articles, citations, strict=True):
        assert str(article.pmid) == node.xpath("string(PMID)")
        title = texts(node, "Article/ArticleTitle")[0]
        assert squeezed(article.title) == (
            re.sub(r"^\[|\](?=\.?$)", "", title).replace("?.", "?") if article.translated else title
        )
        assert list(article.languages) == node.xpath("Article/Language/text()")
        assert list(article.publication_types) == node.xpath("Article//PublicationType/text()")
        if not node.xpath("Article/Abstract//*[local-name()='math']"):
            assert [squeezed(s.text) for s in article.sections] == texts(
                node, "Article/Abstract/AbstractText"
            )
        assert [s.label for s in article.sections] == [
            e.get("Label") for e in node.xpath("Article/Abstract/AbstractText")
        ]
        assert [s.category for s in article.sections] == [
            e.get("NlmCategory") for e in node.xpath("Article/Abstract/AbstractText")
        ]
        assert (article.copyright or "") == " ".join(
            node.xpath("string(Article/Abstract/CopyrightInformation)").split(" ")
        ).strip()
        assert [o.language for o in article.other_abstracts] == node.xpath(
            "OtherAbstract/@Language"
        )
        assert (article.vernacular_title is not None) == bool(node.xpath("Article/VernacularTitle"))
        date = node.xpath("Article/Journal/JournalIssue/PubDate/*/text()")
        assert article.date == " ".join(date)
        assert str(article.year) == re.search(r"\d{4}", article.date)[0]
        assert article.journal == node.xpath("string(Article/Journal/Title)")
        assert [(m.ui, m.name, m.major) for m in article.mesh] == [
            (d.get("UI"), d.text, d.get("MajorTopicYN") == "Y")
            for d in node.xpath("MeshHeadingList/MeshHeading/DescriptorName")
        ]
        assert sum(len(m.qualifiers) for m in article.mesh) == node.xpath(
            "count(.//MeshHeading/QualifierName)"
        )
        assert [(c.kind, c.pmid and str(c.pmid)) for c in article.corrections] == [
            (c.get("RefType"), c.xpath("string(PMID)") or None)
            for c in node.xpath(".//CommentsCorrections")
        ]
        assert article.status == node.get("Status")
        dois = node.xpath("Article/ELocationID[@EIdType='doi']/text()") + node.xpath(
            "../PubmedData/ArticleIdList/ArticleId[@IdType='doi']/text()"
        )
        assert article.doi == (dois[0].strip() if dois else None)


def test_exponents_and_formulas_are_rendered():
    text = " ".join(
        article.abstract
        for article in parse(DATA / "pubmed20n1016.xml.gz")
        if isinstance(article, Article)
    )
    assert re.search(r"\wp\^2 = 0\.\d", text)
    assert re.search(r"10\^9/l", text)


def test_latest_state_of_all_files(tmp_path):
    files = sorted(DATA.glob("*.xml.gz"))
    manifest = parse_files(files, tmp_path / "out")
    assert manifest.counts["articles read"] == 2155
    assert manifest.counts["md5 checked"] == 4
    latest = {}
    for path in [p for name in COUNTS for p in files if p.name.startswith(name)]:
        for r in parse(path):
            if isinstance(r, Article):
                latest[r.pmid] = r
            else:
                latest.pop(r.pmid, None)
    stored = list(read_articles(tmp_path / "out"))
    assert Counter(a.pmid for a in stored).most_common(1)[0][1] == 1
    assert {a.pmid: a for a in stored} == latest
