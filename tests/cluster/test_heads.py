"""Trained heads: their slopes against finite differences, how they start, and what neighbours add to k-means."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from phyla.cluster import score
from phyla.cluster._grouper import Grouper, softmax
from phyla.cluster._head import Heads, batches, consistency, cross_entropy, over_groups
from phyla.cluster.coupled import Coupled
from phyla.cluster.kmeans import KMeans
from phyla.cluster.scan import SCAN, self_labelling
from phyla.cluster.temi import TEMI, information

H, C, N = 2, 4, 7


def drawn(seed: int, sharpness: float = 1.0) -> NDArray[np.float64]:
    """Logits (h, c, n)."""
    return sharpness * np.random.default_rng(seed).normal(size=(H, C, N))


def slope_of(loss: Callable[[NDArray], NDArray], at: NDArray[np.float64], by: float = 1e-5) -> NDArray[np.float64]:
    """The slope of a loss (h,) by the logits (h, c, n), by central differences."""
    slope = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[place] = by
        slope[place] = (loss(at + step) - loss(at - step))[place[0]] / (2 * by)
    return slope


def test_consistency() -> None:
    a, b = drawn(0), drawn(1)
    loss, by_a, by_b = consistency(over_groups(a), over_groups(b), 2.0)
    p, q = (softmax(x.transpose(0, 2, 1)) for x in (a, b))
    means = [r.mean(1) for r in (p, q)]
    plain = -np.log((p * q).sum(2)).mean(1) + sum((m * np.log(m)).sum(1) for m in means)
    assert_allclose(loss, plain, rtol=1e-6)
    assert_allclose(by_a, slope_of(lambda x: consistency(over_groups(x), over_groups(b), 2.0)[0], a), atol=1e-7)
    assert_allclose(by_b, slope_of(lambda x: consistency(over_groups(a), over_groups(x), 2.0)[0], b), atol=1e-7)


def test_cross_entropy() -> None:
    logits, labels = drawn(2), np.random.default_rng(0).integers(C, size=(H, N))
    loss, slope = cross_entropy(over_groups(logits), labels)
    assert_allclose(loss, [-np.log(over_groups(logits)[h, labels[h], range(N)]).mean() for h in range(H)])
    assert_allclose(slope, slope_of(lambda x: cross_entropy(over_groups(x), labels)[0], logits), atol=1e-7)


@pytest.mark.parametrize("beta", [0.6, 1.0])
def test_information(beta: float) -> None:
    """The teachers' part and the shares stand still."""
    logits, other, own = drawn(3), over_groups(drawn(4)), over_groups(drawn(5))
    shares = np.random.default_rng(0).dirichlet(np.ones(C), H)
    loss, slope = information(over_groups(logits), other, own, shares, beta)
    weight = np.array([np.mean([own[h, :, i] @ other[h, :, i] for h in range(H)]) for i in range(N)])
    weight /= weight.sum()
    p = over_groups(logits)
    told = [np.log(((p[h] * other[h]) ** beta / shares[h][:, None]).sum(0)) for h in range(H)]
    assert_allclose(loss, [-(weight * t).sum() for t in told], rtol=1e-6)
    differences = slope_of(lambda x: information(over_groups(x), other, own, shares, beta)[0], logits)
    assert_allclose(slope, differences, atol=1e-7)


def test_self_labelling() -> None:
    logits = drawn(6, sharpness=4.0)
    p = over_groups(logits)
    loss, slope = self_labelling(p)
    for h in range(H):
        label, top = p[h].argmax(0), p[h].max(0)
        sure = top >= min(0.9, np.median(top))
        of_labels = [-np.log(top[sure & (label == c)]).mean() for c in np.unique(label[sure])]
        assert loss[h] == pytest.approx(np.mean(of_labels), rel=1e-6)
        assert_array_equal(np.abs(slope[h]).sum(0) > 0, sure)
    # Which rows teach does not change within so small a step.
    assert_allclose(slope, slope_of(lambda x: self_labelling(over_groups(x))[0], logits, 1e-6), atol=1e-6)


