"""Pairs made of a terminology: names of one concept, and names with what they mean.

``synonym-name`` is the field's way to teach names, SapBERT's (Liu et al. 2021,
https://arxiv.org/abs/2010.11784): two names of one concept are a pair, the preferred name the
positive where it is one of them. ``name-definition`` takes each concept's name and its definition.

What the real files asked for (MeSH, Gene Ontology, OMIM and Orphanet names, WordNet):

- **Trivial variants are one name.** MeSH comes with machine-made plurals, inversions and spellings
  ("memories, shortterm"): 72,297 forms of 6,083 diseases. Forms that are alike but for case,
  punctuation, spacing, plurals and the order of words are one name. They teach next to nothing: a
  model trained on abstracts alone finds 299 of 300 MeSH headings by their other word order.
- **Names stand in natural order**: for "Amnesia, Retrograde" stands "retrograde amnesia" where the
  concept has that name too. Tables, which list headings alone, have it turned round where what
  follows the one comma can stand in front. JSON lines do not: their synonyms would say so, and Gene
  Ontology's commas are no inversions ("nuclear chromosome, telomeric region").
- **A name belongs to one concept.** A form that names several concepts of one file ("cold") says
  which of them only to a reader who knows; it goes to the one that has it as its preferred name,
  or to none. Where two files share a name, the earlier file's concept keeps it: what two
  vocabularies call alike is mostly the same. So no name is ever on both sides of the split.
- **An identifier is not believed alone.** One file's were found to be wrong (see ``gather``).
- **At most ``MAX_PAIRS`` pairs a concept**, chosen by hash: 20 names would give 190. And at most
  ``MAX_CHANGE`` pairs that change the same words for the same others: a third of what Gene
  Ontology gives swaps "biosynthesis" for "anabolism", "down regulation" for "inhibition" and the
  like, thousands of times each.

A terminology is held in memory, some 500 bytes a name. Given up: relations between concepts, how
close a synonym is (Gene Ontology's broad and narrow ones count like the exact), and matching one
disease across vocabularies by anything but its names.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from modernpubmed.errors import ModernPubMedError
from modernpubmed.folding import fingerprint, folded
from modernpubmed.lines import json_lines, text_lines
from modernpubmed.pairs.select import Tally
from modernpubmed.records import Pair

#: Most pairs of one concept.
MAX_PAIRS = 8
#: Most pairs that differ in the same words.
MAX_CHANGE = 100
#: Fewest words in a definition: "pilchards" defines nothing.
MIN_DEFINITION_WORDS = 4

#: What a terminology may look like, as a remedy.
TERMINOLOGY_REMEDY = (
    'give JSON lines ({"id": …, "name": …, "synonyms": […], "definition": …} or '
    '{"lemmas": […], "gloss": …}) or a table of two columns, id<TAB>name'
)
_EXAMPLES = re.compile(r"[;:,]?\s*\"[^\"]*\"(?:\s*[;,]\s*\"[^\"]*\")*\s*$")
_POSSESSIVE = re.compile(r"['’]s?\b")
# What may not be moved in front of a noun: "Pancreatic cancer, susceptibility to", "Rats, 2 weeks".
_STAYS_BEHIND = re.compile(
    r"\b(?:and|or|of|in|to|with|without|due|by|for|from|the|on|at|susceptibility|included"
    r"|somatic|multiple types|form|forms|via|using|involving|including)\b"
    r"|^\d+\b(?!th|st|nd|rd)|[/()\[\]:]",
    re.IGNORECASE,
)
_NUMBERED = re.compile(
    r"(?<!\b[Tt]ype )(?<!\b[Cc]lass )(?<!\b[Gg]roup )\b(?:\d+[A-Z]?|[IVX]+[A-Za-z]?)$"
)


@dataclass(frozen=True, slots=True)
class Concept:
    """What one or several lines of a terminology say of one concept.

    Attributes:
        id: Its identifier as printed; a bare number has the file's name before it, since such
            numbers are every file's; a line without one has file and line
            (``"wordnet_nouns.jsonl.zst#17"``).
        names: Its names in their order, at least one.
        preferred: Whether the first of them is the preferred one; else all are equal.
        definition: What it means, where given.
        source: Name of the (first) file.
        line: Number of its (first) line there.
        row: Whether it was a row of a table, which has one name a row.
    """

    id: str
    names: tuple[str, ...]
    preferred: bool
    definition: str | None
    source: str
    line: int
    row: bool = False


def read_terminology(path: Path) -> Iterator[Concept]:
    """The concepts of one file, a line each, in its order.

    Three forms are told apart by what a line holds: JSON lines (plain, gzip or Zstandard) with
    ``id`` (or ``curie``) and ``name``, where given ``synonyms`` and ``definition``; JSON lines with
    ``lemmas`` and ``gloss``, as WordNet's; or a table of two columns, ``id<TAB>name``, with or
    without a header, where rows of one id are names of one concept. Other keys are left alone.

    Raises:
        ModernPubMedError: The file is missing, empty, damaged or of another form, or a line is
            (names the line).
    """
    start = next((line for _, line in text_lines(_checked(path)) if line.strip()), None)
    if start is None:
        raise ModernPubMedError("the file is empty", file=path, remedy=TERMINOLOGY_REMEDY)
    if start.lstrip().startswith("{"):
        for number, record in json_lines(path, '{"id": …, "name": …, "synonyms": […]}'):
            yield _of_record(record, path, number)
        return
    for number, line in text_lines(path):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != 2 or not all(fields):
            raise ModernPubMedError(
                f"{len(fields)} columns where a terminology has id and name"
                if len(fields) != 2
                else "an empty id or name",
                file=path,
                record=f"line {number}",
                remedy=TERMINOLOGY_REMEDY,
            )
        if number == 1 and [field.casefold() for field in fields] in (
            ["id", "name"], ["curie", "name"], ["id", "label"],
        ):  # fmt: skip
            continue
        yield Concept(
            _identifier(fields[0], path), (fields[1],), True, None, path.name, number, row=True
        )


def gather(lines: Iterable[Concept], tally: Tally) -> list[Concept]:
    """The concepts that some lines tell of, in the order of their first lines.

    Lines of one identifier are one concept if they are rows of one table, or share a name. If not,
    an identifier is wrong, and the later line becomes a concept of its own, named by file and line:
    of 6,083 MeSH diseases 1,396 carried another heading's.

    Args:
        lines: Of any number of files.
        tally: ``seen["concepts"]`` is counted, and as notes ``further lines of a concept`` and
            ``identifier of another concept``.
    """
    found: dict[str, list[Concept]] = {}  # by identifier; all but the first stand in for theirs
    order: dict[str, tuple[str, int]] = {}
    names: dict[str, set[str]] = {}
    tables: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        concepts = found.setdefault(line.id, [])
        same = {_same(name) for name in line.names}
        for place, first in enumerate(concepts):
            if (line.row and line.source in tables[first.id]) or not same.isdisjoint(
                names[first.id]
            ):
                tally.noted["further lines of a concept"] += 1
                names[first.id] |= same
                if line.row:
                    tables[first.id].add(line.source)
                concepts[place] = replace(
                    first,
                    names=tuple(dict.fromkeys(first.names + line.names)),
                    definition=first.definition or line.definition,
                )
                break
        else:
            tally.seen["concepts"] += 1
            own = line
            if concepts:
                tally.noted["identifier of another concept"] += 1
                own = replace(line, id=f"{line.source}#{line.line}")
            names[own.id] = same
            if line.row:
                tables[own.id].add(line.source)
            order[own.id] = line.id, len(concepts)
            concepts.append(own)
    return [found[key][place] for key, place in order.values()]


def synonym_pairs(concepts: Iterable[Concept], tally: Tally) -> Iterator[Pair]:
    """Pairs of names, kind ``synonym-name``; the anchor is the synonym.

    Args:
        concepts: One an identifier.
        tally: Counted when the result is consumed. Each concept that gives no pair is ``dropped``
            once: ``only one name``, ``only trivial variants of one name`` or ``ambiguous name``;
            so is each pair beyond the caps (``more than 8 pairs of a concept``, ``more than 100
            pairs with one change of words``). Pairs beyond the first of a concept are noted as
            ``further pairs``, variants of a name and names that are another concept's as well.
    """
    concepts = list(concepts)
    owners = _owners(concepts)
    changes: Counter[frozenset[str]] = Counter()
    for concept in concepts:
        variants = _variants(concept.names)
        own = [
            forms
            for forms in variants
            if any(owners.get(_same(name)) == concept.id for name in forms)
        ]
        tally.noted["trivial variant of a name"] += len(concept.names) - len(variants)
        tally.noted["ambiguous name left out"] += len(variants) - len(own)
        if len(own) < 2:
            if len(variants) > 1:
                tally.dropped["ambiguous name"] += 1
            elif len(concept.names) > 1:
                tally.dropped["only trivial variants of one name"] += 1
            else:
                tally.dropped["only one name"] += 1
            continue
        has_preferred = concept.preferred and own[0] is variants[0]
        names = [
            _best([name for name in forms if owners.get(_same(name)) == concept.id], concept)
            for forms in own
        ]
        pairs = sorted(
            combinations(range(len(names)), 2),
            key=lambda pair: fingerprint(f"{concept.id}\n{names[pair[0]]}\n{names[pair[1]]}"),
        )
        tally.noted["further pairs"] += len(pairs) - 1
        if len(pairs) > MAX_PAIRS:
            reason = f"more than {MAX_PAIRS} pairs of a concept"
            tally.dropped[reason] += len(pairs) - MAX_PAIRS
        for first, second in pairs[:MAX_PAIRS]:
            one, two = names[first], names[second]
            change = _change(one, two)
            if changes[change] == MAX_CHANGE:
                tally.dropped[f"more than {MAX_CHANGE} pairs with one change of words"] += 1
                continue
            changes[change] += 1
            # The preferred name is the positive; two equal names take either place by chance.
            turn = (first == 0 and has_preferred) or fingerprint(f"{two}\n{one}") % 2
            anchor, positive = (two, one) if turn else (one, two)
            yield Pair(
                anchor, positive, kind="synonym-name", source=concept.source, concept=concept.id
            )


def definition_pairs(concepts: Iterable[Concept], tally: Tally) -> Iterator[Pair]:
    """Each concept's name and its definition, kind ``name-definition``.

    The name is the preferred one, or the first that names no other concept. One pair a concept:
    two with one definition would be each other's false negatives.

    Args:
        concepts: One an identifier.
        tally: Counted when the result is consumed: ``dropped`` as ``no definition``,
            ``definition too short`` or ``ambiguous name``; noted are definitions that lost the
            quoted examples at their end.
    """
    concepts = list(concepts)
    owners = _owners(concepts)
    for concept in concepts:
        name = next((name for name in concept.names if owners.get(_same(name)) == concept.id), None)
        definition = concept.definition or ""
        text = _EXAMPLES.sub("", definition)
        if not definition:
            tally.dropped["no definition"] += 1
        elif len(text.split()) < MIN_DEFINITION_WORDS:
            tally.dropped["definition too short"] += 1
        elif name is None or (concept.preferred and name != concept.names[0]):
            tally.dropped["ambiguous name"] += 1
        else:
            if text != definition:
                tally.noted["examples in definition removed"] += 1
            forms = next(forms for forms in _variants(concept.names) if name in forms)
            yield Pair(
                _best([form for form in forms if _same(form) == _same(name)], concept),
                text,
                kind="name-definition",
                source=concept.source,
                concept=concept.id,
            )


def natural(name: str) -> str:
    """A name without the inversion of catalogues, where that can be undone.

    >>> natural("Abdomen, Acute"), natural("Spinal muscular atrophy, type III")
    ('Acute Abdomen', 'type III Spinal muscular atrophy')
    >>> natural("Aged, 80 and over"), natural("Deafness, autosomal recessive 12")
    ('Aged, 80 and over', 'Deafness, autosomal recessive 12')
    """
    head, comma, tail = name.partition(", ")
    if (
        not comma
        or name.count(",") != 1
        or not head.strip()
        or not tail.strip()
        or _STAYS_BEHIND.search(tail)
        or _NUMBERED.search(tail)
        or _NUMBERED.search(head)
        or re.search(r"\b(?:and|or|with|without|due)\b", head)
    ):
        return name
    return f"{tail} {head}"


def is_trivial_variant(one: str, two: str) -> bool:
    """Whether two names differ in case, punctuation, spacing, plurals and word order alone.

    >>> is_trivial_variant("Memory, Short-Term", "shortterm memories")
    True
    >>> is_trivial_variant("Alzheimer's disease", "alzheimer diseases")
    True
    >>> is_trivial_variant("lung cancer", "cancer of the lung")
    False
    """
    return _plain(one) == _plain(two)


def _plain(name: str) -> str:
    # The letters, sorted: word order and spacing go at one stroke. Of two names of one concept,
    # none that is an anagram of the other is more than that.
    return "".join(sorted("".join(_stems(name))))


def _same(name: str) -> str:
    """What two concepts must not both have: the name in natural order, plurals as singulars."""
    return " ".join(_stems(natural(name)))


def _stems(name: str) -> list[str]:
    return [_stem(word) for word in folded(_POSSESSIVE.sub("", name)).split()]


def _stem(word: str) -> str:
    # Only so far that a plural falls on its singular; what else falls together does no harm.
    if len(word) < 4:
        return word.removesuffix("e")  # toe, toes
    if word.endswith(("ss", "us")):
        return word
    for ending, singular in (("ies", "y"), ("itides", "it"), ("mata", "ma"), ("ae", "a")):
        if word.endswith(ending):
            return word.removesuffix(ending) + singular
    for ending in ("es", "is", "s", "e"):
        if word.endswith(ending):
            return word.removesuffix(ending)
    return word


def _variants(names: Iterable[str]) -> list[list[str]]:
    """The names in groups of trivial variants, in the order of their first members."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[_plain(name)].append(name)
    return list(groups.values())


