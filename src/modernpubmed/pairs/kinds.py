"""The kinds of pairs, and those that are made of an article other than title → abstract.

Each but ``similar-title`` turns one article (or title–abstract pair) that ``select`` has let
through into one pair, or says why it cannot:

- ``sentence-abstract``: a sentence of the abstract → the rest of it, the inverse cloze task of Lee
  et al. 2019 (https://arxiv.org/abs/1906.00300). The sentence is chosen by hash among those that
  say something by themselves, so the same article always gives the same pair. Where they left the
  sentence in its text one time in ten, it is always taken out here: title → abstract pairs already
  teach what shared words teach.
- ``title-conclusion``: the title → the authors' conclusion, of abstracts that mark one, by NLM's
  ``CONCLUSIONS`` category, a heading of their own, or one inside the running text.
- ``question-conclusion``: only those of them whose title asks. Of 61,546 real pairs 9,618 give a
  conclusion and 154 of their titles ask: enough in all of PubMed, too few in a small corpus.
- ``paraphrase``: for one article its title, for the next a sentence of its abstract → the same in
  other words, by rule (``paraphrase.py``). For training against contrasts.
- ``similar-title``: two articles whose titles say nearly the same (``similar.py``).
- ``mesh-abstract``: the article's MeSH headings, major topics first, without qualifiers and
  without check tags ("Humans") → title and abstract.

Pairs made elsewhere have no sections and mark no major topics: their conclusion must stand in the
running text, and their headings keep the order they have.

Given up: choosing the sentence by what it says. "These differences were significant" is a poor
question, and of 55 read by eye about one in ten was like that.
"""

from __future__ import annotations

import re
from dataclasses import replace

from modernpubmed.folding import fingerprint, folded
from modernpubmed.pairs.paraphrase import paraphrase
from modernpubmed.pairs.select import clean_abstract
from modernpubmed.pairs.sentences import sentences, split_heading
from modernpubmed.records import Article, Pair
from modernpubmed.related import CHECK_TAGS

#: Kinds made of articles or title–abstract pairs.
ARTICLE_KINDS = (
    "title-abstract",
    "sentence-abstract",
    "title-conclusion",
    "question-conclusion",
    "mesh-abstract",
    "paraphrase",
    "similar-title",
)
#: Kinds made of terminologies (see ``modernpubmed.pairs.terminology``).
TERMINOLOGY_KINDS = ("synonym-name", "name-definition")
#: All of them; a folder of pairs holds one.
KINDS = ARTICLE_KINDS + TERMINOLOGY_KINDS

#: Fewest words in a sentence that is asked with.
MIN_SENTENCE_WORDS = 8
#: Most words in a sentence that is paraphrased.
MAX_SENTENCE_WORDS = 40
#: Shortest conclusion kept, in characters.
MIN_CONCLUSION = 60
#: Fewest MeSH headings, check tags left out.
MIN_HEADINGS = 2

_CONCLUSION = re.compile(r"\b(?:conclusions?|interpretation)\b", re.IGNORECASE)
# "4. There was …": the number of an item.
_ITEM = re.compile(r"^\(?\d{1,2}[.)] (?=[A-Z])")
# "RESULTS AND CONCLUSIONS" holds more than a conclusion.
_MORE = re.compile(r"\b(?:results?|findings?|discussion|methods?)\b", re.IGNORECASE)
# What authors and publishers put into every abstract: of no one article.
_BOILERPLATE = re.compile(
    r"\bNCT ?\d{6,}|\bISRCTN|\bPROSPERO\b|\bCRD ?\d{6,}|https?://|\bwww\.|\ball rights reserved\b"
    r"|©|\bcopyright\b|\barticle was migrated\b|\bmarked as recommended\b"
    r"|\bregistered (?:at|with)\b|\blevel of evidence\b"
    r"|\bsupplementary (?:material|information|data)\b|\bthis article\b"
    r"|\bimplications? (?:of|for) .{0,60}\bdiscussed\b",
    re.IGNORECASE,
)


def sentence_abstract(pair: Pair, *, min_abstract: int) -> Pair | str:
    """A sentence of the abstract → the rest of it; or why there is none.

    Args:
        pair: A title–abstract pair.
        min_abstract: Shortest rest, in characters.
    """
    parts = sentences(pair.positive)
    length = sum(map(len, parts)) + len(parts) - 1
    key = folded(pair.anchor) if pair.pmid is None else str(pair.pmid)
    candidates = []
    for place, part in enumerate(parts):
        sentence = _ITEM.sub("", split_heading(part)[1])
        if (
            len(sentence.split()) >= MIN_SENTENCE_WORDS
            and length - len(part) - 1 >= min_abstract
            and sum(map(str.isalpha, sentence)) * 2 > len(sentence)
        ):
            # By hash of the sentence, not of its place: another sentence more or less seldom
            # changes the choice.
            candidates.append((fingerprint(f"{key}\n{sentence}"), place, sentence))
    for _, chosen, sentence in sorted(candidates):
        if not _BOILERPLATE.search(parts[chosen]):
            rest = " ".join(part for place, part in enumerate(parts) if place != chosen)
            return replace(pair, anchor=sentence, positive=rest, kind="sentence-abstract")
    return "no sentence to take out"


