"""Which pairs are in which batch: pure, exact, short of padding, free of conflicts."""

import json
import os
import pickle
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from modernpubmed.errors import ModernPubMedError
from modernpubmed.related import near_duplicate_keys
from modernpubmed.training import batches
from modernpubmed.training.batches import Batch, Plan, Source, batch_at, epochs, plan

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "pairs" / "pairs.jsonl.zst"


def source(
    n: int = 1000,
    *,
    size: int | None = 8,
    tokens: int | None = None,
    name: str = "titles",
    weight: float = 1.0,
    keys: np.ndarray | None = None,
    longest: int = 512,
) -> Source:
    lengths = np.random.default_rng(n).lognormal(5.4, 0.45, n).clip(30, longest).astype(np.int32)
    none = np.zeros((n, 0), dtype=np.uint64)
    return Source(name, weight, lengths, none if keys is None else keys, size, tokens)


def whole(made: Plan, step: int) -> np.ndarray:
    return np.concatenate([batch_at(made, step, rank).rows for rank in range(made.world)])


def conflicts(keys: np.ndarray, rows: np.ndarray) -> int:
    found = 0
    for column in keys[rows].T:
        known = column[column != 0]
        found += len(known) - len(np.unique(known))
    return found


def padding(lengths: np.ndarray, made: Plan, steps: int) -> float:
    """The share of padding when each batch is as long as its longest pair."""
    used = made_of = 0
    for step in range(steps):
        batch = lengths[batch_at(made, step).rows].astype(np.int64)
        used += int(batch.sum())
        made_of += len(batch) * int(batch.max())
    return 1 - used / made_of


# An epoch


@pytest.mark.parametrize("bucketed", [True, False])
@pytest.mark.parametrize(
    ("n", "size", "pool"), [(1000, 8, 16), (1003, 8, 16), (79, 8, 64), (8, 8, 1)]
)
def test_an_epoch_has_every_row_once_but_the_remainder(
    n: int, size: int, pool: int, bucketed: bool
):
    made = plan([source(n, size=size)], seed=1, pool=pool, bucketed=bucketed)
    count = n // size
    remainders = []
    for epoch in range(3):
        found = [batch_at(made, epoch * count + index) for index in range(count)]
        assert [(b.epoch, b.index, len(b.rows), b.left_out) for b in found] == [
            (epoch, index, size, 0) for index in range(count)
        ]
        rows = np.concatenate([b.rows for b in found])
        assert len(set(rows.tolist())) == len(rows) == count * size
        remainders.append(set(range(n)) - set(rows.tolist()))
    if n == 1003:
        assert remainders[0] != remainders[1] != remainders[2] != remainders[0]


def test_epochs_seeds_and_names_differ():
    def first_epoch(made: Plan, start: int = 0) -> list[list[int]]:
        return [batch_at(made, start + step).rows.tolist() for step in range(125)]

    one = plan([source()], seed=1)
    orders = [
        first_epoch(one),
        first_epoch(one, 125),
        first_epoch(plan([source()], seed=2)),
        first_epoch(plan([source(name="abstracts")], seed=1)),
        first_epoch(plan([source()], seed=1, bucketed=False)),
        first_epoch(plan([source()], seed=1, pool=32)),
    ]
    together = [{frozenset(batch) for batch in order} for order in orders]
    for i, some in enumerate(together):
        for others in together[:i]:
            assert len(some & others) < 3


def test_short_and_long_batches_come_mixed():
    made = plan([source(72 * 64, size=72)], seed=1)
    longest = [int(made.sources[0].lengths[batch_at(made, step).rows].max()) for step in range(64)]
    assert longest != sorted(longest)
    assert abs(np.corrcoef(np.arange(64), longest)[0, 1]) < 0.4


def test_unbucketed_rows_are_in_the_order_of_the_shuffle():
    made = plan([source(1000)], seed=1, bucketed=False, pool=1)
    rows = np.concatenate([batch_at(made, step).rows for step in range(125)])
    lengths = made.sources[0].lengths[rows].astype(float)
    assert abs(np.corrcoef(lengths[:-1], lengths[1:])[0, 1]) < 0.15


