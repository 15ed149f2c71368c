"""A prediction is the sum of what pushes it, and what pushes it most matters most."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge

from phyla.explain import Representers, nearest


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Four overlapping classes of 60 rows, in two spaces of 20 axes."""
    rng = np.random.default_rng(0)
    y = np.arange(240) % 4
    X = rng.normal(size=(4, 40))[y] + 1.4 * rng.normal(size=(240, 40))
    return X.astype(np.float32), y.astype(np.int32)


def test_the_pushes_sum_to_the_score(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = blobs
    model = Representers(blocks=(20, 20)).fit(X[:200], y[:200], 4)
    scores = model.scores(X[200:])
    for x, score in zip(X[200:], scores, strict=True):
        for c in range(4):
            assert model.pushes(x, c).sum() == pytest.approx(score[c], abs=1e-12)
        assert model.pushes(x, 1, 3).sum() == pytest.approx(score[1] - score[3], abs=1e-12)
    right = (scores.argmax(1) == y[200:]).mean()
    assert right > 0.8, f"{right:.2f}, chance 0.25"


def test_it_is_kernel_ridge_regression(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = blobs
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)  # exp(4 (cos − 1)) = exp(−2 |u − v|²)
    other = KernelRidge(alpha=1.0, kernel=RBF(0.5)).fit(unit[:200], np.eye(4)[y[:200]] - 0.25)
    mine = Representers().fit(X[:200], y[:200], 4).scores(X[200:])
    np.testing.assert_allclose(mine, other.predict(unit[200:]), atol=1e-6)


def test_the_gradient_is_that_of_the_score(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = blobs
    model = Representers(blocks=(20, 20)).fit(X[:200], y[:200], 4)
    x, step = X[210].astype(np.float64), 1e-5
    near = np.array([x + sign * step * axis for axis in np.eye(40) for sign in (1, -1)])
    up, down = model.scores(near).reshape(40, 2, 4).transpose(1, 0, 2)
    lead = ((up - down) / (2 * step))[:, 2] - ((up - down) / (2 * step))[:, 0]
    np.testing.assert_allclose(model.gradient(x, 2, 0), lead, atol=1e-8)


def test_axes_beyond_the_leading_ones_take_no_part() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 100)), rng.integers(0, 2, 50)
    model = Representers(blocks=(100,)).fit(X, y, 2)
    changed = X[:5].copy()
    changed[:, 64:] = 9
    np.testing.assert_array_equal(model.scores(X[:5]), model.scores(changed))
    assert not model.gradient(X[0], 0)[64:].any()


def test_without_what_pushed_most_less_is_left(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    """Ten images are left out and all learnt anew; the control leaves out ten others of the class at random."""
    X, y = blobs
    rng, gone, control = np.random.default_rng(0), [], []
    model = Representers().fit(X[:200], y[:200], 4)
    for x in X[200:]:
        c = int(model.scores(x[None])[0].argmax())
        before, pushes = model.scores(x[None])[0, c], model.pushes(x, c)
        for out, told in (
            (np.argsort(-pushes)[:10], gone),
            (rng.choice(np.flatnonzero(y[:200] == c), 10, replace=False), control),
        ):
            kept = np.setdiff1d(np.arange(200), out)
            told.append(before - Representers().fit(X[kept], y[kept], 4).scores(x[None])[0, c])
    message = f"the score falls by {np.mean(gone):.3f}, without ten others of the class by {np.mean(control):.3f}"
    print(message)
    assert np.mean(gone) > 1.5 * np.mean(control) > 0, message


def test_nearest_are_the_nearest() -> None:
    rng = np.random.default_rng(0)
    X, x = rng.normal(size=(500, 8)).astype(np.float32), rng.normal(size=8)
    rows, away = nearest(x, X, 7)
    every = np.linalg.norm(X - x, axis=1)
    assert rows.tolist() == np.argsort(every, kind="stable")[:7].tolist()
    np.testing.assert_allclose(away, np.sort(every)[:7], rtol=1e-6)
    assert len(nearest(x, X[:3], 7)[0]) == 3 and len(nearest(x, X[:0], 7)[0]) == 0
