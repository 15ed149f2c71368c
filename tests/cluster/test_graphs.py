"""Groups from the graph of nearest neighbours: communities, and eigenfunctions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.metrics import adjusted_rand_score

from phyla.cluster import leiden, spectral
from phyla.cluster._graph import links
from phyla.cluster.kmeans import KMeans
from phyla.cluster.leiden import Leiden, communities, resolution, united
from phyla.cluster.spectral import Spectral


def blobs(k: int, each: int = 40, d: int = 6, apart: float = 10, seed: int = 0) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(k), each)
    return (apart * rng.normal(size=(k, d))[of] + rng.normal(size=(k * each, d))).astype(np.float32), of


def rings(each: int = 300, seed: int = 0) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    of = np.repeat([0, 1], each)
    angle = rng.uniform(0, 2 * np.pi, 2 * each)
    X = np.array([1, 3])[of, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return (X + 0.1 * rng.normal(size=X.shape)).astype(np.float32), of


def noisy(k: int = 8, n: int = 1600, seed: int = 1) -> tuple[NDArray, NDArray]:
    """Classes in 5 axes beside 25 of noise, all of the same variance, as whitening leaves them."""
    rng = np.random.default_rng(seed)
    of = np.arange(n) % k
    X = np.hstack([rng.normal(size=(k, 5))[of] + 0.3 * rng.normal(size=(n, 5)), rng.normal(size=(n, 25))])
    return (X / X.std(0)).astype(np.float32), of


def random_graph(n: int, seed: int = 0) -> csr_array:
    rng = np.random.default_rng(seed)
    W = np.triu(rng.integers(1, 5, (n, n)) * (rng.random((n, n)) < 0.4), 1)
    W[np.arange(n - 1), np.arange(1, n)] += 1  # in one piece
    return csr_array((W + W.T).astype(np.float32))


def modularity(graph: csr_array, label: NDArray, gamma: float = 1) -> float:
    """Newman's definition, pair by pair."""
    W = graph.toarray().astype(float)
    ends = W.sum(0)
    same = label[:, None] == label
    return float(((W - gamma * np.outer(ends, ends) / W.sum()) * same).sum() / W.sum())


def partitions(n: int, label: tuple[int, ...] = ()) -> Iterator[NDArray]:
    if len(label) == n:
        yield np.array(label)
    else:
        for group in range(max(label, default=-1) + 2):
            yield from partitions(n, (*label, group))


def test_links_count_neighbours_over_spaces() -> None:
    X = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    wanted = np.zeros((50, 50))
    for space in (X[:, :2], X[:, 2:]):
        apart = np.linalg.norm(space[:, None] - space, axis=2)
        np.fill_diagonal(apart, np.inf)
        for row, near in enumerate(np.argsort(apart, axis=1)[:, :4]):
            wanted[row, near] += 1
    assert_array_equal(links(X, np.array([2, 3]), 4, 1).toarray(), wanted + wanted.T)


