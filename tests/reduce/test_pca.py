from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.decomposition import PCA as Theirs
from sklearn.exceptions import NotFittedError

from phyla import plugins

PCA = plugins.load("reduce", "pca")


@pytest.fixture(scope="module")
def X() -> NDArray[np.float32]:
    """(400, 20): axes of unlike length, turned, far from the origin."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    return (rng.normal(size=(400, 20)) * 1.3 ** -np.arange(20) @ turn + 50).astype(np.float32)


def same_axes(ours: NDArray, theirs: NDArray) -> NDArray:
    return ours * np.sign((ours * theirs).sum(0))


@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("k", [1, 7, 20])
def test_equals_scikit_learns(X: NDArray, k: int, whiten: bool) -> None:
    theirs = Theirs(k, whiten=whiten, svd_solver="full").fit(X.astype(float))
    ours = PCA(k, whiten=whiten).fit(X)
    want = theirs.transform(X.astype(float))
    assert_allclose(same_axes(ours.transform(X), want), want, atol=2e-3 * np.abs(want).max())
    assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=1e-3)
    assert_allclose(ours.mean_, theirs.mean_, rtol=1e-6)
    assert ours.total_variance_ == pytest.approx(X.var(0, ddof=1, dtype=float).sum(), rel=1e-4)


@pytest.mark.parametrize("cuts", [(1, 2, 3), (37, 200), (399,)], ids=str)
def test_blocks_in_any_number_and_order(X: NDArray, cuts: tuple[int, ...]) -> None:
    whole = PCA(7).fit(X).transform(X)
    blocks = np.split(X, cuts)
    for order in (blocks, blocks[::-1]):
        pca = PCA(7)
        for block in order:
            pca.partial_fit(block)
        assert_allclose(pca.transform(X), whole, atol=2e-3)


def test_a_row_comes_out_the_same_in_any_company(X: NDArray) -> None:
    pca = PCA(7).fit(X)
    whole = pca.transform(X)
    assert_allclose(pca.transform(X[::-1])[::-1], whole, atol=1e-5)
    assert_allclose(np.concatenate([pca.transform(row[None]) for row in X[:20]]), whole[:20], atol=1e-5)


def test_asking_between_blocks_does_not_disturb(X: NDArray) -> None:
    pca = PCA(7).partial_fit(X[:100])
    early = pca.transform(X)
    pca.partial_fit(X[100:])
    late = pca.transform(X)
    assert not np.allclose(early, late, atol=0.05)
    assert_allclose(late, PCA(7).fit(X).transform(X), atol=2e-3)


def test_fit_forgets_what_came_before(X: NDArray) -> None:
    again = PCA(7).fit(X[:50] * 3).fit(X)
    assert_array_equal(again.transform(X), PCA(7).fit(X).transform(X))


def test_whitened_axes_have_unit_variance(X: NDArray) -> None:
    Z = PCA(20).fit(X).transform(X)
    assert_allclose(np.cov(Z.T), np.eye(20), atol=5e-3)
    assert Z.dtype == np.float32


def test_largest_first_and_signs_fixed(X: NDArray) -> None:
    pca = PCA(20).fit(X)
    assert (np.diff(pca.explained_variance_) <= 0).all()
    largest = np.abs(pca.components_).argmax(1)
    assert (pca.components_[np.arange(20), largest] > 0).all()


def test_a_far_origin_costs_no_digits(X: NDArray) -> None:
    near, far = PCA(5).fit(X), PCA(5).fit(X + 2000)
    assert_allclose(far.explained_variance_, near.explained_variance_, rtol=0.01)


@pytest.mark.filterwarnings("error::RuntimeWarning")
class TestDegenerate:
    def test_one_row(self) -> None:
        Z = PCA(5).fit_transform(np.full((1, 8), 3, np.float32))
        assert Z.shape[0] == 1 and np.isfinite(Z).all() and not Z.any()

    def test_two_rows(self) -> None:
        Z = PCA(5).fit_transform(np.array([[0, 0, 0], [3, 4, 0]], np.float32))
        assert Z.shape == (2, 1)
        assert_allclose(np.abs(Z), np.sqrt(0.5), rtol=1e-5)

    def test_identical_rows(self) -> None:
        Z = PCA(5).fit_transform(np.full((30, 8), 0.1, np.float32))
        assert np.isfinite(Z).all() and not Z.any()

    def test_constant_columns(self, X: NDArray) -> None:
        padded = np.hstack([X, np.full((len(X), 5), 7, np.float32)])
        Z = PCA(25).fit_transform(padded)
        assert np.isfinite(Z).all()
        assert_allclose(Z[:, :20], PCA(20).fit_transform(X), atol=2e-3)
        assert np.abs(Z[:, 20:]).max() < 0.1, "axes without variance are noise, scaled up"

    def test_fewer_rows_than_axes_wanted(self, X: NDArray) -> None:
        assert PCA(20).fit_transform(X[:6]).shape == (6, 5)

    def test_a_copied_column_adds_an_axis_of_nothing(self, X: NDArray) -> None:
        Z = PCA(21).fit_transform(np.hstack([X, X[:, :1]]))
        assert np.isfinite(Z).all() and np.abs(Z[:, 20]).max() < 0.1


def test_unfitted() -> None:
    with pytest.raises(NotFittedError):
        PCA().transform(np.zeros((2, 3), np.float32))


def test_another_width_is_refused(X: NDArray) -> None:
    with pytest.raises(ValueError, match="features"):
        PCA(3).partial_fit(X).partial_fit(X[:, :4])
