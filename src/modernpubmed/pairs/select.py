"""Which articles make a training pair (title → abstract), and which do not, with the reason.

Every record that comes in either comes out as a pair or is counted under the one reason it was
dropped for (the first that holds, in the order of ``REASONS``). What is repaired on the way is
counted too, as a note. The text rules hold for articles and for pairs made elsewhere alike; the
rules on language codes, publication types and correction links need an article.

Repairs, each a mark that another database left in the text and no reader would write:
``(ABSTRACT TRUNCATED AT 250 WORDS)`` (MEDLINE before 2000), Ovid's ``[References: 12]`` and
copyright statements at the end of an abstract, the brackets around a translated title, Ovid's
``[see comment]`` or ``[German]`` after it, and a bibliography's running number glued to it
(``examples.1234``).

Of the links that NLM draws between records (``RefType`` of ``CommentsCorrections``) those count
that make this record say little of itself, or nothing that still holds:

- ``RetractionIn``, ``PartialRetractionIn`` and ``RetractedandRepublishedIn``: ``retracted``.
- ``CorrectedandRepublishedIn``: ``republished in corrected form``; the corrected one stays.
- ``RetractionOf``, ``PartialRetractionOf``, ``ErratumFor`` and ``ExpressionOfConcernFor``:
  ``retraction notice or erratum``.
- ``CommentOn``, and the publication type ``Comment``: ``comment or reply``. Their titles are often
  another article's ("Re: …"), and their text speaks of that one. Of 23 in NLM's own files here
  none has an abstract.

The articles at the other end stay (``CommentIn``, ``ErratumIn``, ``ExpressionOfConcernIn``), and so
do ``UpdateOf``, ``RepublishedFrom`` and ``ReprintOf``: where the text is the same twice,
de-duplication sees it. Letters, editorials and news that have an abstract and a title of their own
stay: of ten in those files all are of a subject.

Decided on 61,546 real pairs (counts in ``tests/pairs/test_pairs_real.py``):

- Translated titles stay: title and abstract are both English, only the article is not.
- One-word titles (a drug, a disease) stay: they are how a term meets its description.
- An abstract that opens with its own title stays, and is noted: such pairs (0.2 %) are easy, not
  wrong, and taking the sentence out would leave abstracts that start in the middle.

Given up: finding the language of a text. An abstract is taken for English by its share of
English function words, which tells it from other languages but not from a word list.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib import resources

from modernpubmed.folding import folded
from modernpubmed.records import Article, Pair

#: Why a record is dropped, in the order in which the rules are tried.
REASONS = (
    "retracted",
    "republished in corrected form",
    "retraction notice or erratum",
    "no title",
    "generic title",
    "comment or reply",
    "title too short",
    "title cut off",
    "no abstract",
    "abstract too short",
    "not English",
)

#: Shortest abstract kept, in characters. Below it are stubs (thanks to the reviewers) and
#: one-sentence case notes: 0.2 % of the real pairs.
MIN_ABSTRACT = 200

#: Fewest letters in a title. "Gout" is a subject; "AI" or "QT" alone is not one.
MIN_TITLE_LETTERS = 4

#: Titles that say what kind of text it is and nothing of what it is about, as ``folded`` gives
#: them; one a line in ``generic_titles.txt``.
GENERIC_TITLES = frozenset(
    line
    for line in resources.files("modernpubmed.pairs")
    .joinpath("generic_titles.txt")
    .read_text("utf-8")
    .splitlines()
    if not line.startswith("#")
)

_RETRACTED_TYPES = frozenset({"retracted publication"})
_NOTICE_TYPES = frozenset(
    {"retraction of publication", "retraction notice", "published erratum", "expression of concern"}
)
_COMMENT_TYPES = frozenset({"comment"})
_RETRACTED_LINKS = frozenset({"RetractionIn", "PartialRetractionIn", "RetractedandRepublishedIn"})
_CORRECTED_LINKS = frozenset({"CorrectedandRepublishedIn"})
_NOTICE_LINKS = frozenset(
    {"RetractionOf", "PartialRetractionOf", "ErratumFor", "ExpressionOfConcernFor"}
)
_COMMENT_LINKS = frozenset({"CommentOn"})
_RETRACTED_TITLE = re.compile(
    r"^(?:retracted|withdrawn)(?:\s+(?:article|paper|chapter|publication))?\s*[:\]]"
    r"|\[retracted (?:by|in|article)\b[^\]]*\]?[.\s]*$"
    r"|\(retracted(?: article)?\b[^)]*\)?[.\s]*$",
    re.IGNORECASE,
)
_NOTICE_TITLE = re.compile(
    r"^(?:(?:author|publisher|editorial)(?:'s|’s)? )?"
    r"(?:correction(?:$| ?[:.]| to ?[:\"“'‘]| to\b.*\bet al\b)"
    r"|(?:corrigendum|corrigenda|erratum|errata|addendum)(?:$| ?[:.(]| (?:to|for|in)\b))"
    r"|^(?:notice of retraction|retraction(?: note| notice)?)(?:$| ?[:.]| to ?:)"
    r"|^(?:expression|statement) of concern(?:$| ?[:.]| to ?:)",
    re.IGNORECASE,
)

# Not "response to chemotherapy", nor "comments from patients".
_REPLY_TITLE = re.compile(
    r"^(?:(?:in |a )?reply to\b|(?:re|reply|response|rebuttal|comments?|commentary) ?:"
    r"|(?:the )?authors?['’]?s?['’]? (?:reply|response)(?:$| ?[:.]| to\b)"
    r"|(?:a )?(?:response|rebuttal) to (?:the )?"
    r"(?:comments?\b|letters?\b|editor|drs?\b|[\"“'‘:]|[^:]*\bet al\b)"
    r"|(?:a )?comments? (?:on|to)\b|letters? to the editor\b)",
    re.IGNORECASE,
)

_TRUNCATED = re.compile(r"\s?[(\[] ?ABSTRACT TRUNCATED(?: AT \d+ WORDS)? ?[)\]]\.?", re.IGNORECASE)
_REFERENCES = re.compile(r"\s?\[References: \d+\]\.?$", re.IGNORECASE)
# Searched for in the last characters only: ``©`` may well stand in the middle of an abstract.
_COPYRIGHT_TAIL = 260
_COPYRIGHT = re.compile(
    r"\s?(?:This article is protected by copyright\.(?: All rights reserved\.?)?$"
    r"|(?:\(?Psyc(?:INFO|Info) Database Record )?"
    r"(?:Copyright )?(?:©|\([cC]\)|\([cC]opyright\)|Copyright ?,?) ?"
    r"(?:(?:Published |by )?(?:19|20)\d\d\b|[A-Z][^.]{0,80}(?:19|20)\d\d\b|The Authors?\b).*"
    r"|(?:19|20)\d\d [A-Z][^.]{0,80}[.,] [Aa]ll rights reserved\.?$)",
    re.DOTALL,
)
_BRACKETED = re.compile(r"^\[(?P<title>[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]\s*\.?$")
_AUTHORS_TRANSLATION = re.compile(r" ?\(author's transl\)", re.IGNORECASE)
_OVID_NOTE = re.compile(
    r"\s*\[(?:see comments?|comments?|editorial|corrected|review|systematic review|protocol"
    r"|update (?:of|in) [^\]]*|erratum appears [^\]]*"
    r"|(?:article in )?(?:Bulgarian|Chinese|Croatian|Czech|Danish|Dutch|Finnish|French|German|Greek"
    r"|Hebrew|Hungarian|Italian|Japanese|Korean|Norwegian|Polish|Portuguese|Romanian|Russian"
    r"|Serbian|Slovak|Spanish|Swedish|Turkish|Ukrainian))\]\.?$",
    re.IGNORECASE,
)
_RUNNING_NUMBER = re.compile(r"(?:(?<=[^\W\d])\.\d{2,5}|(?<=[^\W\d]{3})\.\d|(?<=[\])])\.\d{1,5})$")
# A title that stops at an opening bracket or on a word that must be followed by another: the
# source lost everything from its first inline markup on. Not "a", "in", "or", "to": they also end
# whole titles (vitamin A, GeV/A, "what to look for").
_CUT_OFF = re.compile(r"(?:[(\[,]|(?<=[^\W\d]{3})-|\s(?:of|the|and|with|by|an|from))$")
# fmt: off
_FUNCTION_WORDS = frozenset((
    "the", "of", "and", "to", "with", "by", "that", "were", "from", "are", "for", "was", "is",
    "this",
))
# fmt: on


@dataclass(frozen=True, slots=True)
class Tally:
    """What a step did: how many records it read, dropped by reason, and repaired or noted.

    The counters are filled while the step's iterator is consumed.
    """

    seen: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)


def select(
    records: Iterable[Article | Pair],
    tally: Tally,
    *,
    min_abstract: int = MIN_ABSTRACT,
    source: str | None = None,
) -> Iterator[Pair]:
    """The usable pairs of some articles or ready-made pairs, in their order, streaming.

    Args:
        records: Articles, or title–abstract pairs (text rules only).
        tally: Filled as the result is consumed: ``seen["articles"]`` and ``seen["pairs"]``,
            ``dropped`` by one of ``REASONS``, ``noted`` by repair.
        min_abstract: Shortest abstract kept, in characters.
        source: ``Pair.source`` for pairs made of articles.

    >>> tally = Tally()
    >>> article = Article(1, "Editorial.", languages=("eng",))
    >>> list(select([article], tally)), dict(tally.dropped)
    ([], {'generic title': 1})
    """
    for record in records:
        pair = select_one(record, tally, min_abstract=min_abstract, source=source)
        if pair is not None:
            yield pair


def select_one(
    record: Article | Pair, tally: Tally, *, min_abstract: int, source: str | None
) -> Pair | None:
    """The pair of one record, or None where it was dropped; arguments as in ``select``."""
    if isinstance(record, Article):
        tally.seen["articles"] += 1
        reason = _link_reason(record)
        pair = Pair(
            anchor=record.title,
            positive=record.abstract,
            pmid=record.pmid,
            source=source,
            year=record.year,
            mesh=tuple(dict.fromkeys(heading.name for heading in record.mesh)),
            links=tuple(dict.fromkeys(link.pmid for link in record.corrections if link.pmid)),
        )
        english = record.translated or not record.languages or "eng" in record.languages
    else:
        tally.seen["pairs"] += 1
        reason, pair, english = None, record, True
    anchor, title_notes = clean_title(pair.anchor)
    positive, abstract_notes = clean_abstract(pair.positive)
    reason = (
        reason
        or _title_reason(pair.anchor, anchor)
        or _abstract_reason(positive, min_abstract)
        or (None if english and _reads_english(positive) else "not English")
    )
    if reason is not None:
        tally.dropped[reason] += 1
        return None
    tally.noted.update(title_notes)
    tally.noted.update(abstract_notes)
    if folded(positive[: 2 * len(anchor)]).startswith(folded(anchor)):
        tally.noted["abstract opens with its title"] += 1
    return replace(pair, anchor=anchor, positive=positive)


def clean_title(title: str) -> tuple[str, list[str]]:
    """The title without what databases add to it, and the names of the repairs.

    >>> clean_title("[Radiotherapy of the larynx]. [German]")
    ('Radiotherapy of the larynx', ['database note in title removed', 'title brackets removed'])
    >>> clean_title("Gels for imaginary teeth.[see comment].1471")[0]
    'Gels for imaginary teeth.'
    >>> clean_title("[18F]FDG uptake in [11C]choline-negative lesions.")[1]
    []
    """
    text, notes = " ".join(title.split()), []
    if _RUNNING_NUMBER.search(text):
        text = _RUNNING_NUMBER.sub("", text)
        notes.append("running number in title removed")
    if text.endswith(("]", "].")) and _OVID_NOTE.search(text):
        while _OVID_NOTE.search(text):
            text = _OVID_NOTE.sub("", text)
        notes.append("database note in title removed")
    if _AUTHORS_TRANSLATION.search(text):
        text = _AUTHORS_TRANSLATION.sub("", text)
        notes.append("database note in title removed")
    if match := _BRACKETED.match(text):
        text = match["title"].strip()
        notes.append("title brackets removed")
    return text, notes


def clean_abstract(abstract: str) -> tuple[str, list[str]]:
    """The abstract without truncation mark and copyright line, and the names of the repairs.

    >>> clean_abstract("It rose (P < .01).(ABSTRACT TRUNCATED AT 250 WORDS)")
    ('It rose (P < .01).', ['truncation mark removed'])
    >>> clean_abstract("It fell. © 2019 Society of Examples. All rights reserved.")
    ('It fell.', ['copyright line removed'])
    """
    text, notes = " ".join(abstract.split()), []
    # The substring tests are there for speed: most abstracts need no pattern tried.
    lower = text.lower()
    if "truncated" in lower and _TRUNCATED.search(text):
        text = _TRUNCATED.sub("", text).strip()
        notes.append("truncation mark removed")
    if "[references:" in lower and _REFERENCES.search(text):
        text = _REFERENCES.sub("", text).strip()
        notes.append("reference count removed")
    if any(word in lower[-_COPYRIGHT_TAIL:] for word in ("©", "(c)", "copyright", "all rights")):
        body, tail = text[:-_COPYRIGHT_TAIL], text[-_COPYRIGHT_TAIL:]
        shorter = (body + _COPYRIGHT.sub("", tail)).strip()
        if shorter != text:
            text = shorter
            notes.append("copyright line removed")
    return text, notes


def _link_reason(article: Article) -> str | None:
    types = {name.casefold() for name in article.publication_types}
    links = {link.kind for link in article.corrections}
    if types & _RETRACTED_TYPES or links & _RETRACTED_LINKS:
        return "retracted"
    if links & _CORRECTED_LINKS:
        return "republished in corrected form"
    if types & _NOTICE_TYPES or links & _NOTICE_LINKS:
        return "retraction notice or erratum"
    if types & _COMMENT_TYPES or links & _COMMENT_LINKS:
        return "comment or reply"
    return None


def _title_reason(raw: str, title: str) -> str | None:
    # Both forms: cleaning may uncover "RETRACTED:" in brackets, or remove "[retracted by …]".
    if _RETRACTED_TITLE.search(raw) or _RETRACTED_TITLE.search(title):
        return "retracted"
    if _NOTICE_TITLE.search(title):
        return "retraction notice or erratum"
    if not title:
        return "no title"
    if folded(title) in GENERIC_TITLES:
        return "generic title"
    if _REPLY_TITLE.search(title):
        return "comment or reply"
    if sum(map(str.isalpha, title)) < MIN_TITLE_LETTERS:
        return "title too short"
    if _CUT_OFF.search(title):
        return "title cut off"
    return None


def _abstract_reason(abstract: str, min_abstract: int) -> str | None:
    if not abstract:
        return "no abstract"
    return "abstract too short" if len(abstract) < min_abstract else None


def _reads_english(text: str) -> bool:
    # One function word in 50: the least English of 61,546 real abstracts has one in 30; Spanish,
    # German, Japanese and the like have next to none of these.
    words = text[:2000].lower().split()
    return len([word for word in words if word in _FUNCTION_WORDS]) * 50 >= len(words)