class TestLeiden:
    @pytest.mark.parametrize("seed", [0, 1, 2])
    @pytest.mark.parametrize("gamma", [0.7, 1.0, 1.5])
    def test_finds_the_greatest_modularity_of_all_partitions(self, seed: int, gamma: float) -> None:
        graph = random_graph(8, seed)
        every = [modularity(graph, label, gamma) for label in partitions(8)]
        got = max(modularity(graph, communities(graph, gamma, s), gamma) for s in range(4))
        assert len(every) == 4140
        assert got == pytest.approx(max(every)), f"greatest {max(every):.4f}, median {np.median(every):.4f}"

    def test_unites_the_pair_that_costs_least(self) -> None:
        graph, label = random_graph(30), np.arange(30) % 6
        got, value = united(graph, label, 5, 1.2)
        every = [np.where(label == b, a, label) for a, b in combinations(range(6), 2)]
        best = max(modularity(graph, one, 1.2) for one in every)
        assert value == pytest.approx(best) == pytest.approx(modularity(graph, got, 1.2))
        assert set(united(graph, label, 2, 1.0)[0]) == {0, 1}

    @pytest.mark.parametrize("k", [2, 5, 9, 17])
    def test_a_number_told_is_met(self, k: int) -> None:
        X, _ = blobs(20, each=20, apart=2)
        graph = links(X, np.array([6]), 15, 1)
        count = communities(graph, resolution(graph, k, 0), 0).max() + 1
        assert k <= count <= k + 1
        fitted = Leiden(k).fit(X)
        assert len(np.unique(fitted.labels_)) == fitted.n_clusters_ == k

    def test_parts_without_a_link_are_united_whole(self) -> None:
        X, of = blobs(7, apart=40)
        labels = Leiden(3).fit(X).labels_
        assert set(labels) == {0, 1, 2}
        assert len(set(zip(labels.tolist(), of.tolist(), strict=True))) == 7

    def test_finds_the_number_itself(self) -> None:
        X, of = blobs(12)
        fitted = Leiden().fit(X)
        assert fitted.n_clusters_ == 12 and adjusted_rand_score(of, fitted.labels_) > 0.99
        noise = Leiden().fit(np.random.default_rng(0).normal(size=X.shape).astype(np.float32))
        found, control = fitted.evidence_[0, 1], noise.evidence_[0, 1]
        assert found > 0.9 > 1.3 * control, f"modularity {found:.3f}, of noise {control:.3f}"

    def test_small_groups_it_finds_do_not_swamp(self) -> None:
        """No more groups than one for ten rows, however many parts the graph has."""
        X = np.repeat(100 * np.eye(12, dtype=np.float32), 3, axis=0)
        assert Leiden(n_neighbors=2).fit(X).n_clusters_ == 3

    def test_bent_groups(self) -> None:
        X, of = rings()
        new, truth = rings(seed=1)
        got, plain = (adjusted_rand_score(truth, method(2).fit(X).predict(new)) for method in (Leiden, KMeans))
        assert got > 0.95 > 0.1 > plain, f"Leiden {got:.3f}, k-means {plain:.3f}"
        # Not told how many, modularity cuts long rings into pieces, but never across.
        fitted = Leiden().fit(X)
        assert fitted.n_clusters_ > 2
        assert all(len(set(of[fitted.labels_ == group])) == 1 for group in range(fitted.n_clusters_))

    def test_strength_is_the_share_of_the_neighbours(self) -> None:
        X, _ = blobs(3, apart=1.5)
        fitted = Leiden(3, n_init=1, n_neighbors=10).fit(X)
        new = blobs(3, apart=1.5, seed=4)[0]
        near = np.argsort(np.linalg.norm(new[:, None] - X, axis=2), axis=1)[:, :10]
        votes = fitted.communities_[near].mean(1)
        assert (fitted.communities_.max(1) == 1).all()
        label, strength = fitted.assign(new)
        assert_array_equal(label, votes.argmax(1))
        assert_allclose(strength, votes.max(1), atol=1e-6)
        assert strength.min() < 0.7

    def test_runs_that_disagree_weaken_a_label(self) -> None:
        X = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
        one, many = (Leiden(4, n_init=runs).fit(X).strength_.mean() for runs in (1, 8))
        assert many < one - 0.01, f"{many:.3f} of eight runs, {one:.3f} of one"

    def test_some_rows_are_enough_to_label_by(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(leiden, "_LANDMARKS", 60)
        X, of = blobs(4)
        fitted = Leiden(4).fit(X)
        assert fitted.landmarks_.shape == (60, 6) and fitted.communities_.shape == (60, 4)
        assert adjusted_rand_score(of, fitted.labels_) > 0.99

    def test_the_largest_comes_first(self) -> None:
        X, of = blobs(3, each=100)
        X = X[np.concatenate([np.flatnonzero(of == g)[:size] for g, size in enumerate((20, 100, 50))])]
        assert np.bincount(Leiden(3).fit(X).labels_).tolist() == [100, 50, 20]


class TestSpectral:
    def test_a_wide_basis_gives_the_eigenvectors_of_the_graph(self) -> None:
        X, _ = blobs(3, each=20, apart=1)
        fitted = Spectral(5, n_hidden=1000).fit(X)
        W = links(X, np.array([6]), 15, 1).toarray().astype(float)
        root = np.sqrt(W.sum(0))
        values, vectors = np.linalg.eigh(W / np.outer(root, root))
        assert_allclose(fitted.eigenvalues_, values[::-1][:5], atol=2e-3)
        ours = fitted.eigenfunctions(X) * root[:, None]
        cosines = np.abs((ours / np.linalg.norm(ours, axis=0) * vectors[:, ::-1][:, :5]).sum(0))
        assert cosines.min() > 0.99, cosines
        # The control: of features alone there are not functions enough.
        assert Spectral(5).fit(X).eigenvalues_[4] < values[::-1][4] - 0.05

    def test_the_functions_are_the_best_of_their_family(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Orthonormal over the rows, weighed by their links, and no others of the span follow the links better."""
        monkeypatch.setattr(spectral, "_RIDGE", 1e-7)
        X, _ = blobs(4, apart=2)
        fitted = Spectral(4).fit(X)
        W = links(X, np.array([6]), 15, 1).toarray() / links(X, np.array([6]), 15, 1).sum()
        F = fitted.eigenfunctions(X)
        assert_allclose((F * W.sum(0)[:, None]).T @ F, np.eye(4), atol=1e-3)
        assert_allclose(np.abs(F[:, 0]), 1, atol=1e-3)
        along = np.trace(F.T @ W @ F)
        basis, rng = np.column_stack([X, np.ones(len(X))]), np.random.default_rng(0)
        for step in [*np.geomspace(1e-3, 1, 10), *[np.inf] * 20]:
            other = basis @ rng.normal(size=(7, 4)) if step == np.inf else F + step * basis @ rng.normal(size=(7, 4))
            gram = (other * W.sum(0)[:, None]).T @ other
            other = other @ np.linalg.inv(np.linalg.cholesky(gram)).T
            assert np.trace(other.T @ W @ other) < along + 1e-4

    def test_classes_among_axes_of_noise(self) -> None:
        """Links tell which axes hold images of a kind together; to distances all count the same."""
        X, of = noisy()
        got, plain = (
            adjusted_rand_score(of[800:], method(8).fit(X[:800]).predict(X[800:])) for method in (Spectral, KMeans)
        )
        assert got > 0.55 > 0.5 > plain, f"spectral {got:.3f}, k-means {plain:.3f}"

    def test_bent_groups_need_a_hidden_layer(self) -> None:
        X, _ = rings()
        new, truth = rings(seed=1)
        hidden, linear, plain = (
            adjusted_rand_score(truth, method.fit(X).predict(new))
            for method in (Spectral(2, n_hidden=200), Spectral(2), KMeans(2))
        )
        assert hidden > 0.95 > 0.1 > max(linear, plain), f"{hidden:.3f}, linear {linear:.3f}, k-means {plain:.3f}"

    def test_more_groups_than_functions(self) -> None:
        """Five groups along a line have but two functions: the constant and the place on it."""
        of = np.repeat(np.arange(5), 40)
        X = (10 * of + np.random.default_rng(0).normal(size=200)).astype(np.float32)[:, None]
        fitted = Spectral(5).fit(X)
        assert fitted.functions_.shape == (2, 2)
        assert adjusted_rand_score(of, fitted.labels_) > 0.95


@pytest.mark.parametrize(
    "method", [Leiden(n_init=2), Leiden(4, n_init=2), Spectral(4), Spectral(4, n_hidden=90)], ids=repr
)
def test_threads_change_nothing(method: Leiden | Spectral) -> None:
    X = np.random.default_rng(0).normal(size=(1300, 70)).astype(np.float32)
    one, two = (method.set_params(blocks=(40, 30), n_jobs=n).fit(X).strength_.tobytes() for n in (1, 2))
    assert one == two
