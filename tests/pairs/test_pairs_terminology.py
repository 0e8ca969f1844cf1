"""Names and definitions: what is one name, whose it is, and which pairs are made."""

import gzip
import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import zstandard

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest
from modernpubmed.pairs import Tally, build_pairs, read_pairs, split_of
from modernpubmed.pairs.store import DEV_NAME, TRAIN_NAME
from modernpubmed.pairs.terminology import (
    MAX_PAIRS,
    Concept,
    definition_pairs,
    gather,
    is_trivial_variant,
    natural,
    read_terminology,
    synonym_pairs,
)

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "terminology"

GOUT = {
    "id": "X:1",
    "name": "Gout",
    "definition": "A disease of the joints that hurts at night.",
    "synonyms": ["podagra", "gouts", "urate arthritis", "Gout."],
}


def jsonl(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def concept(number, *names, preferred=True, definition=None, source="s"):
    return Concept(f"X:{number}", names, preferred, definition, source, 1)


def made(make, *concepts):
    tally = Tally()
    return list(make(concepts, tally)), tally


def names_of(pairs):
    return {frozenset((pair.anchor, pair.positive)) for pair in pairs}


def both_ways(*names):
    return {frozenset(pair) for pair in combinations(names, 2)}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Memory, Short-Term", "shortterm memories"),
        ("bite, insect", "Insect Bites"),
        ("dirofilariasis", "dirofilariases"),
        ("cervicitis", "cervicitides"),
        ("abscess", "abscesses"),
        ("virus", "viruses"),
        ("toe, claw", "claw toes"),
        ("adenoma", "adenomata"),
        ("vertebra", "vertebrae"),
        ("Crohn's disease", "crohn disease"),
        ("x linked", "X-linked"),
    ],
)
def test_trivial_variants(one, two):
    assert is_trivial_variant(one, two)
    assert is_trivial_variant(two, one)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("lung cancer", "cancer of the lung"),
        ("lung cancer", "lung tumor"),
        ("haem", "heme"),
        ("type 1", "type 2"),
        ("alpha receptor", "beta receptor"),
        ("NADH", "NAD"),
    ],
)
def test_what_is_no_trivial_variant(one, two):
    assert not is_trivial_variant(one, two)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Amnesia, Retrograde", "Retrograde Amnesia"),
        ("Receptors, Dopamine D2", "Dopamine D2 Receptors"),
        ("Receptors, Glycine", "Glycine Receptors"),
        ("Diabetes Mellitus, Type 2", "Type 2 Diabetes Mellitus"),
        ("History, 20th Century", "20th Century History"),
        ("Leukemia, Myeloid, Acute", "Leukemia, Myeloid, Acute"),
        ("Aged, 80 and over", "Aged, 80 and over"),
        ("Pancreatic cancer, susceptibility to", "Pancreatic cancer, susceptibility to"),
        ("Deafness, autosomal recessive 12", "Deafness, autosomal recessive 12"),
        ("Paraplegia 48, autosomal recessive", "Paraplegia 48, autosomal recessive"),
        ("Colitis and ulcer, lethal", "Colitis and ulcer, lethal"),
        ("2,4-dienoate", "2,4-dienoate"),
        ("Gout", "Gout"),
        (", acute", ", acute"),
        ("Oxidase (copper), mixed", "mixed Oxidase (copper)"),
        ("Oxidase, mixed (copper)", "Oxidase, mixed (copper)"),
    ],
)  # fmt: skip
def test_natural_order(name, expected):
    assert natural(name) == expected
    assert natural(expected) == expected


def test_names_of_one_concept():
    pairs, tally = made(synonym_pairs, concept(1, "Gout", "podagra", "gouts", "urate arthritis"))
    assert names_of(pairs) == both_ways("Gout", "podagra", "urate arthritis")
    assert {(pair.kind, pair.concept, pair.source, pair.pmid) for pair in pairs} == {
        ("synonym-name", "X:1", "s", None)
    }
    # The preferred name is what a synonym is to find.
    assert [pair.anchor for pair in pairs if pair.positive == "Gout"] in (
        ["podagra", "urate arthritis"], ["urate arthritis", "podagra"],
    )  # fmt: skip
    assert tally.noted["trivial variant of a name"] == 1
    assert tally.noted["further pairs"] == 2
    assert not tally.dropped


