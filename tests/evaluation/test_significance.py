from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from modernpubmed.errors import ModernPubMedError
from modernpubmed.evaluation.measured import Estimate
from modernpubmed.evaluation.significance import (
    bootstrap_mean,
    bootstrap_p,
    holm,
    mean_over_suites,
    paired_test,
    randomisation_p,
)


def scores_of_two(
    rng: np.random.Generator, queries: int, better: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """nDCG@10 with one relevant document, as two systems of like skill might have it.

    How hard a query is they share, the rest is each one's own: skewed, full of ties and zeros,
    and correlated. Without ``better`` the two may be exchanged, so the null holds.
    """
    hard = rng.normal(0, 1.6, queries)
    both = []
    for skill in (better, 0.0):
        rank = np.floor(np.exp(0.5 + hard + rng.normal(0, 0.8, queries) - skill)) + 1
        both.append(np.where(rank <= 10, 1 / np.log2(rank + 1), 0.0))
    return both[0], both[1]


def test_the_simulated_scores_are_like_real_ones():
    ours, theirs = scores_of_two(np.random.default_rng(0), 100_000)
    assert 0.1 < (ours == 0).mean() < 0.25
    assert 0.4 < (ours == theirs).mean() < 0.6
    assert 0.6 < np.corrcoef(ours, theirs)[0, 1] < 0.8
    assert len(np.unique(ours)) == 11


def test_under_the_null_five_per_cent_are_below_five_per_cent():
    rng = np.random.default_rng(20_260)
    trials, below = 2000, np.zeros(2)
    for seed in range(trials):
        ours, theirs = scores_of_two(rng, 120)
        values = ours - theirs
        below[0] += bootstrap_p(values, draws=499, seed=seed) < 0.05
        below[1] += randomisation_p(values, draws=499, seed=seed) < 0.05
    assert below / trials == pytest.approx(0.05, abs=0.01)


def test_a_true_effect_is_found_as_often_as_by_a_t_test():
    rng = np.random.default_rng(7)
    trials, found = 500, np.zeros(3)
    for seed in range(trials):
        ours, theirs = scores_of_two(rng, 200, better=0.2)
        values = ours - theirs
        found[0] += bootstrap_p(values, draws=499, seed=seed) < 0.05
        found[1] += randomisation_p(values, draws=499, seed=seed) < 0.05
        found[2] += stats.ttest_rel(ours, theirs).pvalue < 0.05
    bootstrap, randomisation, student = found / trials
    assert 0.4 < student < 0.9
    assert bootstrap == pytest.approx(student, abs=0.03)
    assert randomisation == pytest.approx(student, abs=0.03)


def test_an_interval_holds_the_truth_in_95_per_cent():
    ours, theirs = scores_of_two(np.random.default_rng(1), 2_000_000, better=0.2)
    truth = np.array([ours.mean(), (ours - theirs).mean()])
    rng = np.random.default_rng(2)
    trials, held = 1000, np.zeros(2)
    for seed in range(trials):
        ours, theirs = scores_of_two(rng, 150, better=0.2)
        for place, values in enumerate((ours, ours - theirs)):
            interval = bootstrap_mean(values, draws=500, seed=seed)
            held[place] += interval.low <= truth[place] <= interval.high
    assert held / trials == pytest.approx(0.95, abs=0.02)


def test_randomisation_agrees_with_all_signs_written_out():
    values = np.array([0.5, -0.1, 0.37, 0.37, 0.0, 0.63, -0.13, 0.5])
    signs = np.array(list(product([-1, 1], repeat=len(values))))
    exact = (np.abs(signs @ values) >= abs(values.sum()) - 1e-12).mean()
    assert randomisation_p(values, draws=200_000) == pytest.approx(exact, abs=0.003)
    rival = stats.permutation_test(
        (values, np.zeros_like(values)), lambda x, y: np.mean(x - y), permutation_type="samples"
    )
    assert exact == pytest.approx(rival.pvalue)


@pytest.mark.parametrize("kind", ["few values", "all different"])
def test_groups_and_single_queries_are_drawn_alike(kind: str):
    """Both ways of drawing, against NumPy's and SciPy's plain ones."""
    rng = np.random.default_rng(3)
    ours, theirs = scores_of_two(rng, 400, better=0.15)
    values = ours - theirs
    if kind == "all different":
        values = values + rng.normal(0, 0.01, 400)
    elif len(np.unique(values)) * 12 >= 400:
        values = np.round(values, 1)
    assert (len(np.unique(values)) * 12 < 400) == (kind == "few values")
    plain = values[rng.integers(0, 400, size=(20_000, 400))]
    interval = bootstrap_mean(values, draws=20_000)
    assert interval.value == pytest.approx(values.mean(), abs=1e-15)
    spread = values.std() / 20
    low, high = np.quantile(plain.mean(axis=1), [0.025, 0.975])
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.08 * spread)
    t = values.mean() / values.std()
    t_drawn = (plain.mean(axis=1) - values.mean()) / plain.std(axis=1)
    expected = (np.abs(t_drawn) >= abs(t)).mean()
    assert bootstrap_p(values, draws=20_000) == pytest.approx(expected, abs=0.006)
    rival = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=20_000, rng=rng
    )
    assert randomisation_p(values, draws=20_000) == pytest.approx(rival.pvalue, abs=0.006)


