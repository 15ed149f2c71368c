from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from phyla import plugins
from phyla.types import PhylaError

TSNE = plugins.load("reduce", "tsne")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:900].astype(np.float32), y[:900]


@pytest.fixture(scope="module")
def layout(digits):
    return TSNE().fit_transform(digits[0])


def kept(X, Y):
    """Share of each row's 10 nearest neighbours in X that are among its 10 nearest in Y."""
    near = [NearestNeighbors(n_neighbors=10).fit(A).kneighbors(return_distance=False) for A in (X, Y)]
    return np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(*near, strict=True)])


def test_neighbours_stay_neighbours(digits, layout):
    X, _ = digits
    random = kept(X, np.random.default_rng(0).normal(size=layout.shape))
    assert layout.dtype == np.float32
    assert kept(X, layout) > 0.5 > 20 * random, f"10-NN kept: {kept(X, layout):.3f}, random layout {random:.3f}"


def test_same_seed_same_bytes(digits, layout):
    assert TSNE().fit_transform(digits[0]).tobytes() == layout.tobytes()


def test_same_seed_same_bytes_by_interpolation(monkeypatch):
    """The gradient that large collections use, whose threads share their sums."""
    from phyla.reduce import tsne

    monkeypatch.setattr(tsne, "_FEW", 10)
    X = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    first, second = (TSNE(n_jobs=2, perplexity=5).fit_transform(X) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_rows_beyond_the_sample_land_in_their_group(digits):
    X, y = digits
    model = TSNE(max_points=300)
    Y = model.fit_transform(X)
    assert Y.tobytes() == TSNE(max_points=300).fit_transform(X).tobytes()
    assert Y.shape == (len(X), 2) and np.isfinite(Y).all()
    near = NearestNeighbors(n_neighbors=1).fit(Y[:600]).kneighbors(model.transform(X[600:]), return_distance=False)
    share = (y[:600][near[:, 0]] == y[600:]).mean()
    assert share > 0.85, f"{share:.3f} of new rows lie beside a row of their digit; 0.1 is chance"


def test_a_fitted_row_is_placed_where_it_lies(digits):
    X, _ = digits
    model = TSNE(perplexity=10).fit(X[:200])
    np.testing.assert_allclose(model.transform(X[:200]), model.embedding_, atol=0.01)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("kind", ["random", "identical", "line"])
def test_tiny(n, kind):
    X = {"random": np.random.default_rng(n).normal(size=(n, 7)), "identical": np.ones((n, 3)),
         "line": np.arange(n, dtype=float)[:, None]}[kind]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        model = TSNE().fit(X.astype(np.float32))
    assert model.embedding_.shape == (n, 2) and model.embedding_.dtype == np.float32
    assert np.isfinite(model.embedding_).all()
    assert np.isfinite(model.transform(X.astype(np.float32))).all()


@pytest.mark.parametrize("wrong", [{"n_components": 3}, {"max_points": 0}, {"perplexity": 0}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(PhylaError):
        TSNE(**wrong).fit(np.ones((5, 2), np.float32))


def test_opentsne_is_imported_late():
    import subprocess
    import sys

    code = "import sys, phyla.reduce.tsne; sys.exit('openTSNE' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
