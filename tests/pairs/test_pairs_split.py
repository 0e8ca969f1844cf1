import math

import pytest

from modernpubmed.pairs import split_of
from modernpubmed.records import Pair


def test_known_values():
    # Pinned: a change here moves articles between train and dev of every corpus ever built.
    assert [n for n in range(1, 300) if split_of(Pair("t", "a", n), dev_share=0.02) == "dev"] == [
        22,
        35,
        162,
        170,
        205,
    ]
    words = "liver heart lung kidney brain bone skin blood nerve muscle".split()
    assert [w for w in words if split_of(Pair(w, "a"), dev_share=0.5) == "dev"] == [
        "liver",
        "heart",
        "kidney",
        "brain",
        "skin",
        "nerve",
    ]


def test_concepts():
    # Pinned, as above.
    assert [
        n
        for n in range(1, 40)
        if split_of(Pair("t", "a", concept=f"X:{n}"), dev_share=0.2) == "dev"
    ] == [11, 20, 23, 24, 29]
    for n in range(50):
        pairs = [Pair("a", "b", concept=f"X:{n}"), Pair("c", "d", n, concept=f"X:{n}")]
        assert len({split_of(pair, dev_share=0.5, title="t") for pair in pairs}) == 1


def test_only_the_article_counts():
    for n in range(200):
        sides = {
            split_of(Pair(anchor, positive, n, kind, source), dev_share=0.5)
            for anchor, positive, kind, source in [("a", "b", "c", "d"), ("e", "f", "g", None)]
        }
        assert len(sides) == 1
    texts = ["Invented drug in mice", "INVENTED drug, in mice.", "[Invented drug in\nmice]."]
    assert len({split_of(Pair(t, t * 2), dev_share=0.5) for t in texts}) == 1


@pytest.mark.parametrize("share", [0.02, 0.04, 0.5])
def test_shares(share):
    n = 20_000
    for pairs in ([Pair("t", "a", k) for k in range(n)], [Pair(f"t {k}", "a") for k in range(n)]):
        found = sum(split_of(pair, dev_share=share) == "dev" for pair in pairs) / n
        assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / n)


def test_a_smaller_dev_side_lies_within_a_larger_one():
    pairs = [Pair("t", "a", k) for k in range(2000)]
    small, large = (
        {p.pmid for p in pairs if split_of(p, dev_share=s) == "dev"} for s in (0.02, 0.1)
    )
    assert small < large


def test_ends():
    assert split_of(Pair("t", "a", 1), dev_share=0) == "train"
    assert split_of(Pair("t", "a", 1), dev_share=1) == "dev"
