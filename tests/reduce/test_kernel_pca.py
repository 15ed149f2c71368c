"""Principal components of a curved space."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.decomposition import KernelPCA as Theirs
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from phyla import plugins
from phyla._steps import fitted_arrays, restore
from phyla.reduce import kernel_pca

KernelPCA = plugins.load("reduce", "kernel_pca")
PCA = plugins.load("reduce", "pca")


@pytest.fixture(scope="module")
def X() -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(300, 6)) * np.arange(1, 7)).astype(np.float32)


def rings(n: int = 600, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    """One ring within another."""
    rng = np.random.default_rng(seed)
    of, angle = np.arange(n) % 2, rng.uniform(0, 2 * np.pi, n)
    ring = (1 + 2 * of)[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return (ring + 0.15 * rng.normal(size=(n, 2))).astype(np.float32), of


@pytest.mark.parametrize("kernel", ["rbf", "cosine"])
def test_equals_scikit_learns_if_all_rows_are_landmarks(X: NDArray, kernel: str) -> None:
    centred = (X - X.mean(0)).astype(float)
    theirs = Theirs(5, kernel=kernel, gamma=0.01, eigen_solver="dense").fit_transform(centred)
    gamma = 0.01 if kernel == "rbf" else None
    ours = KernelPCA(5, kernel=kernel, gamma=gamma, whiten=False).fit_transform(X)
    assert_allclose(ours * np.sign((ours * theirs).sum(0)), theirs, atol=1e-4)


def test_arc_cosine_is_a_wide_layer_of_rectified_units(X: NDArray) -> None:
    model = KernelPCA(kernel="arc-cosine").fit(X[:20])
    weights = np.random.default_rng(0).normal(size=(6, 400_000))
    units = np.maximum((X[:20] - model.mean_) @ weights, 0)
    want = 2 * units @ np.maximum(weights.T @ (model.landmarks_ - model.mean_).T, 0) / weights.shape[1]
    assert_allclose(model._similarity(X[:20]), want, atol=0.02 * want.max())


def test_fewer_landmarks_come_near() -> None:
    """Of 80 landmarks in place of 1,500; the control: of 5."""
    X, _ = rings(1_500)
    exact = KernelPCA(4, n_landmarks=1_500).fit_transform(X)

    def off(landmarks: int) -> float:
        Z = KernelPCA(4, n_landmarks=landmarks).set_params(gamma=None).fit_transform(X)
        return float(np.linalg.norm(exact - Z @ np.linalg.lstsq(Z, exact, rcond=None)[0]) / np.linalg.norm(exact))

    near, far = off(80), off(5)
    print(f"share of the exact axes missed: 80 landmarks {near:.4f}, 5 landmarks {far:.4f}")
    assert near < 0.05 < far, f"80 landmarks {near:.4f}, 5 landmarks {far:.4f}"


@pytest.mark.parametrize("landmarks", [1024, 60])
def test_rings_become_separable_by_a_plane(landmarks: int) -> None:
    X, of = rings()
    new, of_new = rings(seed=1)

    def accuracy(reducer: object) -> float:
        plane = LinearDiscriminantAnalysis().fit(reducer.fit_transform(X), of)  # type: ignore[attr-defined]
        return float(plane.score(reducer.transform(new), of_new))  # type: ignore[attr-defined]

    got, control = accuracy(KernelPCA(6, n_landmarks=landmarks)), accuracy(PCA(2))
    print(f"new rows on the right side: kernel PCA {got:.3f}, PCA {control:.3f}")
    assert got > 0.98 > 0.7 > control, f"kernel PCA {got:.3f}, PCA {control:.3f}"


class TestRobust:
    @pytest.fixture
    def spoilt(self, X: NDArray) -> NDArray[np.float32]:
        """One row in sixty lies far off, in a direction of hardly any variance."""
        X = X.copy()
        X[::60, 0] += 50 * np.array([-1, 1, -1, 1, 1])
        return X

    def test_far_rows_turn_the_axes_less(self, X: NDArray, spoilt: NDArray) -> None:
        def turned(robust: bool) -> float:
            """Share of the variance of what clean rows gave that the axes of the spoilt ones miss."""
            clean, dirty = (
                KernelPCA(3, kernel="arc-cosine", robust=robust, whiten=False).fit(F).transform(X) for F in (X, spoilt)
            )
            clean, dirty = clean - clean.mean(0), dirty - dirty.mean(0)
            rest = clean - dirty @ np.linalg.lstsq(dirty, clean, rcond=None)[0]
            return float((rest**2).sum() / (clean**2).sum())

        robust, plain = turned(True), turned(False)
        print(f"missed: robust {robust:.3f}, plain {plain:.3f}")
        assert robust < 0.05 < 0.2 < plain, f"robust {robust:.3f}, plain {plain:.3f}"

    def test_the_axes_are_a_summit(self, spoilt: NDArray) -> None:
        """No orthonormal axes beside those found have a larger sum of Huber's function."""
        centre, axes, _ = kernel_pca._robust(spoilt.astype(float), 2)
        apart = spoilt - centre
        first = kernel_pca._plain(spoilt.astype(float), 2, centre)[1]
        bound = np.median(np.linalg.norm(apart @ first, axis=1))

        def huber(axes: NDArray) -> float:
            length = np.linalg.norm(apart @ axes, axis=1)
            return float(np.where(length < bound, length**2 / 2, bound * length - bound**2 / 2).sum())

        rng = np.random.default_rng(0)
        beside = [huber(np.linalg.qr(axes + 0.02 * rng.normal(size=axes.shape))[0]) for _ in range(50)]
        assert_allclose(axes.T @ axes, np.eye(2), atol=1e-9)
        assert huber(axes) > max(beside), (huber(axes), max(beside))
        assert huber(axes) > huber(first)

    def test_without_far_rows_little_changes(self) -> None:
        X, _ = rings()
        plain, robust = (KernelPCA(3, robust=r).fit_transform(X) for r in (False, True))
        rest = plain - robust @ np.linalg.lstsq(robust, plain, rcond=None)[0]
        assert (rest**2).sum() < 0.05 * (plain**2).sum()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("kernel", ["rbf", "cosine", "arc-cosine"])
