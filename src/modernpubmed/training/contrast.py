"""A sentence turned into a near-identical one that means something else, by rule.

An encoder that never met "left" against "right" in the same sentence ranks both alike: most of the
words agree. Such pairs do not arise by chance in a batch, so they are made: one span of the text
is exchanged (a word for its opposite, a dose for another, a medicine for one that looks like it),
the rest stays. The words stand in ``contrast_terms.toml``; numbers, stages and denials of verbs
are rules here. Negating and exchanging words to make contrast examples by rule follows Kaushik,
Hovy & Lipton 2020 (arXiv:1909.12434) and Gardner et al. 2020 (arXiv:2004.02709) in purpose; the
look-alike medicines follow the idea of ISMP's lists of confused drug names.

Given up: parsing. A word list does not know what a word refers to, so each rule errs on the side
of leaving a text alone; some results are medically odd ("recovery before stroke"), which is no
harm to a negative, as long as it does not mean what the original means. Where both members of a
pair are in the text ("men and women", "before and after"), exchanging them would often keep the
meaning, so neither is touched. English only.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

from modernpubmed.folding import fingerprint
from modernpubmed.wording import (
    WORD,
    Swap,
    alternatives,
    in_case_of,
    starts_with_vowel,
    with_article,
)

#: What can be changed, in the order in which ``contrasts`` lists it.
KINDS: tuple[str, ...] = (
    "negation",
    "direction",
    "laterality",
    "population",
    "dose",
    "temporal",
    "drug",
    "treatment",
    "severity",
    "subtype",
    "certainty",
    "family",
    "design",
    "route",
)


@dataclass(frozen=True, slots=True)
class Contrast:
    """A text that differs from another in one span, and in its meaning.

    Attributes:
        text: The new text.
        kind: One of ``KINDS``.
        before: The span as it was (with its article, where that had to change too).
        after: What stands there now; never equal to ``before``.
    """

    text: str
    kind: str
    before: str
    after: str


def contrasts(text: str) -> list[Contrast]:
    """Every contrast that a rule can make of a text: by kind, then by place. May be empty.

    >>> for made in contrasts("Early repair of the left femur in a 5-week trial"):
    ...     print(made.kind, "|", made.text)
    laterality | Early repair of the right femur in a 5-week trial
    dose | Early repair of the left femur in a 10-week trial
    dose | Early repair of the left femur in a 5-day trial
    temporal | Late repair of the left femur in a 5-week trial
    """
    words = _words_of(text)
    return [made for kind in KINDS for made in _made(kind, text, words)]


def contrast(text: str, *, seed: int = 0) -> Contrast | None:
    """One contrast of a text, or None where no rule applies.

    Which one is decided by a hash of seed and text, the same on every platform. Each kind that
    applies has the same chance, so that frequent kinds do not crowd out rare ones; within a kind
    each contrast has.

    >>> contrast("Hypertension in the tropics")
    Contrast(text='Hypotension in the tropics', kind='direction', before='Hypertension',
        after='Hypotension')
    >>> contrast("Men and women") is None
    True
    """
    chance = fingerprint(f"{seed}\n{text}")
    # A random order of the kinds (its digits in the factorial number system), of which the first
    # that applies is taken: the same chances as trying all, and most are never tried.
    rest, words = list(KINDS), _words_of(text)
    while rest:
        chance, place = divmod(chance, len(rest))
        if made := _made(rest.pop(place), text, words):
            return made[chance % len(made)]
    return None


# ------------------------------------------------------------------------------------- replacing


def _words_of(text: str) -> frozenset[str]:
    return frozenset(WORD.findall(text.lower()))


def _made(kind: str, text: str, words: frozenset[str]) -> list[Contrast]:
    rules = _rules()[kind]
    swaps = [] if rules.first_words.isdisjoint(words) else _word_swaps(rules, text)
    if find := _FINDERS.get(kind):
        swaps += find(text)
    if not swaps:
        return []
    swaps.sort(key=lambda swap: swap.start)  # stable: at one place, the finders' own order
    made: dict[str, Contrast] = {}
    for swap in swaps:
        start, after = with_article(text, swap)
        before = text[start : swap.end]
        changed = text[:start] + after + text[swap.end :]
        if changed != text:
            made.setdefault(changed, Contrast(changed, kind, before, after))
    return list(made.values())


# ----------------------------------------------------------------------------------------- words


@dataclass(frozen=True, slots=True)
class _Guard:
    """What must, or must not, stand around a term of a group."""

    followed: re.Pattern[str] | None
    not_followed: re.Pattern[str] | None
    preceded: re.Pattern[str] | None
    not_preceded: re.Pattern[str] | None
    unless: re.Pattern[str] | None
    after_hyphen: bool

    def allows(self, text: str, start: int, end: int) -> bool:
        if not self.after_hyphen and start and text[start - 1] in _HYPHENS:
            return False
        window = max(0, start - 60)
        if _HANGING.search(text, window, start):
            return False
        return not (
            (self.followed and not self.followed.match(text, end))
            or (self.not_followed and self.not_followed.match(text, end))
            or (self.preceded and not self.preceded.search(text, window, start))
            or (self.not_preceded and self.not_preceded.search(text, window, start))
            or (self.unless and self.unless.search(text))
        )


@dataclass(frozen=True, slots=True)
class _Term:
    """One way of changing a term; ``after`` is None where it only tells the others not to."""

    written: str
    after: str | None
    family: str
    side: int
    guard: _Guard


@dataclass(frozen=True, slots=True)
class _Rules:
    """What is exchanged in one kind: the terms by their lower case, and one regex for all."""

    pattern: re.Pattern[str]
    first_words: frozenset[str]
    terms: Mapping[str, tuple[_Term, ...]]
    once: bool


_HYPHENS = "-‐‑–"
# "intra- and extracellular": the other member is there, cut short.
_HANGING = re.compile(r"[-‐‑] ?(?:and|or|versus|vs\.?|to|&|,) $")


def _word_swaps(rules: _Rules, text: str) -> list[Swap]:
    found = [
        (match, term)
        for match in rules.pattern.finditer(text)
        for term in rules.terms.get(match[0].lower(), ())
    ]
    there = {(term.family, term.side, term.written) for _, term in found}
    places: dict[str, set[int]] = {}
    for match, term in found:
        places.setdefault(term.written, set()).add(match.start())
    swaps = []
    for match, term in found:
        if term.after is None or (rules.once and len(places[term.written]) > 1):
            continue
        if any(
            family == term.family and side != term.side and written != term.written
            for family, side, written in there
        ):
            continue
        start, end = match.span()
        if term.guard.allows(text, start, end):
            after = in_case_of(match[0], term.written, term.after, text, start)
            if after is not None:
                swaps.append(Swap(start, end, after))
    return swaps


@cache
def _rules() -> Mapping[str, _Rules]:
    """The word lists, read and compiled at the first call (some 0.5 s)."""
    file = resources.files("modernpubmed.training").joinpath("contrast_terms.toml")
    lists = tomllib.loads(file.read_text(encoding="utf-8"))
    if tuple(lists) != KINDS:
        raise AssertionError("contrast_terms.toml and KINDS list different kinds")
    negation = lists["negation"]
    negation["groups"] += _denials(negation["verbs"].split())
    negation["groups"] += _absences(negation["findings"].split())
    return {kind: _compiled(lists[kind]) for kind in KINDS}


def _compiled(lists: Mapping[str, Any]) -> _Rules:
    terms: dict[str, list[_Term]] = {phrase.lower(): [] for phrase in lists["keep"]}
    for number, group in enumerate(lists["groups"]):
        guard = _Guard(
            followed=_context(group.get("followed"), "{}"),
            not_followed=_context(group.get("not_followed"), "{}"),
            preceded=_context(group.get("preceded"), "{}$"),
            not_preceded=_context(group.get("not_preceded"), "{}$"),
            unless=_context(group.get("unless"), "{}"),
            after_hyphen=group.get("after_hyphen", False),
        )
        for pair in group["pairs"].split(","):
            one_way = ">" in pair
            first, second = (" ".join(part.split()) for part in re.split("[/>]", pair))
            family = group.get("family", f"{number} {first}/{second}")
            there = _Term(first, second, family, 0, guard)
            back = _Term(second, None if one_way else first, family, 1, guard)
            for term in (there, back):
                terms.setdefault(term.written.lower(), []).append(term)
    return _Rules(
        # No word character before; a hyphen before is the guards' business.
        pattern=re.compile(rf"(?<!\w)(?:{alternatives(terms)})(?!\w)", re.IGNORECASE),
        first_words=frozenset(found[0] for term in terms if (found := WORD.search(term))),
        terms={term: tuple(ways) for term, ways in terms.items()},
        once=lists.get("once", False),
    )


def _context(pattern: str | None, around: str) -> re.Pattern[str] | None:
    """A guard's regex: verbose, ``~`` a space or a hyphen."""
    if pattern is None:
        return None
    pattern = pattern.replace("~", rf"[\ \u00a0{_HYPHENS[1:]}-]")
    return re.compile(around.format(f"(?:{pattern})"), re.IGNORECASE | re.VERBOSE)


