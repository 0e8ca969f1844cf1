"""Pairs against test suites: planted overlaps are dropped and counted, everything else stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest
from modernpubmed.pairs import build_pairs, read_pairs, write_pairs
from modernpubmed.pairs.decontaminate import Suites, Text, texts_of
from modernpubmed.records import Pair
from modernpubmed.suites import Suite, suite_checksum, write_suite

FARM = (
    "Forty dairy farmers with a cough of more than eight weeks were asked about their work, their "
    "animals and the dust in their barns, and breathed into a spirometer twice a year. The cough "
    "of those who wore masks was gone after a winter and it did not come back."
)
IRON = (
    "Iron tablets taken every other day raised haemoglobin as much as daily ones in women who give "
    "blood, and they were sick less often. The women were asked for a year, and all but two of "
    "them finished the study with the tablets that they were given at its start."
)
FOREST = (
    "The invented drug was given to mice that live in a forest of clouds and to their keepers. "
    "None of the mice was ill in the year after that, while the keepers could not be found. "
    "The forest was searched for them by all of the mice, and by two of the authors as well."
)
SEA = FOREST.replace("mice", "whales").replace("forest", "sea").replace("keepers", "sailors")
# One word of forty is another: near, not the same.
NEAR_FARM = FARM.replace("spirometer", "machine")


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    suite = Suite(
        "farm",
        ("q1", "q2"),
        ("Cough in dairy farmers!", "Who coughs on a farm in the middle of the night?"),
        ("d1", "d2", "d3"),
        (NEAR_FARM, IRON.upper(), "Gout"),
        {"q1": {"d1": 1}, "q2": {"d1": 1}},
    )
    write_suite(suite, tmp_path / "farm")
    return tmp_path / "farm"


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    path = tmp_path / "sts.tsv"
    path.write_text(f"s1\ts2\tscore\nCough in dairy farmers\tSomething else\t1\n{SEA}\tB\t0\n")
    return path


def table(folder: Path, *pairs: Pair) -> Path:
    write_pairs(pairs, folder / "pairs.parquet")
    return folder / "pairs.parquet"


PAIRS = (
    Pair("cough in dairy farmers", FOREST, 1),  # query exact; in both suites
    Pair("Invented farm medicine", FARM, 2),  # document near
    Pair("Iron every other day", IRON, 3),  # document exact
    Pair("Who coughs on a farm in the middle of the night", FARM + " It rained.", 4),
    Pair("Gout of the cloud", SEA + " The end.", 5),  # sentence near
)


def test_planted_overlaps(tmp_path: Path, farm: Path, sentences: Path):
    source = table(tmp_path, *PAIRS, Pair("Imaginary mice of the forest", FOREST, 6))
    manifest = build_pairs(
        [source], tmp_path / "out", dev_share=0, near=None, decontaminate=[farm, sentences]
    )
    # The first has the abstract of the last, and leaves it free.
    [left] = read_pairs(tmp_path / "out" / "train.parquet")
    assert left.pmid == 6
    assert manifest.dropped == {
        "in suite farm (exact)": 3, "in suite farm (near-duplicate)": 1,
        "in suite sts (near-duplicate)": 1,
    }  # fmt: skip
    overlap = manifest.measured["overlap"]
    assert overlap["farm"]["pairs"] == {
        "total": 6,
        "exact": {"count": 3, "share": 0.5},
        "near-duplicate": {"count": 1, "share": 0.166667},
    }
    assert overlap["farm"]["queries"]["exact"] == {"count": 2, "share": 1.0}
    assert overlap["farm"]["documents"] == {
        "total": 3,
        "exact": {"count": 1, "share": 0.333333},
        "near-duplicate": {"count": 1, "share": 0.333333},
    }
    assert overlap["sts"]["pairs"]["exact"]["count"] == 1
    assert overlap["sts"]["sentences"] == {
        "total": 4,
        "exact": {"count": 1, "share": 0.25},
        "near-duplicate": {"count": 1, "share": 0.25},
    }
    assert Manifest.read(tmp_path / "out") == manifest
    assert manifest.settings["decontaminate"]["farm"] == overlap["farm"]["version"]


def test_the_article_counts_whatever_is_made_of_it(tmp_path: Path, farm: Path):
    conclusion = "Masks are of help to imaginary farmers whose cough will not go away at all."
    pairs = [
        Pair("Cough in Dairy Farmers.", f"{FOREST} CONCLUSION: {conclusion}", 1),
        Pair("Iron in imaginary mice", f"{SEA} CONCLUSION: {conclusion} Really.", 2),
    ]
    manifest = build_pairs(
        [table(tmp_path, *pairs)], tmp_path / "out", kind="title-conclusion", decontaminate=[farm]
    )
    assert manifest.dropped == {"in suite farm (exact)": 1}


def test_terminologies(tmp_path: Path, farm: Path):
    terms = tmp_path / "terms.jsonl"
    rows = [{"id": "X:1", "name": "Gout", "synonyms": ["Podagra"]},
            {"id": "X:2", "name": "Imaginary cough", "synonyms": ["Cough of clouds"]}]  # fmt: skip
    terms.write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = build_pairs(
        [terms], tmp_path / "out", kind="synonym-name", dev_share=0, decontaminate=[farm]
    )
    assert manifest.dropped == {"in suite farm (exact)": 1}
    assert manifest.measured["overlap"]["farm"]["documents"]["exact"]["count"] == 1


def test_without_suites_nothing_is_measured(tmp_path: Path):
    manifest = build_pairs([table(tmp_path, *PAIRS)], tmp_path / "out")
    assert manifest.measured == {}
    assert "decontaminate" not in manifest.settings


def test_the_first_suite_names_the_reason(farm: Path, sentences: Path):
    pair = texts_of(Pair("Cough in dairy farmers", "x"))
    assert Suites([farm, sentences]).reason(pair) == "in suite farm (exact)"
    assert Suites([sentences, farm]).reason(pair) == "in suite sts (exact)"
    assert Suites([sentences]).reason([Text.of("Gout")]) is None
    assert Suites([sentences]).rates()["sts"]["pairs"]["exact"] == {"count": 0, "share": 0.0}


def test_pairs_as_a_suite(tmp_path: Path):
    write_pairs([PAIRS[0]], tmp_path / "dev.parquet")
    suites = Suites([tmp_path / "dev.parquet"])
    assert suites.reason(texts_of(PAIRS[0])) == f"in suite {tmp_path.name}_dev (exact)"


def test_what_is_refused(tmp_path: Path, farm: Path):
    source = table(tmp_path, *PAIRS)
    with pytest.raises(ModernPubMedError, match="two suites are called farm"):
        build_pairs([source], tmp_path / "out", decontaminate=[farm, farm])
    with pytest.raises(ModernPubMedError, match="no such folder"):
        build_pairs([source], tmp_path / "out", decontaminate=[tmp_path / "none"])
    with pytest.raises(ModernPubMedError, match="no usable pair is left"):
        build_pairs([source], tmp_path / "out", decontaminate=[source])
    assert not (tmp_path / "out").exists()


def test_evaluation_finds_what_decontamination_finds(tmp_path: Path, farm: Path):
    """One notion of a match: what is dropped here is what a model's card would count."""
    from modernpubmed.evaluation.contamination import measure_contamination
    from modernpubmed.manifest import sha256
    from modernpubmed.suites import read_suite

    source = table(tmp_path, *PAIRS)
    model = tmp_path / "model"
    model.mkdir()
    Manifest("model", inputs={"train_pairs": sha256(source)}).write(model)
    [found] = measure_contamination(model, [source], [read_suite(farm)])
    suites = Suites([farm])
    for pair in PAIRS:
        suites.reason(texts_of(pair))
    rates = suites.rates()["farm"]
    assert found.version == rates["version"] == suite_checksum(read_suite(farm))
    for side in ("queries", "documents"):
        for how, name in (("exact", "exact"), ("near", "near-duplicate")):
            assert getattr(found, f"{how}_{side}") == rates[side][name]["count"]