# Ranks


@pytest.mark.parametrize("step", [0, 5, 1000])
def test_ranks_share_the_batch_that_one_would_have(step: int):
    keys = np.random.default_rng(3).integers(0, 300, (1000, 2)).astype(np.uint64)
    alone = plan([source(keys=keys)], seed=4)
    shared = plan([source(keys=keys)], seed=4, world=4)
    parts = [batch_at(shared, step, rank).rows.tolist() for rank in range(4)]
    assert [len(part) for part in parts] == [2, 2, 2, 2]
    together = sorted(row for part in parts for row in part)
    assert together == sorted(batch_at(alone, step).rows.tolist())
    assert len(set(together)) == 8


def test_ranks_have_the_same_lengths_to_do():
    made = plan([source(72 * 64, size=72)], seed=1, world=8)
    sums = [
        [int(made.sources[0].lengths[batch_at(made, step, rank).rows].sum()) for rank in range(8)]
        for step in range(64)
    ]
    assert max(max(row) / min(row) for row in sums) < 1.3
    assert np.mean([max(row) / min(row) for row in sums]) < 1.05


# Purity


def test_order_of_asking_does_not_matter():
    keys = np.random.default_rng(3).integers(0, 300, (1000, 2)).astype(np.uint64)
    sources = [source(keys=keys), source(500, name="synonyms", weight=2, size=None, tokens=3000)]
    forward = [batch_at(plan(sources, seed=4), step) for step in range(60)]
    again = plan(sources, seed=4)
    steps = np.random.default_rng(1).permutation(60).tolist()
    for step in steps:
        batches._pool.cache_clear()
        assert same(batch_at(again, step), forward[step])
    kept = pickle.loads(pickle.dumps(again))  # noqa: S301  (as to a worker process)
    assert same(batch_at(kept, 17), forward[17])


def test_what_is_handed_out_can_be_changed_without_harm():
    made = plan([source()], seed=1)
    rows = batch_at(made, 3).rows
    before = rows.tolist()
    rows[:] = 0
    assert batch_at(made, 3).rows.tolist() == before


def same(one: Batch, other: Batch) -> bool:
    return (one.source, one.epoch, one.index, one.left_out, one.rows.tolist()) == (
        other.source, other.epoch, other.index, other.left_out, other.rows.tolist()
    )  # fmt: skip


def test_another_process_finds_the_same_batches():
    code = (
        "import json, numpy as np\n"
        "from modernpubmed.training.batches import Source, batch_at, plan\n"
        "keys = (np.arange(900) % 250 + 1).astype(np.uint64)[:, None]\n"
        "lengths = (np.arange(900) * 7919 % 480 + 30).astype(np.int32)\n"
        "made = plan([Source('a', 1.0, lengths, keys, batch_size=6),\n"
        "             Source('b', 2.5, lengths, keys, batch_tokens=4000)], seed=9, world=2)\n"
        "print(json.dumps([batch_at(made, s, 1).rows.tolist() for s in (*range(40), 10**9)]))\n"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "77")
    ]
    assert found[0] == found[1]
    keys = (np.arange(900) % 250 + 1).astype(np.uint64)[:, None]
    lengths = (np.arange(900) * 7919 % 480 + 30).astype(np.int32)
    sources = [Source("a", 1.0, lengths, keys, 6), Source("b", 2.5, lengths, keys, None, 4000)]
    made = plan(sources, seed=9, world=2)
    here = [batch_at(made, step, 1).rows.tolist() for step in (*range(40), 10**9)]
    assert json.loads(found[0]) == here


# Conflicts


