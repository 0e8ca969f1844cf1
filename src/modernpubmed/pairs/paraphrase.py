"""The same in other words, by rule: "before" to "prior to", "renal failure" to "kidney failure".

A model that has only seen whole texts pulled together takes any two sentences with the same words
for the same. Pairs that differ in words and not in meaning, against ones that differ in as little
and do mean something else (``training/contrast.py``), teach it which words matter. The expressions
stand in ``paraphrase_terms.toml``. Replacing words by others of their meaning to make training
pairs is as old as Zhang, Zhao & LeCun 2015 (arXiv:1509.01626, section 2.4).

Half of the sentences that open with a circumstance ("In children, …", "After surgery, …") have it
moved to their end as well, so that the order of words does not decide either.

Given up: the grammar of what stands around. "Skin lesions of the ear" comes out right, "the renal
and the hepatic" as "the kidney and the liver"; a reader would stumble over some.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from modernpubmed.folding import fingerprint
from modernpubmed.wording import Swap, alternatives, in_case_of, with_article

#: Most places of a text that are changed.
MAX_CHANGES = 6


def paraphrase(text: str, *, seed: int = 0) -> str | None:
    """A text in other words, or None where no rule applies.

    One to six places are changed; how many, which, and to what is decided by a hash of seed and
    text, the same on every platform.

    >>> paraphrase("Renal failure in the elderly")
    'Kidney failure in the old'
    >>> paraphrase("Asyncio in practice") is None
    True
    """
    chance = fingerprint(f"{seed}\n{text}")
    swaps = _swaps(text, seed)
    if not swaps:
        return None
    moved = _OPENING.fullmatch(text) if chance // 720 % 2 else None
    count = 1 + chance % min(MAX_CHANGES, len(swaps))
    order = sorted(swaps, key=lambda swap: fingerprint(f"{seed}\n{swap.start}\n{text}"))
    for swap in sorted(order[:count], key=lambda swap: -swap.start):
        start, after = with_article(text, swap)
        text = text[:start] + after + text[swap.end :]
    found = _OPENING.fullmatch(text) if moved else None
    return _circumstance_last(found) if found else text


# One circumstance, up to the only comma, before a clause that opens with a plain word: what is
# moved must not be part of an enumeration.
_OPENING = re.compile(
    r"(?P<circumstance>(?:In|After|Before|During|Among|At|Despite|Following|Prior to|Owing to|With"
    r"|Within|Without|Because of|Compared with|Subsequent to) (?:[\w'’/%-]+ ){0,7}[\w'’/%-]+), "
    r"(?P<clause>(?:the|a|an|we|there|it|no|this|these|patients|most|all)\b[^,;:]+?)(?P<end>\.?)"
)


def _circumstance_last(found: re.Match[str]) -> str:
    """The clause, and then what was said before it."""
    first, clause = found["circumstance"], found["clause"]
    return f"{clause[0].upper()}{clause[1:]} {first[0].lower()}{first[1:]}{found['end']}"


@dataclass(frozen=True, slots=True)
class _Rules:
    """What may be replaced, by its lower case: how it is written, and what may stand for it."""

    pattern: re.Pattern[str]
    terms: dict[str, tuple[str, tuple[str, ...]]]


def _swaps(text: str, seed: int) -> list[Swap]:
    rules = _rules()
    swaps = []
    for match in rules.pattern.finditer(text):
        written, others = rules.terms.get(match[0].lower(), ("", ()))
        if others:
            place = fingerprint(f"{seed}\n{match[0].lower()}\n{match.start()}") % len(others)
            after = in_case_of(match[0], written, others[place], text, match.start())
            if after is not None:
                swaps.append(Swap(match.start(), match.end(), after))
    return swaps


@cache
def _rules() -> _Rules:
    file = resources.files("modernpubmed.pairs").joinpath("paraphrase_terms.toml")
    lists = tomllib.loads(file.read_text(encoding="utf-8"))
    terms: dict[str, tuple[str, tuple[str, ...]]] = {
        phrase.lower(): (phrase, ()) for phrase in lists["keep"]
    }
    for line in filter(None, map(str.strip, (lists["groups"] + lists["medicines"]).splitlines())):
        replaced, _, only_after = line.partition(">")
        sources = [term.strip() for term in replaced.split("=")]
        members = sources + [term.strip() for term in only_after.split("=") if term.strip()]
        for term in sources:
            if term.lower() in terms:
                raise AssertionError(f"paraphrase_terms.toml has {term!r} twice")
            others = tuple(member for member in members if member != term)
            terms[term.lower()] = (term, others)
    # Of two terms that start in one place the longer is taken: "keep" phrases guard their words.
    # No word character or hyphen around: "drug-induced" is one word.
    pattern = re.compile(rf"(?<![\w-])(?:{alternatives(terms)})(?![\w-])", re.IGNORECASE)
    return _Rules(pattern, terms)
