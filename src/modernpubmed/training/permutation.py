"""A shuffled order that needs no memory: where position i lands is computed, not looked up.

Shuffling n rows the usual way keeps n numbers and has to be done again to resume. Here the order
is a keyed bijection of 0 … n - 1, evaluated at whatever positions are asked for: a balanced
Feistel network over the next even number of bits (Luby & Rackoff 1988), applied again to what
falls outside until it falls inside ("cycle walking", Black & Rogaway 2002, *Ciphers with Arbitrary
Finite Domains*). The domain has less than 4n elements, so a position is mapped at most four times
on average. The round function is SplitMix64's finaliser (Steele, Lea & Flood 2014), the round keys
are BLAKE2b of the key: integers only, so the order is the same on every platform and with every
version of NumPy. Given up: secrecy (this shuffles, it does not encrypt), and odd permutations
where n is a power of 4 above 4.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from modernpubmed.errors import ModernPubMedError

#: Four make a Feistel network a pseudorandom permutation; the rest is for small halves.
ROUNDS = 8
_LARGEST = 1 << 62


def permuted(positions: NDArray[np.int64], n: int, key: tuple[int | str, ...]) -> NDArray[np.int64]:
    """What stands at some positions of a shuffled ``range(n)``.

    Args:
        positions: Any shape, each from 0 to n - 1, repeats allowed.
        n: How many there are, from 1 to 2^62.
        key: Which shuffle; equal keys give equal orders.

    Returns:
        int64 in the shape of ``positions``; over all positions each of 0 … n - 1 comes once.

    Raises:
        ModernPubMedError: ``n`` or a position is out of range.

    >>> permuted(np.arange(10), 10, ("example", 1))
    array([6, 0, 3, 5, 1, 9, 8, 7, 2, 4])
    >>> permuted(np.array([0, 10**12 - 1]), 10**12, ("example", 1))
    array([159612496000, 569788937436])
    """
    if not 1 <= n <= _LARGEST:
        raise ModernPubMedError(f"nothing to shuffle: n is {n}", remedy="give 1 to 2^62 rows")
    if positions.size and not 0 <= positions.min() <= positions.max() < n:
        raise ModernPubMedError(
            f"positions {positions.min()} to {positions.max()} are not all from 0 to {n - 1}",
            remedy="ask for positions inside",
        )
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    digest = hashlib.blake2b("\0".join(map(str, key)).encode(), digest_size=8 * ROUNDS).digest()
    keys = np.frombuffer(digest, dtype="<u8").astype(np.uint64)
    values = _feistel(positions.astype(np.uint64).ravel(), half, keys)
    outside = np.flatnonzero(values >= np.uint64(n))
    while outside.size:
        walked = _feistel(values[outside], half, keys)
        values[outside] = walked
        outside = outside[walked >= np.uint64(n)]
    return values.astype(np.int64).reshape(positions.shape)


def _feistel(values: NDArray[np.uint64], half: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    left = values >> np.uint64(half)
    right = values & np.uint64((1 << half) - 1)
    for key in keys:
        left, right = right, left ^ (_mixed(right + key) >> np.uint64(64 - half))
    return (left << np.uint64(half)) | right


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values
