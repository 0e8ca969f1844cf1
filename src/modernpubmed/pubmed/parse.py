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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

from lxml import etree

from modernpubmed.errors import ModernPubMedError
from modernpubmed.pubmed.markup import render
from modernpubmed.pubmed.source import Digests, read_chunks
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
# With the mark of UTF-8 before it, as some editors leave it.
_DECLARATION = re.compile(rb"(?:\xef\xbb\xbf)?(?:<\?xml\s[^>]*\?>)?")
_LONGEST_DECLARATION = 1_000
_YEAR = re.compile(r"(?<!\d)(?:1[5-9]|20)\d\d(?!\d)")
_NOT_AVAILABLE = "[not available]"


class _BadRecordError(Exception):
    """What is wrong with a record, and of which PMID where that is known."""

    def __init__(self, cause: str, record: str | None = None) -> None:
        super().__init__(cause)
        self.record = record


@dataclass(slots=True)
class ParseCounts:
    """How many records of each kind came out of a file; filled while it is read.

    Attributes:
        articles: ``Article`` records yielded.
        deletions: ``Deletion`` records yielded.
        books: ``PubmedBookArticle`` records skipped.
        root: The name of the root element, which tells the DTD.
    """

    articles: int = 0
    deletions: int = 0
    books: int = 0
    root: str = field(default="", compare=False)


def parse(
    path: Path, counts: ParseCounts | None = None, digests: Digests | None = None
) -> Iterator[Article | Deletion]:
    """The records of one NLM file (gzip or plain), in file order.

    Args:
        path: An NLM XML file of either DTD.
        counts: Filled as the result is consumed; the only place where skipped books show.
        digests: Filled likewise with the file's size and checksums.

    Raises:
        ModernPubMedError: The file cannot be read, is empty, is damaged or truncated, has another
            root element, or a record has no numeric PMID. Records before the fault have been
            yielded by then: write them to a temporary place.
    """
    counts = ParseCounts() if counts is None else counts
    pmid: int | None = None
    number = 0
    try:
        for element in _records(path, counts, digests):
            number += 1
            name = element.tag
            if name == "PubmedBookArticle":
                counts.books += 1
            elif name in ("DeleteCitation", "DeleteDocument"):
                for child in element.iterchildren("PMID"):
                    counts.deletions += 1
                    yield Deletion(*_pmid(child))
            else:
                # In the current DTD the citation stands in a PubmedArticle, in the older one alone.
                about = element if name == "MedlineCitation" else _child(element, "MedlineCitation")
                article = _article(element, about)
                pmid = article.pmid
                counts.articles += 1
                yield article
    except _BadRecordError as error:
        raise _bad(str(error), path, error.record or _place(number, pmid)) from None
    except etree.XMLSyntaxError as error:
        raise ModernPubMedError(
            f"damaged or truncated XML ({error.msg})",
            file=path,
            record=None if pmid is None else f"after PMID {pmid}",
            remedy="fetch the file again",
        ) from error
    except RecursionError as error:
        raise _bad("its markup is nested too deeply", path, _place(number, pmid)) from error


def _place(number: int, pmid: int | None) -> str:
    return f"record {number}" + ("" if pmid is None else f" (after PMID {pmid})")


def _records(path: Path, counts: ParseCounts, digests: Digests | None) -> Iterator[etree._Element]:
    """Each record's element, whole; gone once the caller comes back for the next few.

    lxml's events would cost a call for every start and end tag, a quarter of what libxml2 itself
    takes. So the only event asked for is that of a processing instruction, one is put at the
    head of the file, and the growing tree is reached from there: what has a later sibling is
    complete.
    """
    parser = etree.XMLPullParser(events=("pi",), **_SAFELY)
    root: etree._Element | None = None
    head: etree._Element | None = None
    for chunk in _marked(read_chunks(path, digests)):
        parser.feed(chunk)
        for _, found in parser.read_events():
            head = head if head is not None else cast("etree._Element", found)
        if root is None:
            root = None if head is None else _root(head, path, counts)
        if root is not None and (complete := len(root) - 1) > 0:
            yield from _known(root, complete, path)
            del root[:complete]
    parser.close()
    if root is None and head is not None:
        root = _root(head, path, counts)
    if root is not None:
        yield from _known(root, len(root), path)


