"""A few of many learned features in each row."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.base import clone

from phyla import plugins
from phyla._steps import fitted_arrays, restore
from phyla.neighbors import nearest_neighbors
from phyla.reduce import sparse_codes

SparseCodes = plugins.load("reduce", "sparse_codes")
PCA = plugins.load("reduce", "pca")


@pytest.fixture(scope="module")
def parts() -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """(1500, 16) rows that add up 2 of 32 parts, more than there are axes; and the parts (32, 16)."""
    rng = np.random.default_rng(0)
    of = rng.normal(size=(32, 16))
    of /= np.linalg.norm(of, axis=1, keepdims=True)
    chosen = np.argsort(rng.random((1500, 32)), axis=1)[:, :2]
    X = (rng.uniform(1, 2, (1500, 2, 1)) * of[chosen]).sum(1)
    return (X + 0.02 * rng.normal(size=X.shape)).astype(np.float32), of


@pytest.fixture(scope="module")
def model(parts: tuple) -> object:
    return SparseCodes(64, n_active=4, n_steps=150).fit(parts[0])


@pytest.mark.parametrize("contrast", [0, 0.7])
def test_the_gradient_is_that_of_the_loss(contrast: float) -> None:
    rng = np.random.default_rng(0)
    X, weights = rng.normal(size=(20, 5)), [rng.normal(size=s) for s in ((9, 5), 9, (9, 5))]
    _, gradients, *_ = sparse_codes.loss(X, weights, 3, contrast)
    for w, gradient in zip(weights, gradients, strict=True):
        numeric = np.zeros_like(w)
        for at in np.ndindex(w.shape):
            middle, both = w[at], []
            for w[at] in (middle + 1e-6, middle - 1e-6):
                both.append(sparse_codes.loss(X, weights, 3, contrast)[0])
            w[at], numeric[at] = middle, (both[0] - both[1]) / 2e-6
        assert_allclose(gradient, numeric, atol=1e-5 * np.abs(numeric).max())


def test_the_strongest_are_kept() -> None:
    units = np.array([[3, -1, 2, 5], [-1, -2, -3, 4], [0, 0, 0, 0]], np.float32)
    assert_array_equal(sparse_codes.strongest(units, 2), [[3, 0, 0, 5], [0, 0, 0, 4], [0, 0, 0, 0]])
    assert_array_equal(sparse_codes.strongest(units, 9), np.maximum(units, 0))


@pytest.mark.parametrize("k", [None, 1, 2])
def test_codes_are_sparse_and_not_negative(parts: tuple, model: object, k: int | None) -> None:
    X = parts[0]
    codes = model.encode(X, k)  # type: ignore[attr-defined]
    dense = model.transform(X)  # type: ignore[attr-defined]
    assert isinstance(codes, csr_array) and codes.shape == dense.shape == (1500, 64)
    assert codes.dtype == dense.dtype == np.float32
    assert 0 < np.diff(codes.indptr).max() <= (4 if k is None else k)
    assert codes.data.min() > 0
    if k is None:
        assert_array_equal(codes.toarray(), dense)
    else:  # the strongest of what there was
        assert_array_equal(codes.toarray(), sparse_codes.strongest(dense, k))


def test_codes_restore_more_than_as_many_axes_do(parts: tuple, model: object) -> None:
    X = parts[0]

    def missed(restored: NDArray) -> float:
        return float(((X - restored) ** 2).sum() / ((X - X.mean(0)) ** 2).sum())

    pca = PCA(4, whiten=False).fit(X)
    few = missed(model.inverse_transform(model.transform(X)))  # type: ignore[attr-defined]
    control = missed(pca.transform(X) @ pca.components_ + pca.mean_)
    print(f"variance missed by 4 numbers a row: sparse codes {few:.3f}, PCA {control:.3f}")
    assert few < 0.25 < 0.5 < control, f"sparse codes {few:.3f}, PCA {control:.3f}"
    codes = model.encode(X)  # type: ignore[attr-defined]
    assert missed(model.inverse_transform(codes)) == pytest.approx(few, rel=1e-4)  # type: ignore[attr-defined]


def test_parts_that_rows_are_made_of_are_found(parts: tuple) -> None:
    """There are twice as many as axes, so no rotation has them; the control: principal axes."""
    X, of = parts
    fitted = SparseCodes(64, n_active=4, contrast=0, n_steps=300).fit(X)
    found = sparse_codes.normalised(fitted.decoder_) @ of.T
    got, control = (np.abs(F).max(0).mean() for F in (found, PCA(16).fit(X).components_ @ of.T))
    print(f"cosine of a part with the nearest found: decoder {got:.3f}, principal axes {control:.3f}")
    assert got > 0.8 > 0.7 > control, f"decoder {got:.3f}, principal axes {control:.3f}"


def test_contrast_makes_neighbours_alike() -> None:
    """Forty groups, loud noise: codes tell groups better with than without."""
    rng = np.random.default_rng(0)
    of = np.arange(800) % 40
    X = (rng.normal(size=(40, 24))[of] + 1.1 * rng.normal(size=(800, 24))).astype(np.float32)

    def agreeing(contrast: float) -> float:
        Z = SparseCodes(128, n_active=4, contrast=contrast, n_steps=150).fit_transform(X)
        near, _ = nearest_neighbors(Z, 10, "cosine")
        return float((of[near] == of[:, None]).mean())

    with_it, without = agreeing(0.15), agreeing(0)
    print(f"neighbours of one group: with contrast {with_it:.3f}, without {without:.3f}; chance {1 / 40:.3f}")
    assert with_it > without + 0.1 > 0.2, f"with contrast {with_it:.3f}, without {without:.3f}"


def test_silent_units_start_anew(parts: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    X = parts[0]
    start = SparseCodes._start

    def mostly_silent(self: object, X: NDArray, rng: np.random.Generator) -> list[NDArray]:
        weights = start(self, X, rng)
        weights[1][16:] = -100
        return weights

    monkeypatch.setattr(SparseCodes, "_start", mostly_silent)
    used = {}
    for times in (8, 0):
        monkeypatch.setattr(sparse_codes, "_REVIVALS", times)
        used[times] = int((SparseCodes(64, n_active=4, n_steps=80).fit(X).usage_ > 0).sum())
    print(f"units in use: {used[8]}, never started anew {used[0]}")
    assert used[8] > 60 > 20 > used[0] > 0, used


def test_units_most_often_active_first(parts: tuple, model: object) -> None:
    usage = model.usage_  # type: ignore[attr-defined]
    assert (np.diff(usage) <= 0).all()
    assert_allclose(usage, (model.transform(parts[0]) > 0).mean(0), atol=1e-6)  # type: ignore[attr-defined]


def test_whitened_against_controls_the_concept_is_left() -> None:
    """Light and focus, say, vary loudly in the controls too; treatments differ quietly."""
    rng = np.random.default_rng(0)
    treated = np.arange(900) % 3
    loud = 5 * rng.normal(size=(900, 4)) @ rng.normal(size=(4, 12))
    told = np.array([0, 2, -2])[treated, None] * rng.normal(size=12) / 3
    X = (loud + told + 0.2 * rng.normal(size=(900, 12))).astype(np.float32)

    def agreeing(Z: NDArray) -> float:
        near, _ = nearest_neighbors(np.ascontiguousarray(Z, np.float32), 10, "cosine")
        return float((treated[near] == treated[:, None]).mean())

    codes = SparseCodes(64, n_active=4, n_steps=150)
    got = agreeing(codes.fit_transform(PCA(12).fit(X[treated == 0]).transform(X)))
    control = agreeing(codes.fit_transform(X))
    print(f"neighbours of one treatment: whitened against controls {got:.3f}, not whitened {control:.3f}")
    assert got > control + 0.2 > 0.5, f"whitened against controls {got:.3f}, not whitened {control:.3f}"


def test_same_seed_same_bytes(parts: tuple) -> None:
    def bytes_of(seed: int, jobs: int) -> bytes:
        fitted = SparseCodes(32, n_active=3, n_steps=20, random_state=seed, n_jobs=jobs).fit(parts[0])
        return fitted.encoder_.tobytes() + fitted.transform(parts[0]).tobytes()

    assert bytes_of(0, 1) == bytes_of(0, 2) != bytes_of(1, 1)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("contrast", [0, 0.15])
@pytest.mark.parametrize("kind", ["identical", "two", "few", "one column", "copies"])
def test_degenerate(contrast: float, kind: str) -> None:
    rng = np.random.default_rng(0)
    X = {
        "identical": np.full((30, 4), 0.1),
        "two": rng.normal(size=(2, 5)),
        "few": rng.normal(size=(5, 40)),
        "one column": rng.normal(size=(20, 1)),
        "copies": np.repeat(rng.normal(size=(5, 3)), 10, axis=0),
    }[kind].astype(np.float32)
    fitted = SparseCodes(16, n_active=40, contrast=contrast, n_steps=30).fit(X)
    Z = fitted.transform(X)
    assert Z.shape == (len(X), 16) and np.isfinite(Z).all()
    assert np.isfinite(fitted.inverse_transform(Z)).all()


@pytest.mark.parametrize("wrong", [{"n_active": 0}, {"contrast": -1}, {"n_components": 0}], ids=str)
def test_wrong_parameters_are_refused(parts: tuple, wrong: dict) -> None:
    with pytest.raises(ValueError, match="give"):
        SparseCodes(**wrong).fit(parts[0])


def test_codes_of_no_units_are_refused(parts: tuple, model: object) -> None:
    with pytest.raises(ValueError, match="n_active=0"):
        model.encode(parts[0], 0)  # type: ignore[attr-defined]


def test_the_arrays_are_all_there_is_to_save(parts: tuple, model: object) -> None:
    restored = restore(clone(model), fitted_arrays(model))
    assert_array_equal(restored.transform(parts[0]), model.transform(parts[0]))  # type: ignore[attr-defined]
