"""A hash table of 64-bit numbers in flat arrays: 11 to 16 bytes an entry where a set takes 60.

Open addressing with linear probing (Knuth, *The Art of Computer Programming*, vol. 3, section 6.4,
algorithm L) in an array that is not closed to a ring but has some slack at its end. A key's place
is its high bits, so the entries lie in the order of their keys but for the probing, and growing is
one sort and one running maximum in NumPy. The keys must be hashes: numbers in a row would all want
one place.

Given up: taking entries out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A table grows when three of four places are taken; by a half, so that at least half are.
_LOAD, _GROWTH = 0.75, 1.5
_FIRST, _SLACK = 1024, 256


class HashTable:
    """Keys of 64 bits, each with a number if ``values`` names its type.

    >>> table = HashTable(values="uint32")
    >>> table.add(2**63 + 1, 7)
    >>> table.find(2**63 + 1), table.find(5), len(table)
    (7, -1, 1)
    """

    __slots__ = ("_count", "_keys", "_keys_view", "_size", "_values", "_values_view")

    def __init__(self, values: str | None = None) -> None:
        self._count = 0
        self._values_view: memoryview | None = None
        self._values: NDArray[np.unsignedinteger] | None = None
        self._set(_FIRST, np.zeros(0, np.uint64), None if values is None else np.zeros(0, values))

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int) -> bool:
        return self._keys_view[self._place(key)] != 0

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self._keys.nbytes + (0 if self._values is None else self._values.nbytes)

    def find(self, key: int) -> int:
        """The number of a key; -1 if it is not there, 0 if there are no numbers."""
        place = self._place(key)
        if not self._keys_view[place]:
            return -1
        return 0 if self._values_view is None else self._values_view[place]

    def add(self, key: int, value: int = 0) -> None:
        """Puts a key in with its number; the first number of a key stays."""
        place = self._place(key)
        if self._keys_view[place]:
            return
        self._keys_view[place] = key or 1
        if self._values_view is not None:
            self._values_view[place] = value
        self._count += 1
        # A run of entries that reaches into the slack's last place leaves none empty behind it.
        if self._count > _LOAD * self._size or place == len(self._keys) - 2:
            self._grow()

    def put(self, key: int, value: int) -> None:
        """Puts a key in with its number; the last number of a key stays."""
        place = self._place(key)
        if not self._keys_view[place]:
            self.add(key, value)
        elif self._values_view is not None:
            self._values_view[place] = value

    def _place(self, key: int) -> int:
        """Where a key is, or where it would be put."""
        key = key or 1  # 0 is an empty place
        keys = self._keys_view
        place = (key >> 32) * self._size >> 32
        while (found := keys[place]) and found != key:
            place += 1
        return place

    def _grow(self) -> None:
        taken = self._keys != 0
        keys = self._keys[taken]
        values = None if self._values is None else self._values[taken]
        order = np.argsort(keys)
        self._set(int(self._size * _GROWTH), keys[order], None if values is None else values[order])

    def _set(
        self, size: int, keys: NDArray[np.uint64], values: NDArray[np.unsignedinteger] | None
    ) -> None:
        """A table of the given size with these entries, sorted by key."""
        # Each goes to its own place or to the one after its predecessor, whichever is later:
        # place[i] = max over j ≤ i of (own[j] + i - j). Sizes are below 2^32.
        own = ((keys >> np.uint64(32)) * np.uint64(size) >> np.uint64(32)).astype(np.int64)
        steps = np.arange(len(keys))
        places = np.maximum.accumulate(own - steps) + steps
        slack = max(_SLACK, int(places[-1]) - size + _SLACK if len(places) else 0)
        self._size = size
        self._keys = np.zeros(size + slack, np.uint64)
        self._keys[places] = keys
        self._keys_view = self._keys.data
        if values is not None:
            self._values = np.zeros(size + slack, values.dtype)
            self._values[places] = values
            self._values_view = self._values.data


def scattered(number: int) -> int:
    """A number below 2^64 as a hash of 64 bits, each another's (the finaliser of SplitMix64).

    >>> scattered(1) == scattered(2), scattered(0)
    (False, 0)
    """
    number &= 0xFFFFFFFFFFFFFFFF
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    number = (number ^ number >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return number ^ number >> 31
