"""Which pairs are in which batch, as a pure function of the plan, the step and the rank.

Nothing is kept and nothing is replayed: a run that was killed at step 6,241 asks for step 6,242,
and gets what it would have got. Three things decide a batch:

- *Source.* A batch holds pairs of one source only. Steps come in cycles in which each source has
  its exact share; a cycle's order is its own. A source counts its own batches and runs through its
  own epochs.
- *Length.* An epoch is a keyed permutation of the rows (``permutation``). Stretches of it (pools,
  ``pool`` batches each) are sorted by length and cut into batches, and a pool's batches are
  shuffled: a batch is of one length, so little is padded, and yet the lengths come mixed and a
  batch's members differ from epoch to epoch. Ranks take every ``world``-th row of it, so that all
  have the same length to do at the same time.
  A source may be sorted by something else than length (``Source.order``), such as subject.
- *Conflicts.* Two rows with the same non-zero value in a column of ``Source.keys``
  (near-duplicates, the same article or concept) would be each other's false negatives; they never
  share a batch. A row whose batch already holds one like it goes to the next batch in length
  order that does not.

An epoch has ``rows // batch`` batches; which rows are the remainder that is left out differs from
epoch to epoch. A row that fits nowhere (its cluster has more members than the pool has batches, or
it is among the longest of its pool and no batch of its length is free of its like) is left out of
that epoch too, and another row of the pool stands in, one that the epoch had not used if there is
one; ``Batch.left_out`` counts them.

With ``batch_tokens`` a batch is as many rows as make that many tokens. Before conflicting rows are
moved, the mean over a pool is at most ``batch_tokens``, and a batch is off that mean by at most
the tokens of ``world`` rows (of two rows, on one rank). Every pool has the same number of batches,
so that a batch of the epoch is found in O(1); what that leaves over is left out like the remainder.

Given up: batches without any padding (sorting the whole epoch gives every batch the same members
every time), and a best possible placement: on 58,879 real title–abstract pairs with eight
near-duplicate keys the greedy one leaves 0 rows out at batches of 72 and 2 at 1,024; on 72,297
MeSH synonyms of 6,083 concepts 0.6 % at batches of 192. Exchanging rows between batches until all
of these are placed was tried: it takes the padding from 2.9 % to 20 %.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from modernpubmed.errors import ModernPubMedError
from modernpubmed.training.permutation import permuted

#: Batches a pool. Padding of the abstracts of 58,879 real pairs in batches of 72 is 7.8, 4.4, 2.3,
#: 1.2 and 0.6 % of tokens at 8, 16, 32, 64 and 128 batches a pool (41 % unbucketed); in batches of
#: 1,024 it is 7.7, 4.9, 2.6 and 1.4 % at 8 to 64. A pool of 64 × 72 rows takes 10 ms to lay out.
POOL = 64
#: Steps of a cycle at most; a source with less than one step in so many is refused.
LONGEST_CYCLE = 1000
_POOLS_KEPT = 32


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One kind of pairs and how it is batched. Arrays may be memory-mapped; they are only indexed.

    Attributes:
        name: What errors and logs call it; the shuffle depends on it.
        weight: Its share of the steps, relative to the other sources'.
        lengths: ``[N]``, what a pair costs in tokens, at least 1.
        keys: ``[N, K]``; rows with the same non-zero value in a column never share a batch.
        batch_size: Pairs a step over all ranks, or None.
        batch_tokens: Tokens a step over all ranks, or None; one of the two is set.
        order: ``[N]``, what pools are sorted by instead of length, or None; not with
            ``batch_tokens``.
    """

    name: str
    weight: float
    lengths: NDArray[np.int32]
    keys: NDArray[np.uint64]
    batch_size: int | None = None
    batch_tokens: int | None = None
    order: NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """All batches of all steps; made by ``plan``.

    Attributes:
        sources: The sources, in order.
        seed: Of every shuffle.
        world: Ranks that share a batch.
        bucketed: Whether batches are of one length.
        pool: Batches that are sorted by length together.
        batches: Batches an epoch, of each source.
        cycle: Steps in a cycle, of each source.
    """

    sources: tuple[Source, ...]
    seed: int
    world: int
    bucketed: bool
    pool: int
    batches: tuple[int, ...]
    cycle: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One rank's part of a step.

    Attributes:
        source: Which of the plan's sources.
        epoch: That source's epoch, from 0.
        index: Which batch of that epoch.
        rows: This rank's rows in the source, shortest first.
        left_out: Slots of the whole batch that went to another row because the row they were for
            can stand in no batch of its pool; over an epoch, the rows left out for that.
    """

    source: int
    epoch: int
    index: int
    rows: NDArray[np.int64]
    left_out: int


def plan(
    sources: Sequence[Source],
    *,
    seed: int,
    world: int = 1,
    bucketed: bool = True,
    pool: int = POOL,
) -> Plan:
    """Checks the sources and fixes what every batch follows from.

    Lengths are read once, in place. With ``batch_size`` the whole batch does not depend on
    ``world``, so a run may go on with another number of ranks; with ``batch_tokens`` it does, since
    batches are cut at multiples of ``world``.

    Args:
        sources: One or more, of different names.
        seed: Any integer.
        world: Ranks.
        bucketed: False keeps the rows in random order, and the padding.
        pool: Batches sorted together: more is less padding, and less mixing.

    Raises:
        ModernPubMedError: A source is not as ``Source`` says; has fewer pairs than a batch; its
            batch cannot be shared by the ranks; its weight is below a step in ``LONGEST_CYCLE``;
            so many of its pairs are alike that a batch cannot be filled.

    >>> lengths = np.array([5, 9, 9, 4, 8, 5], dtype=np.int32)
    >>> no_keys = np.zeros((6, 0), dtype=np.uint64)
    >>> made = plan([Source("titles", 1.0, lengths, no_keys, batch_size=2)], seed=7)
    >>> [lengths[batch_at(made, step).rows].tolist() for step in range(3)]
    [[4, 5], [9, 9], [5, 8]]
    """
    if world < 1 or pool < 1:
        raise ModernPubMedError(
            f"{world} ranks and pools of {pool} batches", remedy="give 1 or more of each"
        )
    names = [source.name for source in sources]
    if not sources or len(set(names)) < len(names):
        raise ModernPubMedError(
            f"sources named {', '.join(names) or 'nothing at all'}",
            remedy="give one or more, of different names",
        )
    made = Plan(
        sources=tuple(sources),
        seed=seed,
        world=world,
        bucketed=bucketed,
        pool=pool,
        batches=tuple(_batches_an_epoch(source, world) for source in sources),
        cycle=_cycle(sources),
    )
    for number in range(len(sources)):
        _pool(made, number, 0, 0)  # data too alike for their batch fail here, not hours later
    return made


def batch_at(plan: Plan, step: int, rank: int = 0) -> Batch:
    """The batch of a step, or a rank's part of it.

    Takes the time of one pool when a source enters one, some tenths of a millisecond otherwise,
    whatever the step and however many rows there are.

    Args:
        plan: From ``plan``.
        step: From 0, without end.
        rank: From 0 to ``plan.world - 1``; ranks' parts are disjoint and of equal size.

    Raises:
        ModernPubMedError: ``step`` or ``rank`` is out of range, or as in ``plan``.
    """
    if step < 0 or not 0 <= rank < plan.world:
        raise ModernPubMedError(
            f"step {step}, rank {rank} of {plan.world}",
            remedy="count steps and ranks from 0, ranks to one below their number",
        )
    cycle, place = divmod(step, sum(plan.cycle))
    order = _cycle_order(plan, cycle)
    source = int(order[place])
    before = cycle * plan.cycle[source] + int(np.count_nonzero(order[:place] == source))
    epoch, index = divmod(before, plan.batches[source])
    batches, pools = plan.batches[source], _pools(plan, source)
    # The last pool whose first batch, pool * batches // pools, is not after this one.
    pool = ((index + 1) * pools - 1) // batches
    laid = _pool(plan, source, epoch, pool)
    which = int(laid.shuffled[index - pool * batches // pools])
    rows = laid.rows[laid.starts[which] : laid.starts[which + 1]]
    return Batch(source, epoch, index, rows[rank :: plan.world].copy(), int(laid.left_out[which]))


def epochs(plan: Plan, steps: int) -> dict[str, float]:
    """How many epochs of each source a run of so many steps is, by its name.

    >>> lengths, no_keys = np.ones(10, dtype=np.int32), np.zeros((10, 0), dtype=np.uint64)
    >>> epochs(plan([Source("titles", 1.0, lengths, no_keys, batch_size=5)], seed=1), steps=7)
    {'titles': 3.5}
    """
    cycles, rest = divmod(steps, sum(plan.cycle))
    order = _cycle_order(plan, cycles)[:rest]
    return {
        source.name: (cycles * plan.cycle[number] + int(np.count_nonzero(order == number)))
        / plan.batches[number]
        for number, source in enumerate(plan.sources)
    }


def _batches_an_epoch(source: Source, world: int) -> int:
    """Checks a source; how many batches its epochs have."""
    lengths, keys = source.lengths, source.keys
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
        raise _refusal(source, f"lengths are {lengths.dtype} {lengths.shape}", "give integers, [N]")
    if keys.ndim != 2 or len(keys) != len(lengths) or keys.dtype != np.uint64:
        raise _refusal(
            source, f"keys are {keys.dtype} {keys.shape}", f"give uint64, [{len(lengths)}, K]"
        )
    size, tokens = source.batch_size, source.batch_tokens
    if (size is None) == (tokens is None):
        raise _refusal(
            source, f"batch_size {size}, batch_tokens {tokens}", "set exactly one of the two"
        )
    if source.order is not None and (tokens is not None or source.order.shape != lengths.shape):
        raise _refusal(
            source,
            f"order is {source.order.shape}, batch_tokens {tokens}",
            f"give [{len(lengths)}] and batch_size",
        )
    if size is not None and (size < 2 or size % world):
        raise _refusal(
            source,
            f"a batch of {size} pairs on {world} ranks",
            f"give a multiple of {world}, at least 2",
        )
    if size is not None and len(lengths) < size:
        most = len(lengths) - len(lengths) % world
        raise _refusal(
            source,
            f"{len(lengths)} pairs are less than one batch of {size}",
            "add pairs" if most < 2 else f"set batch_size to at most {most}, or add pairs",
        )
    shortest, longest = int(lengths.min(initial=1)), int(lengths.max(initial=1))
    if shortest < 1:
        row = int(np.argmin(lengths))
        raise _refusal(
            source, f"row {row} has length {shortest}", "count special tokens: at least 1"
        )
    if size is not None:
        return len(lengths) // size
    assert tokens is not None  # noqa: S101  (one of the two is set)
    least, total = 2 * world * longest, int(lengths.sum(dtype=np.int64))
    if tokens < least:
        raise _refusal(
            source,
            f"a batch of {tokens} tokens does not hold two pairs of {longest} on each of {world} "
            "ranks",
            f"set batch_tokens to at least {least}, or cut texts shorter",
        )
    if total < tokens:
        raise _refusal(
            source,
            f"{len(lengths)} pairs of {total} tokens are less than one batch of {tokens}",
            "add pairs" if total < least else f"set batch_tokens to at most {total}, or add pairs",
        )
    return total // tokens


def _refusal(source: Source, cause: str, remedy: str) -> ModernPubMedError:
    return ModernPubMedError(cause, record=f"source {source.name!r}", remedy=remedy)


def _cycle(sources: Sequence[Source]) -> tuple[int, ...]:
    """Steps of each source in the shortest cycle that has the weights, by largest remainder."""
    for source in sources:
        if not (source.weight > 0 and np.isfinite(source.weight)):
            raise _refusal(source, f"its weight is {source.weight}", "give a number above 0")
    weights = np.array([source.weight for source in sources], dtype=np.float64)
    shares = weights / weights.sum()
    for length in range(1, LONGEST_CYCLE + 1):
        counts = np.rint(shares * length)
        if counts.sum() == length and np.allclose(counts, shares * length, rtol=1e-9, atol=0):
            return tuple(int(count) for count in counts)
    counts = np.floor(shares * LONGEST_CYCLE)
    remainders = shares * LONGEST_CYCLE - counts
    missing = LONGEST_CYCLE - int(counts.sum())
    counts[np.argsort(-remainders, kind="stable")[:missing]] += 1
    for source, count in zip(sources, counts, strict=True):
        if count == 0:
            raise _refusal(
                source,
                f"its weight of {source.weight} is less than a step in {LONGEST_CYCLE}",
                "give it a larger one, or leave it out",
            )
    return tuple(int(count) for count in counts)


@lru_cache(maxsize=4)
def _cycle_order(plan: Plan, cycle: int) -> NDArray[np.int64]:
    """The sources of a cycle's steps, in order."""
    steps = np.repeat(np.arange(len(plan.sources)), plan.cycle)
    order = steps[permuted(np.arange(len(steps)), len(steps), ("cycle", plan.seed, cycle))]
    order.flags.writeable = False
    return order


