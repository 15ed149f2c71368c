"""What `Align` alone promises; scikit-learn's contract is in tests/conformance."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from phyla.reduce.align import Align

Rows = NDArray[np.float32]


def spaces(n: int = 600, d: int = 12, noise: float = 0.0, seed: int = 0) -> tuple[Rows, Rows, NDArray[np.float64]]:
    """X (n, d), the same rows turned, stretched, moved and blurred, and the turn."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + 3
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    Y = 2.5 * (X - 3) @ turn - 7 + noise * rng.normal(size=(n, d))
    return X.astype(np.float32), Y.astype(np.float32), turn


@pytest.mark.parametrize("way", ["rotation", "ridge"])
def test_a_turned_space_is_found_again(way: str) -> None:
    X, Y, turn = spaces()
    align = Align(way, ridge=1e-6).fit(X[:400], Y[:400])
    np.testing.assert_allclose(align.transform(X[400:]), Y[400:], atol=1e-3)
    np.testing.assert_allclose(align.components_, 2.5 * turn, atol=1e-3)
    np.testing.assert_allclose(align.agreement_, 1, atol=1e-4)


def test_a_rotation_keeps_angles_and_a_ridge_need_not() -> None:
    X, Y, _ = spaces(noise=4)
    turned, told = (Align(way).fit(X, Y).components_.astype(float) for way in ("rotation", "ridge"))
    same = turned.T @ turned
    np.testing.assert_allclose(same, same[0, 0] * np.eye(12), atol=1e-5)
    assert np.abs(told.T @ told - same).max() > 0.1


def test_the_ridge_is_ridge_regression_with_its_spread_given_back() -> None:
    X, Y, _ = spaces(noise=4)
    align = Align(ridge=0.1).fit(X, Y)
    gram = np.square(X - X.mean(0)).sum() / X.shape[1]
    plain = Ridge(alpha=0.1 * gram).fit(X.astype(float), Y.astype(float)).predict(X)
    scale = Y.std(0) / plain.std(0)
    np.testing.assert_allclose(align.transform(X), (plain - Y.mean(0)) * scale + Y.mean(0), atol=2e-3)
    np.testing.assert_allclose(align.transform(X).std(0), Y.std(0), rtol=1e-3)
    assert (scale > 1.1).all(), "a prediction varies less than what it predicts"


@pytest.mark.parametrize("d, k", [(20, 6), (6, 20)])
@pytest.mark.parametrize("way", ["rotation", "ridge"])
def test_widths_may_differ(way: str, d: int, k: int) -> None:
    """The nearest row of the other space is the same image; the control is the next image's."""
    rng = np.random.default_rng(1)
    seen = rng.normal(size=(500, 5))
    X, Y = seen @ rng.normal(size=(5, d)), seen @ np.linalg.qr(rng.normal(size=(k, 5)))[0].T
    X = X @ np.linalg.pinv(np.linalg.cholesky(np.cov(X.T) + 1e-9 * np.eye(d))).T  # whitened, where there is variance
    there = Align(way).fit(X[:300], Y[:300]).transform(X[300:])
    assert there.shape == (200, k)
    away = np.linalg.norm(there[:, None] - Y[None, 300:], axis=2)
    found = (away.argmin(1) == np.arange(200)).mean()
    assert found > 0.8, f"{found:.2f} find themselves; by chance 0.005"


def test_an_axis_that_can_t_be_told_does_not_explode() -> None:
    X, Y, _ = spaces()
    X[:, 3], Y[:, 5] = 1, 2
    found = Align().fit(X, Y).transform(X)
    np.testing.assert_allclose(found[:, 5], 2, atol=1e-6)
    assert np.isfinite(found).all()


def test_other_ways_are_refused() -> None:
    with pytest.raises(ValueError, match="'mirror' is not known"):
        Align("mirror").fit(*spaces()[:2])
