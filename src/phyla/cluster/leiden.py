"""Leiden: communities of the nearest-neighbour graph; for many small groups, and where their number is not known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._graph import links
from phyla.cluster._grouper import Grouper, likeliest
from phyla.cluster._how_many import ROWS_A_GROUP
from phyla.cluster._lloyd import in_parallel, nearest
from phyla.cluster._margin import axes
from phyla.cluster._spaces import TELLING, leading

__all__ = ["Leiden"]

_LANDMARKS = 10_000  # rows kept to label others by
_BLOCK = 1024  # rows a task of the vote
_ITERATIONS = 2  # of the whole algorithm, each from the last one's communities, as in its authors' package
_BISECTIONS = 8  # after which communities still too many are merged: a few of a hundred at most


class Leiden(Grouper):
    """The Leiden algorithm (Traag, Waltman and van Eck, 2019) on the graph of nearest neighbours.

    Two images are linked as often as one is among the nearest of the other, over all spaces. Communities are those of
    the greatest modularity, Σ over groups of (share of links inside − γ · (share of link ends)²). With no number given,
    the resolution γ is 1 and the groups are as many as come out. With one given, γ is searched for the least number of
    communities not below it, and those whose union costs least modularity are united (Newman, 2004) until it is met.
    Images, fitted or new, are labelled by the vote of their nearest landmarks.

    O(n²·d) for the graph of up to 100,000 rows, O(n·neighbours) a run on it; 50,000 × 192 takes 65 s of a core.

    Parameters
    ----------
    n_clusters : int or None, as many as modularity finds.
    blocks : widths of the spaces that X holds side by side, of which the first 32 axes are seen; None for a single one.
    n_neighbors : links a row makes in each space, and voters for it. n_init : runs, of which the one with the greatest
        modularity is kept; the others tell how sure it is. n_jobs : threads; the answer does not depend on how many.

    Attributes
    ----------
    labels_ : (n,) int32, the largest group first. strength_ : (n,), the share of the neighbours with the label,
        over all runs. resolution_ : γ.
    landmarks_ : (m, leading axes), at most 10,000 fitted rows. communities_ : (m, c), the share of the runs that put
        them into each group, of those with as many groups as the best; groups are matched by what they share.
    evidence_ : (runs, 2), communities and modularity of each run where no number was given; the first is the best.
    """

    VERSION = 1
    AGREEMENT = 0.5  # most of its neighbours are elsewhere

    blocks_: NDArray[np.int_]

    def __init__(
        self,
        n_clusters: int | None = None,
        *,
        blocks: Sequence[int] | None = None,
        n_neighbors: int = 15,
        n_init: int = 4,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.blocks = blocks
        self.n_neighbors = n_neighbors
        self.n_init = n_init
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _number(self, X: NDArray[np.float32], rng: np.random.Generator) -> int:
        return len(X) // ROWS_A_GROUP or 1  # at most; `_fit` finds how many

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        from scipy.optimize import linear_sum_assignment

        most, told = self.n_clusters_, self.n_clusters is not None
        self.resolution_ = 1.0
        runs = [(np.zeros(len(X), np.int64), 1.0)]
        if most > 1:
            graph = links(X, self.blocks_, self.n_neighbors, self.n_jobs)
            seeds = rng.integers(2**31, size=self.n_init).tolist()
            if told:
                self.resolution_ = resolution(graph, most, seeds[0])
            found = in_parallel(lambda seed: communities(graph, self.resolution_, seed), seeds, self.n_jobs)
            runs = [united(graph, label, most, self.resolution_) for label in found]
        # Where a number is told, runs that miss it come last. The first run has it.
        runs.sort(key=lambda run: (told and int(run[0].max()) + 1 < most, -run[1]))
        if not told:
            self.evidence_ = np.array([[label.max() + 1, modularity] for label, modularity in runs])
            self.n_clusters_ = int(self.evidence_[0, 0])
        sizes = np.bincount(runs[0][0], minlength=self.n_clusters_)
        best = np.argsort(np.argsort(-sizes, kind="stable"))[runs[0][0]]
        kept = np.sort(rng.choice(len(X), min(_LANDMARKS, len(X)), replace=False))
        self.landmarks_ = leading(X[kept], self.blocks_)
        self.communities_ = np.zeros((len(kept), self.n_clusters_), np.float32)
        alike = [label for label, _ in runs if label.max() == best.max()]
        for label in alike:
            overlap = np.zeros((best.max() + 1, best.max() + 1))
            np.add.at(overlap, (label, best), 1)
            group = linear_sum_assignment(overlap, maximize=True)[1]
            self.communities_[np.arange(len(kept)), group[label[kept]]] += 1 / len(alike)

    def _assign(self, X: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        import faiss

        k = min(self.n_neighbors, len(self.landmarks_))
        spaces = axes(np.minimum(self.blocks_, TELLING), TELLING)
        view = leading(X, self.blocks_)

        def vote(start: int) -> NDArray[np.float32]:
            faiss.omp_set_num_threads(1)  # of this thread
            block = view[start : start + _BLOCK]
            near = [nearest(block[:, space], self.landmarks_[:, space], k)[1] for space in spaces]
            votes: NDArray[np.float32] = self.communities_[np.hstack(near)].mean(1)
            return votes

        threads = faiss.omp_get_max_threads()
        try:
            return likeliest(np.concatenate(in_parallel(vote, range(0, len(X), _BLOCK), self.n_jobs)))
        finally:
            faiss.omp_set_num_threads(threads)


def communities(graph: Any, gamma: float, seed: int) -> NDArray[np.int64]:
    """(n,): the community, 0 to c − 1, of each node of a symmetric sparse graph (n, n)."""
    from graspologic_native import leiden_csr

    starts, columns, weights = graph.indptr.astype(np.int64), graph.indices.astype(np.int32), graph.data.astype(float)
    n = graph.shape[0]
    _, found = leiden_csr(
        starts, columns, weights, n, resolution=gamma, iterations=_ITERATIONS, use_modularity=True, seed=seed
    )
    nodes, names = np.array(list(found.items())).T
    label = np.empty(n, np.int64)
    label[nodes] = names
    return np.unique(label, return_inverse=True)[1]


def resolution(graph: Any, k: int, seed: int) -> float:
    """The resolution at which there are k communities, or few more: doubled or halved from 1, then bisected."""
    few: float | None = None
    many: float | None = None
    gamma, least = 1.0, graph.shape[0] + 1
    best, bisections = gamma, 0
    while bisections <= _BISECTIONS:
        count = int(communities(graph, gamma, seed).max()) + 1
        if k <= count < least:
            best, least = gamma, count
        if count == k or (count > k and gamma < 1e-9):  # parts without a link between them stay apart
            break
        few, many = (gamma, many) if count < k else (few, gamma)
        bisections += few is not None and many is not None
        gamma = gamma / 2 if few is None else gamma * 2 if many is None else float(np.sqrt(few * many))
    return best


def united(graph: Any, label: NDArray[np.int64], most: int, gamma: float) -> tuple[NDArray[np.int64], float]:
    """At most `most` communities of those in `label` (n,), the pair that gains most united first; their modularity."""
    from scipy.sparse import csr_array

    n, c = len(label), int(label.max()) + 1
    member = csr_array((np.ones(n), (np.arange(n), label)), shape=(n, c))
    share = (member.T @ graph @ member).toarray()
    share /= share.sum()
    name = np.arange(c)
    while len(share) > most:
        ends = share.sum(0)
        gain = share - gamma * np.outer(ends, ends)
        np.fill_diagonal(gain, -np.inf)
        keep, gone = sorted(np.unravel_index(gain.argmax(), gain.shape))
        share[keep] += share[gone]
        share[:, keep] += share[:, gone]
        share = np.delete(np.delete(share, gone, 0), gone, 1)
        name = np.where(name == gone, keep, name)
        name -= name > gone
    return name[label], float(np.trace(share) - gamma * (share.sum(0) ** 2).sum())
