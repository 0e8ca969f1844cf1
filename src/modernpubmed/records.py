"""The types that flow through the house; their Arrow schemas are in ``schemas``.

``Article`` is what NLM says of one PubMed record, nothing inferred that could not be traced back;
``Pair`` is what an encoder learns from. Both are frozen, both round-trip through Parquet.

Field semantics follow NLM's description of the XML elements
(https://www.nlm.nih.gov/bsd/licensee/elements_descriptions.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class AbstractSection:
    """One ``AbstractText``: its text, and for structured abstracts its two labels.

    Attributes:
        text: The text, inline markup rendered (see ``modernpubmed.pubmed.markup``).
        label: The publisher's heading as printed (``"PATIENTS AND METHODS"``).
        category: NLM's mapping of it (``NlmCategory``: ``BACKGROUND``, ``OBJECTIVE``,
            ``METHODS``, ``RESULTS``, ``CONCLUSIONS`` or ``UNASSIGNED``).
    """

    text: str
    label: str | None = None
    category: str | None = None


@dataclass(frozen=True, slots=True)
class OtherAbstract:
    """An ``OtherAbstract``: one that is not the author's English one, or not for clinicians.

    Attributes:
        kind: NLM's ``Type`` (``Publisher``, ``plain-language-summary``, ``AIDS``, …).
        language: ISO 639-2 code (``"spa"``).
        sections: As in the main abstract.
        copyright: ``CopyrightInformation``, never part of the text.
    """

    kind: str
    language: str
    sections: tuple[AbstractSection, ...]
    copyright: str | None = None


@dataclass(frozen=True, slots=True)
class MeshQualifier:
    """A MeSH subheading, with whether it is a major topic of the article."""

    ui: str | None
    name: str
    major: bool = False


@dataclass(frozen=True, slots=True)
class MeshHeading:
    """A MeSH descriptor (``ui`` is e.g. ``D003924``) with its qualifiers.

    ``ui`` is None in files of before 2015, which carry names only.
    """

    ui: str | None
    name: str
    major: bool = False
    qualifiers: tuple[MeshQualifier, ...] = ()


@dataclass(frozen=True, slots=True)
class Correction:
    """A link of ``CommentsCorrectionsList``: retraction, erratum, comment or update.

    Attributes:
        kind: NLM's ``RefType`` (``RetractionIn``, ``ErratumFor``, ``CommentOn``, …).
        source: The citation as printed.
        pmid: The other article, where NLM gives it.
    """

    kind: str
    source: str | None = None
    pmid: int | None = None


@dataclass(frozen=True, slots=True)
class Article:
    """One PubMed record.

    Attributes:
        pmid: PubMed identifier.
        version: The ``Version`` of the PMID; 1 but for versioned (F1000-like) records.
        title: ``ArticleTitle`` with markup rendered; the brackets that NLM puts around a
            translated title are removed and ``translated`` says so.
        translated: Whether NLM bracketed the title as its own translation.
        vernacular_title: The title in the original language, where given.
        sections: The main abstract, in order; empty where there is none.
        copyright: The abstract's ``CopyrightInformation``.
        other_abstracts: The rest, kept apart.
        languages: ISO 639-2 codes, in order.
        date: The publication date as NLM gives it, verbatim (``"1998 Dec-1999 Jan"``).
        year: The (first) year of that date.
        journal: Full title; ``journal_abbreviation`` the ISO abbreviation, ``issn`` as given.
        publication_types: Names in order (``"Journal Article"``, ``"Retracted Publication"``).
        mesh: MeSH headings in order.
        corrections: Links to retractions, errata, comments.
        status: NLM's ``Status`` of the citation (``MEDLINE``, ``In-Process``, …).
        doi: The DOI, where given.
    """

    pmid: int
    title: str
    version: int = 1
    translated: bool = False
    vernacular_title: str | None = None
    sections: tuple[AbstractSection, ...] = ()
    copyright: str | None = None
    other_abstracts: tuple[OtherAbstract, ...] = ()
    languages: tuple[str, ...] = ()
    date: str | None = None
    year: int | None = None
    journal: str | None = None
    journal_abbreviation: str | None = None
    issn: str | None = None
    publication_types: tuple[str, ...] = ()
    mesh: tuple[MeshHeading, ...] = ()
    corrections: tuple[Correction, ...] = ()
    status: str | None = None
    doi: str | None = None

    @property
    def abstract(self) -> str:
        """The main abstract as running text, section labels left out.

        >>> sections = (AbstractSection("One.", "AIM"), AbstractSection("Two."))
        >>> Article(1, "T", sections=sections).abstract
        'One. Two.'
        """
        return " ".join(section.text for section in self.sections if section.text)


@dataclass(frozen=True, slots=True)
class Deletion:
    """A PMID that an updatefile's ``DeleteCitation`` takes back."""

    pmid: int
    version: int = 1


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts that mean the same thing: what InfoNCE pulls together.

    Attributes:
        anchor: The short side: a title, a synonym.
        positive: The long side: the abstract, a definition.
        pmid: The article it came from, where known.
        kind: ``title-abstract``, or another relation that makes two texts alike.
        source: Where it came from: a file name, a collection.
        year: Publication year, where known.
        concept: The concept that both texts name or define, where there is one: its identifier
            in its vocabulary (``"MESH:D006973"``).
        mesh: Names of the article's MeSH headings, without qualifiers.
        links: PMIDs of the articles that NLM links to this one (comments, errata, retractions,
            republications), in either direction.
    """

    anchor: str
    positive: str
    pmid: int | None = None
    kind: str = "title-abstract"
    source: str | None = None
    year: int | None = None
    concept: str | None = None
    mesh: tuple[str, ...] = ()
    links: tuple[int, ...] = ()


_PAIR_FIELDS = tuple(field.name for field in fields(Pair))


def article_to_row(article: Article) -> dict[str, Any]:
    """The article as a row of ``ARTICLE_SCHEMA``."""
    return asdict(article)


def article_from_row(row: Mapping[str, Any]) -> Article:
    """The article of a row of ``ARTICLE_SCHEMA``.

    >>> import pyarrow as pa
    >>> from modernpubmed.schemas import ARTICLE_SCHEMA
    >>> article = Article(7, "Title", mesh=(MeshHeading("D1", "Liver", True),))
    >>> table = pa.Table.from_pylist([article_to_row(article)], schema=ARTICLE_SCHEMA)
    >>> article_from_row(table.to_pylist()[0]) == article
    True
    """
    values = dict(row)
    values["sections"] = _sections(row["sections"])
    values["other_abstracts"] = tuple(
        OtherAbstract(**{**other, "sections": _sections(other["sections"])})
        for other in row["other_abstracts"]
    )
    values["mesh"] = tuple(
        MeshHeading(
            **{**heading, "qualifiers": tuple(MeshQualifier(**q) for q in heading["qualifiers"])}
        )
        for heading in row["mesh"]
    )
    values["corrections"] = tuple(Correction(**link) for link in row["corrections"])
    values["languages"] = tuple(row["languages"])
    values["publication_types"] = tuple(row["publication_types"])
    return Article(**values)


def pair_to_row(pair: Pair) -> dict[str, Any]:
    """The pair as a row of ``PAIR_SCHEMA``."""
    # asdict copies what is inside, which takes ten times as long; here all of it is immutable.
    return {name: getattr(pair, name) for name in _PAIR_FIELDS}


def pair_from_row(row: Mapping[str, Any]) -> Pair:
    """The pair of a row of ``PAIR_SCHEMA``.

    >>> import pyarrow as pa
    >>> from modernpubmed.schemas import PAIR_SCHEMA
    >>> pair = Pair("Gout", "A joint disease …", pmid=7, mesh=("Gout",), links=(9,))
    >>> table = pa.Table.from_pylist([pair_to_row(pair)], schema=PAIR_SCHEMA)
    >>> pair_from_row(table.to_pylist()[0]) == pair
    True
    """
    return Pair(**{**row, "mesh": tuple(row["mesh"]), "links": tuple(row["links"])})


def _sections(rows: list[dict[str, Any]]) -> tuple[AbstractSection, ...]:
    return tuple(AbstractSection(**row) for row in rows)