def test_the_best_form_of_a_name_is_shown():
    forms = ("memories, short-term", "memory, short-term", "shortterm memory", "short-term memory")
    for names in (forms, forms[::-1]):
        pairs, _ = made(synonym_pairs, concept(1, "Working Memory", *names))
        assert [pair.anchor for pair in pairs] == ["short-term memory"]
    names = ("Amnesia, Retrograde", "retrograde amnesias", "retrograde amnesia", "memory loss")
    pairs, _ = made(synonym_pairs, concept(1, *names))
    assert [pair.positive for pair in pairs] == ["retrograde amnesia"]
    # Without it the comma may be no inversion; in a table of headings it is one.
    heading = concept(1, "nuclear chromosome, telomere", "telomere")
    assert [p.positive for p in made(synonym_pairs, heading)[0]] == ["nuclear chromosome, telomere"]
    row = replace(heading, names=("Amnesia, Retrograde", "memory loss"), row=True)
    assert [p.positive for p in made(synonym_pairs, row)[0]] == ["Retrograde Amnesia"]
    pairs, _ = made(synonym_pairs, concept(1, "Working Memories", "working memory", "recall"))
    assert [pair.positive for pair in pairs] == ["Working Memories"]  # as its owner writes it


def test_a_cap_a_concept_by_hash():
    names = [f"{word} fever" for word in "red blue green gray pink black white brown".split()]
    pairs, tally = made(synonym_pairs, concept(1, *names))
    assert len(pairs) == len(names_of(pairs)) == MAX_PAIRS == 8
    assert tally.noted["further pairs"] == 27
    assert tally.dropped == {"more than 8 pairs of a concept": 20}
    turned, _ = made(synonym_pairs, concept(2, *names))
    assert names_of(turned) != names_of(pairs)
    assert made(synonym_pairs, concept(1, *names))[0] == pairs


def test_a_cap_on_one_and_the_same_change():
    concepts = [
        concept(n, f"word{n} biosynthesis", f"word{n} anabolism", f"other{n}") for n in range(130)
    ]
    pairs, tally = made(synonym_pairs, *concepts)
    changed = [p for p in pairs if not (p.anchor + p.positive).count("other")]
    assert (len(pairs), len(changed)) == (360, 100)
    assert tally.dropped == {"more than 100 pairs with one change of words": 30}
    assert tally.noted["further pairs"] == 260


