"""Margin maximisation, and self-training after it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from phyla.cluster import score
from phyla.cluster._margin import Adam, axes, enough, labelling, margin, widest
from phyla.cluster._retrain import _hold, proba, retrain
from phyla.cluster.turtle import Turtle
from phyla.cluster.vote import Vote


def two_spaces(n: int, k: int, sizes: NDArray[np.int_] | None = None) -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    """Two spaces of 12 axes, each with its own noisy view of k classes."""
    rng = np.random.default_rng(0)
    of = np.arange(n) % k if sizes is None else np.repeat(np.arange(k), sizes)
    spaces = [1.6 * rng.normal(size=(k, 12))[of] + rng.normal(size=(len(of), 12)) for _ in range(2)]
    X = np.hstack(spaces)
    return ((X - X.mean(0)) / X.std(0)).astype(np.float32), of


def right(labels: NDArray[np.int_], truth: NDArray[np.int_]) -> float:
    return score(labels, np.zeros(len(labels), bool), truth)["accuracy"]


def spoilt(of: NDArray[np.int_], k: int, share: float) -> NDArray[np.float32]:
    """The classes as a labelling, of which `share` is at random."""
    rng = np.random.default_rng(1)
    wrong = rng.random(len(of)) < share
    return np.eye(k, dtype=np.float32)[np.where(wrong, rng.integers(k, size=len(of)), of)]


def test_a_spoilt_start_is_mended() -> None:
    X, of = two_spaces(3000, 6)
    start = spoilt(of, 6, 0.4)
    blocks = axes(np.array([12, 12]), 12)
    labellers, surprise = margin(X, blocks, start, np.random.default_rng(0), np.full(6, 1 / 6, np.float32))
    before, after = right(start.argmax(1), of), right(labelling(X, blocks, labellers).argmax(1), of)
    print(f"start {before:.3f}, after {after:.3f}, surprise {surprise:.3f}")
    assert before < 0.75 and after > 0.95
    assert 0 <= surprise < np.log(6)


def test_equal_sizes_are_expected_only_where_they_cost_little() -> None:
    sizes = np.array([600, 300, 100])
    X, of = two_spaces(0, 3, sizes)
    blocks, start = axes(np.array([12, 12]), 12), spoilt(of, 3, 0.05)
    forced = margin(X, blocks, start, np.random.default_rng(0), np.full(3, 1 / 3, np.float32))[0]
    chosen = widest(X, blocks, start, np.random.default_rng(0).spawn(2), 1)[0]
    cut, kept = (np.sort(np.bincount(labelling(X, blocks, w).argmax(1), minlength=3)) for w in (forced, chosen))
    print(f"true {np.sort(sizes)}, forced {cut}, chosen {kept}")
    assert np.abs(kept - np.sort(sizes)).max() <= 20 < np.abs(cut - np.sort(sizes)).max()


def test_threads_change_nothing() -> None:
    X, of = two_spaces(800, 4)
    blocks, start = axes(np.array([12, 12]), 12), spoilt(of, 4, 0.2)
    one, three = (widest(X, blocks, start, np.random.default_rng(3).spawn(2), n) for n in (1, 3))
    for a, b in zip(one, three, strict=True):
        assert_array_equal(np.concatenate(a), np.concatenate(b))


def test_adam_finds_a_minimum() -> None:
    weights = np.array([[3.0, -2.0]], np.float32)
    adam = Adam(weights, decay=0.0)
    for step in range(400):
        adam.step(2 * (adam.weights - 1), 0.05 * (1 - step / 400))
    assert_allclose(adam.weights, 1, atol=1e-2)


@pytest.mark.parametrize(("n", "width"), [(10, 32), (1164, 72), (50_000, 256)])
def test_few_rows_few_axes(n: int, width: int) -> None:
    assert enough(n) == width
    assert [len(a) for a in axes(np.array([300, 20]), width)] == [width, 20]
    assert axes(np.array([300, 20]), width)[1][0] == 300


def test_self_training_bends_borders() -> None:
    """Rings: what a straight border labels wrong beside the hole, a hidden layer puts right."""
    rng = np.random.default_rng(0)
    angle, of = rng.uniform(0, 2 * np.pi, 4000), np.arange(4000) % 2
    radius = np.where(of == 0, 0.5, 2.0) + 0.15 * rng.normal(size=4000)
    X = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]).astype(np.float32)
    start = spoilt(of, 2, 0.5)
    networks = retrain(X, start, 2, np.random.default_rng(0), 1)
    before, after = right(start.argmax(1), of), right(proba(X, networks).argmax(1), of)
    print(f"start {before:.3f}, after {after:.3f}")
    assert before < 0.8 and after > 0.95
    again = retrain(X, start, 2, np.random.default_rng(0), 3)
    assert_array_equal(networks[0][0], again[0][0])


def test_sizes_are_held() -> None:
    rng = np.random.default_rng(0)
    label, sizes = rng.dirichlet([1, 1, 1], 500).astype(np.float32), np.array([0.6, 0.3, 0.1], np.float32)
    held = _hold(label, sizes)
    assert_allclose(held.sum(1), 1, rtol=1e-5)
    assert_allclose(held.mean(0), sizes, atol=0.01)


def test_the_best_effort_labels_new_rows() -> None:
    X, of = two_spaces(1500, 5)
    best = Vote(5, blocks=(12, 12), n_voters=8, n_rounds=1).fit(X[:1000])
    assert right(best.assign(X[1000:])[0], of[1000:]) > 0.95
    assert_array_equal(best.assign(X[:1000])[0], best.labels_)
    assert (np.diff(np.bincount(best.labels_)) <= 0).all(), "the largest first"


def test_turtle_keeps_the_least_surprised_start() -> None:
    X, of = two_spaces(1500, 6)
    turtle = Turtle(6, blocks=(12, 12), n_init=5).fit(X)
    assert turtle.surprise_.shape == (5,)
    assert len(set(turtle.surprise_)) == 5
    print(f"right {right(turtle.labels_, of):.3f}, chance {1 / 6:.3f}")
    assert right(turtle.labels_, of) > 0.95
