"""The split/merge test: Gaussian groups are left whole, mixtures of two are not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_mutual_info_score

from phyla.cluster._split_merge import crossing, excess, gaussians


def agreement(labels: NDArray[np.int32], k: int) -> float:
    return float(np.mean([adjusted_mutual_info_score(a, b) for i, a in enumerate(labels) for b in labels[:i]]))


def groups(parts: int, each: int = 120) -> NDArray[np.float32]:
    """Eight groups of rows (8 · each, 8), far apart; each a Gaussian, or two that lie near each other."""
    rng = np.random.default_rng(0)
    of = np.arange(8 * each)
    centres, halves = 12 * rng.normal(size=(8, 8)), 2 * rng.normal(size=(8, parts, 8)) * (parts > 1)
    return (centres[of % 8] + halves[of % 8, of // 8 % parts] + rng.normal(size=(len(of), 8))).astype(np.float32)


def test_a_control_has_the_means_and_covariances_of_the_groups() -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(6000) % 2).astype(np.int32)
    X = (rng.normal(size=(6000, 3)) * [[1, 5, 0.2]] ** labels[:, None] + 9 * labels[:, None]).astype(np.float32)
    Z = gaussians(X, labels, rng)
    assert not np.isclose(Z, X).all(1).any(), "rows of its own"
    for g in (0, 1):
        one, other = X[labels == g], Z[labels == g]
        assert other.mean(0) == pytest.approx(one.mean(0), abs=0.3)
        scale = np.outer(one.std(0), one.std(0))
        assert np.cov(other.T) / scale == pytest.approx(np.cov(one.T) / scale, abs=0.1)


def test_a_group_of_one_row_stays_where_it_is() -> None:
    X = np.array([[1, 2], [3, 4]], np.float32)
    assert gaussians(X, np.array([0, 1], np.int32), np.random.default_rng(0)).tolist() == X.tolist()


def test_mixtures_of_two_are_split_and_gaussians_are_not() -> None:
    one, two = (excess(groups(parts), [8], agreement, np.random.default_rng(0))[0] for parts in (1, 2))
    print(f"excess: Gaussians {one:+.3f}, mixtures of two {two:+.3f}")
    assert one < 0.02 < 0.06 < two


def test_the_number_is_where_the_line_crosses_zero() -> None:
    numbers = np.array([10, 12, 15, 20, 25], float)
    line = np.log(20 / numbers)
    assert crossing(numbers, line) == 20
    assert crossing(numbers, line + 10) == 25, "never beyond the last"
    assert crossing(numbers, 0 * line + 1) == 25
    assert crossing(numbers, line - 1) == 10, "never before the first"
    assert crossing(numbers, 0.02 * line + np.array([-1, 1, -1, 1, -1])) == 10, "luck is no reason to split"
    assert crossing(numbers[:3], line[:3]) == 10, "too few to tell"


def test_threads_change_nothing() -> None:
    one, two = (excess(groups(2, 20), [4, 8], agreement, np.random.default_rng(0), jobs) for jobs in (1, 3))
    assert one.tobytes() == two.tobytes()