@pytest.mark.parametrize(
    ("concepts", "expected", "dropped"),
    [
        # one file: to the one whose preferred name it is
        ([concept(1, "Cold", "coryza"), concept(2, "Chill", "cold", "frost")],
         {("Cold", "coryza"), ("Chill", "frost")}, {}),
        # one file, no preferred name: to none
        ([concept(1, "Coryza", "cold", "catarrh"), concept(2, "Chill", "colds", "frost")],
         {("Coryza", "catarrh"), ("Chill", "frost")}, {}),
        ([concept(1, "cold", "coryza", preferred=False), concept(2, "chill", "cold")],
         set(), {"ambiguous name": 2}),
        # two files: to the earlier
        ([concept(1, "Coryza", "cold"), concept(2, "Cold", "chill", "frost", source="t")],
         {("Coryza", "cold"), ("chill", "frost")}, {}),
        # inversions are one name
        ([concept(1, "Amnesia, Acute", "loss"), concept(2, "Lapse", "acute amnesia", source="t")],
         {("Amnesia, Acute", "loss")}, {"ambiguous name": 1}),
        # anagrams are not
        ([concept(1, "heart", "cor"), concept(2, "earth", "soil")],
         {("heart", "cor"), ("earth", "soil")}, {}),
        ([concept(1, "one")], set(), {"only one name": 1}),
        ([concept(1, "ones", "One")], set(), {"only trivial variants of one name": 1}),
    ],
)  # fmt: skip
def test_a_name_belongs_to_one_concept(concepts, expected, dropped):
    pairs, tally = made(synonym_pairs, *concepts)
    assert names_of(pairs) == {frozenset(pair) for pair in expected}
    assert tally.dropped == dropped


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (concept(1, "Gout", "podagra", definition="A disease of joints."),
         ("Gout", "A disease of joints.")),
        (concept(1, "Pain, Acute", definition="It hurts for some time."),
         ("Pain, Acute", "It hurts for some time.")),
        (concept(1, "Pain, Acute", "pain", "acute pain", definition="It hurts for some time."),
         ("acute pain", "It hurts for some time.")),
        (concept(1, "Gout"), "no definition"),
        (concept(1, "Gout", definition="joint disease painful"), "definition too short"),
        (concept(1, "cold", "coryza", preferred=False, definition="a disease of the nose"),
         ("coryza", "a disease of the nose")),
        (concept(1, "Coryza", "cold", definition="a disease of the nose"),
         ("Coryza", "a disease of the nose")),
        (concept(1, "cold", preferred=False, definition="a disease of the nose"), "ambiguous name"),
        (concept(1, "gout", definition='pain in the foot; "he had gout"; "his gout"'),
         ("gout", "pain in the foot")),
        (concept(1, "gout", definition='what they call "the gout" in town'),
         ("gout", 'what they call "the gout" in town')),
    ],
)  # fmt: skip
def test_definitions(one, expected):
    other = concept(2, "cold", "chill", preferred=False)
    pairs, tally = made(definition_pairs, one, other)
    if isinstance(expected, str):
        assert (pairs, tally.dropped[expected]) == ([], 1 if expected != "no definition" else 2)
    else:
        assert [(p.anchor, p.positive, p.kind, p.concept) for p in pairs] == [
            (*expected, "name-definition", "X:1")
        ]


FORMS = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "zstd": lambda data: zstandard.compress(data),
}


@pytest.mark.parametrize("form", FORMS)
def test_reading(tmp_path, form):
    path = tmp_path / "terms"
    scoped = [{"text": "seizure", "scope": "BROAD"}, ""]
    records = [
        GOUT,
        {"id": 7, "name": "Bare  name ", "tree": ["C1"]},
        {"curie": "H:1", "name": "Fit", "synonyms": scoped},
    ]
    path.write_bytes(FORMS[form]("".join(json.dumps(r) + "\n" for r in records).encode()))
    assert list(read_terminology(path)) == [
        Concept("X:1", ("Gout", "podagra", "gouts", "urate arthritis", "Gout."), True,
                GOUT["definition"], "terms", 1),
        Concept("terms:7", ("Bare name",), True, None, "terms", 2),
        Concept("H:1", ("Fit", "seizure"), True, None, "terms", 3),
    ]  # fmt: skip
    path.write_bytes(FORMS[form](b'\n{"lemmas": ["gout", "podagra"], "gloss": "It  hurts."}\n'))
    assert list(read_terminology(path)) == [
        Concept("terms#2", ("gout", "podagra"), False, "It hurts.", "terms", 2)
    ]
    path.write_bytes(FORMS[form](b"X:1\tGout\nX:2\tFit\n\nX:1\tPodagra\r\n"))
    rows = list(read_terminology(path))
    assert [(c.id, c.names, c.line, c.row) for c in rows] == [
        ("X:1", ("Gout",), 1, True), ("X:2", ("Fit",), 2, True), ("X:1", ("Podagra",), 4, True),
    ]  # fmt: skip
    assert [c.names for c in gather(rows, Tally())] == [("Gout", "Podagra"), ("Fit",)]
    path.write_bytes(FORMS[form](b"id\tname\nX:1\tGout\n"))
    assert [c.id for c in read_terminology(path)] == ["X:1"]


