"""The measures of how well runs agree, against definitions and independent computations."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_mutual_info_score

from phyla.cluster._how_many import (
    _finest,
    co_occurrence,
    coding_length,
    how_many,
    prediction_strength,
    spectrum,
    stability,
)


def runs(n: int = 300, k: int = 7, kept: float = 0.6, seed: int = 0, shares: list[float] | None = None) -> NDArray:
    """Labels (4, n): the first at random, the others agree with it on a share of the rows."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(k, size=(4, n), p=shares).astype(np.int32)
    return np.where(rng.random((4, n)) < kept, labels[0], labels)


@pytest.mark.parametrize("shares", [None, [0.9, 0.08, 0.01, 0.01, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0, 0]])
def test_stability_is_the_mean_adjusted_mutual_information(shares: list[float] | None) -> None:
    labels = runs(shares=shares)
    expected = np.mean([adjusted_mutual_info_score(a, b) for i, a in enumerate(labels) for b in labels[:i]])
    assert stability(co_occurrence(labels, 7)) == pytest.approx(expected, abs=1e-10)


def test_by_chance_nothing_is_stable_whatever_the_number() -> None:
    for k in (2, 7, 40):
        assert abs(stability(co_occurrence(runs(k=k, kept=0), k))) < 0.01


def test_prediction_strength_is_the_share_of_pairs_that_stay_together() -> None:
    labels = runs(40, 3)
    chances = []
    for a, b in permutations(labels, 2):
        pairs = [(i, j) for i, j in permutations(range(40), 2) if a[i] == a[j]]
        # The mean over rows i of how many of those in its group in `a` share its group in `b`.
        chances.append(np.mean([np.mean([b[i] == b[j] for r, j in pairs if r == i]) for i in range(40)]))
    assert prediction_strength(co_occurrence(labels, 3)) == pytest.approx(np.mean(chances))


def test_a_row_alone_in_its_group_has_no_pairs() -> None:
    labels = np.array([[0, 0, 0, 1], [0, 0, 0, 1]], np.int32)
    assert prediction_strength(co_occurrence(labels, 2)) == 1


def test_equal_runs_make_blocks() -> None:
    together = co_occurrence(np.repeat(runs()[:1], 5, axis=0), 7)
    assert spectrum(together) == pytest.approx((1, 1))
    assert stability(together) == pytest.approx(1)
    assert prediction_strength(together) == 1


def test_the_spectrum_is_that_of_the_co_association() -> None:
    labels = runs(50, 4)
    size = np.stack([np.bincount(run, minlength=4)[run] for run in labels])
    scaled = np.mean([(run[:, None] == run) / own for run, own in zip(labels, size, strict=True)], 0)
    values = np.sort(np.linalg.eigvalsh(scaled))[::-1]
    assert spectrum(co_occurrence(labels, 4)) == pytest.approx((values[:4].mean(), values[3] - values[4]), abs=1e-9)


def test_groups_of_their_own_make_a_shorter_code() -> None:
    rng = np.random.default_rng(0)
    of = np.arange(400) % 4
    X = (6 * rng.normal(size=(4, 10))[of] + 0.3 * rng.normal(size=(400, 10))).astype(np.float32)
    one, four, random = (coding_length(X, g.astype(np.int32)) for g in (0 * of, of, rng.permutation(of)))
    print(f"bits a row: one group {one / 400:.1f}, the four {four / 400:.1f}, four at random {random / 400:.1f}")
    assert four < 0.7 * one < one < random


def test_coding_length_follows_the_equation() -> None:
    X = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32) + 2
    mean = X.mean(0)
    covariance = (X - mean).T @ (X - mean) / 30
    expected = (30 + 5) / 2 * np.log2(np.linalg.det(np.eye(5) + covariance / 0.5))
    expected += 5 / 2 * np.log2(1 + mean @ mean / (5 * 0.5))
    assert coding_length(X, np.zeros(30, np.int32)) == pytest.approx(expected, rel=1e-5)


def test_of_groups_in_groups_the_finer_are_found() -> None:
    rng = np.random.default_rng(0)
    of = np.arange(2400) % 12
    coarse, fine = 20 * rng.normal(size=(2, 16)), 4 * rng.normal(size=(12, 16))
    X = (coarse[of % 2] + fine[of] + rng.normal(size=(2400, 16))).astype(np.float32)
    found, evidence = how_many(X, rng)
    print(np.round(evidence[:, :2], 2).tolist())
    assert evidence[evidence[:, 0] == 2, 1] > 0.99, "the two are as stable"
    assert found == 12


def test_a_later_peak_must_be_high_and_apart() -> None:
    assert _finest({2: 1.0, 4: 0.6, 8: 0.95, 16: 0.7}) == 8
    assert _finest({2: 1.0, 4: 0.6, 8: 0.85, 16: 0.7}) == 2
    assert _finest({2: 1.0, 4: 0.93, 8: 0.95, 16: 0.7}) == 2
    assert _finest({2: 0.5, 4: 0.6, 8: 0.9, 16: 0.7}) == 8


def test_threads_and_order_change_nothing() -> None:
    X = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    (one, a), (two, b) = (how_many(X, np.random.default_rng(1), n) for n in (1, 3))
    assert one == two and a.tobytes() == b.tobytes()
