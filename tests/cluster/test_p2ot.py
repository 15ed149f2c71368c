"""Partial transport against other solvers, modes of very different size, and what the head makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, linprog, minimize

from phyla.cluster import score
from phyla.cluster._grouper import softmax
from phyla.cluster._modes import _merge, modes
from phyla.cluster.kmeans import KMeans
from phyla.cluster.p2ot import P2OT, plan, slope


def surprises(n: int = 7, k: int = 3, seed: int = 0) -> NDArray[np.float32]:
    return np.log(softmax(2 * np.random.default_rng(seed).normal(size=(n, k)).astype(np.float32)))


def long_tail(seed: int = 0, apart: float = 4.6) -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    """Six classes of 800 to 25 rows, the largest so long that k-means would rather cut it."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(6), (800, 400, 200, 100, 50, 25))
    centres = apart * np.linalg.qr(rng.normal(size=(12, 12)))[0][:6]
    noise = rng.normal(size=(len(of), 12))
    noise[of == 0, 11] *= 2.5
    return (centres[of] + noise).astype(np.float32), of


def balanced_accuracy(labels: NDArray, truth: NDArray) -> float:
    """Under the best match, each class counting alike."""
    rows = np.concatenate([np.resize(np.flatnonzero(truth == c), 800) for c in np.unique(truth)])
    return score(labels[rows], np.zeros(len(rows), bool), truth[rows])["accuracy"]


@pytest.mark.parametrize("mass", [0.2, 0.6, 1.0])
def test_a_sharp_plan_is_the_linear_programme_s(mass: float) -> None:
    """Held shares and hardly any entropy: the cheapest partial transport."""
    log_p, prior = surprises(), np.array([0.5, 0.3, 0.2])
    n, k = log_p.shape
    got = plan(log_p, mass, prior, loose=1e4, smooth=0.02, iterations=20_000, tolerance=1e-9)[0] / n
    sums = np.kron(np.eye(n), np.ones(k)), np.kron(np.ones(n), np.eye(k))
    best = linprog(-log_p.ravel(), A_ub=sums[0], b_ub=np.full(n, 1 / n), A_eq=sums[1], b_eq=mass * prior)
    assert_allclose(got.sum(0), mass * prior, atol=1e-4)
    assert got.sum(1).max() <= 1 / n + 1e-6
    none = float(-(log_p * mass * prior / n).sum())  # the plan that knows nothing
    cost = float(-(log_p * got).sum())
    assert cost == pytest.approx(best.fun, abs=0.01), f"{cost:.4f}; least {best.fun:.4f}, uninformed {none:.4f}"
    assert none > best.fun + 0.1 * mass


@pytest.mark.parametrize("mass", [0.3, 0.9])
@pytest.mark.parametrize("loose", [0.3, 3.0])
def test_a_plan_minimises_what_it_says(mass: float, loose: float) -> None:
    """Against a general convex solver, entropy and relative entropy and all."""
    log_p, prior, smooth = surprises(5), np.array([0.6, 0.3, 0.1]), 0.3
    n, k = log_p.shape
    cost = np.hstack([-log_p, np.zeros((n, 1))]).astype(float)

    def objective(flat: NDArray) -> float:
        q = np.maximum(flat.reshape(n, k + 1), 1e-12)
        taken = q[:, :k].sum(0)
        drawn = (taken * np.log(taken / (mass * prior)) - taken).sum()
        return float((q * cost).sum() + loose * drawn + smooth * (q * np.log(q)).sum())

    held = np.vstack([np.kron(np.eye(n), np.ones(k + 1)), np.tile(np.eye(k + 1)[k], n)])
    sums = np.append(np.full(n, 1 / n), 1 - mass)
    begin = np.hstack([np.full((n, k), mass / n / k), np.full((n, 1), (1 - mass) / n)]).ravel()
    options = {"maxiter": 1000, "ftol": 1e-14}
    solved = minimize(
        objective,
        begin,
        bounds=[(1e-9, 1)] * begin.size,
        constraints=LinearConstraint(held, sums, sums),
        options=options,
    )
    got = plan(log_p, mass, prior, loose, smooth, iterations=5000, tolerance=1e-10)[0] / n
    assert_allclose(got, solved.x.reshape(n, k + 1)[:, :k], atol=2e-4)
    assert got.sum() == pytest.approx(mass, abs=1e-4)


