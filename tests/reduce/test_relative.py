"""Descriptions by cosines to anchors: the same whichever network looked."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.metrics.pairwise import cosine_similarity

from phyla import plugins
from phyla._steps import fitted_arrays, restore

Relative = plugins.load("reduce", "relative")
PCA = plugins.load("reduce", "pca")


@pytest.fixture(scope="module")
def X() -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(300, 12)) * rng.uniform(0.5, 3, 12) + 20).astype(np.float32)


def turned(X: NDArray, width: int, seed: int = 1) -> NDArray[np.float32]:
    """X in a space of `width` axes: turned, scaled by 3 and moved."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0][: X.shape[1]]
    return (3 * (X.astype(float) - 20) @ turn + rng.normal(size=width)).astype(np.float32)


def test_equals_cosines_about_the_mean(X: NDArray) -> None:
    model = Relative(40).fit(X)
    Z = model.transform(X)
    rows = Z.argmax(0)  # an anchor's cosine is largest with itself
    assert len(set(rows)) == 40
    apart = X.astype(float) - X.mean(0, dtype=float)
    assert_allclose(Z, cosine_similarity(apart, apart[rows]), atol=2e-6)


@pytest.mark.parametrize("width", [12, 30])
def test_turning_scaling_and_moving_change_nothing(X: NDArray, width: int) -> None:
    assert_allclose(Relative(40).fit_transform(turned(X, width)), Relative(40).fit_transform(X), atol=1e-4)


def test_two_networks_become_comparable() -> None:
    """Each sees the same 300 things in its own coordinates, with noise of its own."""
    rng = np.random.default_rng(0)
    things = rng.normal(size=(300, 10)) + 20
    spaces = [turned(things + 0.1 * rng.normal(size=things.shape), width, width) for width in (16, 24)]

    def found(reducer: object) -> float:
        """Share of things whose nearest in the other network's space is the thing itself."""
        one, two = (clone(reducer).fit_transform(space) for space in spaces)  # type: ignore[attr-defined]
        return float((cosine_similarity(one, two).argmax(1) == np.arange(300)).mean())

    relative, control = found(Relative(100)), found(PCA(10))
    print(f"found in the other space: relative {relative:.3f}, PCA {control:.3f}")
    assert relative > 0.95 > 0.2 > control, f"relative {relative:.3f}, PCA {control:.3f}"


def test_anchors_do_not_depend_on_the_features(X: NDArray) -> None:
    """Or spaces could not be compared; another seed takes others."""
    rows = [Relative(20, random_state=s).fit_transform(F).argmax(0) for s, F in ((0, X), (0, turned(X, 20)), (1, X))]
    assert_array_equal(rows[0], rows[1])
    assert set(rows[0]) != set(rows[2])


def test_no_more_anchors_than_rows(X: NDArray) -> None:
    assert Relative(256).fit_transform(X[:9]).shape == (9, 9)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_row_at_the_mean_has_no_direction() -> None:
    Z = Relative(5).fit_transform(np.full((8, 3), 0.1, np.float32))
    assert np.isfinite(Z).all() and np.abs(Z).max() <= 1


def test_the_arrays_are_all_there_is_to_save(X: NDArray) -> None:
    model = Relative(30).fit(X[:200])
    assert_array_equal(restore(clone(model), fitted_arrays(model)).transform(X), model.transform(X))
