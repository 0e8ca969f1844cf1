"""The clinical contrast suite: read strictly, scored as it says, and fit to be shipped."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.contrast import (
    CONTRAST_SUITE,
    compare_contrast,
    read_contrast_suite,
    score_contrast,
    score_contrast_bm25,
    wilson,
)
from modernpubmed.folding import folded

HEADER = "id\tregister\twording\tsentence\tparaphrase\tcontrast\n"
ROWS = [
    "side-001\tclinical\tnear\tleft knee pain\tthe left knee hurts\tright knee pain",
    "side-002\tabstract\tnear\tright lung graft\tgraft of the right lung\tleft lung graft",
    "side-003\tclinical\tnear\tleft ear wax\twax in left ear\tright ear wax",
    "side-004\tclinical\tnear\tright foot drop\tdrop of right foot\tleft foot drop",
]
OTHER = ["time-001\tclinical\tnear\tbefore the meal\tahead of eating\tafter the meal"]


class Axes:
    """Each text is a vector that the test chose."""

    name = "axes"
    fingerprint = "f"
    dimension = 2
    truncated = 0

    def __init__(self, angles: dict[str, float]) -> None:
        self.angles = angles

    def encode_document(self, texts: list[str]) -> np.ndarray:
        angles = np.array([self.angles[text] for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "side.tsv").write_text(HEADER + "\n".join(ROWS) + "\n")
    (tmp_path / "time.tsv").write_text(HEADER + OTHER[0] + "\n")
    return tmp_path


def angles(right: set[str], folder: Path) -> dict[str, float]:
    """Paraphrase near and contrast far for these ids, the other way round for the rest."""
    found = {}
    for triple in read_contrast_suite(folder).triples:
        near, far = (0.1, 0.5) if triple.id in right else (0.5, 0.1)
        found |= {triple.sentence: 0.0, triple.paraphrase: near, triple.contrast: far}
    return found


def test_accuracy_is_the_share_of_triples_with_the_paraphrase_nearer(folder: Path) -> None:
    suite = read_contrast_suite(folder)
    found = score_contrast(Axes(angles({"side-001", "side-003", "side-004"}, folder)), suite)
    assert found.classes["side"].accuracy == wilson(3, 4)
    assert found.classes["time"].accuracy.value == 0.0
    assert found.wordings == {"near": wilson(3, 5)}
    assert found.overall.value == pytest.approx((0.75 + 0.0) / 2)  # classes weigh the same
    margin = np.cos(0.1) - np.cos(0.5)
    assert found.margins["side-001"] == pytest.approx(margin, abs=1e-5)
    assert found.classes["side"].margin == pytest.approx(margin / 2, abs=1e-5)


def test_a_tie_is_wrong(folder: Path) -> None:
    suite = read_contrast_suite(folder)
    every = {text: 0.3 for t in suite.triples for text in (t.sentence, t.paraphrase, t.contrast)}
    assert score_contrast(Axes(every), suite).overall.value == 0.0


def test_bm25_goes_by_words(folder: Path) -> None:
    found = score_contrast_bm25(read_contrast_suite(folder))
    # "the left knee hurts" has left and knee, "right knee pain" knee and pain; "pain" stands in one
    # document, "left" in several, so BM25 takes the wrong one.
    assert found.margins["side-001"] < 0
    assert found.model == "BM25"
    assert found.margins["time-001"] < 0


def test_two_models_are_compared_triple_by_triple(folder: Path) -> None:
    suite = read_contrast_suite(folder)
    ours = score_contrast(Axes(angles({"side-001", "side-002", "time-001"}, folder)), suite)
    theirs = score_contrast(Axes(angles({"side-002"}, folder)), suite)
    found = compare_contrast(ours, theirs)
    assert found["side"].value == pytest.approx(0.25)
    assert found["time"].value == 1.0
    assert found["overall"].value == pytest.approx(0.625)
    with pytest.raises(ModernPubMedError, match="not measured on the same triples"):
        compare_contrast(ours, replace(theirs, version="other"))


def test_halves_part_each_class_and_stay_where_they_are(folder: Path) -> None:
    dev, test = (read_contrast_suite(folder, half=half) for half in ("dev", "test"))
    ids = [{triple.id for triple in half.triples} for half in (dev, test)]
    assert not ids[0] & ids[1]
    assert len(ids[0] | ids[1]) == 5
    assert Counter(triple.label for triple in dev.triples) == {"side": 2, "time": 1}
    assert dev.version != test.version
    # The order of the lines does not matter.
    (folder / "side.tsv").write_text(HEADER + "\n".join(reversed(ROWS)) + "\n")
    assert {t.id for t in read_contrast_suite(folder, half="dev").triples} == ids[0]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("side-009\tclinical\tnear\ta\tb", r"side\.tsv: line 6: 5 fields"),
        ("side-009\tclinical\tnear\ta\t\tc", r"line 6: 5 fields"),
        ("side-009\tpoem\tnear\ta\tb\tc", r"line 6: unknown register 'poem'"),
        ("side-009\tclinical\twild\ta\tb\tc", r"line 6: unknown wording 'wild'"),
        (
            "time-009\tclinical\tnear\ta\tb\tc",
            r"line 6: the id 'time-009' is not of the class 'side'",
        ),
        (
            "side-001\tclinical\tnear\ta\tb\tc",
            r"line 6: the id 'side-001' was in side\.tsv, line 2",
        ),
        ("side-009\tclinical\tnear\ta\tA\tc", r"line 6: “A” was in side\.tsv, line 6 already"),
        (
            "side-009\tclinical\tnear\ta\tb\tleft ear wax",
            r"“left ear wax” was in side\.tsv, line 4",
        ),
    ],
)
def test_a_bad_line_is_named(folder: Path, line: str, cause: str) -> None:
    with (folder / "side.tsv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ModernPubMedError, match=cause):
        read_contrast_suite(folder)


def test_a_bad_folder_or_half_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModernPubMedError, match=r"no \.tsv file"):
        read_contrast_suite(tmp_path)
    (tmp_path / "a.tsv").write_text("id\tsentence\n")
    with pytest.raises(ModernPubMedError, match=r"a\.tsv: line 1: another header"):
        read_contrast_suite(tmp_path)
    (tmp_path / "a.tsv").write_text(HEADER)
    with pytest.raises(ModernPubMedError, match=r"a\.tsv: no triple"):
        read_contrast_suite(tmp_path)
    with pytest.raises(ModernPubMedError, match="no half 'train'"):
        read_contrast_suite(half="train")


def test_wilson_is_that_of_statsmodels_documentation() -> None:
    # Newcombe 1998 (doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E), table I.
    for right, of, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)):
        found = wilson(right, of)
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    assert wilson(1, 29).low == pytest.approx(0.0061, abs=5e-5)
    assert wilson(0, 20).low == 0.0
    assert wilson(20, 20).high == 1.0


SUITE = read_contrast_suite()


CLASSES = {
    "abbreviation",
    "anatomy",
    "direction",
    "dose",
    "drug",
    "experiencer",
    "laterality",
    "negation",
    "population",
    "subtype",
    "temporal",
    "uncertainty",
}


def test_each_class_of_the_shipped_suite_is_large_and_even() -> None:
    counts = Counter(triple.label for triple in SUITE.triples)
    assert set(counts) == CLASSES
    assert counts.total() >= 1200
    assert min(counts.values()) >= 80
    for label in counts:
        registers = Counter(t.register for t in SUITE.triples if t.label == label)
        assert min(registers.values()) >= 0.3 * counts[label], label
        wordings = Counter(t.wording for t in SUITE.triples if t.label == label)
        assert min(wordings.values()) >= 0.4 * counts[label], label
    halves = [
        Counter(t.label for t in read_contrast_suite(half=h).triples) for h in ("dev", "test")
    ]
    assert all(abs(halves[0][label] - halves[1][label]) <= 1 for label in counts)


def words(text: str) -> list[str]:
    return folded(text).split()


def test_contrasts_are_near_twins() -> None:
    shared = []
    for triple in SUITE.triples:
        one, other = Counter(words(triple.sentence)), Counter(words(triple.contrast))
        shared.append((one & other).total() / max(one.total(), other.total()))
    assert np.mean(shared) > 0.8
    assert np.mean(np.array(shared) < 0.5) < 0.02


def test_training_does_not_make_these_triples() -> None:
    from modernpubmed.training.contrast import contrasts

    made = [
        any(folded(made.text) == folded(triple.contrast) for made in contrasts(triple.sentence))
        for triple in SUITE.triples
    ]
    # Left for right and no for a is what a rule does too; most of the suite is not the rules'.
    assert np.mean(made) < 0.25


def test_the_files_are_in_the_package() -> None:
    assert (CONTRAST_SUITE / "non_medical.txt").is_file()
    assert {file.stem for file in CONTRAST_SUITE.glob("*.tsv")} == set(SUITE.labels)