def _pools(plan: Plan, source: int) -> int:
    """Pools an epoch: of ``plan.pool`` batches as nearly as they can be of one size."""
    return max(1, (2 * plan.batches[source] + plan.pool) // (2 * plan.pool))


@dataclass(frozen=True, slots=True, eq=False)
class _Pool:
    """The batches of a pool, in length order: ``rows[starts[b] : starts[b + 1]]`` is batch b."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    left_out: NDArray[np.int64]
    shuffled: NDArray[np.int64]


@lru_cache(maxsize=_POOLS_KEPT)
def _pool(plan: Plan, number: int, epoch: int, pool: int) -> _Pool:
    source, batches, pools = plan.sources[number], plan.batches[number], _pools(plan, number)
    first, last = pool * batches // pools, (pool + 1) * batches // pools
    n, count = len(source.lengths), last - first
    # Rows in proportion to batches: with a fixed size never too few, the remainder spread evenly.
    places = np.arange(first * n // batches, last * n // batches)
    rows = permuted(places, n, ("rows", plan.seed, source.name, epoch))
    lengths = np.asarray(source.lengths[rows]).astype(np.int64)
    used = len(rows)
    if source.batch_size is not None:
        used = count * source.batch_size
    elif source.batch_tokens is not None:
        budget = count * source.batch_tokens
        used = int(np.searchsorted(np.cumsum(lengths), budget, side="right"))
        used -= used % plan.world
    spare = np.arange(len(rows)) >= used
    if plan.bucketed:
        sorted_by = lengths if source.order is None else source.order[rows]
        order = np.argsort(sorted_by, kind="stable")
        rows, lengths, spare = rows[order], lengths[order], spare[order]
    if source.batch_size is not None:
        sizes = np.full(count, source.batch_size)
    else:
        sizes = _cut(lengths[~spare], count, plan.world)
    clusters = _clusters(np.asarray(source.keys[rows]))
    which, holding = _place(clusters, spare, sizes)
    slots, left_out = _filled(which, holding, clusters, spare, sizes)
    if (missing := sizes - np.bincount(slots[:, 0], minlength=count)).any():
        short = int(np.argmax(missing))
        raise _too_alike(source, int(sizes[short] - missing[short]), len(rows), plan.world)
    shuffled = permuted(np.arange(count), count, ("batches", plan.seed, source.name, epoch, pool))
    starts = np.concatenate(([0], np.cumsum(sizes)))
    return _Pool(rows[slots[:, 1]], starts, left_out, shuffled)


def _too_alike(source: Source, fitting: int, rows: int, world: int) -> ModernPubMedError:
    most = fitting - fitting % world
    wanted = source.batch_size or f"{source.batch_tokens} tokens"
    if most < 2:
        remedy = "give pairs that are not all alike"
    elif source.batch_size is not None:
        remedy = f"set batch_size to at most {most}, or take near-duplicates out"
    else:
        remedy = f"set batch_tokens so that a batch has at most {most} pairs"
    return _refusal(
        source,
        f"a batch of {wanted} cannot be filled: of {rows} pairs only {fitting} are distinct, the "
        "others share an article, a concept or near-identical text with these",
        remedy,
    )


def _cut(lengths: NDArray[np.int64], count: int, world: int) -> NDArray[np.int64]:
    """Sizes of ``count`` batches of equal token sums, each a multiple of ``world``."""
    sums = np.concatenate(([0], np.cumsum(lengths)[world - 1 :: world])) * count
    groups = len(sums) - 1
    targets = np.arange(count + 1) * (sums[-1] // count)
    cuts = np.searchsorted(sums, targets)
    cuts -= targets - sums[cuts - 1] < sums[cuts] - targets
    cuts[0], cuts[-1] = 0, groups
    # Two pairs at least in every batch; ``plan`` made sure that there are enough.
    least = np.arange(count + 1) * (2 if world == 1 else 1)
    cuts = np.maximum.accumulate(cuts - least) + least
    cuts = np.minimum(cuts, groups - least[::-1])
    sizes: NDArray[np.int64] = np.diff(cuts) * world
    return sizes


def _clusters(keys: NDArray[np.uint64]) -> dict[int, list[int]]:
    """The clusters of each row that shares a key with another of the pool."""
    clusters: dict[int, list[int]] = {}
    known = 0
    for column in keys.T:
        _, cluster, members = np.unique(column, return_inverse=True, return_counts=True)
        (sharing,) = np.nonzero((members[cluster] > 1) & (column != 0))
        for row, which in zip(sharing.tolist(), cluster[sharing].tolist(), strict=True):
            clusters.setdefault(row, []).append(known + which)
        known += len(members)
    return clusters


def _place(
    clusters: dict[int, list[int]], spare: NDArray[np.bool_], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], dict[int, int]]:
    """Gives rows that are not spare a batch, no two of one cluster the same.

    Batches are filled in order of length; a row that conflicts waits for the next, so that it is
    a short row among longer ones and costs only its own padding. Rows that still wait at the end
    get none: putting them into batches of shorter rows would pad those whole batches.

    Returns:
        The batch of each row, -1 for none; and for each cluster an integer whose bit b says that
        batch b holds it.
    """
    batch_of = np.full(len(spare), -1, dtype=np.int64)
    holding: dict[int, int] = {}
    main = np.flatnonzero(~spare)
    if not clusters:
        batch_of[main] = np.repeat(np.arange(len(sizes)), sizes)
        return batch_of, holding
    main = np.setdiff1d(main, _too_many(clusters, spare, len(sizes)), assume_unique=True)
    ends = np.cumsum(sizes)
    # What is left out is missing in all batches alike.
    quotas = np.diff(ends * len(main) // ends[-1], prepend=0).tolist()
    queue = deque(main.tolist())
    for batch, quota in enumerate(quotas):
        held: set[int] = set()
        taken: list[int] = []
        waiting: list[int] = []
        while queue and len(taken) < quota:
            row = queue.popleft()
            own = clusters.get(row, ())
            if held.isdisjoint(own):
                taken.append(row)
                held.update(own)
            else:
                waiting.append(row)
        for cluster in held:
            holding[cluster] = holding.get(cluster, 0) | 1 << batch
        queue.extendleft(reversed(waiting))
        batch_of[taken] = batch
    return batch_of, holding


def _too_many(
    clusters: dict[int, list[int]], spare: NDArray[np.bool_], batches: int
) -> NDArray[np.int64]:
    """Rows of clusters with more members than there are batches, all but ``batches`` of each."""
    members: dict[int, list[int]] = {}
    for row in sorted(clusters):
        if not spare[row]:
            for cluster in clusters[row]:
                members.setdefault(cluster, []).append(row)
    out: set[int] = set()
    for rows in members.values():
        if len(rows) <= batches:
            continue
        kept = [row for row in rows if row not in out]
        # Those that stay are spread evenly over the cluster's lengths.
        places = np.arange(batches) * len(kept) // batches
        if len(kept) > batches:
            out.update(np.delete(kept, places).tolist())
    return np.array(sorted(out), dtype=np.int64)


def _filled(
    batch_of: NDArray[np.int64],
    holding: dict[int, int],
    clusters: dict[int, list[int]],
    spare: NDArray[np.bool_],
    sizes: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Fills the empty slots: with rows not used yet, then with the nearest of those used least.

    Returns:
        ``[slots, 2]``, batch and row, in order; and how many stand-ins each batch has.
    """
    (rows,) = np.nonzero(batch_of >= 0)
    slots = [np.column_stack((batch_of[rows], rows))]
    stand_ins = np.zeros(len(sizes), dtype=np.int64)
    empty = sizes - np.bincount(batch_of[rows], minlength=len(sizes))
    homes, uses = _homes(spare, sizes), (batch_of >= 0).astype(np.int64)
    for batch in np.flatnonzero(empty).tolist():
        for row in np.lexsort((np.abs(homes - batch), uses)).tolist():
            if not empty[batch]:
                break
            own = clusters.get(row, [])
            if batch_of[row] == batch or any(holding.get(c, 0) >> batch & 1 for c in own):
                continue
            for cluster in own:
                holding[cluster] = holding.get(cluster, 0) | 1 << batch
            stand_ins[batch] += bool(spare[row] or uses[row])
            uses[row] += 1
            empty[batch] -= 1
            slots.append(np.array([[batch, row]]))
    filled = np.concatenate(slots)
    return filled[np.lexsort((filled[:, 1], filled[:, 0]))], stand_ins


def _homes(spare: NDArray[np.bool_], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The batch that each row would be in if there were no clusters; of spare rows the nearest."""
    place = np.maximum(np.cumsum(~spare) - 1, 0)
    homes: NDArray[np.int64] = np.searchsorted(np.cumsum(sizes), place, side="right")
    return homes
