"""What can go: what is found is covered by what stays, and the choices follow their papers' rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy.optimize import minimize

from phyla.audit import _choose
from phyla.audit.redundant import chosen, redundant
from phyla.neighbors import nearest_neighbors


def blobs(sizes: tuple[int, ...], spreads: tuple[float, ...], seed: int = 0) -> tuple[NDArray[np.float32], Any]:
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(len(sizes)), sizes)
    centres = 6 * np.eye(12)[: len(sizes)]
    X = centres[of] + rng.normal(size=(len(of), 12)) * np.array(spreads)[of, None]
    return X.astype(np.float32), of


def test_a_burst_of_shots_can_go_and_scattered_pictures_stay() -> None:
    X, of = blobs((300, 300), (0.02, 1.0))
    found = redundant(near=X, neighbors=nearest_neighbors(X, 10))
    rows = np.array([row for rows, _, _ in found for row in rows])
    print(f"{len(rows)} of {len(X)} can go, {np.mean(of[rows] == 0):.0%} of them from the burst")
    assert len(rows) == len(set(rows.tolist())) > 100
    assert np.mean(of[rows] == 0) > 0.95
    assert all(0.5 <= severity <= 1 and "can go" in why for _, severity, why in found)
    severities = [severity for _, severity, _ in found]
    assert severities == sorted(severities, reverse=True)


@pytest.mark.parametrize("by", ["concepts", "el2n", "quantisation"])
def test_what_goes_has_something_near_that_stays(by: str) -> None:
    X, of = blobs((200, 200, 200), (0.3, 0.6, 1.0))
    near = nearest_neighbors(X, 10)
    found = redundant(near=X, neighbors=near, labels=of.astype(np.int32), by=by)
    assert found
    going = np.zeros(len(X), bool)
    going[[row for rows, _, _ in found for row in rows]] = True
    usual = np.median(near[1][:, 0])
    away = np.linalg.norm(X[going][:, None] - X[~going][None], axis=2).min(1)
    assert away.max() <= usual * 1.0001
    assert going.sum() <= 0.3 * len(X) + 1


def test_labels_choose_how() -> None:
    X, of = blobs((200, 200), (0.5, 0.5))
    near = nearest_neighbors(X, 10)
    labels = of.astype(np.int32)
    assert redundant(near=X, neighbors=near, labels=labels) == redundant(
        near=X, neighbors=near, labels=labels, by="el2n"
    )
    few = np.where(np.arange(400) % 5 == 0, labels, -1)
    assert redundant(near=X, neighbors=near, labels=few) == redundant(near=X, neighbors=near, by="concepts")
    with pytest.raises(ValueError, match="needs labels"):
        redundant(near=X, neighbors=near, by="el2n")
    with pytest.raises(ValueError, match="auto, concepts, el2n, quantisation"):
        redundant(near=X, neighbors=near, by="nothing")


def test_shares_are_the_closest_to_the_softmax_that_sizes_allow() -> None:
    X, of = blobs((30, 100, 60, 200), (1.5, 0.3, 1.0, 0.6))
    got = _choose.shares(X, of, 150)
    size = np.bincount(of)
    assert_allclose(got.sum(), 150)
    assert (got >= 0).all() and (got <= size + 1e-9).all()
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    centre = np.stack([unit[of == c].mean(0) for c in range(4)])
    centre /= np.linalg.norm(centre, axis=1, keepdims=True)
    inside = np.array([(1 - unit[of == c] @ centre[c]).mean() for c in range(4)])
    between = np.array([np.delete(1 - centre @ centre[c], c).mean() for c in range(4)])
    wanted = np.exp(inside * between / 0.1)
    wanted *= 150 / wanted.sum()
    solved = minimize(
        lambda x: ((x - wanted) ** 2).sum(), np.full(4, 37.5), bounds=[(0, s) for s in size],
        constraints={"type": "eq", "fun": lambda x: x.sum() - 150}, options={"ftol": 1e-12},
    )  # fmt: skip
    assert_allclose(got, solved.x, atol=0.05)
    assert got[0] == 30, "the most complex kind is kept whole"


def test_the_bins_take_what_gains_most() -> None:
    """Gains by their definition, every squared distance written out."""
    X = np.random.default_rng(0).normal(size=(40, 3))
    distance = ((X[:, None] - X[None]) ** 2).sum(2)
    left, expected = list(range(40)), []
    for _ in range(10):
        bin_: list[int] = []
        for _ in range(4):
            gain = [distance[r, bin_].sum() - distance[r, [q for q in left if q != r]].sum() for r in left]
            row = left.pop(int(np.argmax(gain)))
            bin_.append(row)
            expected.append(row)
    assert _choose._taken(X).tolist() == expected


def test_el2n_is_high_for_wrong_labels_and_low_in_the_middle_of_a_class() -> None:
    X, of = blobs((300, 300, 300), (1.0, 1.0, 1.0))
    wrong = np.arange(900) % 20 == 0
    labels = np.where(wrong, (of + 1) % 3, of).astype(np.int32)
    scores = _choose.el2n(X, labels)
    assert scores[wrong].min() > scores[~wrong].max()
    assert_allclose(scores, _choose.el2n(X, labels))
    unknown = np.where(np.arange(900) < 10, -1, labels).astype(np.int32)
    assert (_choose.el2n(X, unknown)[:10] == 0).all()
    kept = chosen(X, np.zeros(900, np.intp), 450, "el2n", unknown)
    assert kept.sum() == 450 and kept[:10].all(), "of what nobody labelled nothing goes"


def test_keeping_by_concepts_leaves_smaller_holes_than_chance() -> None:
    """Kinds of unequal width: at random the wide ones are left with holes."""
    X, _ = blobs((400, 400, 400), (0.05, 0.3, 1.2))
    of = _choose.concepts(X)
    by_chance = np.zeros(len(X), bool)
    by_chance[np.random.default_rng(0).permutation(len(X))[:840]] = True
    away = {
        name: float(_choose.coverage(X, kept).mean())
        for name, kept in {"concepts": chosen(X, of, 840, "concepts"), "random": by_chance}.items()
    }
    print("mean distance to what stays:", away)
    assert away["concepts"] < 0.8 * away["random"]


def test_small_collections() -> None:
    X = np.zeros((3, 4), np.float32)
    near = nearest_neighbors(X, 2)
    for share in (0.0, 0.1, 0.5, 1.0):
        assert isinstance(redundant(near=X, neighbors=near, share=share), list)
    assert redundant(near=X[:1], neighbors=(np.empty((1, 0), np.int32), np.empty((1, 0), np.float32))) == []
