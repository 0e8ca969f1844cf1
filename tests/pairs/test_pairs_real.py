"""The real pairs: what is kept, dropped and repaired, pinned; and no article on both sides."""

from pathlib import Path

import pytest

from modernpubmed.folding import folded
from modernpubmed.pairs import Tally, build_pairs, deduplicate, select, split_of
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
        "comment or reply": 3,
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


def test_near_duplicates_among_the_real_pairs(tmp_path: Path):
    # 161 pairs of abstracts have 0.8 of their shingles in common, 174 have 0.7; twenty of the
    # former, read by eye, are all the same article twice, and of thirteen between 0.7 and 0.8 six
    # are two articles. Estimated, so not pinned to the last one.
    manifest = build_pairs([DATA], tmp_path / "out", dev_share=0.04, workers=2)
    counts, dropped = manifest.counts, manifest.dropped
    assert 150 <= dropped["near-duplicate"] <= 165
    assert counts["train"] + counts["dev"] == 61_382 - dropped["near-duplicate"]
