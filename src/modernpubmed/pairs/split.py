"""A train/dev split that depends on nothing but the pair itself.

The side is decided by a hash of the PMID, or of the folded anchor where there is no PMID: not by
order, seed, platform or what else is in the corpus. So a pair stays on its side when the corpus
grows, every pair made of one article is on the article's side, and a smaller ``dev_share`` gives
a subset of a larger one's dev side.

Given up: an article that comes with its PMID in one corpus and without it in another may be on
different sides in the two. Within one corpus de-duplication by title has left only one of them.
"""

from __future__ import annotations

from typing import Literal

from modernpubmed.pairs.folding import fingerprint, folded
from modernpubmed.records import Pair


def split_of(pair: Pair, *, dev_share: float) -> Literal["train", "dev"]:
    """The side of a pair; a share ``dev_share`` (0 to 1) of all pairs is on the dev side.

    >>> split_of(Pair("a", "b", pmid=31), dev_share=0.02)
    'train'
    >>> split_of(Pair("a", "b", pmid=31), dev_share=1.0)
    'dev'
    """
    key = f"text:{folded(pair.anchor)}" if pair.pmid is None else f"pmid:{pair.pmid}"
    return "dev" if fingerprint(key) < dev_share * 2**64 else "train"
