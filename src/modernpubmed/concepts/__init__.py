"""Concepts: an ontology and an encoder to a matcher, a mention to the concepts it may mean."""

from modernpubmed.concepts.match import Match, Matcher, MentionMatches, build_matcher, normalise
from modernpubmed.concepts.ontology import Concept, Ontology, Synonym, hpo, read_ontology
from modernpubmed.concepts.suites import name_to_definition_suite

__all__ = [
    "Concept",
    "Match",
    "Matcher",
    "MentionMatches",
    "Ontology",
    "Synonym",
    "build_matcher",
    "hpo",
    "name_to_definition_suite",
    "normalise",
    "read_ontology",
]
