"""Lloyd's iterations by faiss, from k-means++ seeds: what every grouping method here starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from phyla.engine.local import run

Task = TypeVar("Task")
Result = TypeVar("Result")

# Assignment settles long before the last digits of the centres do.
_ITERATIONS = 25
# Rows a group that seeds are drawn from, and at least: more cost as long as the iterations after them, and lead nowhere
# better.
_ROWS_A_SEED, _ROWS_FOR_SEEDS = 32, 1024


def seeds(X: NDArray[np.float32], k: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Greedy k-means++ (Arthur and Vassilvitskii, 2007): each next seed is the best of a few drawn by squared distance.

    The first of them are seeds for fewer groups.

    O(k²·d·log k), and no more than that: for small n scikit-learn's spends ten times as long on checks.
    """
    return seeds_of_each(X, k, [rng])[0]


def seeds_of_each(X: NDArray[np.float32], k: int, rngs: list[np.random.Generator]) -> NDArray[np.float32]:
    """(r, k, d): `seeds` for each of `rngs`, from the same rows; three at once cost little more than one."""
    rows = max(_ROWS_FOR_SEEDS, _ROWS_A_SEED * k)
    if rows < len(X):
        X = X[rngs[0].choice(len(X), rows, replace=False)]
    n, each, tries = len(X), np.arange(len(rngs)), 2 + int(np.log(k))
    norms = np.einsum("nd,nd->n", X, X)

    def squared(rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Squared distances (len(rows), n) of these rows of X to all."""
        distances: NDArray[np.float32] = norms[rows, None] + norms
        distances -= 2 * (X[rows] @ X.T)
        return np.maximum(distances, 0, out=distances)

    chosen = np.empty((len(rngs), k), np.intp)
    chosen[:, 0] = [rng.integers(n) for rng in rngs]
    least = squared(chosen[:, 0])
    for seed in range(1, k):
        reach = np.cumsum(least, axis=1, dtype=np.float64)
        drawn = np.array([np.searchsorted(r, rng.random(tries) * r[-1]) for r, rng in zip(reach, rngs, strict=True)])
        np.minimum(drawn, n - 1, out=drawn)
        left = squared(drawn.ravel()).reshape(len(rngs), tries, n)
        np.minimum(left, least[:, None], out=left)
        best = left.sum(2).argmin(1)
        chosen[:, seed], least = drawn[each, best], left[each, best]
    return X[chosen]


def kmeans(
    X: NDArray[np.float32],
    k: int,
    rng: np.random.Generator,
    restarts: int,
    iterations: int = _ITERATIONS,
    n_jobs: int = 1,
) -> NDArray[np.float32]:
    """The k centres (k, d) with the least sum of squares of `restarts` runs (Lloyd, 1982) on X (n, d).

    Seeded by k-means++: from random seeds a run in four merged two classes of CIFAR-10 and split another. Each run is
    the work of one thread; `n_jobs` of them go on at once, and the answer does not depend on how many.
    """
    rngs = rng.spawn(restarts)
    # Of few rows all seeds at once: the steps of Python cost more than the arithmetic.
    starts = seeds_of_each(X, k, rngs) if len(X) <= _ROWS_FOR_SEEDS else [None] * restarts

    def one(task: tuple[np.random.Generator, NDArray[np.float32] | None]) -> tuple[float, NDArray[np.float32]]:
        own, start = task
        return lloyd(X, seeds(X, k, own) if start is None else start, iterations)

    return min(in_parallel(one, zip(rngs, starts, strict=True), n_jobs), key=lambda found: found[0])[1]


def lloyd(
    X: NDArray[np.float32], centres: NDArray[np.float32], iterations: int = _ITERATIONS, spherical: bool = False
) -> tuple[float, NDArray[np.float32]]:
    """The sum of squares and the centres (k, d) that Lloyd's iterations end at, by one thread. O(iterations·n·k·d).

    Spherical (Dhillon and Modha, 2001): the centres of unit rows are brought back to the sphere after each step.
    """
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # of this thread: OpenMP's would wait for each other more than they work
    try:
        run = faiss.Clustering(X.shape[1], len(centres))
        run.niter, run.spherical = iterations, spherical
        run.min_points_per_centroid, run.max_points_per_centroid = 1, len(X)
        faiss.copy_array_to_vector(centres.ravel(), run.centroids)
        run.train(X, faiss.IndexFlatL2(X.shape[1]))
        stats: Any = run.iteration_stats
        return stats.at(stats.size() - 1).obj, faiss.vector_to_array(run.centroids).reshape(centres.shape).copy()
    finally:
        faiss.omp_set_num_threads(threads)


def in_parallel(function: Callable[[Task], Result], tasks: Iterable[Task], n_jobs: int) -> list[Result]:
    """`function(task)` for every task, in order, by `n_jobs` threads; without a thread of its own for one."""
    if n_jobs == 1:
        return [function(task) for task in tasks]
    return list(run(function, tasks, n_jobs))


def nearest(X: NDArray[np.float32], centres: NDArray[np.float32], k: int = 1) -> tuple[NDArray, NDArray]:
    """Squared distances (n, k) to the k nearest centres, and which they are (n, k). O(n·c·d)."""
    import faiss

    index = faiss.IndexFlatL2(centres.shape[1])
    index.add(np.ascontiguousarray(centres, np.float32))
    distances, which = index.search(np.ascontiguousarray(X, np.float32), k)
    return distances, which.astype(np.int32)