def _marked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks, with our processing instruction after the XML declaration."""
    first = b""
    for chunk in chunks:
        first += chunk
        if len(first) >= _LONGEST_DECLARATION:
            break
    declaration = _DECLARATION.match(first)
    end = 0 if declaration is None else declaration.end()
    yield first[:end] + b"<?modernpubmed?>" + first[end:]
    yield from chunks


def _root(head: etree._Element, path: Path, counts: ParseCounts) -> etree._Element | None:
    """The root element after our mark, once it has begun."""
    root = head.getnext()
    while root is not None and not isinstance(root.tag, str):
        root = root.getnext()
    if root is not None:
        if root.tag not in _TAGS:
            raise ModernPubMedError(
                f"its root element is {root.tag}",
                file=path,
                remedy="give NLM XML: a PubmedArticleSet or a MedlineCitationSet",
            )
        counts.root = str(root.tag)
    return root


def _known(root: etree._Element, end: int, path: Path) -> Iterator[etree._Element]:
    tags = _TAGS[str(root.tag)]
    for element in islice(root, end):
        if element.tag in tags:
            yield element
        elif isinstance(element.tag, str):
            raise _bad(f"an element {element.tag} is no record", path, str(root.tag))


def _child(element: etree._Element, tag: str) -> etree._Element | None:
    # A walk over a few children: ``find`` takes ten times as long.
    for child in element:
        if child.tag == tag:
            return child
    return None


def _article(record: etree._Element, citation: etree._Element | None) -> Article:
    if citation is None:
        raise _BadRecordError("no MedlineCitation in it")
    about, others = _children(citation, "OtherAbstract")
    pmid, version = _pmid(about.get("PMID"))
    article = about.get("Article")
    if article is None:
        raise _BadRecordError("no Article element in it", f"PMID {pmid}")
    parts, several = _children(article, "Language", "ELocationID")
    languages = tuple([text for e in several if e.tag == "Language" and (text := _text(e))])
    vernacular = _optional(parts.get("VernacularTitle"))
    title, translated = _title(parts.get("ArticleTitle"), languages, vernacular)
    sections, right = _abstract(parts.get("Abstract"))
    journal, _ = _children(parts.get("Journal"))
    date, year = _date(journal.get("JournalIssue"))
    return Article(
        pmid,
        title,
        version,
        translated,
        vernacular,
        sections,
        right,
        tuple(map(_other_abstract, others)) if others else (),
        languages,
        date,
        year,
        _optional(journal.get("Title")),
        _optional(journal.get("ISOAbbreviation")),
        _optional(journal.get("ISSN")),
        _publication_types(parts.get("PublicationTypeList")),
        _mesh(about.get("MeshHeadingList")),
        _corrections(about.get("CommentsCorrectionsList"), pmid),
        citation.get("Status"),
        _doi(several, record),
    )


def _children(
    element: etree._Element | None, *repeated: str
) -> tuple[dict[str, etree._Element], list[etree._Element]]:
    """The children by tag, of several with one tag the first; apart, those that may repeat.

    One walk over all of them costs less than one search by name.
    """
    children: dict[str, etree._Element] = {}
    several: list[etree._Element] = []
    for child in () if element is None else element:
        tag = child.tag
        if tag in repeated:
            several.append(child)
        elif tag not in children:
            children[tag] = child
    return children, several


def _pmid(element: etree._Element | None) -> tuple[int, int]:
    pmid = "" if element is None else _text(element)
    if element is None or not pmid:
        raise _BadRecordError("no PMID")
    version = element.get("Version", "1")
    for what, value, longest in (("PMID", pmid, 18), ("PMID Version", version, 9)):
        if not (value.isascii() and value.isdigit()):
            raise _BadRecordError(f"the {what} is no number: {value[:40]!r}")
        if len(value) > longest:
            raise _BadRecordError(f"the {what} has {len(value)} digits")
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


def _abstract(
    element: etree._Element | None,
) -> tuple[tuple[AbstractSection, ...], str | None]:
    """The sections of an Abstract or OtherAbstract, and its CopyrightInformation."""
    sections: list[AbstractSection] = []
    right = None
    for part in () if element is None else element:
        if part.tag == "AbstractText":
            text, label = render(part), part.get("Label") or None
            if text or label:
                sections.append(AbstractSection(text, label, part.get("NlmCategory") or None))
        elif part.tag == "CopyrightInformation":
            right = right or _optional(part)
    return tuple(sections), right


def _other_abstract(other: etree._Element) -> OtherAbstract:
    sections, right = _abstract(other)
    return OtherAbstract(
        kind=other.get("Type", ""),
        language=other.get("Language", "eng"),
        sections=sections,
        copyright=right,
    )


def _date(issue: etree._Element | None) -> tuple[str | None, int | None]:
    date = None if issue is None else _child(issue, "PubDate")
    if date is None:
        return None, None
    verbatim = " ".join(
        [text for part in date if isinstance(part.tag, str) and (text := _text(part))]
    )
    year = _YEAR.search(verbatim)
    return verbatim or None, None if year is None else int(year[0])


def _publication_types(types: etree._Element | None) -> tuple[str, ...]:
    if types is None:
        return ()
    return tuple([_text(child) for child in types if child.tag == "PublicationType"])


def _mesh(headings: etree._Element | None) -> tuple[MeshHeading, ...]:
    found = []
    for heading in () if headings is None else headings:
        descriptor = None
        qualifiers = []
        for name in heading:
            value = (name.get("UI"), _text(name), name.get("MajorTopicYN") == "Y")
            if name.tag == "QualifierName":
                qualifiers.append(MeshQualifier(*value))
            elif name.tag == "DescriptorName":
                descriptor = descriptor or value
        if descriptor is not None:
            found.append(MeshHeading(*descriptor, tuple(qualifiers)))
    return tuple(found)


def _corrections(links: etree._Element | None, pmid: int) -> tuple[Correction, ...]:
    found = []
    for link in () if links is None else links:
        if link.tag == "CommentsCorrections":
            parts, _ = _children(link)
            other = parts.get("PMID")
            if other is not None:
                try:
                    number, _ = _pmid(other)
                except _BadRecordError as error:
                    raise _BadRecordError(str(error), f"PMID {pmid}, a correction link") from None
            found.append(
                Correction(
                    link.get("RefType", ""),
                    _optional(parts.get("RefSource")),
                    None if other is None else number,
                )
            )
    return tuple(found)


def _doi(locations: Sequence[etree._Element], record: etree._Element) -> str | None:
    invalid = None
    for element in locations:  # among others, which have no EIdType
        if element.get("EIdType") == "doi" and _text(element):
            if element.get("ValidYN", "Y") != "N":
                return _text(element)
            invalid = invalid or _text(element)
    # Not a search by path: a record's references have lists of this name too.
    data, _ = _children(_children(record)[0].get("PubmedData"))
    ids = data.get("ArticleIdList")
    for element in () if ids is None else ids:
        if element.get("IdType") == "doi" and _text(element):
            return _text(element)
    return invalid