def test_half_of_the_rows_teach_where_none_is_sure() -> None:
    p = over_groups(0.1 * drawn(7))
    taught = np.abs(self_labelling(p)[1]).sum(1) > 0
    assert p.max() < 0.5 and (taught.mean(1) >= 0.5).all() and not taught.all()


def test_few_rows_are_one_batch() -> None:
    rng = np.random.default_rng(0)
    few = list(batches(1164, 5, rng))
    assert all(len(np.unique(rows)) == 1164 for _, rows in few)
    assert_allclose([left for left, _ in few], [1, 0.8, 0.6, 0.4, 0.2])
    many = [rows for _, rows in batches(4096, 4, rng)]
    assert_array_equal(np.sort(np.concatenate(many)), np.arange(4096))


def test_a_head_sees_its_columns_alone() -> None:
    rng = np.random.default_rng(0)
    X, seen = rng.normal(size=(30, 6)).astype(np.float32), np.arange(6) // 3 == np.arange(2)[:, None]
    heads = Heads(np.zeros((2, 3, 6), np.float32), np.zeros((2, 3), np.float32), seen)
    for _ in range(3):
        heads.descend(X, *cross_entropy(heads.proba(X), rng.integers(3, size=(2, 30))), 1.0)
    assert_array_equal((heads.coef != 0).all(1), seen)
    assert_array_equal((heads.coef != 0).any(1), seen)


def blobs() -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    rng = np.random.default_rng(0)
    of = np.arange(600) % 5
    return (4 * rng.normal(size=(5, 8))[of] + rng.normal(size=(600, 8))).astype(np.float32), of


@pytest.mark.parametrize("arms", [None, np.arange(8) % 2 == np.arange(2)[:, None]])
def test_heads_start_sure_of_a_grouping(arms: NDArray[np.bool_] | None) -> None:
    """Heads nearly uniform forget what they start from."""
    X, of = blobs()
    method = SCAN(5, n_heads=3).fit(X)
    V = method._seen(X)
    heads = method._start(V, np.random.default_rng(0), arms)
    assert len(heads.coef) == 3 * (1 if arms is None else 2)
    p = heads.proba(V)
    right = [score(labels, np.zeros(600, bool), of)["accuracy"] for labels in p.argmax(1)]
    print(f"right {np.round(right, 3)}, sure {p.max(1).mean():.3f}")
    assert max(right) > 0.9 and p.max(1).mean() > 0.7, f"uniform is 0.2, sure {p.max(1).mean():.3f}"


def long_groups(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    """Six groups, each long in the same direction: k-means rather cuts them across."""
    rng = np.random.default_rng(seed)
    of = np.arange(1200) % 6
    X = 0.5 * rng.normal(size=(1200, 12))
    X[np.arange(1200), of] += 4
    X[:, 6] += rng.uniform(-6, 6, 1200)
    return X.astype(np.float32), of


@pytest.mark.parametrize("method", [SCAN, TEMI])
@pytest.mark.parametrize("seed", [0, 1])
def test_neighbours_keep_long_groups_whole(method: type[Grouper], seed: int) -> None:
    X, of = long_groups(seed)
    none = np.zeros(len(X), bool)
    got, plain = (score(m(6).fit(X).labels_, none, of)["accuracy"] for m in (method, KMeans))
    print(f"{method.__name__} {got:.3f}, k-means {plain:.3f}")
    assert got > 0.78 > 0.72 > plain


@pytest.mark.parametrize("method", [SCAN, TEMI, Coupled])
def test_threads_change_nothing(method: type[Grouper]) -> None:
    X, _ = blobs()
    one, three = (method(5, n_jobs=jobs).fit(X) for jobs in (1, 3))
    assert_array_equal(one.strength_, three.strength_)
    assert (np.diff(np.bincount(one.labels_)) <= 0).all(), "the largest first"


@pytest.mark.parametrize("method", [SCAN, TEMI])
def test_noise_is_not_taken_for_certain(method: type[Grouper]) -> None:
    """Strength tells groups from plain noise."""
    noise = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    of_noise, of_groups = (method(5).fit(X).strength_.mean() for X in (noise, blobs()[0]))
    print(f"{method.__name__}: noise {of_noise:.3f}, groups {of_groups:.3f}")
    assert of_noise < of_groups - 0.05
