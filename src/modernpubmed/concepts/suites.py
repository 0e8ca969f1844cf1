"""Test suites made from an ontology: does a name find its definition?

An ontology's curators wrote name and definition of one thing in different words: a retrieval test
that anyone can make, in any field, without annotating anything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from modernpubmed.concepts.ontology import Concept
from modernpubmed.suites import Suite


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
