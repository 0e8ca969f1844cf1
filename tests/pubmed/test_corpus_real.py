"""The corpus made of genuine NLM files, against a reading of our own that shares no code with it.

Written from NLM's documentation alone: an updatefile holds new and revised citations and, in a
``DeleteCitation``, the PMIDs to be removed; a later file replaces what an earlier one says of the
same PMID and version; PubMed shows a PMID's newest version.
"""

import gzip
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from modernpubmed.manifest import Manifest
from modernpubmed.pubmed import read_articles
from modernpubmed.pubmed.consolidate import consolidate
from modernpubmed.pubmed.validate import validate

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "pubmed"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real NLM files are not here"),
]


def read(path, citations):
    """Brings ``{(PMID, version): citation}`` on by one file; what it revised, what it deleted."""
    with gzip.open(path) as file:
        root = ET.parse(file).getroot()  # noqa: S314
    revised, deleted = set(), []
    for citation in root.iter("MedlineCitation"):
        pmid = citation.find("PMID")
        key = int(pmid.text), int(pmid.get("Version"))
        if key in citations:
            revised.add(key)
        citations[key] = citation
    for order in root.iter("DeleteCitation"):
        for pmid in order.findall("PMID"):
            deleted.append((int(pmid.text), int(pmid.get("Version"))))
            citations.pop(deleted[-1], None)
    return revised, deleted


def shown(citations):
    newest = dict(sorted(citations))
    return {pmid: (version, citations[pmid, version]) for pmid, version in newest.items()}


def squeezed(text):
    return "".join(letter for letter in text if letter.isalnum())


def assert_equal(corpus, citations):
    """Which PMIDs are there, in which version, and that it is the text of that very record."""
    expected = shown(citations)
    articles = list(read_articles(corpus))
    assert len({article.pmid for article in articles}) == len(articles)
    assert {a.pmid: a.version for a in articles} == {p: v for p, (v, _) in expected.items()}
    for article in articles:
        citation = expected[article.pmid][1]
        title = "".join(citation.find("Article/ArticleTitle").itertext())
        assert squeezed(article.title) == squeezed(title)
        assert article.status == citation.get("Status")
        abstract = citation.findall("Article/Abstract/AbstractText")
        texts = [part for part in abstract if "".join(part.itertext()).strip() or part.get("Label")]
        assert len(article.sections) == len(texts)
        for section, text in zip(article.sections, texts, strict=True):
            if not any(element.tag.endswith("math") for element in text.iter()):
                assert squeezed(section.text) == squeezed("".join(text.itertext()))


def test_baseline_then_update(tmp_path):
    out = tmp_path / "corpus"
    citations = {}
    for name in ("pubmed20n1015", "pubmed20n1016"):
        consolidate([DATA / f"{name}.xml.gz"], out, allow_gaps=True, workers=1)
        revised, deleted = read(DATA / f"{name}.xml.gz", citations)
        assert_equal(out, citations)
    counts = Manifest.read(out).counts
    assert counts["md5 checked"] == 2
    assert len(deleted) == counts["deletions"] == 218
    assert len(revised) == counts["revisions"] == 363
    assert not {pmid for pmid, _ in deleted} & {article.pmid for article in read_articles(out)}
    assert {31828224, 31828225, 31828226} <= {p for p, _ in revised}  # the versioned ones
    assert {a.pmid: a.version for a in read_articles(out)}[31828225] == 4
    outcomes = {check.outcome for check in validate(out, DATA)}
    assert "fail" not in outcomes


def test_the_genuine_deletions_take_what_is_there(tmp_path):
    # None of the 218 PMIDs is in the file 1015 that we have, an excerpt. A file of ours before it
    # holds them, and one of them in a version that is not deleted.
    order = {}
    _, deleted = read(DATA / "pubmed20n1016.xml.gz", order)
    assert {version for _, version in deleted} == {1}
    assert not set(deleted) & set(order)
    mirror = tmp_path / "mirror"
    shutil.copytree(DATA, mirror, ignore=lambda *_: ["medline16n0902.xml.gz"])
    for path in mirror.glob("pubmed26*"):
        path.unlink()
    kept = deleted[7][0]
    records = [
        f"<PubmedArticle><MedlineCitation Status='MEDLINE'><PMID Version='{version}'>{pmid}</PMID>"
        "<Article><ArticleTitle>To be deleted</ArticleTitle></Article></MedlineCitation>"
        "</PubmedArticle>"
        for pmid, version in [*deleted, (kept, 2)]
    ]
    before = mirror / "pubmed20n1014.xml.gz"
    text = f"<PubmedArticleSet>{''.join(records)}</PubmedArticleSet>"
    before.write_bytes(gzip.compress(text.encode()))
    citations = {}
    for path in sorted(mirror.glob("*.gz")):
        read(path, citations)
    out = tmp_path / "corpus"
    manifest = consolidate([mirror], out, allow_gaps=True, workers=1)
    assert manifest.dropped["deleted"] == 218
    assert manifest.counts["deletions of nothing"] == 0
    assert_equal(out, citations)
    alive = {article.pmid: article.title for article in read_articles(out)}
    assert {pmid for pmid, _ in deleted} & set(alive) == {kept}
    assert {check.outcome for check in validate(out, mirror)} <= {"pass", "warn"}


def test_another_year_rebuilds(tmp_path):
    out = tmp_path / "corpus"
    consolidate([DATA / "pubmed26n1334.xml.gz"], out, allow_gaps=True, workers=1)
    manifest = consolidate([DATA], out, allow_gaps=True, workers=1)
    assert manifest.settings["as_of"] == "pubmed26n1335"
    assert set(manifest.settings["unapplied"]) == {
        "medline16n0902.xml.gz", "pubmed20n1015.xml.gz", "pubmed20n1016.xml.gz",
    }  # fmt: skip
    citations = {}
    for name in ("pubmed26n1334", "pubmed26n1335"):
        read(DATA / f"{name}.xml.gz", citations)
    assert_equal(out, citations)