def _best(forms: list[str], concept: Concept) -> str:
    """The form of a name to show: no inversion; preferred, or a singular with its parts apart."""

    def rank(form: str) -> tuple[bool, bool, int, int, str]:
        letters = sum(map(str.isalnum, form))
        preferred = concept.preferred and form == concept.names[0]
        # The form itself decides last: "myelosis" comes after "myeloses".
        return "," not in form, preferred, -letters, len(form), form

    best = max(forms, key=rank)
    return natural(best) if concept.row else best


def _change(one: str, two: str) -> frozenset[str]:
    """The words that each of two names has and the other has not."""
    first, second = Counter(folded(one).split()), Counter(folded(two).split())
    return frozenset(
        " ".join(sorted(words.elements())) for words in (first - second, second - first)
    )


def _owners(concepts: list[Concept]) -> dict[str, str]:
    """Of each name (as ``_same`` gives it) the identifier of the concept it belongs to, if any."""
    holders: dict[str, list[tuple[Concept, bool]]] = defaultdict(list)
    for concept in concepts:
        names: dict[str, bool] = {}
        for place, name in enumerate(concept.names):
            names.setdefault(_same(name), concept.preferred and place == 0)
        for same, preferred in names.items():
            holders[same].append((concept, preferred))
    owners: dict[str, str] = {}
    for same, found in holders.items():
        source = found[0][0].source
        here = [(concept, preferred) for concept, preferred in found if concept.source == source]
        if len(here) > 1:
            here = [(concept, preferred) for concept, preferred in here if preferred]
        if len(here) == 1:
            owners[same] = here[0][0].id
    return owners