def planted(n: int, *, pairs: int = 0, cluster: int = 0, seed: int = 1) -> np.ndarray:
    """Two columns: ``pairs`` random couples in the first, one cluster of rows in the second."""
    random = np.random.default_rng(seed)
    keys = np.zeros((n, 2), dtype=np.uint64)
    rows = random.permutation(n)
    keys[rows[: 2 * pairs], 0] = np.repeat(np.arange(1, pairs + 1), 2)
    keys[random.permutation(n)[:cluster], 1] = 7
    return keys


@pytest.mark.parametrize("bucketed", [True, False])
@pytest.mark.parametrize("sized", [{"size": 24}, {"size": None, "tokens": 6000}])
def test_no_batch_has_two_that_share_a_key(sized: dict[str, int], bucketed: bool):
    keys = planted(3000, pairs=1400, cluster=100)
    made = plan([source(3000, keys=keys, **sized)], seed=1, pool=32, bucketed=bucketed, world=2)
    before = sum(
        conflicts(keys, whole(plan([source(3000, **sized)], seed=1, pool=32, world=2), step))
        for step in range(100)
    )
    assert before > 30  # without keys there would be that many
    for step in range(3 * made.batches[0]):
        rows = whole(made, step)
        assert conflicts(keys, rows) == 0
        assert len(set(rows.tolist())) == len(rows)


def test_a_key_of_zero_and_one_in_another_column_are_no_conflict():
    keys = np.array([[0, 1], [0, 0], [1, 0], [2, 2]], dtype=np.uint64)
    made = plan([source(4, size=4, keys=keys)], seed=1)
    assert sorted(batch_at(made, 0).rows.tolist()) == [0, 1, 2, 3]
    assert batch_at(made, 0).left_out == 0


def test_couples_are_parted():
    keys = planted(72 * 64, pairs=36 * 64)
    made = plan([source(72 * 64, size=72, keys=keys)], seed=1)
    found = [batch_at(made, step) for step in range(64)]
    left_out = sum(batch.left_out for batch in found)
    assert left_out <= 2  # couples among the very longest have no batch to wait for
    assert len({row for batch in found for row in batch.rows.tolist()}) == 72 * 64 - left_out


def test_a_row_waits_for_the_next_batch_that_has_none_like_it():
    # By length: 0 1 | 2 3 | 4 5 | 6 7, where 0, 1 and 2 are alike, and so are 5 and 6.
    keys = np.array([[1], [1], [1], [0], [0], [2], [2], [0]], dtype=np.uint64)
    lengths = np.arange(10, 18, dtype=np.int32)
    made = plan([Source("a", 1.0, lengths, keys, batch_size=2)], seed=1)
    found = [batch_at(made, step) for step in range(4)]
    assert sorted(batch.rows.tolist() for batch in found) == [[0, 3], [1, 4], [2, 5], [6, 7]]
    assert [batch.left_out for batch in found] == [0] * 4


def test_of_a_larger_cluster_the_rest_is_left_out_and_counted():
    n, size = 640, 16  # 40 batches in pools of 20; a cluster of 100
    keys = planted(n, cluster=100)
    made = plan([source(n, size=size, keys=keys)], seed=1, pool=20)
    missing = []
    for epoch in range(6):
        found = [batch_at(made, epoch * 40 + index) for index in range(40)]
        rows = [row for batch in found for row in batch.rows.tolist()]
        missing.append(set(range(n)) - set(rows))
        assert len(rows) == n
        assert sum(batch.left_out for batch in found) == len(missing[-1])
        assert all(keys[row, 1] == 7 for row in missing[-1])
        assert 60 <= len(missing[-1]) <= 75  # 40 have a place; a few wait past the last batch
        # They are missing in all batches alike, and no row stands in more than once.
        assert max(batch.left_out for batch in found) <= 6
        assert max(Counter(rows).values()) == 2
        assert all(conflicts(keys, batch.rows) == 0 for batch in found)
    assert len(set.intersection(*missing)) < 20  # others each epoch
    assert len(set.union(*missing)) > 90


