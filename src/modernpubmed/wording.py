"""Exchanging words in a sentence: what stands there now, in the case and with the article it needs.

Both makers of sentences use it: ``training/contrast.py``, whose words change the meaning, and
``pairs/paraphrase.py``, whose words keep it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: A word, as far as its letters' case matters.
WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Swap:
    """Text from ``start`` to ``end`` becomes ``after``.

    Attributes:
        start: First character that goes.
        end: First character that stays.
        after: What comes.
    """

    start: int
    end: int
    after: str


_ARTICLE = re.compile(r"(?<![\w'’.-])(an?|A[Nn]?) $")
# How "an" is decided: by the sound, as far as spelling tells it.
_VOWEL = re.compile(
    r"(?!eu|uni(?!n|m)|use|usual|uter|ur[aeio]|one\b|once\b)(?:[aeiou]|hour|heir|honest)"
    r"|8|1[18](?!\d)",
    re.IGNORECASE,
)


def with_article(text: str, swap: Swap) -> tuple[int, str]:
    """The span's start and what replaces it, "a" or "an" before it included where it changes.

    >>> with_article("An early repair", Swap(3, 8, "late"))
    (0, 'A late')
    """
    found = _ARTICLE.search(text, max(0, swap.start - 4), swap.start)
    if not found or not swap.after:
        return swap.start, swap.after
    article = found[1]
    if article == "A" and not _opens_sentence(text, found.start()):
        return swap.start, swap.after  # "vitamin A increases", "hepatitis A"
    had, needs = (bool(_VOWEL.match(word)) for word in (text[swap.start :], swap.after))
    if had == needs or had != (len(article) == 2):
        return swap.start, swap.after
    n = "N" if len(article) == 1 and text[swap.start : swap.end].isupper() else "n"
    return found.start(), f"{article[0]}{n if needs else ''} {swap.after}"


def _opens_sentence(text: str, start: int) -> bool:
    return not text[:start].rstrip(" \"'“‘([") or text[:start].rstrip()[-1] in ".:?!;"


def starts_with_vowel(word: str) -> bool:
    """Whether "an" stands before it, as far as spelling tells.

    >>> starts_with_vowel("hour"), starts_with_vowel("uterine"), starts_with_vowel("8-week")
    (True, False, True)
    """
    return bool(_VOWEL.match(word))


def in_case_of(before: str, written: str, after: str, text: str, start: int) -> str | None:
    """What replaces ``before``, in its case: left, Left, LEFT, Early Onset; None: do not.

    Args:
        before: What stands in the text.
        written: The same, as the list of words has it.
        after: What replaces it, as the list has it.
        text: The whole text.
        start: Where ``before`` stands in it.

    >>> in_case_of("Renal", "renal", "kidney", "Renal failure", 0)
    'Kidney'
    """
    if before == written:
        return after
    if any(letter.isupper() for letter in written):  # an acronym or a name: only as it is written
        if before[0].lower() + before[1:] != written:
            return None
        return after[0].upper() + after[1:]
    if before.isupper():
        # "MEN 2A" is a syndrome and "LATE" a disease, unless all the text is in capitals.
        alone = text[max(0, start - 30) : start] + text[start + len(before) :][:30]
        if before in _ACRONYMS and not alone.isupper():
            return None
        return after.upper()
    if not before[0].isupper():
        return after if before.islower() else None
    capital = [word[0].isupper() for word in WORD.findall(before)]
    next_word = WORD.search(text, start + len(before))
    title_case = (
        any(capital[1:])
        if len(capital) > 1
        else bool(next_word and next_word[0][0].isupper()) or not _opens_sentence(text, start)
    )
    if title_case and len(WORD.findall(after)) > 1:
        after = re.sub(r"(?<![\w'’])(?!(?:of|the|to|in|with|at|by)\b)[a-z]", _upper, after)
    return after[0].upper() + after[1:]


def _upper(match: re.Match[str]) -> str:
    return match[0].upper()


_ACRONYMS = frozenset({"MEN", "MAN", "CHILD", "RAT", "LATE", "EARLY", "GAIN", "MALE", "IS", "CAN"})


def alternatives(terms: Sequence[str] | Mapping[str, object]) -> str:
    """A regex of words as a tree of their letters: as fast for a thousand words as for ten."""
    tree: dict[str, Any] = {}
    for term in terms:
        branch = tree
        for letter in term:
            branch = branch.setdefault(letter, {})
        branch[""] = {}
    return _branches(tree)


def _branches(tree: dict[str, Any]) -> str:
    ends = "" in tree
    ways = [re.escape(letter) + _branches(branch) for letter, branch in tree.items() if letter]
    if not ways:
        return ""
    inner = ways[0] if len(ways) == 1 and not ends else f"(?:{'|'.join(ways)})"
    return f"{inner}?" if ends else inner
