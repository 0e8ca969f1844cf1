"""The sentences of an abstract, and the headings some of them open with.

Rules, not a model: a stop, question or exclamation mark ends a sentence where white space and a
capital or a number follow, unless the word before it is an abbreviation that goes on (``e.g.``,
``vs.``, ``Fig. 2``), an initial (``J. Doe``) or the number of a list item. After a word that may be
either (``C.``, ``U.S.``, ``spp.``) it ends the sentence if the next word is one that sentences
open with. Inside brackets no sentence ends (``[Nucl. Instrum. 1987]``). A heading that is glued to
the stop before it (``… died.RESULTS: …``) opens a sentence.

Given up: a sentence that opens with a small letter stays with the one before it, but for names
like mRNA, p53 or pH.
"""

from __future__ import annotations

import re

# fmt: off
#: A stop after these never ends a sentence.
_GO_ON = frozenset((
    "e.g", "eg", "i.e", "ie", "vs", "viz", "cf", "ca", "approx", "resp", "al", "fig", "figs",
    "eq", "eqs", "ref", "refs", "tab", "suppl", "dr", "drs", "prof", "mr", "mrs", "ms", "st",
    "dept", "incl", "excl",
))
#: Nor after these, where a number follows.
_BEFORE_NUMBER = frozenset(("no", "nos", "p", "pp", "vol", "ch", "sec", "art", "ser", "n"))
#: After these only if the next word opens sentences.
_EITHER = frozenset((
    "sp", "spp", "subsp", "ssp", "var", "cv", "nov", "gen", "inc", "ltd", "co", "corp", "jr", "sr",
    "univ", "hosp",
))
_OPENERS = frozenset((
    "a", "after", "all", "although", "among", "an", "and", "as", "at", "because", "both", "but",
    "by", "during", "each", "finally", "five", "for", "four", "from", "further", "furthermore",
    "he", "here", "how", "however", "if", "in", "is", "it", "its", "many", "moreover", "most", "no",
    "of", "on", "one", "only", "our", "over", "patients", "results", "seven", "several", "she",
    "since", "six", "some", "subjects", "ten", "that", "the", "their", "there", "therefore",
    "these", "they", "this", "those", "three", "thus", "to", "two", "under", "until", "using", "we",
    "what", "when", "whereas", "whether", "while", "with", "within", "methods", "conclusion",
    "conclusions",
))
#: Words that headings of abstracts begin or end with (in capitals, any word will do).
_HEADING_WORDS = frozenset((
    "aim", "aims", "approach", "background", "case", "conclusion", "conclusions", "context",
    "design", "discussion", "evidence", "finding", "findings", "funding", "goal", "highlights",
    "hypothesis", "implications", "importance", "inferences", "interpretation", "intervention",
    "interventions", "introduction", "keywords", "limitations", "material", "materials", "measure",
    "measurements", "measures", "method", "methodology", "methods", "objective", "objectives",
    "outcome", "outcomes", "participants", "patients", "perspectives", "practice", "procedures",
    "purpose", "rationale", "recommendations", "registration", "relevance", "result", "results",
    "sample", "selection", "setting", "significance", "sources", "summary",
))
# fmt: on

_STOP = re.compile(
    r"[.?!]+[\"”’')\]]*"
    r"(?:\s+(?=[\[(\"“‘']*(?:[A-Z0-9À-ÖØ-ÞΑ-Ω>≥<≤]|[a-zα-ω]{1,3}-?[A-Z0-9]))"
    r"|(?=[A-Z][A-Z /&,'’()-]{3,50}:))"
)
_LAST_WORD = re.compile(r"[^\s(\[\"“‘'/–—-]*$")
_FIRST_WORD = re.compile(r"[\[(\"“‘']*([^\W\d]+)")
_LETTERS_AND_STOPS = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]")
_HEADING = re.compile(r"(?P<heading>[A-Z][^.:;?!]{1,58}[^.:;?!\s\d]) ?(?:: ?|\.?$)")
_BRACKET = re.compile(r"[()\[\]]")
_CLOSERS = "\"”’')]"
#: How far ahead the end of a bracket is looked for, in characters.
_AHEAD = 200


def sentences(text: str) -> list[str]:
    """The sentences of a text whose white space is single spaces, in their order.

    Joined by spaces they are the text again, but for a space after a stop where there was none.

    >>> sentences("Growth of E. coli fell (p = .05; Fig. 2). It was not seen in 0.5 % agar.")
    ['Growth of E. coli fell (p = .05; Fig. 2).', 'It was not seen in 0.5 % agar.']
    """
    found, start = [], 0
    for stop in _STOP.finditer(text):
        after = text[stop.end() : stop.end() + _AHEAD]
        if _ends(text[start : stop.start()], stop[0].strip(), after):
            found.append(text[start : stop.end()].strip())
            start = stop.end()
    if last := text[start:].strip():
        found.append(last)
    return found


def split_heading(sentence: str) -> tuple[str | None, str]:
    """The heading that a sentence opens with, and the rest of it.

    In capitals anything short before a colon is one; otherwise it must begin or end with a word
    that headings of abstracts are made of. A sentence may be nothing but a heading.

    >>> split_heading("MAIN RESULTS: It rose.")
    ('MAIN RESULTS', 'It rose.')
    >>> split_heading("Conclusions and relevance: It rose.")
    ('Conclusions and relevance', 'It rose.')
    >>> split_heading("Two of them rose: A and B.")
    (None, 'Two of them rose: A and B.')
    >>> split_heading("RESULTS.")
    ('RESULTS', '')
    """
    match = _HEADING.match(sentence)
    if match is None:
        return None, sentence
    heading = match["heading"]
    words = re.findall(r"[^\W\d_]+", heading.lower())
    known = len(words) <= 5 and not _HEADING_WORDS.isdisjoint((words[0], words[-1]))
    if known or (heading.isupper() and len("".join(words)) > 3):
        return heading, sentence[match.end() :]
    return None, sentence


def _ends(before: str, stop: str, after: str) -> bool:
    """Whether the sentence ``before`` ends with ``stop``, given what comes ``after``."""
    if before.count("(") + before.count("[") > before.count(")") + before.count("]"):
        bracket = _BRACKET.search(stop + after)
        if bracket is not None and bracket[0] in ")]" and not stop.endswith((")", "]")):
            return False
    # Only a single full stop is ever part of a word.
    if stop.rstrip(_CLOSERS) != ".":
        return True
    if stop != ".":
        return bool(before)
    match = _LAST_WORD.search(before)
    word = "" if match is None else match[0]
    if not word:
        # "P < . 05": a decimal point. After a bracket or a quotation mark it is a stop.
        return before.endswith(tuple(_CLOSERS)) or not after[:1].isdigit()
    lower = word.lower()
    if lower in _GO_ON:
        return False
    if lower in _BEFORE_NUMBER and after[:1].isdigit():
        return False
    if len(word) <= 2 and word.isdigit() and before[: -len(word)][-2:] in ("", ": ", "; "):
        return False  # "1. The first item"
    initial = len(word) == 1 and word.isupper()
    if initial or lower in _EITHER or _LETTERS_AND_STOPS.fullmatch(word):
        opener = _FIRST_WORD.match(after)
        return opener is not None and opener[1].lower() in _OPENERS
    return True
