"""Near-duplicates, hash tables, and what they take of memory; similar titles."""

from __future__ import annotations

import random
import tracemalloc
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.folding import folded
from modernpubmed.manifest import Manifest
from modernpubmed.pairs import build, build_pairs, read_pairs, write_pairs
from modernpubmed.pairs.deduplicate import Seen
from modernpubmed.pairs.near import NEAR_PAIRS, NearTexts
from modernpubmed.pairs.prepare import OTHER_MESH
from modernpubmed.pairs.similar import SIMILAR, similarity
from modernpubmed.pairs.table import HashTable, scattered
from modernpubmed.records import Pair
from modernpubmed.related import (
    estimated_jaccard,
    jaccard,
    keys_of,
    near_duplicate_keys,
    shingles_of,
    signatures,
)

WORDS = [f"{a}{b}" for a in ("he", "ga", "neu", "car", "os", "my") for b in ("pat", "stro", "dio")]
COMMON = "the of and to with in was were that for".split()


def prose(dice: random.Random, words: int = 60) -> list[str]:
    return [dice.choice(COMMON if n % 2 else WORDS) + ("" if n % 2 else str(dice.randrange(99)))
            for n in range(words)]  # fmt: skip


def varied(dice: random.Random, words: list[str], changes: int) -> list[str]:
    other = list(words)
    for place in dice.sample(range(len(words)), changes):
        other[place] = f"changed{dice.randrange(10**6)}"
    return other


def table(path: Path, pairs: list[Pair]) -> Path:
    write_pairs(pairs, path)
    return path


def corpus(count: int = 300) -> list[Pair]:
    """Titles with abstracts, of which some are near-duplicates of earlier ones."""
    dice = random.Random(7)
    pairs: list[Pair] = []
    texts: list[list[str]] = []
    for number in range(count):
        words = prose(dice)
        if texts and number % 5 == 0:
            words = varied(dice, dice.choice(texts), dice.choice((1, 2, 20)))
        texts.append(words)
        pairs.append(
            Pair(f"Invented study {number} of {words[0]} in old mice", " ".join(words), number + 1,
                 year=2000 + number % 20, mesh=("Liver",) if number % 3 else ("Heart", "Mice"))
        )  # fmt: skip
    return pairs


def test_a_table_is_a_dictionary():
    dice = random.Random(1)
    table, known = HashTable(values="uint64"), {}
    for _ in range(20_000):
        key = scattered(dice.randrange(1, 15_000))
        if dice.random() < 0.3:
            table.put(key, value := dice.randrange(2**63))
            known[key] = value
        else:
            table.add(key, value := dice.randrange(2**63))
            known.setdefault(key, value)
        probe = scattered(dice.randrange(1, 30_000))
        assert table.find(probe) == known.get(probe, -1)
        assert (probe in table) == (probe in known)
    assert len(table) == len(known)
    assert all(table.find(key) == value for key, value in known.items())


def test_a_table_bears_keys_that_crowd_its_end():
    table = HashTable()
    keys = [2**64 - 1 - number for number in range(3_000)]
    for key in keys:
        table.add(key)
    assert all(key in table for key in keys)
    assert 2**64 - 5_000 not in table
    assert len(table) == 3_000


def test_signatures_estimate_and_keys_find():
    dice = random.Random(3)
    errors, found = [], []
    for changes in (0, 1, 2, 3, 5) * 40:
        one = prose(dice, 200)
        two = varied(dice, one, changes)
        texts = [" ".join(one), " ".join(two)]
        sketches = signatures([shingles_of(text) for text in texts])
        errors.append(estimated_jaccard(*sketches) - jaccard(*texts))
        keys = [near_duplicate_keys(text) for text in texts]
        found.append((keys[0] == keys[1]).any())
    assert abs(np.mean(errors)) < 0.01
    assert np.std(errors) < 0.04
    assert np.mean(found) > 0.98
    assert signatures([]).shape == (0, 128)


def test_near_duplicate_keys_are_what_lies_on_disk():
    # Stores of token ids hold such keys: they must never change.
    keys = near_duplicate_keys("Aspirin after stroke: a randomised trial in 214 patients.")
    assert keys[:2].tolist() == [10549150978399590654, 2462616370245185275]
    assert (keys_of(shingles_of(folded("aspirin"))) == near_duplicate_keys("Aspirin!")).all()