def _denials(verbs: Sequence[str]) -> list[dict[str, Any]]:
    """Groups for verbs ("predict"): predicts, does not predict; did not predict, predicted."""
    third = {verb: verb + "s" for verb in verbs}
    past = {verb: verb + ("d" if verb.endswith("e") else "ed") for verb in verbs}
    question = r"\?|\b(?: whether | if | how | what | which | why )\b"
    return [
        {
            "pairs": ", ".join(f"{third[verb]}/does not {verb}" for verb in verbs),
            "unless": question,
            "not_followed": r"~(?: of | on | in )\b",
            "not_preceded": r"\b(?: the | and | or | of | its | their | that | these | which )~",
        },
        {
            "pairs": ", ".join(f"do not {verb}>{verb}" for verb in verbs),
            "unless": question,
        },
        {
            "pairs": ", ".join(f"did not {verb}>{past[verb]}" for verb in verbs),
            "unless": question,
        },
    ]


def _absences(findings: Sequence[str]) -> list[dict[str, Any]]:
    """Groups for nouns ("difference"): there was no difference, there was a difference."""
    one = [f"{how}{noun}" for noun in findings for how in ("", "significant ", "clear ")]
    bare = [f"no {noun}s>{noun}s" for noun in one] + ["no evidence>evidence"]
    with_article = [f"no {noun}/{'an' if starts_with_vowel(noun) else 'a'} {noun}" for noun in one]
    verbs = "is|was|were|are|found|find|shows?|showed|had|has|have|observed|reported|detected"
    return [
        {
            "pairs": ", ".join(bare + with_article),
            "preceded": rf"\b(?:{verbs})~",
            "unless": r"\?|\b(?:whether|if)\b",
        },
        {"pairs": ", ".join(f"no {noun}>{noun}" for noun in one), "preceded": r"(?: ^ | [:.;]~ )"},
    ]


