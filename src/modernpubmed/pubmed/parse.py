"""NLM XML → ``Article`` and ``Deletion``, streaming.

Reads ``PubmedArticleSet`` (the current DTD) and ``MedlineCitationSet`` (until 2016) alike, one
record in memory at a time. Field semantics: NLM's description of the elements,
https://www.nlm.nih.gov/bsd/licensee/elements_descriptions.html.

Decisions not visible from the code:

- A title is a translation where its brackets enclose all of it ("[Title].", "[Is it?]") and the
  record says so another way: a language other than English, or a ``VernacularTitle``. Then the
  brackets go and the final stop stays. "[18F]FDG in …" and "[Title]. [More" are left as they
  are, and so is NLM's placeholder "[Not Available].", which translates nothing.
- ``Version`` of a PMID and ``Language`` of an ``OtherAbstract`` default to 1 and ``eng``, as in
  the DTD, which is never loaded (no network, no entity expansion).
- Of several DOIs the first one not marked invalid counts, ``ELocationID`` before
  ``ArticleIdList``; those in a record's reference list are other articles' and are not looked at.

Given up: books (``PubmedBookArticle``) are counted and skipped; authors, grants, chemicals and
keywords are not read until something needs them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lxml import etree

from modernpubmed.errors import ModernPubMedError
from modernpubmed.pubmed.markup import render
from modernpubmed.pubmed.source import read_chunks
from modernpubmed.records import (
    AbstractSection,
    Article,
    Correction,
    Deletion,
    MeshHeading,
    MeshQualifier,
    OtherAbstract,
)

_TAGS = {
    "PubmedArticleSet": ("PubmedArticle", "PubmedBookArticle", "DeleteCitation", "DeleteDocument"),
    "MedlineCitationSet": ("MedlineCitation", "DeleteCitation"),
}
# Entities stay unexpanded and nothing is fetched; huge_tree lifts libxml2's limits on the size of
# one text and on the depth, which long consortium records reach.
_SAFELY: dict[str, Any] = {"resolve_entities": False, "no_network": True, "huge_tree": True}
_YEAR = re.compile(r"(?<!\d)(?:1[5-9]|20)\d\d(?!\d)")
_NOT_AVAILABLE = "[not available]"


@dataclass(slots=True)
class ParseCounts:
    """How many records of each kind came out of a file; filled while it is read.

    Attributes:
        articles: ``Article`` records yielded.
        deletions: ``Deletion`` records yielded.
        books: ``PubmedBookArticle`` records skipped.
    """

    articles: int = 0
    deletions: int = 0
    books: int = 0


def parse(path: Path, counts: ParseCounts | None = None) -> Iterator[Article | Deletion]:
    """The records of one NLM file (gzip or plain), in file order.

    Args:
        path: An NLM XML file of either DTD.
        counts: Filled as the result is consumed; the only place where skipped books show.

    Raises:
        ModernPubMedError: The file cannot be read, is empty, is damaged or truncated, has another
            root element, or a record has no numeric PMID. Records before the fault have been
            yielded by then: write them to a temporary place.
    """
    counts = ParseCounts() if counts is None else counts
    pmid: int | None = None
    for number, element in enumerate(_records(path), start=1):
        name = element.tag
        where = f"record {number}" + ("" if pmid is None else f" (after PMID {pmid})")
        if name == "PubmedBookArticle":
            counts.books += 1
        elif name in ("DeleteCitation", "DeleteDocument"):
            for child in element.iterchildren("PMID"):
                counts.deletions += 1
                yield Deletion(*_pmid(child, path, where))
        else:
            # In the current DTD the citation stands in a PubmedArticle, in the older one alone.
            citation = element if name == "MedlineCitation" else element.find("MedlineCitation")
            article = _article(element, citation, path, where)
            pmid = article.pmid
            counts.articles += 1
            yield article


def _records(path: Path) -> Iterator[etree._Element]:
    """Each record's element, whole; emptied once the caller comes back for the next."""
    parser: etree.XMLPullParser | None = None
    opening = etree.XMLPullParser(events=("start",), **_SAFELY)
    seen: list[bytes] = []
    try:
        for chunk in read_chunks(path):
            if parser is None:
                # Until the root's name is known, one parser reads along just for it.
                seen.append(chunk)
                opening.feed(chunk)
                root = next((str(element.tag) for element in _events(opening)), None)
                if root is None:
                    continue
                tags = _TAGS.get(root)
                if tags is None:
                    raise ModernPubMedError(
                        f"its root element is {root}",
                        file=path,
                        remedy="give NLM XML: a PubmedArticleSet or a MedlineCitationSet",
                    )
                parser = etree.XMLPullParser(events=("end",), tag=tags, **_SAFELY)
                chunk = b"".join(seen)
            parser.feed(chunk)
            yield from _emptied(parser)
        (opening if parser is None else parser).close()
        if parser is not None:
            yield from _emptied(parser)
    except etree.XMLSyntaxError as error:
        raise ModernPubMedError(
            f"damaged or truncated XML ({error.msg})", file=path, remedy="fetch the file again"
        ) from error


