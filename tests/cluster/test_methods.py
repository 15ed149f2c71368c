"""Whether the groupers find what is there."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from phyla import plugins
from phyla.cluster import score
from phyla.cluster._how_many import EVIDENCE, how_many

CLUSTERERS = plugins.names("cluster")


def blobs(k: int, each: int = 60, d: int = 8, apart: float = 8, seed: int = 0) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(k), each)
    centres = apart * np.linalg.qr(rng.normal(size=(max(k, d), max(k, d))))[0][:k, :d]
    X = centres[of] + rng.normal(size=(len(of), d))
    return X.astype(np.float32), of


def accuracy(labels: NDArray, truth: NDArray) -> float:
    return score(labels, np.zeros(len(labels), bool), truth)["accuracy"]


@pytest.mark.parametrize("name", CLUSTERERS)
def test_blobs_are_recovered(name: str) -> None:
    X, truth = blobs(6, apart=6)
    got = accuracy(plugins.load("cluster", name)(6).fit(X).labels_, truth)
    chance = accuracy(np.random.default_rng(0).integers(0, 6, len(truth)), truth)
    assert got > 0.97 > 3 * chance, f"{name}: {got:.3f}; random labels {chance:.3f}"


@pytest.mark.parametrize("name", CLUSTERERS)
def test_new_rows_go_where_they_belong(name: str) -> None:
    X, truth = blobs(4)
    fitted = plugins.load("cluster", name)(4).fit(X[::2])
    got = accuracy(fitted.predict(X[1::2]), truth[1::2])
    assert got > 0.97, f"{name}: {got:.3f} of held rows"


@pytest.mark.parametrize("name", CLUSTERERS)
def test_strength_is_lower_where_groups_meet(name: str) -> None:
    X, _ = blobs(3, each=100, apart=3)
    fitted = plugins.load("cluster", name)(3).fit(X)
    centres = np.stack([X[fitted.labels_ == g].mean(0) for g in range(3)])
    away = np.sort(np.linalg.norm(X[:, None] - centres, axis=2), axis=1)
    order = np.argsort(away[:, 1] - away[:, 0])
    border, inside = fitted.strength_[order[:60]].mean(), fitted.strength_[order[-60:]].mean()
    assert border < inside - 0.04, f"{border:.3f} on the borders, {inside:.3f} inside"


def test_the_largest_group_of_a_vote_comes_first() -> None:
    X, truth = blobs(3)
    keep = np.concatenate(
        [np.flatnonzero(truth == 0)[:10], np.flatnonzero(truth == 1), np.flatnonzero(truth == 2)[:30]]
    )
    sizes = np.bincount(plugins.load("cluster", "vote")(3).fit(X[keep]).labels_)
    assert sizes.tolist() == [60, 30, 10]


def test_a_vote_beats_one_noisy_space() -> None:
    """Of two spaces one tells the classes apart and the other, as wide, tells nothing."""
    X, truth = blobs(4, d=4)
    X = np.hstack([X, np.random.default_rng(1).normal(size=X.shape).astype(np.float32)])
    got = accuracy(plugins.load("cluster", "vote")(4, blocks=(4, 4)).fit(X).labels_, truth)
    assert got > 0.95, f"{got:.3f}"


@pytest.mark.parametrize("k", [3, 8])
def test_the_number_is_found(k: int) -> None:
    X, _ = blobs(k, each=240 // k)
    found, evidence = how_many(X, np.random.default_rng(0))
    scores = dict(evidence[:, :2].tolist())
    assert found == k, f"found {found}; score {scores[found]:.3f} there, at {k}: {scores.get(k)}"
    assert evidence.shape == (len(scores), len(EVIDENCE))
    assert scores[k] > 0.95 > 1.2 * min(scores.values()), scores


def test_without_groups_no_number_is_stable() -> None:
    """The control: of plain noise, runs agree on little."""
    X = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    _, evidence = how_many(X, np.random.default_rng(0))
    assert evidence[:, 1].max() < 0.7, evidence


@pytest.mark.parametrize("n", [2, 10, 19])
def test_too_few_rows_are_one_group(n: int) -> None:
    found, evidence = how_many(blobs(2, each=n)[0][:n], np.random.default_rng(0))
    assert found == 1
    assert evidence[:, :2].tolist() == [[1.0, 1.0]]


def test_twenty_rows_may_be_two_groups() -> None:
    assert how_many(blobs(2, each=10)[0], np.random.default_rng(0))[0] == 2


def test_few_rows_are_told_apart_by_few_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four classes in the first five of 60 whitened axes of each of three spaces; the control: all axes count."""
    rng, truth = np.random.default_rng(0), np.repeat(np.arange(4), 15)
    X = rng.normal(size=(60, 3, 60))
    X[:, :, :5] = rng.normal(size=(4, 3, 5))[truth] + 0.3 * rng.normal(size=(60, 3, 5))
    X = (X / X.std(0)).reshape(60, 180).astype(np.float32)
    vote = plugins.load("cluster", "vote")(blocks=(60, 60, 60))
    got, again = accuracy(vote.fit(X).labels_, truth), accuracy(vote.predict(X), truth)
    monkeypatch.setattr("phyla.cluster._spaces._LEAST", 60)
    all_axes = accuracy(vote.fit(X).labels_, truth)
    print(f"few axes {got:.3f}, all {all_axes:.3f}")
    assert got == again > all_axes + 0.2 and got > 0.9
