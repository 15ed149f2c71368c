"""Rate reduction against determinants and finite differences, and groups that are subspaces rather than balls."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy.optimize import approx_fprime

from phyla.cluster import score
from phyla.cluster.coding_rate import CodingRate, reduction, unit
from phyla.cluster.kmeans import KMeans


def memberships(n: int = 40, d: int = 6, k: int = 3, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Unit rows (n, d) and probabilities (k, n)."""
    rng = np.random.default_rng(seed)
    return unit(rng.normal(size=(n, d))), rng.dirichlet(np.ones(k), n).T


def cones(seed: int = 0, n: int = 900, k: int = 6, d: int = 24) -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    """Groups in planes through the origin, on one side of it: rows are as far out as they like."""
    rng = np.random.default_rng(seed)
    of = np.arange(n) % k
    planes = np.linalg.qr(rng.normal(size=(d, d)))[0][: 2 * k].reshape(k, 2, d)
    within = np.abs(rng.normal(size=(n, 2))) * np.exp(rng.normal(size=(n, 1)))
    rows = np.einsum("ni,nid->nd", within, planes[of])
    return (10 * rows + 0.3 * rng.normal(size=(n, d))).astype(np.float32), of


def rate(Z: NDArray, eps: float) -> float:
    """½ Σ log(1 + d / (n ε²) σ²) over the singular values."""
    n, d = Z.shape
    return float(np.log1p(d / (n * eps**2) * np.linalg.svd(Z, compute_uv=False) ** 2).sum() / 2)


@pytest.mark.parametrize("eps", [0.1, 0.7, 3.0])
def test_hard_groups_have_the_rates_of_their_rows(eps: float) -> None:
    Z, p = memberships()
    labels = p.argmax(0)
    groups = sum((labels == j).mean() * rate(Z[labels == j], eps) for j in range(3))
    got = reduction(Z, np.eye(3)[labels].T, eps)[0]
    assert got == pytest.approx(rate(Z, eps) - groups)
    assert got > 1e-3


def test_soft_groups_weigh_their_rows() -> None:
    Z, p = memberships()
    groups = 0.0
    for own in p:
        M = np.eye(6) + 6 / (own.sum() * 0.49) * sum(w * np.outer(z, z) for w, z in zip(own, Z, strict=True))
        groups += own.mean() * np.log(np.linalg.det(M)) / 2
    assert reduction(Z, p, 0.7)[0] == pytest.approx(rate(Z, 0.7) - groups)


def test_one_group_and_equal_shares_reduce_nothing() -> None:
    Z, _ = memberships()
    for k in (1, 4):
        assert reduction(Z, np.full((k, len(Z)), 1 / k), 0.7)[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("eps", [0.2, 0.7])
def test_the_slope_is_that_of_finite_differences(eps: float) -> None:
    Z, p = memberships()
    numeric = approx_fprime(p.ravel(), lambda flat: reduction(Z, flat.reshape(p.shape), eps)[0], 1e-7)
    slope = reduction(Z, p, eps)[1]
    assert_allclose(slope, numeric.reshape(p.shape), atol=1e-6)
    assert np.ptp(slope) > 1e-3


def test_single_precision_suffices() -> None:
    Z, p = memberships(400, 96, 10)
    gain, slope = reduction(Z, p, 0.7)
    rough, sloping = reduction(Z.astype(np.float32), p.astype(np.float32), 0.7)
    assert sloping.dtype == np.float32
    assert rough == pytest.approx(gain, rel=1e-3)
    assert_allclose(sloping, slope, rtol=1e-3, atol=1e-6)


def test_planes_are_found_where_kmeans_sees_near_and_far() -> None:
    X, of = cones()
    everyone = np.zeros(len(of), bool)
    ours, theirs = (score(m.fit(X).labels_, everyone, of)["accuracy"] for m in (CodingRate(6, n_heads=8), KMeans(6)))
    print(f"rate reduction {ours:.3f}, k-means {theirs:.3f}")
    assert theirs < 0.7, "the control: groups are not balls"
    assert ours > 0.85


def test_training_raises_the_reduction() -> None:
    X, _ = cones()
    before, after = (CodingRate(6, n_heads=1, n_steps=steps).fit(X) for steps in (1, 100))
    U = unit(X - X.mean(0))

    def gain(fitted: CodingRate) -> float:
        return reduction(U, np.eye(6, dtype=np.float32)[fitted.labels_].T, 0.7)[0]

    assert gain(after) > gain(before) + 0.01, f"{gain(before):.3f} to {gain(after):.3f}"


def test_length_says_nothing() -> None:
    """Rows further out in the same direction from the mean have the same group and strength."""
    X, _ = cones()
    fitted = CodingRate(6, n_heads=2).fit(X)
    labels, strength = fitted.assign(fitted.origin_ + 3 * (X - fitted.origin_))
    assert (labels == fitted.labels_).all()
    assert_allclose(strength, fitted.strength_, atol=1e-4)


def test_the_head_of_most_reduction_is_kept() -> None:
    X, _ = cones()
    many = CodingRate(6, n_heads=6).fit(X)
    assert many.losses_.shape == (6,)
    assert many.losses_.max() < 0, "every head reduces the rate"
    assert len(np.unique(many.losses_)) > 1
