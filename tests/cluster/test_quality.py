"""Figures without labels: each against a known value or a plain computation, and a good case above a bad one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from phyla.cluster import _quality as quality


def noise(n: int = 400, d: int = 8, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def blobs(n: int = 400, d: int = 8, k: int = 4, apart: float = 8, seed: int = 0) -> tuple[NDArray, NDArray]:
    truth = (np.arange(n) % k).astype(np.int32)
    return np.float32(apart * np.eye(d)[truth]) + noise(n, d, seed), truth


class TestRankMe:
    def test_axes_of_equal_weight_are_counted(self) -> None:
        assert quality.rankme(np.eye(5)) == pytest.approx(5)
        assert quality.rankme(np.ones((7, 5))) == pytest.approx(1)
        assert quality.rankme(np.zeros((7, 5))) == 1

    @pytest.mark.parametrize("shape", [(30, 6), (6, 30)])
    def test_as_the_paper_writes_it(self, shape: tuple[int, int]) -> None:
        X = noise(*shape) * np.linspace(1, 3, shape[1])
        values = np.linalg.svd(X, compute_uv=False)
        share = values / values.sum()
        assert quality.rankme(X) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-6)


class TestLidar:
    def test_it_counts_the_axes_that_tell_classes_apart(self) -> None:
        """Six axes; classes differ along three of them, though another has most of the variance."""
        of = np.arange(4000) % 200
        means = np.zeros((200, 6))
        means[:, :3] = np.random.default_rng(1).normal(size=(200, 3)) * 10
        X = means[of] + noise(4000, 6) * np.array([1, 1, 1, 1, 1, 50])
        got, rank = quality.lidar(X, of), quality.rankme(X)
        assert got == pytest.approx(3, abs=0.2), f"{got:.2f}; effective rank without classes {rank:.2f}"

    def test_by_hand(self) -> None:
        """W = diag(1, 4), B = diag(4, 4)·…: the eigenvalues of W⁻¹B are as 4 to 1."""
        centres = np.array([[2.0, 0], [-2, 0], [0, 2], [0, -2]])
        X = np.concatenate([c + np.array([[1, 2], [-1, 2], [1, -2], [-1, -2]]) for c in centres])
        share = np.array([0.8, 0.2])
        want = np.exp(-(share * np.log(share)).sum())
        assert quality.lidar(X, np.repeat(np.arange(4), 4)) == pytest.approx(want, rel=1e-3)

    def test_one_class_tells_nothing_apart(self) -> None:
        assert quality.lidar(noise(), np.zeros(400, int)) == 1


class TestIntrinsicDimension:
    @pytest.mark.parametrize("k, within", [(2, 0.12), (20, 0.12)])
    @pytest.mark.parametrize("d", [2, 5])
    def test_a_sheet_in_many_axes(self, d: int, k: int, within: float) -> None:
        rng = np.random.default_rng(0)
        turn = np.linalg.qr(rng.normal(size=(20, 20)))[0][:d]
        X = (rng.uniform(size=(3000, d)) @ turn).astype(np.float32)
        assert quality.intrinsic_dimension(X, k) == pytest.approx(d, rel=within)

    def test_by_a_loop(self) -> None:
        X, k = noise(60, 3), 5
        sums = 0.0
        for row in range(60):
            near = np.sort(np.linalg.norm(X - X[row], axis=1))[1 : k + 1]
            sums += sum(np.log(near[-1] / near[j]) for j in range(k - 1)) / (k - 1)
        assert quality.intrinsic_dimension(X, k) == pytest.approx(60 / sums, rel=1e-4)

    def test_copies_change_nothing(self) -> None:
        X = noise(300, 4)
        assert quality.intrinsic_dimension(np.repeat(X, 3, axis=0)) == quality.intrinsic_dimension(X)
        assert quality.intrinsic_dimension(np.ones((9, 4), np.float32)) == 0

    def test_never_more_than_there_are_axes(self) -> None:
        X = np.linalg.svd(noise(40, 39) - noise(40, 39).mean(0), full_matrices=False)[0]  # whitened: a simplex
        for corners in (X[:, :39], np.eye(9, dtype=np.float32)):
            assert quality.intrinsic_dimension(corners) == corners.shape[1]


class TestPersistence:
    def test_by_the_edges_of_the_spanning_tree(self) -> None:
        X = np.array([[0.0], [1], [3], [13]])  # edges 1, 2, 10
        assert quality.persistence(X) == pytest.approx(1 - (13 / 3) / 10)

    def test_by_prim(self) -> None:
        X = noise(80, 3)
        apart = np.linalg.norm(X[:, None] - X, axis=2)
        inside, edges = [0], []
        while len(inside) < len(X):
            out = np.setdiff1d(np.arange(len(X)), inside)
            at = np.unravel_index(apart[np.ix_(inside, out)].argmin(), (len(inside), len(out)))
            edges.append(apart[inside[at[0]], out[at[1]]])
            inside.append(int(out[at[1]]))
        assert quality.persistence(X) == pytest.approx(1 - np.mean(edges) / np.max(edges), rel=1e-5)

    def test_one_row_and_copies(self) -> None:
        assert quality.persistence(np.ones((1, 3))) == quality.persistence(np.ones((5, 3))) == 0


class TestSvcca:
    def test_a_turned_space_is_the_same(self) -> None:
        X = noise(300, 6)
        turn = np.random.default_rng(1).normal(size=(6, 6))
        assert quality.svcca(X, X @ turn, keep=1) == pytest.approx(1, abs=1e-5)

    def test_half_of_the_axes(self) -> None:
        X, other = noise(4000, 6), noise(4000, 6, seed=1)
        half = np.hstack([X[:, :3], other[:, :3]])
        shared, unrelated = quality.svcca(X, half, keep=1), quality.svcca(X, other, keep=1)
        assert shared == pytest.approx(0.5, abs=0.04), f"{shared:.2f}; of unrelated spaces {unrelated:.2f}"
        assert unrelated < 0.06

    def test_axes_with_little_variance_are_left_out(self) -> None:
        X, other = noise(500, 4), noise(500, 4, seed=1)
        scale = np.array([1, 1, 1e-3, 1e-3])
        twin = np.hstack([X[:, :2], other[:, 2:]])
        assert quality.svcca(X * scale, twin * scale) == pytest.approx(1, abs=1e-3)
        assert quality.svcca(np.ones((9, 2)), X[:9]) == 0


class TestSilhouette:
    def test_by_a_loop(self) -> None:
        X, _ = blobs(90, apart=2)
        labels = np.random.default_rng(0).integers(0, 3, 90).astype(np.int32) * 5
        centres = {g: X[labels == g].mean(0) for g in (0, 5, 10)}
        told = []
        for x, g in zip(X, labels, strict=True):
            a = np.linalg.norm(x - centres[g])
            b = min(np.linalg.norm(x - c) for other, c in centres.items() if other != g)
            told.append((b - a) / max(a, b))
        assert quality.silhouette(X, labels) == pytest.approx(np.mean(told), abs=1e-5)

    def test_one_group(self) -> None:
        assert quality.silhouette(noise(), np.zeros(400, np.int32)) == 0


def spoilt(labels: NDArray, share: float = 0.4, seed: int = 5) -> NDArray:
    """`labels` with this share drawn anew."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(len(labels)) < share, rng.integers(0, labels.max() + 1, len(labels)), labels)


