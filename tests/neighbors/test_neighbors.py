"""Every way of finding neighbours: right, or nearly; never the row itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from phyla import plugins
from phyla.neighbors import nearest_neighbors, nearest_of

WAYS = plugins.names("neighbors")
nearest = plugins.load("neighbors", "cells")
rng = np.random.default_rng(0)
X = (rng.normal(size=(3000, 16)) + 3 * rng.normal(size=(12, 16))[np.arange(3000) % 12]).astype(np.float32)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_exact_is_what_scikit_learn_finds(metric: str) -> None:
    indices, distances = plugins.load("neighbors", "exact")(X, 7, metric)
    far, near = NearestNeighbors(n_neighbors=7, metric=metric).fit(X).kneighbors()
    assert (indices == near).mean() > 0.999  # ties may fall either way
    assert_allclose(distances, far, atol=2e-3)


@pytest.mark.parametrize("way", WAYS)
class TestWay:
    def test_recall(self, way: str) -> None:
        near = NearestNeighbors(n_neighbors=10).fit(X).kneighbors(return_distance=False)
        indices, distances = plugins.load("neighbors", way)(X, 10)
        recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(indices, near, strict=True)])
        chance = 10 / len(X)
        print(f"{way}: recall {recall:.3f}, chance {chance:.3f}")
        assert recall > 0.95 > chance
        assert (np.diff(distances, axis=1) >= 0).all(), "nearest first"

    def test_never_itself_even_among_copies(self, way: str) -> None:
        same = np.repeat(X[:50], 8, axis=0)
        indices, distances = plugins.load("neighbors", way)(same, 7)
        assert (indices != np.arange(400)[:, None]).all()
        assert indices.dtype == np.int32 and distances.dtype == np.float32

    def test_threads_change_nothing(self, way: str) -> None:
        one, two = (plugins.load("neighbors", way)(X, 5, n_jobs=n) for n in (1, 3))
        assert_array_equal(one[0], two[0])
        assert_array_equal(one[1], two[1])

    def test_bad_parameters(self, way: str) -> None:
        with pytest.raises(ValueError, match="metric='taxi'"):
            plugins.load("neighbors", way)(X, 3, "taxi")
        with pytest.raises(ValueError, match="k=50 neighbours of 20 rows"):
            plugins.load("neighbors", way)(X[:20], 50)


def lumps() -> NDArray[np.float32]:
    """20,000 rows, all but some hundred of them exact copies of two: such as blank frames."""
    rng = np.random.default_rng(0)
    some, which = rng.normal(size=(20000, 32)).astype(np.float32), rng.random(20000)
    some[which < 0.5], some[(which >= 0.5) & (which < 0.97)] = 0, 1
    return some


@pytest.mark.parametrize("k", [20, 60])
def test_among_many_copies_there_are_k_for_all(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    some = lumps()
    indices, distances = nearest(some, k)
    odd = np.flatnonzero((some != some[:, :1]).any(1))
    near = NearestNeighbors(n_neighbors=k + 1).fit(some).kneighbors(some[odd])[0][:, 1:]
    assert indices.min() >= 0 and (distances[odd] <= near * 1.5 + 0.1).mean() > 0.99
    monkeypatch.setattr("phyla.neighbors._EXACT", 1000)
    others, away = nearest_of(some[odd], some, k)
    assert others.min() >= 0 and (others[:, 0] == odd).all()
    assert_allclose(away, np.linalg.norm(some[odd, None] - some[others], axis=2), atol=0.1)


class Reads:
    """Rows of which it is known how many were asked for at a time."""

    def __init__(self, X: NDArray[np.float32]) -> None:
        self.X, self.asked = X, []

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        part = self.X[rows]
        self.asked.append(len(part))
        return part


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_shards_and_tasks_change_nothing(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that lie in files are never all in memory, and have the neighbours that they have in memory."""
    expected = nearest(X, 7, metric)
    for name, size in (("_SHARD", 700), ("_LEAST", 250), ("_SAMPLE", 8)):
        monkeypatch.setattr(f"phyla.neighbors.cells.{name}", size)
    reads, done = Reads(X), []
    found = nearest(reads, 7, metric, 2, advance=done.append)
    recall = np.mean([len(set(a) & set(b)) / 7 for a, b in zip(found[0], expected[0], strict=True)])
    print(f"{metric}: {recall:.4f} of the neighbours are those of one shard, with cells of other samples")
    assert recall > 0.99 and sum(done) == len(X) and max(reads.asked) <= 700
    assert_allclose(found[1], expected[1], atol=0.1)


def test_files_are_searched_by_cells_where_there_are_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phyla.neighbors._EXACT", 1000)
    for found, expected in zip(nearest_neighbors(Reads(X), 5), nearest(X, 5), strict=True):
        assert_array_equal(found, expected)
    few, done = X[:900], []
    assert_array_equal(nearest_neighbors(Reads(few), 4, advance=done.append)[0], nearest_neighbors(few, 4)[0])
    assert done == [900]


def test_few_rows_are_compared_with_all() -> None:
    assert_array_equal(nearest_neighbors(X, 4)[0], plugins.load("neighbors", "exact")(X, 4)[0])


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="k=4 neighbours among 3 rows"):
        nearest_of(X, X[:3], 4)


@pytest.mark.parametrize("n", [1, 7, 700])
def test_of_others(n: int) -> None:
    rng = np.random.default_rng(n)
    X, others = rng.normal(size=(n, 9)).astype(np.float32), rng.normal(size=(300, 9)).astype(np.float32)
    indices, distances = nearest_of(X, others, 4)
    away = np.linalg.norm(X[:, None].astype(float) - others[None], axis=2)
    np.testing.assert_array_equal(indices, np.argsort(away, axis=1)[:, :4])
    np.testing.assert_allclose(distances, np.sort(away, axis=1)[:, :4], atol=1e-3)
    for one, two in zip(nearest_of(X, others, 4, n_jobs=3), (indices, distances), strict=True):
        np.testing.assert_array_equal(one, two)