def test_rows_of_the_remainder_stand_in_first():
    # Two batches of 4 out of 11 rows: three to spare, and a cluster of five that has two places.
    keys = np.array([[5]] * 5 + [[0]] * 6, dtype=np.uint64)
    lengths = np.arange(1, 12, dtype=np.int32)
    made = plan([Source("a", 1.0, lengths, keys, batch_size=4)], seed=3)
    for epoch in range(20):
        found = [batch_at(made, 2 * epoch + index) for index in range(2)]
        rows = sorted(row for batch in found for row in batch.rows.tolist())
        assert len(set(rows)) == 8  # nobody twice: 2 of the cluster, all 6 of the others
        assert set(rows) >= set(range(5, 11))


def test_placing_costs_little_padding():
    keys = planted(72 * 64, pairs=1000, cluster=60)
    lengths = source(72 * 64, size=72).lengths
    free = plan([source(72 * 64, size=72)], seed=1)
    made = plan([source(72 * 64, size=72, keys=keys)], seed=1)
    assert padding(lengths, made, 64) < padding(lengths, free, 64) + 0.005


@pytest.mark.parametrize(
    ("sized", "cause", "remedy"),
    [
        ({"size": 24}, r"batch of 24 .* of 100 pairs only 10 are distinct", "at most 10,"),
        ({"size": 12}, r"batch of 12 .* only 10 are distinct", "at most 10,"),
        (
            {"tokens": 4000, "size": None},
            r"batch of 4000 tokens .* only 10 are distinct",
            "at most 10 pairs",
        ),
    ],
)
def test_pairs_too_alike_for_the_batch_are_refused_at_once(
    sized: dict[str, int], cause: str, remedy: str
):
    keys = (np.arange(100) // 10 + 1).astype(np.uint64)[:, None]
    lengths = np.full(100, 100, dtype=np.int32)
    given = Source("a", 1.0, lengths, keys, sized.get("size"), sized.get("tokens"))
    with pytest.raises(ModernPubMedError, match=f"source 'a': a {cause}.*Remedy.*{remedy}"):
        plan([given], seed=1)
    # What it says would fit does.
    made = plan([replace(given, batch_size=10, batch_tokens=None)], seed=1)
    assert all(conflicts(keys, batch_at(made, step).rows) == 0 for step in range(50))


def test_all_pairs_alike_are_refused():
    keys = np.full((100, 1), 3, dtype=np.uint64)
    with pytest.raises(ModernPubMedError, match=r"only 1 are distinct.*not all alike"):
        plan([source(100, keys=keys)], seed=1)


def test_what_would_fit_can_be_shared_by_the_ranks():
    keys = (np.arange(100) % 11 + 1).astype(np.uint64)[:, None]
    with pytest.raises(ModernPubMedError, match=r"only 11 are distinct.*at most 8,"):
        plan([source(100, size=16, keys=keys)], seed=1, world=4)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 300),
    size=st.integers(1, 20),
    world=st.integers(1, 3),
    pool=st.integers(1, 20),
    values=st.integers(20, 400),
    bucketed=st.booleans(),
    seed=st.integers(),
)
def test_any_source_is_batched_or_refused(
    n: int, size: int, world: int, pool: int, values: int, bucketed: bool, seed: int
):
    random = np.random.default_rng(n)
    keys = random.integers(0, values, (n, 2)).astype(np.uint64)
    lengths = random.integers(1, 50, n).astype(np.int32)
    given = Source("a", 1.0, lengths, keys, batch_size=size * world)
    try:
        made = plan([given], seed=seed, world=world, pool=pool, bucketed=bucketed)
        found = [batch_at(made, step) for step in range(made.batches[0])]
        rows = [whole(made, step) for step in range(made.batches[0])]
    except ModernPubMedError as error:
        if "distinct" in error.cause or n < size * world or size * world < 2:
            return
        raise
    assert all(len(set(batch.tolist())) == size * world for batch in rows)
    assert sum(conflicts(keys, batch) for batch in rows) == 0
    times = Counter(np.concatenate(rows).tolist())
    repeated = sum(times.values()) - len(times)
    assert repeated <= sum(batch.left_out for batch in found)
    assert len(times) >= n - n % (size * world) - sum(batch.left_out for batch in found)