def test_lines_of_one_concept_are_gathered():
    lines = [concept(1, "Gout"), concept(2, "Fit"), concept(1, "Podagra", "gouts", source="t"),
             concept(1, "podagra", "Big toe", definition="It hurts.", source="u")]  # fmt: skip
    tally = Tally()
    assert gather(lines, tally) == [
        concept(1, "Gout", "Podagra", "gouts", "podagra", "Big toe", definition="It hurts."),
        concept(2, "Fit"),
    ]
    assert tally.seen == {"concepts": 2}
    assert tally.noted == {"further lines of a concept": 2}


def test_a_wrong_identifier_makes_no_synonyms():
    lines = [concept(1, "Gout", "podagra"), concept(1, "Fit", "seizure", source="t"),
             concept(1, "Seizures", "epilepsy", source="u"), concept(1, "Podagra", source="u"),
             Concept("X:1", ("Cough",), True, None, "t", 9, row=True)]  # fmt: skip
    tally = Tally()
    found = gather(lines, tally)
    assert [(c.id, c.names) for c in found] == [
        ("X:1", ("Gout", "podagra", "Podagra")),
        ("t#1", ("Fit", "seizure", "Seizures", "epilepsy")),
        ("t#9", ("Cough",)),
    ]
    assert tally.seen == {"concepts": 3}
    assert tally.noted == {"further lines of a concept": 2, "identifier of another concept": 2}


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ('{"name": "Gout"}', "no id"),
        ('{"id": "", "name": "Gout"}', "no id"),
        ('{"id": true, "name": "Gout"}', "the id is no text: True"),
        ('{"id": "X:1"}', "no name"),
        ('{"id": "X:1", "name": " "}', "no name"),
        ('{"id": "X:1", "name": 5}', "the name is no text: 5"),
        ('{"id": "X:1", "name": "a", "synonyms": "b"}', "the synonyms are no list: 'b'"),
        ('{"id": "X:1", "name": "a", "synonyms": [1]}', "one of the synonyms is no text: 1"),
        ('{"id": "X:1", "name": "a", "definition": []}', "the definition is no text: []"),
        ('{"lemmas": [], "gloss": "b"}', "no name"),
        ('{"title": "a", "abstract": "b"}', "this is a title–abstract pair, not a concept"),
        ("[1]", "not a JSON object"),
    ],
)
def test_bad_lines_are_refused_with_their_number(tmp_path, line, cause):
    path = tmp_path / "terms.jsonl"
    path.write_text(json.dumps(GOUT) + "\n" + line + "\n")
    with pytest.raises(ModernPubMedError) as caught:
        build_pairs([path], tmp_path / "out", kind="synonym-name")
    assert caught.value.cause.startswith(cause)
    assert (caught.value.file, caught.value.record) == (str(path), "line 2")
    assert caught.value.remedy
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"X:1\tGout\nX:2\n", "1 columns where a terminology has id and name"),
        (b"X:1\tGout\tPodagra\n", "3 columns where a terminology has id and name"),
        (b"X:1\t \n", "an empty id or name"),
        (b"format-version: 1.2\n", "1 columns where a terminology has id and name"),
        (b"PAR1....", "this is a Parquet table, not a terminology"),
        (zstandard.compress(b"X:1\tGout\n" * 99)[:-5], "cannot be read"),
    ],
)
def test_bad_files_are_refused(tmp_path, content, cause):
    path = tmp_path / "terms"
    path.write_bytes(content)
    with pytest.raises(ModernPubMedError) as caught:
        build_pairs([path], tmp_path / "out", kind="name-definition")
    assert caught.value.cause.startswith(cause)
    assert caught.value.file == str(path)
    assert caught.value.remedy
    assert not (tmp_path / "out").exists()


