from __future__ import annotations

import numpy as np
import pytest

from modernpubmed.evaluation.int8_product import ROWS, int8_product, largest


@pytest.mark.parametrize("zero", [90, largest()])
@pytest.mark.parametrize(("depth", "columns"), [(1, 1), (3, 7), (50, 1), (384, 512), (130, 33)])
def test_equals_the_product_of_the_integers(depth: int, columns: int, zero: int) -> None:
    rng = np.random.default_rng(depth)
    left = rng.integers(-zero, zero + 1, (ROWS, depth))
    right = rng.integers(-zero, zero + 1, (depth, columns))
    out = np.empty((ROWS, columns), dtype=np.int32)
    int8_product(right.astype(np.int8), zero)((left + zero).astype(np.uint8), out)
    assert (out == left.astype(np.float64) @ right).all()  # float64 holds such sums exactly


@pytest.mark.parametrize("zero", [90, largest()])
def test_exact_where_every_entry_is_extreme(zero: int) -> None:
    # What saturates: twice zero times zero, pair after pair; no processor may cut a sum off.
    signs = np.random.default_rng(0).choice([-zero, zero], (384, 64))
    signs[:, 0], signs[:, 1] = zero, -zero
    left = np.full((ROWS, 384), zero)
    left[1::2] = -zero
    out = np.empty((ROWS, 64), dtype=np.int32)
    int8_product(signs.astype(np.int8), zero)((left + zero).astype(np.uint8), out)
    assert (out == left.astype(np.float64) @ signs).all()


def test_the_largest_entry_leaves_pairs_below_saturation() -> None:
    # 127 only where this processor was seen to add pairs up in more than 16 bits.
    assert largest() in {90, 127}
    assert np.iinfo(np.int16).max >= 2 * (2 * 90) * 90