# Tokens


@pytest.mark.parametrize("bucketed", [True, False])
@pytest.mark.parametrize("world", [1, 4])
def test_token_batches_keep_the_budget(world: int, bucketed: bool):
    given = source(20_000, size=None, tokens=16_384)
    made = plan([given], seed=1, world=world, bucketed=bucketed)
    count = made.batches[0]
    assert count == int(given.lengths.sum()) // 16_384
    seen: list[int] = []
    tokens = []
    for step in range(count):
        rows = whole(made, step)
        assert len(rows) % world == 0
        tokens.append(int(given.lengths[rows].sum()))
        seen.extend(rows.tolist())
    pools = batches._pools(made, 0)
    means = [np.mean(tokens[p * count // pools : (p + 1) * count // pools]) for p in range(pools)]
    assert max(means) <= 16_384
    assert min(means) > 0.97 * 16_384
    assert max(tokens) <= 16_384 + 512 * max(2, world)
    assert min(tokens) >= min(means) - 512 * max(2, world)
    assert len(set(seen)) == len(seen) > 0.98 * len(given.lengths)


def test_token_batches_of_short_pairs_have_more_of_them():
    given = source(20_000, size=None, tokens=16_384)
    made = plan([given], seed=1)
    shapes = [
        (len(rows), int(given.lengths[rows].max()))
        for rows in (batch_at(made, step).rows for step in range(made.batches[0]))
    ]
    assert max(shapes)[0] > 4 * min(shapes)[0]
    assert np.corrcoef([1 / size for size, _ in shapes], [top for _, top in shapes])[0, 1] > 0.98


def test_every_token_batch_has_two_pairs_at_least():
    lengths = np.array([100] * 10 + [1] * 990, dtype=np.int32)
    none = np.zeros((1000, 0), dtype=np.uint64)
    for world, tokens in ((1, 200), (3, 600)):
        made = plan([Source("a", 1.0, lengths, none, None, tokens)], seed=1, world=world)
        sizes = [len(batch_at(made, step).rows) for step in range(5 * made.batches[0])]
        assert min(sizes) >= (2 if world == 1 else 1)


# Sources


@pytest.mark.parametrize(
    ("weights", "cycle"),
    [
        ([1.0], (1,)),
        ([3, 1], (3, 1)),
        ([0.7, 0.2, 0.1], (7, 2, 1)),
        ([1 / 3, 2 / 3], (1, 2)),
        ([0.955, 0.045], (191, 9)),
        ([2, 2, 2], (1, 1, 1)),
        ([1, 2**0.5], (414, 586)),
    ],
)
def test_weights_are_exact_over_a_cycle(weights: list[float], cycle: tuple[int, ...]):
    given = [source(100, name=f"s{i}", weight=w) for i, w in enumerate(weights)]
    made = plan(given, seed=1)
    assert made.cycle == cycle
    length = sum(cycle)
    orders = [
        [batch_at(made, start + step).source for step in range(length)]
        for start in (0, length, 7 * length)
    ]
    for order in orders:
        assert tuple(order.count(number) for number in range(len(cycle))) == cycle
    if length >= 10:
        assert orders[0] != orders[1] != orders[2]


def test_each_source_counts_its_own_batches_and_epochs():
    given = [
        source(50, name="a", weight=3),
        source(30, name="b", weight=1),
        source(90, name="c", weight=6, size=10),
    ]
    made = plan(given, seed=5)
    assert made.batches == (6, 3, 9)
    next_batch = [0, 0, 0]
    for step in range(200):
        batch = batch_at(made, step)
        expected = divmod(next_batch[batch.source], made.batches[batch.source])
        assert (batch.epoch, batch.index) == expected
        next_batch[batch.source] += 1
        done = {
            name: count / batches
            for name, count, batches in zip("abc", next_batch, made.batches, strict=True)
        }
        assert epochs(made, step + 1) == done


def test_a_source_is_batched_as_it_would_be_alone():
    alone = plan([source(50, name="a")], seed=5)
    made = plan([source(90, name="b"), source(50, name="a")], seed=5)
    own = [b.rows.tolist() for b in (batch_at(made, step) for step in range(12)) if b.source == 1]
    assert own == [batch_at(alone, step).rows.tolist() for step in range(6)]


# Size


def test_any_step_of_any_number_of_rows_at_once(tmp_path: Path):
    n = 10_000_000
    lengths = np.memmap(tmp_path / "lengths", np.int32, "w+", shape=(n,))
    for start in range(0, n, 1_000_000):
        lengths[start : start + 1_000_000] = np.arange(1_000_000) * 7919 % 480 + 30
    keys = np.memmap(tmp_path / "keys", np.uint64, "w+", shape=(n, 2))
    given = Source("a", 1.0, lengths, keys, batch_size=72)
    tracemalloc.start()
    try:
        made = plan([given], seed=1, world=8)
        batch_at(made, 10**9, rank=7)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000
    assert made.batches == (138_888,)

    def seconds(step: int) -> float:
        start = time.process_time()
        batch_at(made, step, rank=7)
        return time.process_time() - start

    # Milliseconds where a pool is laid out, less inside one; generous, for a busy machine.
    assert min(seconds(10**9 + 10_000 * i) for i in range(5)) < 0.05
    assert min(seconds(10**9) for _ in range(20)) < 0.005
    batch = batch_at(made, 10**9, rank=7)
    assert (batch.epoch, batch.index) == divmod(10**9, 138_888)
    assert len(batch.rows) == 9
    assert np.ptp(lengths[batch.rows]) < 25


def test_a_pool_of_clusters_is_laid_out_quickly():
    keys = planted(72 * 64, pairs=2000, cluster=200)
    made = plan([source(72 * 64, size=72, keys=keys)], seed=1)

    def seconds(epoch: int) -> float:
        start = time.process_time()
        batch_at(made, epoch * 64)
        return time.process_time() - start

    assert min(seconds(epoch) for epoch in range(1, 6)) < 0.1


# Padding


@pytest.mark.parametrize(("size", "steps"), [(72, 300), (1024, 58)])
def test_padding_is_below_five_percent(size: int, steps: int):
    given = source(60_000, size=size)
    assert padding(given.lengths, plan([given], seed=1), steps) < 0.02
    assert padding(given.lengths, plan([given], seed=1, bucketed=False), steps) > 0.45


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_file(), reason="the real pairs are not here")
@pytest.mark.parametrize("size", [72, 512])
def test_padding_of_real_abstracts_is_below_five_percent(size: int):
    lengths, texts = [], []
    with zstandard.open(REAL, "rt", encoding="utf-8") as file:
        for line in file:
            text = json.loads(line)["abstract"]
            lengths.append(min(512, int(len(text.split()) * 1.4) + 2))
            texts.append(text)
            if len(texts) == 12_000:
                break
    keys = np.stack([near_duplicate_keys(text) for text in texts])
    counted = np.array(lengths, dtype=np.int32)
    given = Source("real", 1.0, counted, keys, batch_size=size)
    made = plan([given], seed=1)
    count = made.batches[0]
    assert padding(counted, made, count) < 0.05
    assert padding(counted, plan([given], seed=1, bucketed=False), count) > 0.3
    found = [batch_at(made, step) for step in range(count)]
    assert sum(conflicts(keys, batch.rows) for batch in found) == 0
    assert sum(batch.left_out for batch in found) <= 0.001 * len(texts)


# Bad input


def changed(**values: object) -> Source:
    return replace(source(100), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "world", "message"),
    [
        (changed(batch_size=None), 1, "batch_size None, batch_tokens None.*exactly one"),
        (changed(batch_tokens=9), 1, "batch_size 8, batch_tokens 9.*exactly one"),
        (changed(batch_size=1), 1, "a batch of 1 pairs.*at least 2"),
        (changed(batch_size=0), 1, "a batch of 0 pairs"),
        (changed(batch_size=9), 2, "a batch of 9 pairs on 2 ranks.*multiple of 2"),
        (changed(batch_size=101), 1, "100 pairs are less than one batch of 101.*at most 100,"),
        (changed(batch_size=102), 3, "100 pairs are less than one batch of 102.*at most 99,"),
        (changed(lengths=np.ones(100)), 1, "lengths are float64.*integers"),
        (changed(lengths=np.ones((100, 1), dtype=np.int32)), 1, r"lengths are int32 \(100, 1\)"),
        (changed(lengths=np.arange(-2, 98)), 1, "row 0 has length -2.*at least 1"),
        (changed(lengths=np.arange(100)[::-1]), 1, "row 99 has length 0"),
        (
            changed(keys=np.zeros((99, 1), dtype=np.uint64)),
            1,
            r"keys are uint64 \(99, 1\).*\[100, K",
        ),
        (changed(keys=np.zeros(100, dtype=np.uint64)), 1, r"keys are uint64 \(100,\)"),
        (changed(keys=np.zeros((100, 1))), 1, "keys are float64.*give uint64"),
        (changed(batch_size=None, batch_tokens=0), 1, "0 tokens does not hold two pairs"),
        (changed(batch_size=None, batch_tokens=10**9), 1, "pairs of .* tokens are less than one"),
        (changed(weight=0), 1, "its weight is 0"),
        (changed(weight=-1.0), 1, "its weight is -1"),
        (changed(weight=float("nan")), 1, "its weight is nan"),
        (changed(weight=float("inf")), 1, "its weight is inf"),
        (
            Source("titles", 1, np.zeros(0, np.int32), np.zeros((0, 2), np.uint64), None, 0),
            1,
            "0 tokens does not hold",
        ),
        (
            Source("titles", 1, np.zeros(0, np.int32), np.zeros((0, 2), np.uint64), 72),
            1,
            "0 pairs are less than one batch of 72.*Remedy: add pairs.",
        ),
    ],
)
def test_a_bad_source_is_refused(given: Source, world: int, message: str):
    with pytest.raises(ModernPubMedError, match=f"source 'titles': .*{message}"):
        plan([given], seed=1, world=world)


def test_a_budget_too_small_for_the_ranks_says_what_is_needed():
    lengths = np.full(1000, 100, dtype=np.int32)
    given = Source("a", 1.0, lengths, np.zeros((1000, 0), np.uint64), None, 700)
    with pytest.raises(ModernPubMedError, match=r"two pairs of 100 on each of 4 ranks.*least 800,"):
        plan([given], seed=1, world=4)
    assert plan([replace(given, batch_tokens=800)], seed=1, world=4).batches == (125,)


def test_a_weight_too_small_for_the_cycle_is_refused():
    with pytest.raises(ModernPubMedError, match=r"'rare'.*0.0004 is less than a step in 1000"):
        plan([source(), source(name="rare", weight=0.0004)], seed=1)


def test_no_sources_and_two_of_one_name_are_refused():
    with pytest.raises(ModernPubMedError, match="nothing at all"):
        plan([], seed=1)
    with pytest.raises(ModernPubMedError, match=r"titles, titles.*different names"):
        plan([source(), source()], seed=1)


@pytest.mark.parametrize(("world", "pool"), [(0, 1), (1, 0)])
def test_no_ranks_and_no_pools_are_refused(world: int, pool: int):
    with pytest.raises(ModernPubMedError, match="1 or more of each"):
        plan([source()], seed=1, world=world, pool=pool)


@pytest.mark.parametrize(("step", "rank"), [(-1, 0), (0, -1), (0, 2)])
def test_no_such_step_or_rank(step: int, rank: int):
    made = plan([source()], seed=1, world=2)
    with pytest.raises(ModernPubMedError, match=f"step {step}, rank {rank} of 2"):
        batch_at(made, step, rank)
