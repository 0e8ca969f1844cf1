"""A train/dev split that depends on nothing but the pair itself.

The side is decided by a hash of the concept, or else of the PMID, or else of the article's folded
title: not by order, seed, platform or what else is in the corpus. So a pair stays on its side when
the corpus grows, every pair made of one article is on the article's side whatever its kind, every
pair of one concept on the concept's, and a smaller ``dev_share`` gives a subset of a larger one's
dev side.

Given up: an article that comes with its PMID in one corpus and without it in another may be on
different sides in the two; within one corpus de-duplication by title has left only one of them.
Likewise a disease that two vocabularies list under two identifiers: its names in the one may be on
the other side than those in the other, but no name is on both (see ``terminology``).
"""

from __future__ import annotations

from typing import Literal

from modernpubmed.folding import fingerprint, folded
from modernpubmed.records import Pair


def split_of(pair: Pair, *, dev_share: float, title: str | None = None) -> Literal["train", "dev"]:
    """The side of a pair; a share ``dev_share`` (0 to 1) of all pairs is on the dev side.

    Args:
        pair: Any pair.
        dev_share: Share of the dev side.
        title: The article's title, where it is not the anchor.

    >>> split_of(Pair("a", "b", pmid=31), dev_share=0.02)
    'train'
    >>> split_of(Pair("a", "b", pmid=31), dev_share=1.0)
    'dev'
    """
    if pair.concept is not None:
        key = f"concept:{pair.concept}"
    elif pair.pmid is not None:
        key = f"pmid:{pair.pmid}"
    else:
        key = f"text:{folded(pair.anchor if title is None else title)}"
    return "dev" if fingerprint(key) < dev_share * 2**64 else "train"