def _emptied(parser: etree.XMLPullParser) -> Iterator[etree._Element]:
    for element in _events(parser):
        yield element
        element.clear()
        parent = element.getparent()
        if parent is not None:
            while element.getprevious() is not None:
                del parent[0]


def _events(parser: etree.XMLPullParser) -> Iterator[etree._Element]:
    for _, element in parser.read_events():
        yield cast("etree._Element", element)


def _article(
    record: etree._Element, citation: etree._Element | None, path: Path, where: str
) -> Article:
    if citation is None:
        raise _bad("no MedlineCitation in it", path, where)
    # One pass over the children is far cheaper than one search a field.
    about = _children(citation)
    pmid, version = _pmid(about.get("PMID"), path, where)
    where = f"PMID {pmid}"
    article = about.get("Article")
    if article is None:
        raise _bad("no Article element in it", path, where)
    parts = _children(article)
    languages = tuple(_text(child) for child in article.iterchildren("Language") if child.text)
    vernacular = _optional(parts.get("VernacularTitle"))
    title, translated = _title(parts.get("ArticleTitle"), languages, vernacular)
    abstract = parts.get("Abstract")
    journal = _children(parts.get("Journal"))
    date, year = _date(_children(journal.get("JournalIssue")).get("PubDate"))
    types = parts.get("PublicationTypeList")
    return Article(
        pmid=pmid,
        title=title,
        version=version,
        translated=translated,
        vernacular_title=vernacular,
        sections=_sections(abstract),
        copyright=_copyright(abstract),
        other_abstracts=tuple(_other_abstracts(citation)) if "OtherAbstract" in about else (),
        languages=languages,
        date=date,
        year=year,
        journal=_optional(journal.get("Title")),
        journal_abbreviation=_optional(journal.get("ISOAbbreviation")),
        issn=_optional(journal.get("ISSN")),
        publication_types=(
            () if types is None else tuple(map(_text, types.iterchildren("PublicationType")))
        ),
        mesh=tuple(_mesh(about.get("MeshHeadingList"))),
        corrections=tuple(_corrections(about.get("CommentsCorrectionsList"), path, where)),
        status=citation.get("Status"),
        doi=_doi(article, record),
    )


def _children(element: etree._Element | None) -> dict[str, etree._Element]:
    """The children by tag; of several with one tag, the first."""
    children: dict[str, etree._Element] = {}
    for child in () if element is None else element:
        children.setdefault(child.tag, child)
    return children


def _pmid(element: etree._Element | None, path: Path, where: str) -> tuple[int, int]:
    if element is None or not (element.text or "").strip():
        raise _bad("no PMID", path, where)
    pmid, version = (element.text or "").strip(), element.get("Version", "1")
    for what, value in (("PMID", pmid), ("PMID Version", version)):
        if not (value.isascii() and value.isdigit()):
            raise _bad(f"the {what} is no number: {value!r}", path, where)
    return int(pmid), int(version)