# --------------------------------------------------------------------------------------- numbers

_COUNTED = (
    "patients|cases|subjects|participants|women|men|children|infants|volunteers|individuals|adults"
    "|consecutive|hospitals|studies|trials|families|eyes|centres|centers|countries|students"
)
_MEASURED = {
    **dict.fromkeys(("kg", "g", "mg", "µg", "μg", "mcg", "ng", "mL", "ml", "L", "µL"), "tenfold"),
    **dict.fromkeys(("IU", "mmol", "µmol", "nmol", "mM", "µM", "μM", "nM", "U"), "tenfold"),
    **dict.fromkeys(("Gy", "cGy", "mSv", "mm", "cm", "mmHg", "mm Hg", "kPa", "kcal"), "double"),
    **dict.fromkeys(("fold",), "double"),
    **dict.fromkeys(("h", "hr", "min"), "double"),
    **dict.fromkeys(("minutes", "minute", "hours", "hour", "days", "day"), "time"),
    **dict.fromkeys(("weeks", "week", "months", "month", "years", "year"), "time"),
    "%": "percent",
    **dict.fromkeys(_COUNTED.split("|"), "count"),
}
#: The unit that a number is given instead: near enough to read on, far enough to matter.
_OTHER_UNIT = {
    "mg": "µg", "µg": "mg", "μg": "mg", "mcg": "mg", "g": "mg", "mL": "L", "ml": "L", "L": "mL",
    "mm": "cm", "cm": "mm", "Gy": "cGy", "cGy": "Gy", "mM": "µM", "µM": "nM", "μM": "nM",
    "mmol": "µmol", "µmol": "mmol",
    "weeks": "days", "week": "day", "days": "weeks", "day": "week", "months": "weeks",
    "month": "week", "years": "months", "year": "month", "hours": "days", "hour": "day",
    "h": "min", "hr": "min", "min": "h", "minutes": "hours", "minute": "hour",
}  # fmt: skip
_NUMBER = re.compile(
    r"(?<![\w.,/×±<>=≤≥~^+‐‑–-])(?<![×±<>=≤≥~+] )"
    r"(?P<number>\d{1,3}(?:,\d{3})+|\d{1,6}(?:\.\d{1,3})?)"
    r"(?P<gap>[ \u00a0‐‑-]?)(?P<unit>%|"
    + "|".join(sorted((re.escape(unit) for unit in _MEASURED if unit != "%"), key=len)[::-1])
    + r")(?![\w%²³^])"
)
_ALL_NUMBERS = re.compile(r"\d+(?:[.,]\d+)*")
_AGE = re.compile(r"[ ‐‑-](?:old|of age|and older|and over|or older)\b", re.IGNORECASE)
_AGED = re.compile(r"\b(?:aged?|ages|over|under|older than|younger than) (?:of )?$", re.IGNORECASE)
_NO_PERCENT = re.compile(r" ?-?(?:CI\b|confiden|limit|predict|inhibit|effective|lethal|credib)")
_YOUNG = re.compile(
    r"\b(?:boy|girl|child|infant|toddler|neonate|newborn|baby|pediatric|paediatric)"
)