@pytest.mark.parametrize("robust", [False, True])
@pytest.mark.parametrize("kind", ["identical", "two", "mostly identical", "one column"])
def test_degenerate(kernel: str, robust: bool, kind: str) -> None:
    rng = np.random.default_rng(0)
    X = {
        "identical": np.full((30, 4), 0.1),
        "two": rng.normal(size=(2, 5)),
        "mostly identical": np.vstack([np.ones((40, 3)), rng.normal(size=(10, 3))]),
        "one column": rng.normal(size=(20, 1)),
    }[kind]
    Z = KernelPCA(6, kernel=kernel, robust=robust).fit_transform(X.astype(np.float32))
    assert len(Z) == len(X) and Z.shape[1] >= 1 and np.isfinite(Z).all()
    if kind == "identical":
        assert np.abs(Z).max() < 1e-3


def test_whitened_axes_have_unit_variance(X: NDArray) -> None:
    assert_allclose(np.cov(KernelPCA(8).fit_transform(X).T), np.eye(8), atol=1e-3)


@pytest.mark.parametrize(
    "wrong", [{"kernel": "poly"}, {"gamma": 0}, {"kernel": "cosine", "gamma": 1}, {"n_landmarks": 0}], ids=str
)
def test_wrong_parameters_are_refused(X: NDArray, wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"=.* (known|rbf|describe)"):
        KernelPCA(**wrong).fit(X)


def test_the_arrays_are_all_there_is_to_save(X: NDArray) -> None:
    for kernel in ("rbf", "cosine", "arc-cosine"):
        model = KernelPCA(5, kernel=kernel, n_landmarks=50).fit(X[:200])
        assert_array_equal(restore(clone(model), fitted_arrays(model)).transform(X), model.transform(X))


def test_the_seed_draws_the_landmarks(X: NDArray) -> None:
    one, two, other = (KernelPCA(5, n_landmarks=30, random_state=s).fit_transform(X) for s in (0, 0, 1))
    assert one.tobytes() == two.tobytes() != other.tobytes()
