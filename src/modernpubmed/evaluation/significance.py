"""Is a difference more than luck of the draw? Bootstrap intervals and paired tests, in NumPy.

The unit is the query. Two systems answer the same queries, so everything about their difference
is computed from the differences query by query:

- the percentile bootstrap interval of a mean (Efron & Tibshirani 1993, An Introduction to the
  Bootstrap, ch. 13);
- the paired bootstrap test, by the shift method: the differences are moved to a mean of 0 and
  drawn again with replacement; the statistic is Student's t (Sakai 2006, Evaluating evaluation
  metrics based on the bootstrap, SIGIR, https://doi.org/10.1145/1148170.1148261; Efron &
  Tibshirani, algorithm 16.2);
- the paired randomisation test: each difference keeps or changes its sign by the toss of a coin
  (Smucker, Allan & Carterette 2007, CIKM, https://doi.org/10.1145/1321440.1321528, who find that
  it, the bootstrap and the t-test agree, and advise against Wilcoxon and the sign test);
- Holm's correction for several tests at once (Holm 1979, Scand. J. Statist. 6, 65-70).

p-values are two-sided and count the observed sample as one of the draws, (1 + extreme) / (1 +
draws), so none is ever 0 (Davison & Hinkley 1997, section 4.2).

Scores of queries take few different values (nDCG@10 with one relevant document: eleven), so equal
differences are grouped and what is drawn is how often each *group* comes up: a multinomial for
the bootstrap, a binomial for the signs. That is the same distribution, at a cost that grows with
the number of different values instead of the number of queries. Queries whose value few others
share are drawn one by one. Draws are made in blocks, so memory is bounded.

Given up: BCa intervals, which need a jackknife of every figure. On simulated scores (skewed, a
quarter of them 0) the 95 % percentile interval holds the true mean in 91 % of samples of 10
queries, 93 % of 20, 95 % of 100 and more; at 10 queries both tests reject less than they might.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.measured import Estimate

#: How often samples are drawn: a p-value of 0.05 is then known to ± 0.004.
DRAWS = 10_000
#: What the draws start from.
SEED = 0

_TAILS = (0.025, 0.975)
# Numbers in one block of draws: 8 MiB as float64.
_BLOCK = 1 << 20
# Differences closer than this, as a part of the largest, are one value: sums of the same terms
# in another order differ in the last bits.
_SAME = 1e-12
# Measured: drawing a multinomial costs twelve times as much a group as an index does a query,
# and a binomial fourteen times as much as a single sign.
_QUERIES_A_GROUP = 12
_SIGNS_A_GROUP = 14

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairedTest:
    """One system against another on the same queries.

    Attributes:
        difference: Mean of ours minus theirs, with its 95 % bootstrap interval.
        bootstrap_p: p-value of the paired bootstrap test, two-sided.
        randomisation_p: p-value of the paired randomisation test, two-sided.
        wins: Queries on which ours is better.
        ties: Queries on which both are equal.
        losses: Queries on which theirs is better.
    """

    difference: Estimate
    bootstrap_p: float
    randomisation_p: float
    wins: int
    ties: int
    losses: int


def bootstrap_mean(values: ArrayLike, *, draws: int = DRAWS, seed: int = SEED) -> Estimate:
    """A mean with its 95 % percentile bootstrap interval.

    Args:
        values: One a query (or triple, or pair), ``[n]``. Of a single one, or of equal ones, the
            interval is the value itself: they have no spread to learn from.
        draws: How many samples to draw.
        seed: The same values, draws and seed give the same interval.

    Raises:
        ModernPubMedError: There is no value, one is not finite, or no draw is asked for.

    >>> bootstrap_mean([0.0, 1.0, 1.0, 1.0])
    Estimate(value=0.75, low=0.25, high=1.0)
    """
    checked = _checked(values, draws)
    means, _ = _resampled(checked, draws, np.random.default_rng(seed))
    return _estimate(checked.mean(), means)


def mean_over_suites(
    values: Sequence[ArrayLike], *, draws: int = DRAWS, seed: int = SEED
) -> Estimate:
    """The mean of several suites' means, each suite weighing the same, with its 95 % interval.

    The bootstrap is stratified: every suite's queries are drawn again among themselves. So the
    interval speaks of other queries of these suites, not of other suites.

    Args:
        values: For each suite one value a query (scores, or differences of scores).
        draws: How many samples to draw.
        seed: What the draws start from.

    Raises:
        ModernPubMedError: There is no suite, or one has no value or one that is not finite.

    >>> mean_over_suites([[0.0, 1.0], [1.0, 1.0, 1.0]])
    Estimate(value=0.75, low=0.5, high=1.0)
    """
    if not values:
        raise ModernPubMedError("no suite to average over", remedy="give at least one")
    rng = np.random.default_rng(seed)
    checked = [_checked(suite, draws) for suite in values]
    means = np.mean([_resampled(suite, draws, rng)[0] for suite in checked], axis=0)
    return _estimate(np.mean([suite.mean() for suite in checked]), means)


def paired_test(
    ours: Mapping[str, float],
    theirs: Mapping[str, float],
    *,
    draws: int = DRAWS,
    seed: int = SEED,
) -> PairedTest:
    """Ours against theirs: difference with interval, both tests, and wins, ties and losses.

    Args:
        ours: One system's score by query id.
        theirs: The other's, of the same queries in any order.
        draws: How many samples to draw.
        seed: What the draws start from.

    Raises:
        ModernPubMedError: The queries are not the same, there is none, or a score is not finite.

    >>> ours, theirs = {"q1": 1.0, "q2": 0.5, "q3": 0.2}, {"q3": 0.2, "q2": 0.25, "q1": 0.5}
    >>> found = paired_test(ours, theirs)
    >>> found.difference.value, found.wins, found.ties, found.losses
    (0.25, 2, 1, 0)
    """
    if different := sorted(ours.keys() ^ theirs.keys()):
        only = "ours" if different[0] in ours else "theirs"
        raise ModernPubMedError(
            f"{len(different)} queries are not common to both",
            record=f"query {different[0]!r} (only in {only})",
            remedy="compare scores of the same queries",
        )
    differences = _checked([ours[query] - theirs[query] for query in ours], draws)
    differences[np.abs(differences) <= _SAME] = 0.0
    means, moments = _resampled(differences, draws, np.random.default_rng(seed))
    return PairedTest(
        difference=_estimate(differences.mean(), means),
        bootstrap_p=_shift_p(differences, means, moments),
        randomisation_p=randomisation_p(differences, draws=draws, seed=seed),
        wins=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
        losses=int((differences < 0).sum()),
    )


def bootstrap_p(differences: ArrayLike, *, draws: int = DRAWS, seed: int = SEED) -> float:
    """Two-sided p-value of the paired bootstrap test that the mean difference is 0.

    A sample without spread counts as extreme. So one query, or differences that are all equal,
    give 1: from them the bootstrap learns nothing, and the randomisation test has to be read.

    Args:
        differences: Ours minus theirs, one a query, ``[n]``.
        draws: How many samples to draw.
        seed: What the draws start from.

    Raises:
        ModernPubMedError: There is no difference, or one is not finite.

    >>> bootstrap_p([0.0, 0.0, 0.0])
    1.0
    >>> bootstrap_p([0.1, 0.2, 0.3, 0.2, 0.1, 0.4, 0.2, 0.1]) < 0.05
    True
    """
    checked = _checked(differences, draws)
    means, moments = _resampled(checked, draws, np.random.default_rng(seed))
    return _shift_p(checked, means, moments)


def randomisation_p(differences: ArrayLike, *, draws: int = DRAWS, seed: int = SEED) -> float:
    """Two-sided p-value of the paired randomisation test that the sign of differences is luck.

    Args:
        differences: Ours minus theirs, one a query, ``[n]``.
        draws: How many sets of signs to draw.
        seed: What the draws start from.

    Raises:
        ModernPubMedError: There is no difference, or one is not finite.

    >>> randomisation_p([0.0, 0.0, 0.0])
    1.0
    >>> 0.2 < randomisation_p([0.5, 0.5, 0.5]) < 0.3  # two of the eight sets of signs
    True
    """
    checked = _checked(differences, draws)
    observed = abs(checked.sum())
    values, counts = _groups(np.abs(checked))
    values, counts = values[values > 0], counts[values > 0]
    rng = np.random.default_rng(seed)
    many = counts > _SIGNS_A_GROUP
    single = np.repeat(values[~many], counts[~many])
    grouped, tossed = values[many], counts[many]
    extreme = 0
    for size in _blocks(draws, len(single) + len(grouped)):
        # A sum of signed values is twice the sum of those with a plus, less the sum of all.
        heads = rng.binomial(tossed, 0.5, size=(size, len(tossed))) @ grouped
        packed = rng.integers(0, 256, size=(size, (len(single) + 7) // 8), dtype=np.uint8)
        heads = heads + np.unpackbits(packed, axis=1, count=len(single)) @ single
        sums = np.abs(2 * heads - values @ counts)
        extreme += int((sums >= observed - _SAME * (values @ counts)).sum())
    return (1 + extreme) / (1 + draws)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down correction of a family of p-values, in their order.

    Rejecting what falls below 0.05 then makes one false rejection or more with a chance of at
    most 5 %, whatever the tests have to do with each other.

    >>> holm([0.01, 0.04, 0.03, 0.005])
    (0.03, 0.06, 0.06, 0.02)
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for place, position in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[position]))
        corrected[position] = highest
    return tuple(corrected)


def _checked(values: ArrayLike, draws: int) -> _Floats:
    checked = np.array(values, dtype=np.float64)
    if checked.ndim != 1 or not len(checked):
        raise ModernPubMedError(
            f"values of shape {checked.shape}", remedy="give one value for each of some queries"
        )
    if not np.isfinite(checked).all():
        place = int(np.flatnonzero(~np.isfinite(checked))[0])
        raise ModernPubMedError(
            f"is {checked[place]}, not a finite number",
            record=f"value {place}",
            remedy="evaluate again",
        )
    if draws < 1:
        raise ModernPubMedError(f"draws is {draws}", remedy="give 1 or more")
    return checked


def _estimate(value: float | np.floating, means: _Floats) -> Estimate:
    low, high = np.quantile(means, _TAILS)
    return Estimate(float(value), float(low), float(high))


def _groups(values: _Floats) -> tuple[_Floats, NDArray[np.int64]]:
    """The different values, rising, and how often each stands there."""
    different, counts = np.unique(values, return_counts=True)
    if len(different) > 1:
        # Neighbours that are one value but for the last bits.
        apart = np.diff(different) > _SAME * np.abs(different).max()
        starts = np.flatnonzero(np.concatenate([[True], apart]))
        different, counts = different[starts], np.add.reduceat(counts, starts)
    return different, counts.astype(np.int64)


def _resampled(values: _Floats, draws: int, rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    """Means ``[draws]`` of bootstrap samples, and means of the squared distance to the mean.

    The distance is that to the mean of ``values``, so nothing is lost to cancellation.
    """
    n, centre = len(values), values.mean()
    different, counts = _groups(values)
    different -= centre
    many = counts > _QUERIES_A_GROUP
    single = np.repeat(different[~many], counts[~many])
    grouped = different[many]
    # How many draws fall on the single queries, and how often each group comes up. In this order:
    # NumPy gives what rounding leaves over to the last, which must not be nothing.
    shares = np.concatenate([[len(single)], counts[many]]) / n
    means: list[_Floats] = []
    moments: list[_Floats] = []
    for size in _blocks(draws, len(single) + len(grouped)):
        drawn = rng.multinomial(n, shares, size=size)
        ends = np.cumsum(drawn[:, 0])
        picks = rng.integers(0, max(1, len(single)), ends[-1], dtype=np.int32)
        picked = single[picks]
        for power, found in ((1, means), (2, moments)):
            running = np.concatenate([[0.0], np.cumsum(picked**power)])
            sums = running[ends] - running[ends - drawn[:, 0]]
            found.append((drawn[:, 1:] @ grouped**power + sums) / n)
    return np.concatenate(means) + centre, np.concatenate(moments)


def _shift_p(differences: _Floats, means: _Floats, moments: _Floats) -> float:
    """The share of samples, drawn from the differences moved to mean 0, of as large a |t|.

    |t*| >= |t| is asked without dividing, as m*^2 s^2 >= m^2 s*^2: where a sample has no spread,
    s* = 0 and it counts.
    """
    mean, tiny = differences.mean(), _SAME * np.abs(differences).max(initial=0.0)
    variance = np.square(differences - mean).mean()
    if variance <= tiny**2:
        return 1.0
    shifted = np.square(means - mean)
    variances = moments - shifted
    variances[variances <= _SAME * moments] = 0.0
    extreme = int((shifted * variance >= mean**2 * variances).sum())
    return (1 + extreme) / (1 + len(means))


def _blocks(draws: int, width: int) -> list[int]:
    """Draws parted so that one block holds a bounded number of values."""
    size = max(1, _BLOCK // max(width, 1))
    return [min(size, draws - start) for start in range(0, draws, size)]