def _number_swaps(text: str) -> Iterator[Swap]:
    if not any(character.isdigit() for character in text):
        return
    numbers = set(_ALL_NUMBERS.findall(text))
    for match in _NUMBER.finditer(text):
        number, gap, unit = match["number"], match["gap"], match["unit"]
        value = Decimal(number.replace(",", ""))
        hyphen = gap in _HYPHENS and bool(gap)
        rule = _MEASURED[unit]
        age = bool(_AGE.match(text, match.end()) or _AGED.search(text, 0, match.start()))
        if value == 0 or (rule == "count" and (hyphen or not gap or not _is_count(number, value))):
            continue
        if rule == "percent" and _NO_PERCENT.match(text, match.end()):
            continue
        if unit in ("U", "g", "L", "h") and not gap and not hyphen:
            continue  # "5L" is a place, "2g" a force
        for new in _other_values(rule, value, age=age, young=bool(_YOUNG.search(text))):
            shown = f"{new:,}" if "," in number and new >= 1000 else f"{new:f}"
            if shown in numbers:
                continue
            # "1 week" is one: its number takes the unit's plural along.
            if gap == " " and rule == "time" and value == 1:
                yield Swap(match.start(), match.end(), f"{shown} {unit.removesuffix('s')}s")
            elif gap == " " and unit.endswith("s") and rule == "time" and new == 1:
                yield Swap(match.start(), match.end(), f"1 {unit.removesuffix('s')}")
            else:
                yield Swap(match.start("number"), match.end("number"), shown)
        other = _OTHER_UNIT.get(unit)
        if other and not (age and (value > 12 or unit.startswith("year"))):
            yield Swap(match.start("unit"), match.end("unit"), other)


def _is_count(number: str, value: Decimal) -> bool:
    year = "," not in number and 1900 <= value <= 2100
    return value == int(value) and value > 1 and not year


def _other_values(rule: str, value: Decimal, *, age: bool, young: bool) -> list[Decimal]:
    """Other numbers that could stand in the same place."""
    ten = Decimal(10)
    whole = value == int(value)
    half = [value / 2] if not whole or value % 2 == 0 else []
    if rule == "tenfold":
        values = [value * ten, value / ten]
    elif rule == "count":
        values = [value * ten] if value < 100 else [Decimal(int(value / ten))]
    elif rule == "percent":
        values = [value * 2] if value <= 50 else [value / 2]
    elif age:
        if young or value < 18:
            return []
        values = [value + 30 if value < 50 else value - 30]
    elif rule == "time":
        values = [value * 2] if value <= 12 else half or [value + 10]
    else:
        values = [value * 2] if value <= 20 else half or [value * 2]
    return [
        Decimal(int(new)) if new == int(new) else new.normalize()
        for new in values
        if new >= Decimal("0.001")
    ]


# ------------------------------------------------------------------------- stages, grades, types

_NEXT = {"I": "III", "II": "III", "III": "I", "IV": "II", "1": "3", "2": "3", "3": "1", "4": "2"}
_NEXT_TYPE = {"I": "II", "II": "I", "III": "II", "IV": "III", "1": "2", "2": "1", "3": "2"}
_NUMBERED = re.compile(
    r"(?<![\w-])(?P<word>stage|grade|phase|type|class)[ ‐‑-](?P<number>IV|I{1,3}|[1-4])[A-C]?"
    r"(?![\w/])(?!\.\d)",
    re.IGNORECASE,
)
# "stage I-II", "grade 3 or 4", "type 1 and type 2": changing one of them may repeat the other.
_NOT_ALONE = re.compile(
    r" ?[–,&+-] ?(?:[IV]+|\d)\b| (?:and|or|to|through|versus|vs\.?) (?:[IV]+|\d)\b"
)


def _numbered_swaps(text: str) -> Iterator[Swap]:
    found = list(_NUMBERED.finditer(text))
    for match in found:
        word = match["word"].lower()
        after = (_NEXT_TYPE if word == "type" else _NEXT).get(match["number"])
        alone = sum(other["word"].lower() == word for other in found) == 1
        if after and alone and not _NOT_ALONE.match(text, match.end()):
            yield Swap(match.start("number"), match.end("number"), after)


_FINDERS: Mapping[str, Callable[[str], Iterator[Swap]]] = {
    "dose": _number_swaps,
    "severity": _numbered_swaps,
}