def _checked(path: Path) -> Path:
    if path.is_dir():
        raise ModernPubMedError(
            "this is a folder, not a terminology", file=path, remedy=TERMINOLOGY_REMEDY
        )
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ModernPubMedError(
            f"cannot be read ({error.strerror})", file=path, remedy=TERMINOLOGY_REMEDY
        ) from error
    if start == b"PAR1":
        raise ModernPubMedError(
            "this is a Parquet table, not a terminology",
            file=path,
            remedy=f"{TERMINOLOGY_REMEDY}; or make another kind of pairs of it",
        )
    return path


def _of_record(record: dict[str, Any], path: Path, number: int) -> Concept:
    def bad(cause: str) -> ModernPubMedError:
        return ModernPubMedError(
            cause, file=path, record=f"line {number}", remedy=TERMINOLOGY_REMEDY
        )

    def text(key: str) -> str | None:
        value = record.get(key)
        if value is not None and not isinstance(value, str):
            raise bad(f"the {key} is no text: {value!r}")
        return " ".join(value.split()) or None if value else None

    def texts(key: str) -> list[str]:
        values = record.get(key) or []
        if not isinstance(values, list):
            raise bad(f"the {key} are no list: {values!r}")
        # Our own ontologies say of each synonym how close it is.
        values = [value.get("text") if isinstance(value, dict) else value for value in values]
        for value in values:
            if not isinstance(value, str):
                raise bad(f"one of the {key} is no text: {value!r}")
        return [" ".join(value.split()) for value in values if value.strip()]

    if "lemmas" in record:
        identifier, preferred, definition = f"{path.name}#{number}", False, text("gloss")
        names = texts("lemmas")
    else:
        key = "curie" if "curie" in record and "id" not in record else "id"
        value = record.get(key)
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            if "title" in record and "abstract" in record:
                raise bad("this is a title–abstract pair, not a concept of a terminology")
            raise bad(f"no {key}" if value in (None, "") else f"the {key} is no text: {value!r}")
        identifier, preferred = _identifier(str(value), path), True
        definition, name = text("definition"), text("name")
        if name is None:
            raise bad("no name")
        names = [name, *texts("synonyms")]
    if not names:
        raise bad("no name")
    return Concept(
        identifier, tuple(dict.fromkeys(names)), preferred, definition, path.name, number
    )


def _identifier(value: str, path: Path) -> str:
    # "12" is another concept in every file; "D004184" and "GO:12" are the same in all.
    value = value.strip()
    return f"{path.name}:{value}" if value.isdigit() else value