def _bad(cause: str, path: Path, where: str) -> ModernPubMedError:
    return ModernPubMedError(
        cause, file=path, record=where, remedy="fetch the file again, or remove the record"
    )


def _text(element: etree._Element) -> str:
    return (element.text or "").strip()


def _optional(element: etree._Element | None) -> str | None:
    return None if element is None else render(element) or None


def _title(
    element: etree._Element | None, languages: tuple[str, ...], vernacular: str | None
) -> tuple[str, bool]:
    title = "" if element is None else render(element)
    if not title.startswith("[") or title.lower().startswith(_NOT_AVAILABLE):
        return title, False
    foreign = vernacular is not None or any(language != "eng" for language in languages)
    inner = _enclosed(title)
    return (title, False) if inner is None or not foreign else (inner, True)


def _enclosed(title: str) -> str | None:
    """The title without the brackets around all of it but its final stop, or None.

    >>> _enclosed("[On [18F]FDG]."), _enclosed("[18F]FDG."), _enclosed("[A]. [B].")
    ('On [18F]FDG.', None, None)
    """
    depth = 0
    for place, character in enumerate(title):
        depth += (character == "[") - (character == "]")
        if depth == 0:
            end = title[place + 1 :].strip()
            if end not in ("", ".", "?", "!"):
                return None
            inner = title[1:place].strip()
            return inner if inner.endswith((".", "?", "!")) else inner + end
    return None


def _sections(abstract: etree._Element | None) -> tuple[AbstractSection, ...]:
    if abstract is None:
        return ()
    sections = (
        AbstractSection(
            render(element), element.get("Label") or None, element.get("NlmCategory") or None
        )
        for element in abstract.iterchildren("AbstractText")
    )
    return tuple(section for section in sections if section.text or section.label)


def _other_abstracts(citation: etree._Element) -> Iterator[OtherAbstract]:
    for other in citation.iterchildren("OtherAbstract"):
        yield OtherAbstract(
            kind=other.get("Type", ""),
            language=other.get("Language", "eng"),
            sections=_sections(other),
            copyright=_copyright(other),
        )


def _copyright(abstract: etree._Element | None) -> str | None:
    return None if abstract is None else _optional(abstract.find("CopyrightInformation"))


def _date(element: etree._Element | None) -> tuple[str | None, int | None]:
    if element is None:
        return None, None
    verbatim = " ".join(filter(None, (_text(child) for child in element.iterchildren("*"))))
    year = _YEAR.search(verbatim)
    return verbatim or None, None if year is None else int(year[0])


def _mesh(headings: etree._Element | None) -> Iterator[MeshHeading]:
    for heading in () if headings is None else headings.iterchildren("MeshHeading"):
        descriptor = heading.find("DescriptorName")
        if descriptor is not None:
            yield MeshHeading(
                descriptor.get("UI"),
                _text(descriptor),
                descriptor.get("MajorTopicYN") == "Y",
                tuple(
                    MeshQualifier(
                        qualifier.get("UI"), _text(qualifier), qualifier.get("MajorTopicYN") == "Y"
                    )
                    for qualifier in heading.iterchildren("QualifierName")
                ),
            )


def _corrections(links: etree._Element | None, path: Path, where: str) -> Iterator[Correction]:
    for link in () if links is None else links.iterchildren("CommentsCorrections"):
        pmid = link.find("PMID")
        yield Correction(
            link.get("RefType", ""),
            _optional(link.find("RefSource")),
            None if pmid is None else _pmid(pmid, path, f"{where}, a correction link")[0],
        )


def _doi(article: etree._Element, record: etree._Element) -> str | None:
    invalid = None
    for element in article.iterchildren("ELocationID"):
        if element.get("EIdType") == "doi" and _text(element):
            if element.get("ValidYN", "Y") != "N":
                return _text(element)
            invalid = invalid or _text(element)
    for element in record.iterfind("PubmedData/ArticleIdList/ArticleId"):
        if element.get("IdType") == "doi" and _text(element):
            return _text(element)
    return invalid