def test_the_surest_rows_go_first() -> None:
    log_p = surprises(200)
    carried = plan(log_p, 0.2, np.full(3, 1 / 3), 1.0, 0.05)[0].sum(1)
    order = np.argsort(-log_p.max(1))
    assert carried[order[:20]].mean() > 0.7 > 0.1 > carried[order[100:]].mean()


def test_a_plan_starts_from_another() -> None:
    log_p, prior = surprises(50), np.full(3, 1 / 3)
    settled, columns = plan(log_p, 0.5, prior, 1.0, 0.3, tolerance=1e-9)
    again, _ = plan(log_p, 0.5, prior, 1.0, 0.3, columns, iterations=1)
    afresh, _ = plan(log_p, 0.5, prior, 1.0, 0.3, iterations=1)
    assert np.abs(again - settled).max() < 1e-4 < np.abs(afresh - settled).max()


def test_the_slope_is_that_of_the_cross_entropy() -> None:
    rng = np.random.default_rng(0)
    V, weights = rng.normal(size=(9, 4)), rng.normal(size=(5, 3))
    label = rng.random((9, 3)) * rng.random((9, 1))

    def loss(flat: NDArray) -> float:
        w = flat.reshape(5, 3)
        return float(-(label * np.log(softmax(V @ w[:-1] + w[-1]))).sum() / label.sum())

    step = 1e-6
    by_hand = slope(V, label, weights).ravel()
    differences = [
        (loss(weights.ravel() + step * e) - loss(weights.ravel() - step * e)) / (2 * step) for e in np.eye(15)
    ]
    assert_allclose(by_hand, differences, atol=1e-8)


def test_regions_merge_as_a_slow_search_says() -> None:
    rng = np.random.default_rng(0)
    crossings = rng.random((14, 14)) ** 3
    crossings += crossings.T + 2 * np.eye(14)
    for k in (1, 3, 6):
        groups = [[i] for i in range(14)]

        def between(a: list[int], b: list[int]) -> float:
            return float(crossings[np.ix_(a, b)].sum())

        while len(groups) > k:
            total = [between(g, list(range(14))) for g in groups]
            stay = [between(g, g) / t for g, t in zip(groups, total, strict=True)]
            pairs = [(i, j) for j in range(len(groups)) for i in range(j)]
            ease = [
                between(groups[i], groups[j]) / min(total[i], total[j]) / (stay[i] * stay[j]) ** 0.5 for i, j in pairs
            ]
            i, j = pairs[int(np.argmax(ease))]
            groups[i] += groups.pop(j)
        got = _merge(crossings.copy(), k)
        assert {frozenset(np.flatnonzero(got == g).tolist()) for g in range(k)} == {frozenset(g) for g in groups}


def test_more_groups_than_modes_are_none() -> None:
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    assert modes(X, (3,), 39) is None
    found = modes(X, (3,), 2)
    assert found is not None and set(found.tolist()) == {0, 1}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_long_tail_that_k_means_cuts(seed: int) -> None:
    X, of = long_tail(seed)
    got = balanced_accuracy(P2OT(6).fit(X).labels_, of)
    control = balanced_accuracy(KMeans(6).fit(X).labels_, of)
    print(f"balanced accuracy {got:.3f}, k-means {control:.3f}")
    assert got > 0.9 > 0.8 > control, f"{got:.3f}; k-means {control:.3f}"


def test_shares_are_those_of_the_modes() -> None:
    X, of = long_tail()
    fitted = P2OT(6).fit(X)
    assert_allclose(fitted.prior_, np.bincount(of) / len(of), atol=0.02)
    assert (np.diff(np.bincount(fitted.labels_)) <= 0).all()  # the largest group first


def test_balanced_expects_equal_sizes() -> None:
    X, _ = long_tail()
    assert_allclose(P2OT(6, balanced=True).fit(X).prior_, 1 / 6)


def test_neighbours_can_have_a_say() -> None:
    X, of = long_tail()
    plain, with_neighbours = (P2OT(6, semantic=m).fit(X) for m in (0.0, 1.0))
    assert np.abs(plain.strength_ - with_neighbours.strength_).max() > 1e-3
    assert balanced_accuracy(with_neighbours.labels_, of) > 0.9


def test_new_rows_are_told_apart_by_the_head() -> None:
    X, _ = long_tail()
    fitted = P2OT(6).fit(X)
    proba = softmax(X @ fitted.coef_ + fitted.intercept_)
    assert_array_equal(fitted.labels_, proba.argmax(1))
    assert_allclose(fitted.strength_, proba.max(1), atol=1e-6)
