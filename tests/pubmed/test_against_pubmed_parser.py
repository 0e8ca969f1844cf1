"""Every genuine article, field by field, against pubmed_parser: each kind of difference, counted.

Who is right, and why, is in ``docs/pubmed.md``. A difference of another kind, or another number of
them, fails here.
"""

import gzip
import re
from collections import Counter
from pathlib import Path

import pytest

from modernpubmed.pubmed import parse
from modernpubmed.records import Article

pubmed_parser = pytest.importorskip("pubmed_parser")

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "pubmed"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real NLM files are not here"),
]

EXPECTED = {
    ("title", "the brackets of a translation"): 69,
    ("title", "theirs lost nested markup"): 3,
    ("title", "a mark between digits"): 1,
    ("abstract", "theirs lost nested markup"): 38,
    ("abstract", "a mark between digits"): 19,
    ("categories", "theirs dropped UNASSIGNED"): 243,
    ("major topics", "theirs looks at the wrong element"): 72,
    ("doi", "theirs took the last location, which is no DOI"): 208,
}


def squeezed(text):
    return re.sub(r"[\s^_()]", "", text)


def wrapped(path, folder):
    """The old form, of which pubmed_parser reads nothing, as the new one."""
    records = re.findall(
        rb"<MedlineCitation .*?</MedlineCitation>", gzip.decompress(path.read_bytes()), re.DOTALL
    )
    inner = b"".join(b"<PubmedArticle>" + record + b"</PubmedArticle>" for record in records)
    target = folder / "wrapped.xml.gz"
    target.write_bytes(gzip.compress(b"<PubmedArticleSet>" + inner + b"</PubmedArticleSet>"))
    return target


def listed(text):
    return text.split("; ") if text else []


def text_difference(ours, theirs):
    if squeezed(ours) == squeezed(theirs):
        return "a mark between digits"
    return "theirs lost nested markup" if len(squeezed(theirs)) < len(squeezed(ours)) else "other"


def differences(article, plain, detailed):
    """(field, kind) of each field in which the two differ."""
    sections = article.sections
    if len(sections) > 1:
        abstract = "\n".join(
            part
            for section in sections
            for part in ("\n", section.label or "", section.text)
            if section.label != "UNASSIGNED" or part == section.text
        ).strip()
    else:
        abstract = article.abstract
    if article.title != plain["title"]:
        kind = text_difference(article.title, plain["title"])
        yield "title", "the brackets of a translation" if article.translated else kind
    if abstract != plain["abstract"]:
        yield "abstract", text_difference(abstract, plain["abstract"])
    names = {"BACKGROUND", "OBJECTIVE", "METHODS", "RESULTS", "CONCLUSIONS"}
    categories = [section.category for section in sections if section.category]
    theirs = [line for line in detailed["abstract"].split("\n") if line in names]
    if len(sections) > 1 and categories != theirs:
        left = [category for category in categories if category != "UNASSIGNED"]
        yield "categories", "theirs dropped UNASSIGNED" if left == theirs else "other"
    headings = [f"{heading.ui or ''}:{heading.name}" for heading in article.mesh]
    qualified = [
        "".join([heading, *(f" / {q.ui or ''}:{q.name}{'*' * q.major}" for q in found.qualifiers)])
        for heading, found in zip(headings, article.mesh, strict=True)
    ]
    if any(heading.major for heading in article.mesh):
        yield "major topics", "theirs looks at the wrong element"
    if (article.doi or "") != plain["doi"]:
        yield "doi", "other" if plain["doi"] else "theirs took the last location, which is no DOI"
    same = {
        "pmid": (str(article.pmid), plain["pmid"]),
        "languages": (";".join(article.languages), plain["languages"]),
        "vernacular title": (article.vernacular_title or "", plain["vernacular_title"]),
        "journal": (article.journal or "", plain["journal"]),
        "year": (str(article.year or ""), plain["pubdate"]),
        "publication types": (
            list(article.publication_types),
            [kind.partition(":")[2] for kind in listed(plain["publication_types"])],
        ),
        "mesh": (headings, listed(plain["mesh_terms"])),
        "qualifiers": (qualified, listed(detailed["mesh_terms"])),
    }
    yield from ((field, "other") for field, (a, b) in same.items() if a != b)


def test_every_difference_is_of_a_known_kind(tmp_path):
    found = Counter()
    articles = 0
    for path in sorted(DATA.glob("*.xml.gz")):
        if path.name.startswith("medline"):
            assert list(pubmed_parser.parse_medline_xml(str(path))) == []
        source = str(wrapped(path, tmp_path) if path.name.startswith("medline") else path)
        ours = [record for record in parse(path) if isinstance(record, Article)]
        theirs = pubmed_parser.parse_medline_xml(source)
        detailed = pubmed_parser.parse_medline_xml(
            source, nlm_category=True, parse_downto_mesh_subterms=True
        )
        for three in zip(ours, theirs, detailed, strict=True):
            found.update(differences(*three))
            articles += 1
    assert articles == 2155
    assert dict(found) == EXPECTED
