"""A linear map under which neighbours come out alike."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.base import clone

from phyla import plugins
from phyla._steps import fitted_arrays, restore
from phyla.neighbors import nearest_neighbors
from phyla.reduce import tldr

TLDR = plugins.load("reduce", "tldr")
PCA = plugins.load("reduce", "pca")


@pytest.fixture(scope="module")
def groups() -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    """(900, 32), thirty groups: they differ on 24 axes, and 8 louder ones tell nothing."""
    rng = np.random.default_rng(0)
    of = np.arange(900) % 30
    centres = np.sqrt(30) * np.linalg.qr(rng.normal(size=(30, 24)))[0]
    X = np.hstack([centres[of] + 0.2 * rng.normal(size=(900, 24)), 1.6 * rng.normal(size=(900, 8))])
    return (X @ np.linalg.qr(rng.normal(size=(32, 32)))[0] + 5).astype(np.float32), of


def agreeing(Z: NDArray, of: NDArray) -> float:
    """Share of a row's 5 nearest that are of its group."""
    near, _ = nearest_neighbors(np.ascontiguousarray(Z, np.float32), 5, "cosine")
    return float((of[near] == of[:, None]).mean())


@pytest.mark.parametrize("shapes", [[(7, 4)], [(7, 4), (4, 6), (6, 6)]], ids=["linear", "projector"])
def test_the_gradient_is_that_of_the_loss(shapes: list[tuple[int, int]]) -> None:
    rng = np.random.default_rng(0)
    X, weights = rng.normal(size=(24, 7)), [rng.normal(size=s) for s in shapes]
    _, gradients = tldr.loss(X, weights)
    for w, gradient in zip(weights, gradients, strict=True):
        numeric = np.zeros_like(w)
        for at in np.ndindex(w.shape):
            middle = w[at]
            both = []
            for w[at] in (middle + 1e-6, middle - 1e-6):
                both.append(tldr.loss(X, weights)[0])
            w[at], numeric[at] = middle, (both[0] - both[1]) / 2e-6
        assert_allclose(gradient, numeric, atol=1e-4 * np.abs(numeric).max())


def test_the_loss_is_that_of_barlow_twins() -> None:
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(20, 3))
    C = np.corrcoef(Y[:10].T, Y[10:].T)[:3, 3:]
    want = sum((1 - C[i, i]) ** 2 if i == j else 0.005 * C[i, j] ** 2 for i in range(3) for j in range(3))
    assert tldr.loss(Y, [np.eye(3)])[0] == pytest.approx(want, rel=1e-3)


@pytest.mark.parametrize("hidden", [0, 64])
def test_neighbours_are_of_one_group_more_often_than_by_pca(groups: tuple, hidden: int) -> None:
    X, of = groups
    got = agreeing(TLDR(8, n_hidden=hidden, n_steps=300).fit_transform(X), of)
    pca, all_axes = agreeing(PCA(8).fit_transform(X), of), agreeing(X - X.mean(0), of)
    print(f"neighbours of one group: TLDR {got:.3f}, PCA {pca:.3f}, all axes {all_axes:.3f}")
    assert got > 0.9 > 0.3 > pca, f"TLDR {got:.3f}, PCA {pca:.3f}, all axes {all_axes:.3f}"


def test_without_projector_the_axes_are_those_of_an_eigenproblem(groups: tuple) -> None:
    """Of the symmetric covariance with neighbours against the covariance: what a linear map can correlate at best."""
    X = groups[0] - groups[0].mean(0)
    near, _ = nearest_neighbors(X, 3, "cosine")
    across = X.T @ X[near].mean(1) / len(X)
    best = eigh((across + across.T) / 2, X.T @ X / len(X), eigvals_only=True)[::-1]
    for steps in (0, 300):
        agreement = TLDR(8, n_hidden=0, n_neighbors=3, n_steps=steps).fit(X).agreement_
        assert_allclose(agreement, best[:8], atol=0.02)
    assert best[-8:].mean() < 0.6, "there was worse to find"


def test_an_axis_weighs_what_neighbours_agree_on(groups: tuple) -> None:
    model = TLDR(8, n_hidden=32, n_steps=100).fit(groups[0])
    assert (np.diff(model.agreement_) <= 0).all() and 0.9 < model.agreement_[0] < 1.1
    assert_allclose(np.cov(model.transform(groups[0]).T), np.diag(model.agreement_**2), atol=0.01)


def test_learning_lowers_the_loss(groups: tuple) -> None:
    told = TLDR(8, n_hidden=32, n_steps=200).fit(groups[0]).loss_
    assert told.shape == (200,)
    assert told[-20:].mean() < 0.8 * told[:20].mean()


def test_same_seed_same_bytes(groups: tuple) -> None:
    def bytes_of(seed: int, jobs: int) -> bytes:
        return TLDR(4, n_hidden=32, n_steps=20, random_state=seed, n_jobs=jobs).fit(groups[0]).components_.tobytes()

    assert bytes_of(0, 1) == bytes_of(0, 2) != bytes_of(1, 1)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("hidden", [0, 16])
@pytest.mark.parametrize("kind", ["identical", "two", "five", "one column", "copies"])
def test_degenerate(hidden: int, kind: str) -> None:
    rng = np.random.default_rng(0)
    X = {
        "identical": np.full((30, 4), 0.1),
        "two": rng.normal(size=(2, 5)),
        "five": rng.normal(size=(5, 40)),
        "one column": rng.normal(size=(20, 1)),
        "copies": np.repeat(rng.normal(size=(5, 3)), 10, axis=0),
    }[kind].astype(np.float32)
    Z = TLDR(6, n_hidden=hidden, n_steps=30).fit_transform(X)
    assert Z.shape == (len(X), min(6, X.shape[1], len(X) - 1)) and np.isfinite(Z).all()
    if kind == "identical":
        assert np.abs(Z).max() < 1e-3


def test_the_arrays_are_all_there_is_to_save(groups: tuple) -> None:
    model = TLDR(4, n_steps=20).fit(groups[0][:300])
    assert_array_equal(restore(clone(model), fitted_arrays(model)).transform(groups[0]), model.transform(groups[0]))
