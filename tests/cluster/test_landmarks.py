"""Grouping by landmarks: some rows are fitted, the others assigned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from pickle import dumps, loads
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from phyla import plugins
from phyla._steps import Spaces
from phyla.cluster import _landmarks, fit, score
from phyla.cluster.kmeans import KMeans
from phyla.cluster.vote import Vote
from phyla.engine.local import run
from phyla.store import Store

N, K = 1003, 4


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_landmarks, "LANDMARKS", 300)
    monkeypatch.setattr(_landmarks, "_BLOCK", 64)


@pytest.fixture(scope="module")
def blobs() -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    rng = np.random.default_rng(0)
    of = rng.integers(K, size=N)
    X = rng.normal(0, 3, (K, 12))[of] + rng.normal(size=(N, 12))
    return X.astype(np.float32), of


class Told:
    """Remembers what it was fitted to."""

    def fit(self, X: NDArray[np.float32], y: None = None, *, number: NDArray[np.int_]) -> None:
        self.number, self.X = number, X
        self.labels_, self.strength_ = np.full(len(X), 7, np.int32), np.ones(len(X), np.float32)

    def assign(self, X: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        return X[:, 0].astype(np.int32), X[:, 0] / np.float32(N)


def fitted(clusterer: Any, X: Any, workers: int = 1, told: Any = None, engine: Any = None) -> Any:
    rows: list[int] = []
    fit(clusterer, X, told or {}, 5, engine or partial(run, workers=workers), rows.append)
    assert sum(rows) == len(X)
    return clusterer


@pytest.mark.parametrize("n", [299, 300, 301, N])
def test_every_row_gets_its_own_label(n: int) -> None:
    X = np.repeat(np.arange(n, dtype=np.float32)[:, None], 2, axis=1)
    told = fitted(Told(), X, 3, {"number": np.arange(n)})
    m = min(n, 300)
    assert len(told.number) == m and len(set(told.number.tolist())) == m
    np.testing.assert_array_equal(told.X[:, 0], told.number)
    want = np.arange(n)
    want[told.number] = 7
    np.testing.assert_array_equal(told.labels_, want)
    assert told.labels_.dtype == np.int32 and told.strength_.dtype == np.float32
    others = np.setdiff1d(np.arange(n), told.number)
    np.testing.assert_allclose(told.strength_[others], others / N)


@pytest.mark.parametrize("name", plugins.names("cluster"))
def test_every_method_finds_plain_groups(name: str, blobs: tuple[NDArray[np.float32], NDArray[np.int_]]) -> None:
    X, of = blobs
    right = score(fitted(plugins.load("cluster", name)(K), X, 2).labels_, np.zeros(N, bool), of)["accuracy"]
    chance = np.bincount(of).max() / N
    assert right > 0.95, f"{right:.3f} right; all in one group {chance:.3f}"


def test_the_seed_draws_the_landmarks_and_workers_change_nothing(blobs: tuple[NDArray[np.float32], Any]) -> None:
    X, _ = blobs
    one, four = (fitted(Vote(K, n_voters=6), X, workers) for workers in (1, 4))
    assert one.labels_.tobytes() == four.labels_.tobytes() and one.strength_.tobytes() == four.strength_.tobytes()
    other = Vote(K, n_voters=6)
    fit(other, X, {}, 6, partial(run, workers=1), lambda rows: None)
    assert other.labellers_.tobytes() != one.labellers_.tobytes()


def test_rows_may_lie_in_files_and_tasks_may_travel(tmp_path: Path, blobs: tuple[NDArray[np.float32], Any]) -> None:
    X, _ = blobs
    store = Store.create(tmp_path / "project")
    store.write_array("left/X.npy", X[:, :5])
    store.write_array("right/X.npy", X[:, 5:])

    def elsewhere(function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        for task in tasks:
            travelled, task = loads(dumps((function, task)))
            yield travelled(task)

    files = Spaces(store, ("left", "right"))
    assert len(files) == N
    here, there = fitted(KMeans(K), X), fitted(KMeans(K), files, engine=elsewhere)
    assert here.labels_.tobytes() == there.labels_.tobytes()