def title_conclusion(record: Article | Pair, pair: Pair) -> Pair | str:
    """The title → the conclusion of the abstract; or why there is none.

    Args:
        record: The article, or again the pair.
        pair: The title–abstract pair of it.
    """
    text = ""
    if isinstance(record, Article):
        marked = [section.text for section in record.sections if section.category == "CONCLUSIONS"]
        marked = marked or [
            section.text for section in record.sections if _concludes(section.label)
        ]
        text = clean_abstract(" ".join(marked))[0]
    text = text or _conclusion(pair.positive)
    if not text:
        return "no conclusion marked"
    if len(text) < MIN_CONCLUSION:
        return "conclusion too short"
    return replace(pair, positive=text, kind="title-conclusion")


def mesh_abstract(record: Article | Pair, pair: Pair) -> Pair | str:
    """The MeSH headings → title and abstract; or why there are none.

    Args:
        record: The article, or again the pair.
        pair: The title–abstract pair of it.
    """
    major = {
        heading.name
        for heading in (record.mesh if isinstance(record, Article) else ())
        if heading.major or any(qualifier.major for qualifier in heading.qualifiers)
    }
    headings = sorted(
        (name for name in pair.mesh if name not in CHECK_TAGS), key=lambda name: name not in major
    )
    if not pair.mesh:
        return "no MeSH headings"
    if len(headings) < MIN_HEADINGS:
        return "too few MeSH headings"
    text = f"{pair.anchor} {pair.positive}"
    return replace(pair, anchor="; ".join(headings), positive=text, kind="mesh-abstract")


# Words on which the meaning of a sentence may hang and that are rare in titles.
_DECIDING = re.compile(
    r"\b(?:left|right|bilateral(?:ly)?|unilateral(?:ly)?|mothers?|fathers?|siblings?|family history"
    r"|maternal|paternal|oral(?:ly)?|intravenous(?:ly)?|subcutaneous(?:ly)?|intramuscular(?:ly)?"
    r"|possibl[ey]|probabl[ey]|suspected|confirmed|definite|uncertain|unlikely|certain(?:ly)?"
    r"|\d+ ?m?c?g|twice|once daily|hours|days|weeks|months)\b",
    re.IGNORECASE,
)


def paraphrased(pair: Pair) -> Pair | str:
    """A title or a sentence → the same in other words; or why there is none.

    Which of the two is decided by hash of the article, and so is the sentence, among those of
    eight to forty words; sentences that name a side, a relative, a route, a dose or a doubt come
    first, as few titles do. Where no rule applies to a sentence the next one is tried, and the
    title last.

    Args:
        pair: A title–abstract pair.
    """
    key = folded(pair.anchor) if pair.pmid is None else str(pair.pmid)
    texts = [pair.anchor]
    if fingerprint(f"{key}\nparaphrase") % 2:
        found = (split_heading(part)[1] for part in sentences(pair.positive))
        texts = sorted(
            (
                text
                for text in found
                if MIN_SENTENCE_WORDS <= len(text.split()) <= MAX_SENTENCE_WORDS
                and not _BOILERPLATE.search(text)
            ),
            key=lambda text: (not _DECIDING.search(text), fingerprint(f"{key}\n{text}")),
        )
        texts.append(pair.anchor)
    for text in texts:
        other = paraphrase(text)
        if other is not None:
            return replace(pair, anchor=text, positive=other, kind="paraphrase")
    return "no words to replace"


def asks(title: str) -> bool:
    """Whether a title is a question.

    >>> asks("Does aspirin help?"), asks('"Is it safe?".'), asks("Why it helps.")
    (True, True, False)
    """
    return title.rstrip(" .\"”’')]").endswith("?")


def make(record: Article | Pair, pair: Pair, kind: str, *, min_abstract: int) -> Pair | str:
    """The pair of one of ``ARTICLE_KINDS`` that an article gives; or why it gives none.

    Args:
        record: The article, or again the pair.
        pair: The title–abstract pair of it; of the kinds ``title-abstract`` and ``similar-title``
            (which takes two articles) the same is returned.
        kind: What to make.
        min_abstract: Shortest rest of an abstract, in characters.
    """
    match kind:
        case "sentence-abstract":
            return sentence_abstract(pair, min_abstract=min_abstract)
        case "mesh-abstract":
            return mesh_abstract(record, pair)
        case "paraphrase":
            return paraphrased(pair)
        case "title-conclusion":
            return title_conclusion(record, pair)
        case "question-conclusion":
            if not asks(pair.anchor):
                return "title is no question"
            other = title_conclusion(record, pair)
            return other if isinstance(other, str) else replace(other, kind=kind)
        case _:
            return pair


def _concludes(heading: str | None) -> bool:
    return bool(heading and _CONCLUSION.search(heading) and not _MORE.search(heading))


def _conclusion(text: str) -> str:
    """What stands under the last heading that names a conclusion, up to the next heading."""
    if not _CONCLUSION.search(text):
        return ""
    found: list[str] = []
    inside = False
    for part in sentences(text):
        heading, sentence = split_heading(part)
        if heading is not None:
            inside = _concludes(heading)
            found = [] if inside else found
        if inside and not _BOILERPLATE.search(part):
            found.append(sentence)
    return " ".join(filter(None, found))
