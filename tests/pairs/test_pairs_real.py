"""The real pairs: what is kept, dropped and repaired, pinned; and no article on both sides."""

from pathlib import Path

import pytest

from modernpubmed.folding import folded
from modernpubmed.pairs import Tally, deduplicate, select, split_of
from modernpubmed.pairs.store import read_pairs

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "pairs" / "pairs.jsonl.zst"

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_file(), reason="the real pairs are not here"),
]


def test_counts_on_the_real_pairs():
    tally = Tally()
    kept = list(deduplicate(select(read_pairs(DATA), tally), tally))
    assert tally.seen == {"pairs": 61_546}
    assert len(kept) + tally.dropped.total() == 61_546
    assert tally.dropped == {
        "abstract too short": 110,
        "title cut off": 26,
        "same anchor": 18,
        "retraction notice or erratum": 3,
        "generic title": 2,
        "retracted": 2,
    }
    assert tally.noted == {
        "reference count removed": 1761,
        "title brackets removed": 1680,
        "database note in title removed": 1074,
        "copyright line removed": 670,
        "running number in title removed": 485,
        "truncation mark removed": 409,
        "abstract opens with its title": 146,
    }
    sides = {"train": [], "dev": []}
    for pair in kept:
        sides[split_of(pair, dev_share=0.04)].append(pair)
    assert len(sides["dev"]) == 2506
    for key in (lambda p: p.pmid, lambda p: folded(p.anchor), lambda p: folded(p.positive)):
        train, dev = ({key(p) for p in sides[side]} - {None} for side in ("train", "dev"))
        assert not train & dev
