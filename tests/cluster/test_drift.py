"""Whether what came late still fits: on normal classes, beside draws in which nothing is new."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from phyla.cluster import drift

CENTRES = np.random.default_rng(7).normal(size=(6, 16)) * 1.5  # the last is the class that was never seen


def drawn(counts: list[int], late: list[int], seed: int) -> tuple[NDArray, NDArray, NDArray]:
    """X, which rows were fitted, and groups: each row in the nearest of the five known ones."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(6), np.array(counts) + np.array(late))
    fitted = np.concatenate([np.arange(a + b) < a for a, b in zip(counts, late, strict=True)])
    X = (CENTRES[of] + rng.normal(size=(len(of), 16))).astype(np.float32)
    labels = np.linalg.norm(X[:, None] - CENTRES[None, :5], axis=2).argmin(1).astype(np.int32)
    return X, fitted, labels


OLD = [400] * 5 + [0]


@pytest.mark.parametrize(
    "late",
    [[20] * 5 + [0], [2] * 5 + [0], [200, 0, 0, 0, 0, 0], [5, 5, 300, 5, 100, 0], [300] * 5 + [0]],
    ids=["few", "very few", "one class", "another mix", "many"],
)
def test_more_of_the_same_is_no_drift(late: list[int]) -> None:
    told = [drift(*drawn(OLD, late, seed)) for seed in range(10)]
    assert not any(t["anew"] for t in told), [t["strange"] for t in told]
    assert all(t["since"] == sum(late) for t in told)


@pytest.mark.parametrize("new, known", [(20, 0), (20, 20), (40, 100), (200, 50)])
def test_a_new_class_is(new: int, known: int) -> None:
    told = [drift(*drawn(OLD, [known] * 5 + [new], seed)) for seed in range(10)]
    assert all(t["anew"] for t in told), [t["strange"] for t in told]
    assert all(0.5 * new <= t["strange"] <= 1.2 * new for t in told), [t["strange"] for t in told]


def test_fewer_than_make_a_group_are_not() -> None:
    assert not drift(*drawn(OLD, [50] * 5 + [8], 0))["anew"]


def test_how_far_the_groups_shares_moved() -> None:
    X = np.zeros((8, 2), np.float32)
    fitted = np.arange(8) < 4
    told = drift(X, fitted, np.array([0, 0, 1, 1, 0, 0, 0, 0], np.int32))
    assert told == {"since": 4, "strange": 0, "moved": 0.5, "anew": False}
    assert drift(X, np.ones(8, bool), np.zeros(8, np.int32))["since"] == 0


def test_threads_change_nothing() -> None:
    case = drawn(OLD, [100] * 5 + [60], 3)
    assert drift(*case) == drift(*case, n_jobs=3)
