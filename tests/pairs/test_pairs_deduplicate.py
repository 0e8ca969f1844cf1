import random
from dataclasses import replace

import pytest

from modernpubmed.folding import fingerprint, folded
from modernpubmed.pairs import Tally, deduplicate
from modernpubmed.records import Pair

FIRST = Pair("Effect of β-blockers", "They worked.", 1)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (Pair("Another title", "Another text", 1), "same PMID"),
        (Pair("EFFECT of β‐blockers.", "Another text", 2), "same anchor"),
        (Pair("[Effect of\u00a0Β blockers]", "Another text"), "same anchor"),
        (Pair("Another title", "“They  worked”", 2), "same positive"),
        (Pair("Gout", "gout."), "anchor equals positive"),
    ],
)
def test_reasons(second, reason):
    tally = Tally()
    assert list(deduplicate([FIRST, second], tally)) == [FIRST]
    assert tally.dropped == {reason: 1}


@pytest.mark.parametrize(
    "second",
    [
        Pair("Effect of α-blockers", "They worked well."),
        Pair("Effet of β-blockers", "They worked, too.", 2),
        Pair("Another title", "Another text", 1, kind="question-abstract"),
    ],
)
def test_what_differs_stays(second):
    assert list(deduplicate([FIRST, second], Tally())) == [FIRST, second]


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (Pair("gout", "PODAGRA", concept="X:1"), "same pair"),
        (Pair("Podagra!", "gout", concept="X:1"), "same pair"),
        (Pair("Podagra", "joint disease", concept="X:2"), "ambiguous name"),
        (Pair("gout", "big toe", concept="X:2"), "ambiguous name"),
        (Pair("big toe", "Gout", concept="X:2"), "same positive"),
        (Pair("big toe", "Big toe.", concept="X:1"), "anchor equals positive"),
    ],
)
def test_reasons_of_concepts(second, reason):
    first = Pair("podagra", "Gout", concept="X:1")
    tally = Tally()
    assert list(deduplicate([first, second], tally)) == [first]
    assert tally.dropped == {reason: 1}


def test_names_of_one_concept_come_again():
    pairs = [Pair(a, b, concept="X:1") for a, b in (("a", "b"), ("a", "c"), ("c", "b"), ("d", "b"))]
    pairs += [Pair("e", "f", concept="X:2"), Pair("a", "b")]
    assert list(deduplicate(pairs, Tally())) == pairs


def test_texts_without_words_are_told_apart():
    pairs = [Pair("???", "one"), Pair("!!!", "two"), Pair("???", "three")]
    assert list(deduplicate(pairs, Tally())) == pairs[:2]


def test_a_dropped_pair_leaves_no_trace():
    second = Pair("Effect of β-blockers", "Shared text", 2)
    third = Pair("Third title", "Shared text", 2)
    assert list(deduplicate([FIRST, second, third], Tally())) == [FIRST, third]


def test_equals_a_quadratic_reading():
    dice = random.Random(5)
    words = ["liver", "Liver.", "LIVER", "heart", "heart!", "kidney", "lung", "lung (left)"]
    pairs = [
        Pair(" ".join(dice.choices(words, k=2)), " ".join(dice.choices(words, k=3)),
             dice.choice([None, dice.randrange(60)]))
        for _ in range(300)
    ]  # fmt: skip
    kept = []
    for pair in pairs:
        clash = folded(pair.anchor) == folded(pair.positive) or any(
            (pair.pmid is not None and pair.pmid == other.pmid)
            or folded(pair.anchor) == folded(other.anchor)
            or folded(pair.positive) == folded(other.positive)
            for other in kept
        )
        if not clash:
            kept.append(pair)
    tally = Tally()
    assert list(deduplicate(pairs, tally)) == kept
    assert tally.dropped.total() == 300 - len(kept) > 200


def test_folding_is_idempotent_and_unicode_aware():
    for text in ["ﬁbrosis – CO₂", "Straße", "Ω-3", "naïve T‐cells", "10⁶"]:
        assert folded(folded(text)) == folded(text)
    assert folded("ﬁbrosis – CO₂") == "fibrosis co2"
    assert folded("Straße") == "strasse"
    assert folded("naïve") != folded("naive")
    assert fingerprint("naïve") == 13759174791853198556
    assert replace(FIRST, anchor=folded(FIRST.anchor)).anchor == "effect of β blockers"
