"""Preselecting against computing every cosine, on vectors made to break its bounds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from modernpubmed.evaluation import preselection, ranking
from modernpubmed.evaluation.preselection import Rounded, preselect, rounded, unit

K = 20


@pytest.fixture(params=[90, 127])
def zero(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """With either size of integers, also the one that this processor would not get."""
    if request.param > preselection.largest():
        pytest.skip("this processor does not add up products of ±127 exactly")
    monkeypatch.setattr(preselection, "largest", lambda: request.param)
    return request.param


def made(corpus: np.ndarray, order: np.ndarray | None = None) -> Rounded:
    if order is None:
        order = np.arange(len(corpus))
    with ThreadPoolExecutor(2) as pool:
        return rounded(corpus, order, pool)


def by_cosine(queries: np.ndarray, corpus: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Every cosine in float64, then float32 as the run has it; ties to the lower position."""
    asked, given = unit(queries).astype(np.float64), unit(corpus).astype(np.float64)
    # One sum for each pair: a product of matrices does not treat equal rows equally.
    scores = np.stack([(given * row).sum(axis=1) for row in asked]).astype(np.float32)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return best, np.take_along_axis(scores, best, axis=1)


def random(rng: np.random.Generator, rows: int, dimensions: int) -> np.ndarray:
    return rng.standard_normal((rows, dimensions), dtype=np.float32)


def plain(_rng, _queries, _corpus):
    pass


def few_tiny_differences(rng, queries, corpus):
    # 150 documents before all others whose cosines are a ten-millionth apart: far closer than any
    # integers can tell, and about as close as float32 can. K of them are wanted.
    near = queries[0] + np.float32(0.5) * random(rng, 1, corpus.shape[1])
    corpus[rng.choice(len(corpus), 150, replace=False)] = near + np.float32(1e-5) * random(
        rng, 150, corpus.shape[1]
    )


def equal_at_k(rng, queries, corpus):
    for row, query in enumerate(queries):
        scores = unit(corpus) @ query
        corpus[rng.choice(len(corpus), 12, replace=False)] = corpus[np.argsort(-scores)[K - 1]]
        if row == 5:
            break


def zeros(_rng, _queries, corpus):
    corpus[::7] = 0


def spikes(_rng, queries, corpus):
    # One entry that is many times all others: all others round to little or nothing.
    corpus[np.arange(0, len(corpus), 3), 0] = np.float32(500)
    corpus[1, 2] = np.float32(-1e6)
    queries[::2, 1] = np.float32(80)


def one_direction(_rng, queries, corpus):
    # As models do that put everything in a narrow cone: all cosines are near 1.
    corpus += np.float32(6)
    queries += np.float32(6)


def lengths(rng, queries, corpus):
    corpus *= np.exp(random(rng, len(corpus), 1) * 8)
    queries *= np.exp(random(rng, len(queries), 1) * 8)


@pytest.mark.usefixtures("zero")
@pytest.mark.parametrize(
    "change",
    [plain, few_tiny_differences, equal_at_k, zeros, spikes, one_direction, lengths],
)
@pytest.mark.parametrize(("documents", "dimensions"), [(2048, 64), (2301, 383), (6145, 30)])
def test_what_is_sure_is_right(change, documents: int, dimensions: int) -> None:
    rng = np.random.default_rng(documents)
    corpus, queries = random(rng, documents, dimensions), random(rng, 33, dimensions)
    change(rng, queries, corpus)
    best, scores = by_cosine(queries, corpus, K)
    found, cosines, sure = preselect(unit(queries), made(corpus), K)
    assert (found[sure] == best[sure]).all()
    assert (cosines[sure] == scores[sure]).all()
    if change is plain or change is equal_at_k or change is lengths:
        assert sure.all()
    if change is few_tiny_differences:
        assert sure[0]


