"""Axes that spaces share."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.base import clone

from phyla import plugins
from phyla._steps import fitted_arrays, restore

GCCA = plugins.load("reduce", "cca")
PCA = plugins.load("reduce", "pca")

BLOCKS = (8, 10, 6)


@pytest.fixture(scope="module")
def shared() -> NDArray[np.float64]:
    return np.random.default_rng(1).normal(size=(600, 3))


@pytest.fixture(scope="module")
def X(shared: NDArray) -> NDArray[np.float32]:
    """(600, 24): three spaces, in each 3 shared axes, and louder ones of its own."""
    rng = np.random.default_rng(0)
    spaces = []
    for width in BLOCKS:
        own = np.hstack([shared + 0.2 * rng.normal(size=shared.shape), 4 * rng.normal(size=(600, width - 3))])
        spaces.append(own @ np.linalg.qr(rng.normal(size=(width, width)))[0] + 30)
    return np.hstack(spaces).astype(np.float32)


def explained(Z: NDArray, wanted: NDArray) -> float:
    """Share of the variance of `wanted` (n, c) that Z (n, k) tells linearly, R²."""
    Z, wanted = Z - Z.mean(0), wanted - wanted.mean(0)
    rest = wanted - Z @ np.linalg.lstsq(Z, wanted, rcond=None)[0]
    return 1 - float((rest**2).sum() / (wanted**2).sum())


def test_what_is_shared_is_found(X: NDArray, shared: NDArray) -> None:
    got, control = (explained(m.fit_transform(X), shared) for m in (GCCA(3, blocks=BLOCKS, shrinkage=0.01), PCA(3)))
    print(f"R² of what is shared: CCA {got:.3f}, PCA {control:.3f}")
    assert got > 0.95 > 0.5 > control, f"CCA {got:.3f}, PCA {control:.3f}"


def test_agreement_tells_how_many_axes_are_shared(X: NDArray) -> None:
    agreement = GCCA(24, blocks=BLOCKS, shrinkage=0).fit(X).agreement_
    assert (agreement[:3] > 0.9).all() and (agreement[3:] < 0.25).all(), agreement


def test_two_spaces_give_canonical_correlations(X: NDArray) -> None:
    """These are the singular values of the product of the two whitened spaces."""
    one, two = (np.linalg.svd(B - B.mean(0), full_matrices=False)[0] for B in (X[:, :8].astype(float), X[:, 8:18]))
    correlations = np.linalg.svd(one.T @ two, compute_uv=False)
    got = GCCA(8, blocks=(8, 10), shrinkage=0).fit(X[:, :18]).agreement_
    assert_allclose(got, correlations, atol=2e-3)


def test_one_space_is_whitening_pca(X: NDArray) -> None:
    X = X[:, :8]
    ours, theirs = GCCA(5).fit_transform(X), PCA(5).fit_transform(X)
    assert_allclose(ours * np.sign((ours * theirs).sum(0)), theirs, atol=5e-3)


def test_axes_are_as_long_as_spaces_agree_and_not_correlated(X: NDArray) -> None:
    model = GCCA(10, blocks=BLOCKS, shrinkage=0).fit(X)
    assert (np.diff(model.agreement_) <= 0).all()
    assert_allclose(np.cov(model.transform(X).T), np.diag(model.agreement_**2), atol=5e-3)


@pytest.mark.parametrize("cuts", [(1, 2, 300), (250,)], ids=str)
def test_rows_may_come_in_blocks(X: NDArray, cuts: tuple[int, ...]) -> None:
    whole = GCCA(5, blocks=BLOCKS).fit(X).transform(X)
    model = GCCA(5, blocks=BLOCKS)
    for part in np.split(X, cuts):
        model.partial_fit(part)
    assert_allclose(model.transform(X), whole, atol=2e-3)
    model.transform(X[:5])
    model.partial_fit(X[:100] * 3)
    assert not np.allclose(model.transform(X), whole, atol=0.05), "rows that came later count"
    assert_array_equal(model.fit(X).transform(X), whole)  # fit starts anew


def test_blocks_that_do_not_add_up(X: NDArray) -> None:
    with pytest.raises(ValueError, match="add up to 20, but X has 24 columns"):
        GCCA(blocks=(10, 10)).fit(X)


@pytest.mark.filterwarnings("error::RuntimeWarning")
class TestDegenerate:
    def test_a_space_without_variance(self, X: NDArray) -> None:
        Z = GCCA(4, blocks=(8, 5)).fit_transform(np.hstack([X[:, :8], np.full((len(X), 5), 0.1, np.float32)]))
        assert np.isfinite(Z).all()
        assert explained(PCA(8).fit_transform(X[:, :8])[:, :4], Z) > 0.9

    def test_identical_rows(self) -> None:
        Z = GCCA(4, blocks=(3, 3)).fit_transform(np.full((30, 6), 0.1, np.float32))
        assert np.isfinite(Z).all() and not Z.any()

    @pytest.mark.parametrize("rows", [2, 5])
    def test_fewer_rows_than_columns(self, X: NDArray, rows: int) -> None:
        Z = GCCA(10, blocks=BLOCKS).fit_transform(X[:rows])
        assert Z.shape == (rows, min(10, rows - 1)) and np.isfinite(Z).all()


def test_the_arrays_are_all_there_is_to_save(X: NDArray) -> None:
    model = GCCA(5, blocks=BLOCKS).fit(X[:200])
    assert_array_equal(restore(clone(model), fitted_arrays(model)).transform(X), model.transform(X))
