from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import spearmanr
from sklearn.exceptions import NotFittedError

from phyla import plugins
from phyla._steps import fitted_arrays, restore
from phyla.reduce.inf_fs import cut, scores
from phyla.types import PhylaError

InfFS = plugins.load("reduce", "inf_fs")


@pytest.fixture(scope="module")
def X() -> np.ndarray:
    """(200, 12): columns of unlike spread; the last four repeat the first."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 12)) * np.linspace(1, 2, 12)
    X[:, 8:] = X[:, :1] * np.array([1, 2, -1.5, 1.2]) + 0.05 * rng.normal(size=(200, 4))
    return X.astype(np.float32)


@pytest.mark.parametrize("alpha", [0, 0.3, 1])
def test_scores_are_sums_over_paths(X: np.ndarray, alpha: float) -> None:
    """Added up step by step, with SciPy's Spearman correlation."""
    deviation = X.std(0, dtype=float)
    larger = np.maximum.outer(deviation, deviation)
    varied = (larger - larger.min()) / (larger.max() - larger.min())
    edges = alpha * varied + (1 - alpha) * (1 - np.abs(spearmanr(X).statistic))
    step = 0.9 / np.abs(np.linalg.eigvalsh(edges)).max() * edges
    paths, total = np.ones(12), np.ones(12)
    for _ in range(300):
        paths = step @ paths
        total += paths
    assert_allclose(scores(X, alpha), total, rtol=1e-4)


def test_what_is_repeated_comes_last(X: np.ndarray) -> None:
    model = InfFS(7, alpha=0).fit(X)
    assert set(model.ranking_[:7].tolist()) == set(range(1, 8)), "column 0 has four copies"


def test_what_varies_comes_first(X: np.ndarray) -> None:
    alone = X[:, :8]
    assert_array_equal(InfFS(alpha=1).fit(alone).ranking_, np.argsort(-alone.std(0)))


def test_columns_come_as_they_are(X: np.ndarray) -> None:
    model = InfFS(3).fit(X)
    assert_array_equal(model.transform(X), X[:, model.ranking_[:3]])
    assert InfFS(99).fit(X).transform(X).shape == X.shape


def test_cut() -> None:
    """Of 10 bins, the 3 that hold more than the mean of 2."""
    told = np.repeat(np.linspace(0, 1, 11), [5, 0, 1, 4, 1, 0, 1, 0, 2, 0, 6])[:20]
    counts, _ = np.histogram(told, 10)
    assert (counts > 2).sum() == 3
    assert cut(told) == 3
    assert cut(np.ones(8)) == 8 and cut(np.ones(1)) == 1, "nothing to choose by"


def test_left_to_the_scores(X: np.ndarray) -> None:
    model = InfFS().fit(X)
    assert model.n_components_ == cut(model.scores_)
    assert model.transform(X).shape == (200, model.n_components_)


def test_a_sample_of_the_rows_ranks_much_the_same() -> None:
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(4000, 3)) @ rng.normal(size=(3, 40)) + rng.normal(size=(4000, 40))).astype(np.float32)
    whole, one, two = InfFS(10).fit(X), InfFS(10, max_rows=800).fit(X), InfFS(10, max_rows=800, random_state=1).fit(X)
    assert spearmanr(whole.scores_, one.scores_).statistic > 0.95
    assert one.scores_.tobytes() != two.scores_.tobytes()
    assert one.scores_.tobytes() == InfFS(10, max_rows=800).fit(X).scores_.tobytes()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("alpha", [0, 0.5, 1])
def test_degenerate(X: np.ndarray, alpha: float) -> None:
    dead = np.hstack([X, np.full((200, 3), 2, np.float32)])
    for some in (X[:1], X[:2], np.ones((20, 5), np.float32), X[:, :1], dead):
        model = InfFS(alpha=alpha).fit(some)
        assert np.isfinite(model.scores_).all()
        assert np.isfinite(model.transform(some)).all()


def test_constant_columns_come_last(X: np.ndarray) -> None:
    dead = np.hstack([X, np.full((200, 3), 2, np.float32)])
    assert set(InfFS(alpha=0).fit(dead).ranking_[-3:].tolist()) == {12, 13, 14}


def test_coming_back(X: np.ndarray) -> None:
    model = InfFS(4).fit(X)
    assert_array_equal(restore(InfFS(), fitted_arrays(model)).transform(X), model.transform(X))


def test_no_share(X: np.ndarray) -> None:
    with pytest.raises(PhylaError, match="alpha"):
        InfFS(alpha=1.5).fit(X)


def test_unfitted() -> None:
    with pytest.raises(NotFittedError):
        InfFS().transform(np.zeros((2, 3), np.float32))