def test_near_duplicates_are_dropped_and_nothing_else(tmp_path: Path):
    pairs = corpus()
    source = table(tmp_path / "pairs.parquet", pairs)
    manifest = build_pairs([source], tmp_path / "out", dev_share=0)
    kept = list(read_pairs(tmp_path / "out" / "train.parquet"))
    numbers = {pair.pmid for pair in kept}
    assert manifest.counts["train"] + manifest.dropped["near-duplicate"] == len(pairs)
    # Each dropped one is near an earlier one that was kept; no two kept ones are very near.
    earlier: list[Pair] = []
    for pair in pairs:
        best = max((jaccard(pair.positive, other.positive) for other in earlier), default=0)
        assert (pair.pmid in numbers) or best > NEAR_PAIRS - 0.12
        assert (pair.pmid not in numbers) or best < NEAR_PAIRS + 0.12
        if pair.pmid in numbers:
            earlier.append(pair)
    assert 20 < manifest.dropped["near-duplicate"] < 60

    everything = build_pairs([source], tmp_path / "all", dev_share=0, near=None)
    assert everything.counts["train"] == len(pairs)
    assert everything.settings["near"] is None
    looser = build_pairs([source], tmp_path / "loose", dev_share=0, near=0.2)
    assert looser.dropped["near-duplicate"] > manifest.dropped["near-duplicate"]
    with pytest.raises(ModernPubMedError, match="near is 2"):
        build_pairs([source], tmp_path / "out", near=2)


def test_a_dropped_near_duplicate_leaves_its_title_free(tmp_path: Path):
    words = " ".join(prose(random.Random(5)))
    other = " ".join(prose(random.Random(6)))
    pairs = [Pair("First title of it", words), Pair("Shared title of it", f"{words} indeed"),
             Pair("Shared title of it", other)]  # fmt: skip
    made = build_pairs([table(tmp_path / "p", pairs)], tmp_path / "out", dev_share=0)
    kept = [pair.positive for pair in read_pairs(tmp_path / "out" / "train.parquet")]
    assert kept == [words, other]
    assert made.dropped == {"near-duplicate": 1}


def test_names_of_a_concept_may_be_alike(tmp_path: Path):
    words = " ".join(prose(random.Random(5)))
    pairs = [Pair("First name of it", words, concept="X:1"),
             Pair("Other name of it", words, concept="X:1")]  # fmt: skip
    made = build_pairs([table(tmp_path / "p", pairs)], tmp_path / "out", dev_share=0)
    assert made.counts["train"] == 2


@pytest.mark.parametrize("kind", ["title-abstract", "similar-title"])
def test_the_result_does_not_depend_on_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.setattr(build, "PIECE", 50)
    pairs = corpus()
    pairs += [
        Pair(f"{pair.anchor} and more of it", " ".join(prose(random.Random(pair.pmid))))
        for pair in pairs[::9]
    ]
    source = table(tmp_path / "pairs.parquet", pairs)
    for workers in (1, 2):
        build_pairs([source], tmp_path / str(workers), kind=kind, dev_share=0.2, workers=workers)
    one, two = tmp_path / "1", tmp_path / "2"
    for name in ("train.parquet", "dev.parquet"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert Manifest.read(one).counts == Manifest.read(two).counts
    assert Manifest.read(one).dropped == Manifest.read(two).dropped


def test_errors_of_workers_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "PIECE", 5)
    pairs = [*corpus(20), Pair("a", "b", kind="mesh-abstract")]
    with pytest.raises(ModernPubMedError, match="pair 21: this pair is of the kind"):
        build_pairs([table(tmp_path / "pairs", pairs)], tmp_path / "out", workers=2)
    assert not (tmp_path / "out").exists()


def test_filters(tmp_path: Path):
    source = table(tmp_path / "pairs.parquet", corpus(60))

    def made(**options):
        manifest = build_pairs([source], tmp_path / "out", near=None, dev_share=0, **options)
        return manifest, list(read_pairs(tmp_path / "out" / "train.parquet"))

    manifest, kept = made(mesh=["hEART", "Brain"])
    assert {pair.mesh for pair in kept} == {("Heart", "Mice")}
    assert manifest.dropped == {OTHER_MESH: 60 - len(kept)}
    assert manifest.settings["mesh"] == ["hEART", "Brain"]
    manifest, kept = made(since="2005", until="2010")
    assert {pair.year for pair in kept} == set(range(2005, 2011))
    assert manifest.dropped == {"published before the span": 15, "published after the span": 27}
    assert manifest.settings["since"] == "2005"
    assert manifest.counts["pairs"] == 60
    with pytest.raises(ModernPubMedError, match="nothing lies between"):
        made(since="2011", until="2010")
    with pytest.raises(ModernPubMedError, match="concepts have no MeSH headings"):
        build_pairs([source], tmp_path / "out", kind="synonym-name", mesh=["Liver"])