def test_wrong_inputs_are_refused(tmp_path):
    out = tmp_path / "out"
    for path, cause in (
        (tmp_path / "none", "there is no such file"),
        (tmp_path, "this is a folder"),
    ):
        with pytest.raises(ModernPubMedError, match=cause):
            build_pairs([path], out, kind="synonym-name")
    with pytest.raises(ModernPubMedError, match="no input given") as caught:
        build_pairs([], out, kind="synonym-name")
    assert "id<TAB>name" in caught.value.remedy
    bare = jsonl(tmp_path / "bare.jsonl", {"id": "X:1", "name": "Gout"})
    with pytest.raises(ModernPubMedError, match=r"no usable pair is left \(only one name 1\)"):
        build_pairs([bare], out, kind="synonym-name")
    (tmp_path / "other").mkdir()
    again = jsonl(tmp_path / "other" / "bare.jsonl", GOUT)
    with pytest.raises(ModernPubMedError, match="two terminologies have this name"):
        build_pairs([bare, again], out, kind="synonym-name")
    assert not out.exists()


def test_building(tmp_path):
    words = "heart liver lung kidney brain bone skin blood nerve muscle eye ear nose tongue".split()
    terms = jsonl(
        tmp_path / "terms.jsonl",
        *({"id": f"X:{w}", "name": f"{w} ache",
           "synonyms": [f"dolor of {w}", f"{w} agony", f"{w} aches"],
           "definition": f"The pain that a sick {w} gives."} for w in words),
        {"id": "X:0", "name": "pain", "synonyms": ["pains"]},
    )  # fmt: skip
    table = tmp_path / "more.tsv"
    table.write_text(
        "X:0\tpain\nX:0\tsuffering\nY:1\tHeart Ache\nY:1\tcardiodynia\nY:1\tcardialgia\n"
    )
    manifest = build_pairs([terms, table], tmp_path / "names", kind="synonym-name", dev_share=0.3)
    counts = manifest.counts
    assert counts["concepts"] == 16
    assert counts["further lines of a concept"] == 4
    assert counts["train"] + counts["dev"] == 14 * 3 + 2
    assert manifest.dropped == {}
    assert counts["concepts"] + counts["further pairs"] == counts["train"] + counts["dev"]
    assert manifest.settings == {"kind": "synonym-name", "dev_share": 0.3}
    assert Manifest.read(tmp_path / "names") == manifest

    sides = {}
    for side in (TRAIN_NAME, DEV_NAME):
        for pair in read_pairs(tmp_path / "names" / side):
            assert split_of(pair, dev_share=0.3) == side.removesuffix(".parquet")
            for key in (pair.concept, pair.anchor, pair.positive):
                assert sides.setdefault(key, side) == side
    assert set(sides.values()) == {TRAIN_NAME, DEV_NAME}
    # Y:1 lost its heart ache to the first file.
    assert {"cardiodynia", "cardialgia"} < set(sides)

    manifest = build_pairs([terms], tmp_path / "meanings", kind="name-definition", dev_share=0.3)
    assert manifest.dropped == {"no definition": 1}
    assert manifest.counts["concepts"] == 15
    for side in (TRAIN_NAME, DEV_NAME):
        for pair in read_pairs(tmp_path / "meanings" / side):
            assert pair.positive == f"The pain that a sick {pair.anchor.split()[0]} gives."
            assert sides[pair.concept] == side  # whatever the kind


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="the real terminologies are not here")
def test_on_real_mesh_diseases():
    tally = Tally()
    concepts = gather(read_terminology(REAL / "mesh_disease_synonyms.jsonl.zst"), tally)
    pairs = list(synonym_pairs(concepts, tally))
    assert tally.seen["concepts"] == 6083
    # Prader-Willi and Angelman Syndrome are not one, though the file says D008607 of both.
    assert tally.noted["identifier of another concept"] == 395
    read = tally.seen["concepts"] + tally.noted["further pairs"]
    assert read == len(pairs) + tally.dropped.total()
    forms = {concept.id: set(concept.names) for concept in concepts}
    owner = {}
    for pair in pairs:
        assert {pair.anchor, pair.positive} <= forms[pair.concept]
        assert not is_trivial_variant(pair.anchor, pair.positive)
        for name in (pair.anchor, pair.positive):
            assert owner.setdefault(name.casefold(), pair.concept) == pair.concept
    assert 15_000 < len(pairs) < 25_000
