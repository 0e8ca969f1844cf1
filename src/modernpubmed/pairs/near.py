"""Near-duplicates among the articles, streaming: the first of them wins.

Part one and part two of a report, a republication, a Cochrane review and its update, a record that
a database holds twice under two numbers: their abstracts differ in a few words. In a batch they
would be each other's false negatives, and in training the one says nothing that the other did not.
What is compared is the abstract, whatever kind of pair is made of it. Titles are not: "… in
children: part II" with an abstract of its own is an article of its own.

A text is compared with the first kept text under each of its eight near-duplicate keys, so with
eight at most, however many look alike; one whose estimated Jaccard similarity (see ``related``) is
``NEAR_PAIRS`` or more is dropped. Memory: a signature of 128 bytes, and eight entries of 16 to 24
bytes in hash tables: 250 to 320 bytes a pair.

Given up: exactness (the estimate errs by 0.035), and a near-duplicate whose every shared key
belongs to an earlier text that is not near it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modernpubmed.pairs.table import HashTable
from modernpubmed.related import BANDS, SIGNATURE, estimated_jaccard

#: From which estimated similarity on an abstract is dropped as a near-duplicate.
NEAR_PAIRS = 0.8
#: Why it is dropped.
NEAR_DUPLICATE = "near-duplicate"

# Signatures lie in blocks, so that growing copies none.
_BLOCK = 1 << 14


class NearTexts:
    """The texts kept so far, as sketches.

    >>> from modernpubmed.folding import folded
    >>> from modernpubmed.related import keys_of, shingles_of, signatures
    >>> words = "aspirin was given to forty patients after a stroke and they were followed for"
    >>> shingles = [shingles_of(f"{words} {years} years") for years in ("two", "three")]
    >>> known = NearTexts()
    >>> sketches = list(zip(map(keys_of, shingles), signatures(shingles)))
    >>> known.add(sketches[0][0].tolist(), sketches[0][1])
    >>> known.has_near(sketches[1][0].tolist(), sketches[1][1], 0.7)
    True
    """

    __slots__ = ("_blocks", "_count", "_tables")

    def __init__(self) -> None:
        self._tables = [HashTable(values="uint32") for _ in range(BANDS)]
        self._blocks: list[NDArray[np.uint8]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, small change apart."""
        tables = sum(table.nbytes for table in self._tables)
        return tables + sum(block.nbytes for block in self._blocks)

    def has_near(
        self, keys: Sequence[int], signature: NDArray[np.uint8], least: float = NEAR_PAIRS
    ) -> bool:
        """Whether a kept text is near another one.

        Args:
            keys: The other's near-duplicate keys.
            signature: Its signature.
            least: The similarity from which on two are near.
        """
        candidates = {table.find(key) for table, key in zip(self._tables, keys, strict=True)}
        return any(
            estimated_jaccard(self._blocks[place // _BLOCK][place % _BLOCK], signature) >= least
            for place in candidates
            if place >= 0
        )

    def add(self, keys: Sequence[int], signature: NDArray[np.uint8]) -> None:
        """Takes a text in; arguments as in ``has_near``."""
        place = self._count
        if place % _BLOCK == 0:
            self._blocks.append(np.empty((_BLOCK, SIGNATURE), dtype=np.uint8))
        self._blocks[-1][place % _BLOCK] = signature
        for table, key in zip(self._tables, keys, strict=True):
            table.add(key, place)
        self._count += 1