def test_the_seed_decides():
    values = np.random.default_rng(4).normal(0.1, 1, 50)
    for function in (bootstrap_mean, bootstrap_p, randomisation_p):
        assert function(values, draws=500, seed=1) == function(values, draws=500, seed=1)
        assert function(values, draws=500, seed=1) != function(values, draws=500, seed=2)


def test_differences_of_the_last_bit_are_ties():
    tenth = 0.1 + 0.2  # 0.30000000000000004
    found = paired_test({"a": tenth, "b": 0.3, "c": 1.0}, {"a": 0.3, "b": tenth, "c": 0.0})
    assert (found.wins, found.ties, found.losses) == (1, 2, 0)
    # 0.3 - 0.2 and 0.1 are not the same number; with opposite signs they cancel all the same.
    assert randomisation_p([0.3 - 0.2, -0.1], draws=2000) == 1.0


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_one_query(value: float):
    found = paired_test({"q": value}, {"q": 0.0}, draws=200)
    assert found.difference == Estimate(value, value, value)
    assert (found.bootstrap_p, found.randomisation_p) == (1.0, 1.0)


def test_no_difference_at_all():
    scores = {f"q{number}": number / 7 for number in range(30)}
    found = paired_test(scores, scores, draws=500)
    assert found.difference == Estimate(0.0, 0.0, 0.0)
    assert (found.bootstrap_p, found.randomisation_p) == (1.0, 1.0)
    assert (found.wins, found.ties, found.losses) == (0, 30, 0)


def test_the_same_difference_everywhere():
    # The bootstrap has no spread to go by; the signs have 2 of 2^20 ways.
    values = np.full(20, 0.1)
    assert bootstrap_p(values, draws=999) == 1.0
    assert randomisation_p(values, draws=999) == 1 / 1000


def test_a_p_value_is_never_zero():
    values = np.random.default_rng(5).normal(3, 0.1, 100)
    assert bootstrap_p(values, draws=99) == 0.01
    assert randomisation_p(values, draws=99) == 0.01


def test_queries_are_paired_by_id_and_must_be_the_same():
    ours, theirs = {"a": 1.0, "b": 0.2}, {"b": 0.1, "a": 0.0}
    assert paired_test(ours, theirs, draws=100).difference.value == pytest.approx(0.55)
    with pytest.raises(ModernPubMedError, match=r"query 'b' \(only in ours\): 2 queries are not"):
        paired_test(ours, {"a": 0.0, "c": 1.0})
    with pytest.raises(ModernPubMedError, match=r"query 'c' \(only in theirs\): 1 queries"):
        paired_test(ours, {**theirs, "c": 1.0})


def test_what_is_refused():
    with pytest.raises(ModernPubMedError, match=r"values of shape \(0,\)"):
        bootstrap_mean([])
    with pytest.raises(ModernPubMedError, match="values of shape"):
        paired_test({}, {})
    with pytest.raises(ModernPubMedError, match="value 1: is nan, not a finite number"):
        bootstrap_mean([0.0, float("nan")])
    with pytest.raises(ModernPubMedError, match="value 0: is inf"):
        randomisation_p([float("inf"), 0.0])
    with pytest.raises(ModernPubMedError, match="draws is 0"):
        bootstrap_p([0.1, 0.2], draws=0)
    with pytest.raises(ModernPubMedError, match="no suite to average over"):
        mean_over_suites([])


def test_a_mean_over_suites_weighs_each_the_same():
    rng = np.random.default_rng(6)
    small, large = rng.normal(0.2, 0.3, 100), rng.normal(0.6, 0.3, 10_000)
    found = mean_over_suites([small, large], draws=4000)
    assert found.value == pytest.approx((small.mean() + large.mean()) / 2)
    # Its variance is the sum of both means' variances, a quarter of each.
    spread = np.sqrt(small.var() / 100 + large.var() / 10_000) / 2
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.05)
    # Streams of their own: two suites of the same values do not move together.
    twice = mean_over_suites([small, small], draws=4000)
    alone = bootstrap_mean(small, draws=4000)
    assert (twice.high - twice.low) * np.sqrt(2) == pytest.approx(alone.high - alone.low, rel=0.08)


def test_holm():
    # The example of the four p-values worked by hand: 4 × 0.005, 3 × 0.01, 2 × 0.03, and at
    # least the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.6, 0.7]) == (1.0, 1.0)
    assert holm([0.2]) == (0.2,)
    assert holm([]) == ()


def test_twenty_thousand_queries_take_bounded_memory():
    import tracemalloc

    rng = np.random.default_rng(8)
    tracemalloc.start()
    bootstrap_mean(rng.random(20_000), draws=300)
    randomisation_p(rng.normal(size=20_000), draws=300)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 2**20
