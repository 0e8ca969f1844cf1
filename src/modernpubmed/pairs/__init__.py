"""Articles or ready-made pairs in, training pairs out: selected, de-duplicated, split.

``store.build_pairs`` runs the whole room; the files beside it hold one step each.
"""

from modernpubmed.pairs.deduplicate import deduplicate
from modernpubmed.pairs.select import Tally, select
from modernpubmed.pairs.split import split_of
from modernpubmed.pairs.store import build_pairs, read_pairs, write_pairs

__all__ = [
    "Tally",
    "build_pairs",
    "deduplicate",
    "read_pairs",
    "select",
    "split_of",
    "write_pairs",
]
