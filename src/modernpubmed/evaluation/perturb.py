"""Texts as people really write them: mistyped, in capitals, abbreviated, in another spelling.

Each perturbation is a function from text to text that keeps the meaning; where it finds nothing to
change it returns the text as it is, and whoever measures counts that. All are deterministic: a
text always gets the same errors. The words are in ``perturb_terms.toml``.

Given up: errors learnt from query logs, of which we have none; the four kinds of single-letter
error are those of Damerau 1964 (https://doi.org/10.1145/363958.363994), which he found to make up
80 % of misspellings.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources

from modernpubmed.folding import fingerprint

Perturbation = Callable[[str], str]

_WORD = re.compile(r"[^\W\d_]{4,}")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
#: One word in this many gets an error, at least one.
_WORDS_AN_ERROR = 6


def typos(text: str) -> str:
    """One letter dropped, doubled, exchanged or swapped in one word of six, at least in one.

    Words of fewer than four letters and a word's first letter are left alone.

    >>> typos("raised body temperature")
    'raised body tempearture'
    >>> typos("CT of 3 T")
    'CT of 3 T'
    """
    words = list(_WORD.finditer(text))
    if not words:
        return text
    generator = random.Random(fingerprint(text))  # noqa: S311 – repeatable, not secret
    chosen = generator.sample(words, -(-len(words) // _WORDS_AN_ERROR))
    for word in sorted(chosen, key=lambda found: -found.start()):
        text = text[: word.start()] + _misspelt(word.group(), generator) + text[word.end() :]
    return text


def _misspelt(word: str, generator: random.Random) -> str:
    place = generator.randrange(1, len(word) - 1)
    kind = generator.randrange(4)
    before, letter, after = word[:place], word[place], word[place + 1 :]
    if kind == 0:
        return before + after
    if kind == 1:
        return before + letter + letter + after
    if kind == 2 and after[0] != letter:
        return before + after[0] + letter + after[1:]
    return before + generator.choice([other for other in _LETTERS if other != letter]) + after


def upper_case(text: str) -> str:
    """All in capitals, as in many hospital systems.

    >>> upper_case("Fever after travel")
    'FEVER AFTER TRAVEL'
    """
    return text.upper()


def lower_case(text: str) -> str:
    """Nothing in capitals, as most people type into a search box.

    >>> lower_case("Crohn disease")
    'crohn disease'
    """
    return text.lower()


def abbreviated(text: str) -> str:
    """Terms replaced by the abbreviation that everybody uses for them.

    >>> abbreviated("Chronic obstructive pulmonary disease in women")
    'COPD in women'
    """
    return _replaced(text, "abbreviated")


def expanded(text: str) -> str:
    """Abbreviations with one usual sense written out.

    >>> expanded("COPD in women")
    'chronic obstructive pulmonary disease in women'
    """
    return _replaced(text, "expanded")


def american(text: str) -> str:
    """British spelling made American.

    >>> american("Paediatric anaemia and oedema of the oesophagus")
    'Pediatric anemia and edema of the esophagus'
    """
    return _replaced(text, "american")


def british(text: str) -> str:
    """American spelling made British.

    >>> british("Pediatric anemia and edema of the esophagus")
    'Paediatric anaemia and oedema of the oesophagus'
    """
    return _replaced(text, "british")


#: All of them, by the name they have in results.
PERTURBATIONS: Mapping[str, Perturbation] = {
    "typing errors": typos,
    "lower case": lower_case,
    "capitals": upper_case,
    "abbreviated": abbreviated,
    "abbreviations written out": expanded,
    "American spelling": american,
    "British spelling": british,
}


@cache
def _terms() -> dict[str, dict[str, str]]:
    """By direction, what is replaced by what; a star at the end stands for any ending."""
    source = resources.files("modernpubmed.evaluation") / "perturb_terms.toml"
    content: dict[str, dict[str, str]] = tomllib.loads(source.read_text("utf-8"))
    long, spelling = content["abbreviations"], content["british_american"]
    return {
        "expanded": long,
        "abbreviated": {term.lower(): abbreviation for abbreviation, term in long.items()},
        "american": spelling,
        "british": {american: british for british, american in spelling.items()},
    }


@cache
def _pattern(direction: str) -> re.Pattern[str]:
    """The terms of a direction, the longest first; what follows a term is only looked at."""
    plural = "s?" if direction in ("american", "british") else ""
    forms = [
        re.escape(term[:-1]) if term.endswith("*") else re.escape(term) + rf"(?={plural}(?!\w))"
        for term in sorted(_terms()[direction], key=len, reverse=True)
    ]
    # Only abbreviations are known by their capitals.
    flags = re.NOFLAG if direction == "expanded" else re.IGNORECASE
    return re.compile(rf"(?<!\w)(?:{'|'.join(forms)})", flags)


def _replaced(text: str, direction: str) -> str:
    terms = {term.rstrip("*"): other.rstrip("*") for term, other in _terms()[direction].items()}

    def put(found: re.Match[str]) -> str:
        word = found.group()
        if direction == "expanded":
            return terms[word]
        other = terms[word.lower()]
        if direction == "abbreviated":
            return other
        if word.isupper():
            return other.upper()
        return other[0].upper() + other[1:] if word[0].isupper() else other

    return _pattern(direction).sub(put, text)
