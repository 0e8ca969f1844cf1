"""Articles, ready-made pairs or terminologies in, training pairs out.

``build.build_pairs`` runs the whole room; the files beside it hold one step each: ``select`` which
articles are fit, ``kinds``, ``similar`` and ``terminology`` what is made of them, ``deduplicate``,
``near``, ``decontaminate`` and ``split`` what becomes of that. ``mine`` is the other verb: pairs
in, the same pairs with hard negatives out.
"""

from modernpubmed.pairs.build import build_pairs
from modernpubmed.pairs.deduplicate import deduplicate
from modernpubmed.pairs.kinds import ARTICLE_KINDS, KINDS, TERMINOLOGY_KINDS
from modernpubmed.pairs.mine import mine
from modernpubmed.pairs.select import Tally, select
from modernpubmed.pairs.split import split_of
from modernpubmed.pairs.store import read_pairs, write_pairs

__all__ = [
    "ARTICLE_KINDS",
    "KINDS",
    "TERMINOLOGY_KINDS",
    "Tally",
    "build_pairs",
    "deduplicate",
    "mine",
    "read_pairs",
    "select",
    "split_of",
    "write_pairs",
]
