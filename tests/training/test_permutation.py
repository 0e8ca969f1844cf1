"""The shuffle: a bijection for every n, without structure, the same everywhere."""

import hashlib
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modernpubmed.errors import ModernPubMedError
from modernpubmed.training.permutation import permuted


def order(n: int, *key: int | str) -> np.ndarray:
    return permuted(np.arange(n), n, key)


@settings(max_examples=150, deadline=None)
@given(n=st.integers(1, 3000), key=st.tuples(st.integers(), st.text(max_size=5)))
def test_every_number_comes_once(n: int, key: tuple[int, str]):
    assert np.array_equal(np.sort(permuted(np.arange(n), n, key)), np.arange(n))


@pytest.mark.parametrize(
    "n", [1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 255, 256, 257, 65_536, 65_537]
)
def test_every_number_comes_once_around_powers_of_two(n: int):
    assert np.array_equal(np.sort(order(n, "k", n)), np.arange(n))


@given(n=st.integers(1, 2**62), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_position_alone_is_what_it_is_among_others(n: int, data: st.DataObject):
    positions = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20))
    together = permuted(np.array(positions), n, (3,))
    assert [int(permuted(np.array([p]), n, (3,))[0]) for p in positions] == together.tolist()
    assert together.min() >= 0
    assert together.max() < n
    assert len(set(together.tolist())) == len(set(positions))


def by_the_book(position: int, n: int, key: tuple[int | str, ...]) -> int:
    """The same in Python's unbounded integers, written from the papers."""
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    digest = hashlib.blake2b("\0".join(map(str, key)).encode(), digest_size=64).digest()
    value = position
    while True:
        left, right = divmod(value, 2**half)
        for number in range(8):
            mixed = right + int.from_bytes(digest[8 * number : 8 * number + 8], "little")
            mixed %= 2**64
            mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % 2**64
            mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
            mixed ^= mixed >> 31
            left, right = right, left ^ mixed // 2 ** (64 - half)
        value = left * 2**half + right
        if value < n:
            return value


@given(n=st.integers(1, 2**62), part=st.floats(0, 1, exclude_max=True), seed=st.integers())
@settings(max_examples=100, deadline=None)
def test_agrees_with_the_papers(n: int, part: float, seed: int):
    position = min(int(part * n), n - 1)
    assert permuted(np.array([position]), n, (seed, "a")) == by_the_book(position, n, (seed, "a"))


def test_known_values_hold_on_every_platform():
    assert order(12, "known", 20261122).tolist() == [2, 7, 0, 3, 1, 4, 10, 6, 11, 8, 9, 5]
    assert permuted(np.array([0, 1, 10**15 - 1]), 10**15, (1, "a")).tolist() == [
        145864995302953,
        647421925180172,
        168439920475268,
    ]


def test_known_values_in_another_process():
    code = (
        "import numpy as np; from modernpubmed.training.permutation import permuted;"
        "print(permuted(np.arange(1000), 1000, ('x', 5)).tolist())"
    )
    for seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        assert found.stdout.strip() == str(order(1000, "x", 5).tolist())


def test_keys_give_orders_of_their_own():
    n = 10_000
    keys = [(0,), (1,), (-1,), (0, 0), ("a", 0), ("a", 1), (10, 0), (1, 0, 0)]
    orders = [permuted(np.arange(n), n, key) for key in keys]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            # Two random orders agree at one position on average (Poisson): 12 or more in 1e10.
            assert np.count_nonzero(one == other) < 12
    assert np.array_equal(order(n, 4), order(n, 4))
    assert np.array_equal(order(n, np.int64(4)), order(n, 4))


def test_all_orders_of_four_are_as_likely():
    seen = Counter(tuple(order(4, seed).tolist()) for seed in range(2400))
    assert len(seen) == 24
    statistic = sum((count - 100) ** 2 / 100 for count in seen.values())
    assert statistic < 58  # chi-square with 23 degrees of freedom: 1e-4


def test_every_place_is_as_likely_for_every_row():
    counts = np.zeros((10, 10))
    for seed in range(2000):
        counts[np.arange(10), order(10, "seed", seed)] += 1
    statistic = ((counts - 200) ** 2 / 200).sum()
    assert 40 < statistic < 135  # 81 degrees of freedom: 1e-4 on either side


@pytest.mark.parametrize("n", [100_003, 131_072, 65_536])
def test_nothing_of_the_old_order_is_left(n: int):
    shuffled = order(n, "structure")
    places = np.arange(n)
    within = 5 / np.sqrt(n)
    assert abs(np.corrcoef(places, shuffled)[0, 1]) < within
    assert abs(np.corrcoef(shuffled[:-1], shuffled[1:])[0, 1]) < within
    assert abs(np.corrcoef(places % 2, shuffled % 2)[0, 1]) < within
    assert abs(np.mean(np.abs(shuffled - places)) / (n / 3) - 1) < 0.02
    assert np.count_nonzero(shuffled == places) < 12
    cells = np.histogram2d(places, shuffled, bins=16)[0]
    expected = n / 256
    assert ((cells - expected) ** 2 / expected).sum() < 225 + 5 * np.sqrt(2 * 225)


def test_shape_is_kept_and_nothing_is_something():
    positions = np.arange(12).reshape(3, 4)
    assert permuted(positions, 100, (1,)).shape == (3, 4)
    assert permuted(positions, 100, (1,)).dtype == np.int64
    assert permuted(np.array([], dtype=np.int64), 5, (1,)).size == 0
    assert positions.tolist() == np.arange(12).reshape(3, 4).tolist()


@pytest.mark.parametrize("n", [0, -1, 2**62 + 1])
def test_no_rows_or_too_many_are_refused(n: int):
    with pytest.raises(ModernPubMedError, match=f"n is {n}"):
        permuted(np.array([0]), n, (1,))


@pytest.mark.parametrize("position", [-1, 5])
def test_positions_outside_are_refused(position: int):
    with pytest.raises(ModernPubMedError, match="from 0 to 4"):
        permuted(np.array([0, position]), 5, (1,))