class TestConsensus:
    def test_the_mean_adjusted_rand_index_with_the_others(self) -> None:
        truth = blobs()[1]
        each = [truth * 3, spoilt(truth), spoilt(truth, 1), np.zeros(400, int), np.arange(400) % 50]
        want = [np.mean([adjusted_rand_score(a, b) for j, b in enumerate(each) if j != i]) for i, a in enumerate(each)]
        assert quality.consensus(each) == pytest.approx(want, abs=1e-6)

    def test_one_alone_and_twins(self) -> None:
        truth = blobs()[1]
        assert quality.consensus([truth]) == [0]
        assert quality.consensus([truth, truth + 5]) == pytest.approx([1, 1])
        assert quality.consensus([truth * 0, truth * 0]) == [1, 1]

    def test_of_many_spoilt_groupings_the_least_spoilt_is_first(self) -> None:
        """Their errors are their own: the one that the others agree with most is the nearest to the classes."""
        truth = blobs()[1]
        shares = [0.6, 0.2, 0.8, 0.4, 1.0]
        told = quality.consensus([spoilt(truth, share, seed) for seed, share in enumerate(shares)])
        assert np.argsort(told)[::-1].tolist() == np.argsort(shares).tolist(), f"{shares} spoilt: {told}"


def test_the_right_groups_have_the_better_silhouette() -> None:
    X, truth = blobs(apart=10)
    right, wrong = quality.silhouette(X, truth), quality.silhouette(X, spoilt(truth).astype(np.int32))
    assert right > wrong, f"{right:.3f} for the classes, {wrong:.3f} with 40 % of them drawn anew"


@pytest.mark.parametrize(
    "figure",
    [quality.persistence, lambda X: -quality.intrinsic_dimension(X)],
    ids=["persistence", "intrinsic_dimension"],
)
def test_separate_classes_above_plain_noise(figure: Callable[..., float]) -> None:
    classes = np.float32(10 * np.eye(8)[blobs()[1]] + noise() * np.linspace(0.3, 0.03, 8))
    apart, none = figure(classes), figure(noise())
    assert apart > none, f"{apart:.3f} for classes, {none:.3f} for noise"
