from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

from phyla import plugins
from phyla._steps import fitted_arrays, restore

FFT, PCA = plugins.load("reduce", "fft"), plugins.load("reduce", "pca")


def waves(d: int) -> np.ndarray:
    """The orthonormal real Fourier basis (d, d) by its definition, lowest frequency first."""
    t = np.arange(d)
    rows = [np.full(d, 1 / np.sqrt(d))]
    for f in range(1, (d + 1) // 2):
        rows += [np.sqrt(2 / d) * np.cos(2 * np.pi * f * t / d), -np.sqrt(2 / d) * np.sin(2 * np.pi * f * t / d)]
    if d % 2 == 0:
        rows.append((-1.0) ** t / np.sqrt(d))
    return np.array(rows)


@pytest.mark.parametrize("d", [1, 2, 3, 8, 13])
def test_the_basis(d: int) -> None:
    X = np.random.default_rng(d).normal(size=(20, d)).astype(np.float32)
    assert_allclose(waves(d) @ waves(d).T, np.eye(d), atol=1e-12)
    for k in (1, 2, 5, 50):
        Z = FFT(k).fit(X).transform(X)
        assert Z.dtype == np.float32
        assert_allclose(Z, (X @ waves(d).T)[:, :k], atol=1e-5)


def test_distances_never_grow_and_all_columns_keep_them() -> None:
    X = np.random.default_rng(0).normal(size=(30, 24)).astype(np.float32)
    apart = [np.linalg.norm(Z[:15] - Z[15:], axis=1) for Z in (FFT(6).fit_transform(X), FFT(24).fit_transform(X), X)]
    assert (apart[0] < apart[2]).all()
    assert_allclose(apart[1], apart[2], rtol=1e-5)


def test_smooth_rows_are_kept_by_few_coefficients_and_others_better_by_pca() -> None:
    """What a low-pass keeps of the variance depends on the order of the columns, which networks choose by chance."""
    rng = np.random.default_rng(0)
    smooth = (rng.normal(size=(300, 5)) @ waves(64)[:5]).astype(np.float32)
    mixed = smooth[:, rng.permutation(64)]

    def kept(method, X):
        return method.fit_transform(X).var(0).sum() / X.var(0).sum()

    told = f"{kept(FFT(5), smooth):.3f} smooth, {kept(FFT(5), mixed):.3f} shuffled"
    assert kept(FFT(5), smooth) > 0.999, told
    assert kept(FFT(5), mixed) < 0.3 < 0.999 < kept(PCA(5, whiten=False), mixed), told


def test_a_row_comes_out_the_same_in_any_company() -> None:
    X = np.random.default_rng(1).normal(size=(40, 17)).astype(np.float32)
    model = FFT(6).fit(X)
    alone = np.concatenate([model.transform(row[None]) for row in X])
    assert_allclose(alone, model.transform(X), atol=1e-6)


def test_blocks_and_coming_back() -> None:
    X = np.random.default_rng(1).normal(size=(40, 17)).astype(np.float32)
    model = FFT(6).partial_fit(X[:10]).partial_fit(X[10:])
    back = restore(FFT(), fitted_arrays(model))
    assert_array_equal(back.transform(X), FFT(6).fit(X).transform(X))
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(X[:, :5])
    assert model.fit(X[:, :3]).transform(X[:, :3]).shape == (40, 3)


def test_unfitted() -> None:
    with pytest.raises(NotFittedError):
        FFT().transform(np.zeros((2, 3), np.float32))