@pytest.mark.parametrize(
    ("first", "second", "similar"),
    [
        ("Aspirin after stroke in the old: a trial", "A trial of aspirin after stroke in the old",
         True),
        ("Management of imaginary heart failure in mice", "Medical management of imaginary heart "
         "failure in mice", True),
        ("Aspirin after stroke in old mice", "Heparin after stroke in old mice", False),
        ("Effect of aspirin and heparin in old mice", "Effect of statins and zinc in old mice",
         False),
        ("Aspirin after stroke in old mice. Part I", "Aspirin after stroke in old mice. Part II",
         False),
        ("Key articles on imaginary mice in 2019", "Key articles on imaginary mice in 2021", False),
        ("Stroke of the left side in old mice", "Stroke of the right side in old mice", False),
        ("Aspirin for mice with a new stroke", "Housing of mice in a large group", False),
    ],
)  # fmt: skip
def test_which_titles_are_similar(first: str, second: str, similar: bool):
    for one, two in ((first, second), (second, first)):
        assert (similarity(folded(one), folded(two)) >= SIMILAR) == similar


def test_similar_titles_make_pairs(tmp_path: Path):
    dice = random.Random(11)

    def article(pmid: int, title: str, *mesh: str) -> Pair:
        return Pair(title, " ".join(prose(dice)), pmid, mesh=mesh, links=(99,))

    pairs = [
        article(1, "Aspirin after stroke in the old: a trial", "Stroke", "Aspirin"),
        article(2, "Gout"),
        article(3, "Beta blockade of the imaginary heart in mice", "Heart", "Mice"),
        article(4, "A trial of aspirin after stroke in the old", "Stroke", "Aspirin"),
        article(5, "A trial of aspirin in the old after stroke", "Stroke", "Aspirin"),
        article(6, "The beta blockade of imaginary heart in mice", "Brain"),
        article(7, "Housing of invented animals on a farm of clouds"),
    ]
    source = table(tmp_path / "pairs.parquet", pairs)
    manifest = build_pairs([source], tmp_path / "out", kind="similar-title", dev_share=0)
    [pair] = read_pairs(tmp_path / "out" / "train.parquet")
    assert pair == Pair(
        pairs[3].anchor, pairs[0].anchor, 4, "similar-title",
        mesh=("Stroke", "Aspirin"), links=(99, 1),
    )  # fmt: skip
    # 5 found both taken, 6 is about the brain.
    assert manifest.dropped == {"no similar title": 5}
    assert manifest.counts == {"pairs": 7, "train": 1, "dev": 0, "second articles": 1}


def test_both_titles_are_on_one_side(tmp_path: Path):
    dice = random.Random(12)
    pairs = []
    for number in range(60):
        name = WORDS[number % len(WORDS)] + str(number)
        title = f"Imaginary {name} of mice in the forest of clouds"
        pairs += [Pair(title, " ".join(prose(dice)), 2 * number + 1),
                  Pair(f"{title} and lakes", " ".join(prose(dice)), 2 * number + 2)]  # fmt: skip
    source = table(tmp_path / "pairs.parquet", pairs)
    for kind in ("title-abstract", "similar-title"):
        build_pairs([source], tmp_path / kind, kind=kind, dev_share=0.5)
    sides = {
        pair.pmid: side
        for side in ("train", "dev")
        for pair in read_pairs(tmp_path / "title-abstract" / f"{side}.parquet")
    }
    seen = 0
    for side in ("train", "dev"):
        for pair in read_pairs(tmp_path / "similar-title" / f"{side}.parquet"):
            assert sides[pair.pmid] == sides[pair.links[-1]] == side
            seen += 1
    assert seen > 15


def grown(count: int) -> int:
    """Bytes that the memory of so many pairs takes, measured from outside."""
    dice = np.random.default_rng(4)
    keys = dice.integers(0, 2**64, (count, 8), dtype=np.uint64)
    marks = dice.integers(0, 2**64, (count, 3), dtype=np.uint64)
    signature = np.zeros(128, dtype=np.uint8)
    tracemalloc.start()
    seen, near = Seen(), NearTexts()
    for row, (identity, anchor, positive) in zip(keys, marks.tolist(), strict=True):
        seen.add(identity, anchor, positive)
        near.add(row.tolist(), signature)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert abs(size - seen.nbytes - near.nbytes) < 1_000_000
    return size


def test_memory_a_pair():
    few, many = grown(20_000), grown(60_000)
    slope = (many - few) / 40_000
    # 128 for the signature, 8 x 12 to 24 for the keys, 3 x 11 to 16 for what is the same.
    assert 200 < slope < 420


@pytest.mark.long
def test_memory_of_200_000_pairs():
    assert (grown(200_000) - grown(50_000)) / 150_000 < 420


def test_words_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch):
    from modernpubmed import related

    monkeypatch.setattr(related, "_MOST_WORDS", 10)
    text = " ".join(f"word{number}" for number in range(40))
    assert (keys_of(shingles_of(text)) == near_duplicate_keys(text)).all()
    assert len(related._words) <= 10


def test_every_two_texts_of_a_few_words_are_told_apart():
    texts = ["a", "b", "a b", "b a", "a b c", "a b d", "???"]
    keys = [near_duplicate_keys(text) for text in texts]
    assert not any((one == two).any() for one, two in combinations(keys, 2))