@pytest.mark.usefixtures("zero")
@pytest.mark.parametrize("change", [plain, few_tiny_differences, zeros, spikes, one_direction])
def test_both_ways_give_one_run(change, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    corpus, queries = random(rng, 3000, 48), random(rng, 70, 48)
    change(rng, queries, corpus)
    queries[11] = 0
    corpus[2000:2500] = corpus[:500]
    ids = [str(number) for number in rng.permutation(3000)]
    monkeypatch.setattr(ranking, "worthwhile", lambda *_: True)
    monkeypatch.setattr(ranking, "_QUICK_BLOCK", 23)  # the last block is of one query
    quick = ranking.rank(queries, corpus, ids, K)
    monkeypatch.setattr(ranking, "worthwhile", lambda *_: False)
    slow = ranking.rank(queries, corpus, ids, K)
    assert (quick.documents == slow.documents).all()
    assert (quick.scores == slow.scores).all()


def entries(
    rng: np.random.Generator, zero: int, size: float, part: float, most: float
) -> np.ndarray:
    """63 integers plus ``part``, ``most`` at most in sum, and ``zero``; about ``size`` long."""
    while True:
        base = rng.integers(0, 18, 63) + part
        long = np.sqrt((base**2).sum() + zero**2)
        if base.sum() <= most and abs(long / size - 1) < 2e-5:
            return np.append(base, zero)


def aligned(zero: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Documents whose rounding takes off, or adds, all that the bound allows, and their query.

    Each entry of such a document is an integer, in the sign of the query's entry, and 0.49 more
    (60 documents) or less (60 others, but their cosine is lower): what rounding changes points in
    the query's direction or exactly against it. They are put in the one block whose step is
    theirs by an entry larger than those of all others.
    """
    rng = np.random.default_rng(1)
    signs = rng.choice(np.float32([-1, 1]), 64)
    size = np.hypot(zero, 80)
    more = entries(rng, zero, size, 0.49, np.inf)
    less = entries(rng, zero, size, 0.51, more.sum() - zero - 15)
    corpus = random(rng, 3000, 64)
    above, below = np.split(rng.choice(3000, 120, replace=False), 2)
    corpus[above] = np.stack([rng.permutation(more) for _ in above]) * signs
    corpus[below] = np.stack([rng.permutation(less) for _ in below]) * signs
    return unit(signs[None]), corpus, above, below


def test_the_bound_holds_and_is_no_wider_than_it_must_be(zero: int) -> None:
    query, corpus, above, _ = aligned(zero)
    small = made(corpus)
    found = preselection._candidates(query, small, K)
    assert found is not None
    exact = (small.vectors.astype(np.float64) * query[0]).sum(axis=1)
    special = np.isin(small.documents[found.places], above)
    assert special.sum() == len(above)
    room = found.most - exact[found.places]
    assert (room >= 0).all()
    # They need all of it but what the one large entry takes, which is rounded to itself (one in 64
    # dimensions: 0.8 %), and what is added for computing in float32.
    margin = float(small.errors[-1])
    assert margin > 0.01
    assert room[special].max() < 0.011 * margin + 3e-5
    # And nothing that was left out reaches the threshold.
    left = np.delete(exact, found.places)
    assert (left < found.threshold[0]).all()


def test_rounding_up_the_worse_and_down_the_better_changes_nothing(
    zero: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, corpus, above, below = aligned(zero)
    small = made(corpus)
    exact = unit(corpus).astype(np.float64) @ query[0]
    better, worse, margin = exact[above].min(), exact[below].max(), float(small.errors[-1])
    assert better > worse + 0.2 * margin
    # The better ones' estimates are not above this threshold, the worse ones' are.
    monkeypatch.setattr(preselection, "_guess", lambda *_: np.array([worse - 0.1 * margin]))
    found = preselection._candidates(query, small, K)
    assert found is not None
    assert set(small.documents[found.places[found.likely]].tolist()) == set(below.tolist())
    documents, _, sure = preselect(query, small, K)
    assert sure.all()
    assert documents.tolist() == by_cosine(query, corpus, K)[0].tolist()
    # Here the better ones are not even candidates, and there are K others: not to be trusted.
    monkeypatch.setattr(preselection, "_guess", lambda *_: np.array([better + 0.1 * margin]))
    found = preselection._candidates(query, small, K)
    assert found is not None
    assert set(small.documents[found.places[found.likely]].tolist()) == set(below.tolist())
    assert not np.isin(small.documents[found.places], above).any()
    assert not preselect(query, small, K)[2].any()


@pytest.mark.parametrize("dimensions", [13, 50, 63])
def test_equal_documents_tie_at_any_alignment(dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    corpus = random(rng, 4000, dimensions)
    same = np.sort(rng.choice(4000, 2 * K, replace=False))
    corpus[same] = corpus[same[0]]
    found, scores, sure = preselect(unit(corpus[same[:1]]), made(corpus), K)
    assert sure.all()
    assert found[0].tolist() == same[:K].tolist()
    assert (scores == scores[0, 0]).all()


def test_a_guess_too_high_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    corpus, queries = random(rng, 3000, 64), random(rng, 9, 64)
    best, scores = by_cosine(queries, corpus, K)
    guess = preselection._guess
    # For every other query between the first and the last of its K best.
    high = scores[:, K // 2].astype(np.float64)
    high[1::2] = -1

    def wrong(*arguments: object) -> np.ndarray:
        return np.maximum(guess(*arguments), high)

    monkeypatch.setattr(preselection, "_guess", wrong)
    found, _, sure = preselect(unit(queries), made(corpus), K)
    assert sure.tolist() == [False, True] * 4 + [False]
    assert (found[sure] == best[sure]).all()
    monkeypatch.setattr(ranking, "worthwhile", lambda *_: True)
    run = ranking.rank(queries, corpus, [f"{place:04}" for place in range(3000)], K)
    assert (run.documents == best).all()


def test_too_many_candidates_are_left_to_the_float32_product(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(6)
    corpus, queries = random(rng, 3000, 64), random(rng, 9, 64)
    queries[4] = 0  # every document is a candidate
    best, _ = by_cosine(queries, corpus, K)
    found, _, sure = preselect(unit(queries), made(corpus), K)
    assert sure.tolist() == [row != 4 for row in range(9)]
    assert (found[sure] == best[sure]).all()
    kept = preselection._candidates(unit(queries), made(corpus), K)
    assert kept is not None
    assert set(kept.rows.tolist()) == set(range(9)) - {4}
    monkeypatch.setattr(preselection, "_guess", lambda *_: np.full(9, -1.0))
    assert not preselect(unit(queries), made(corpus), K)[2].any()
    monkeypatch.setattr(ranking, "worthwhile", lambda *_: True)
    run = ranking.rank(queries, corpus, [f"{place:04}" for place in range(3000)], K)
    assert (run.documents == best).all()


@pytest.mark.usefixtures("zero")
def test_as_many_candidates_as_documents_wanted() -> None:
    # Three documents, each many times: the K best are all of one kind.
    rng = np.random.default_rng(7)
    corpus = np.repeat(random(rng, 150, 40), 20, axis=0)[rng.permutation(3000)]
    queries = random(rng, 20, 40)
    best, scores = by_cosine(queries, corpus, K)
    found, cosines, sure = preselect(unit(queries), made(corpus), K)
    assert sure.mean() > 0.9
    assert (found[sure] == best[sure]).all()
    assert (cosines[sure] == scores[sure]).all()


@pytest.mark.usefixtures("zero")
def test_order_names_the_documents() -> None:
    rng = np.random.default_rng(8)
    corpus, queries = random(rng, 2500, 32), random(rng, 4, 32)
    order = rng.permutation(2500)
    best, _ = by_cosine(queries, corpus[order], K)
    found, _, sure = preselect(unit(queries), made(corpus, order), K)
    assert sure.all()
    assert (found == best).all()


def test_a_large_corpus_is_preselected_for_many_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    corpus, queries = random(rng, 2048, 16), random(rng, 64, 16)
    seen = []

    def watch(*arguments):
        result = preselect(*arguments)
        seen.append(result[2].mean())
        return result

    monkeypatch.setattr(ranking, "preselect", watch)
    ids = [f"{place:04}" for place in range(2048)]
    run = ranking.rank(queries, corpus, ids, 10)
    assert seen
    assert min(seen) > 0.9
    assert (run.documents == by_cosine(queries, corpus, 10)[0]).all()
    seen.clear()
    ranking.rank(queries[:63], corpus, ids, 10)
    ranking.rank(queries, corpus[:2000], ids[:2000], 10)
    ranking.rank(queries, corpus, ids, 52)
    assert not seen
