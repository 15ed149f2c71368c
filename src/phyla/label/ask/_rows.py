"""What the ways to ask share: cells of similar images, how typical and how sure each image is, and keeping apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Asked = list[tuple[int, str]]
Neighbors = tuple[NDArray[np.int32], NDArray[np.float32]]

_ITERATIONS = 15  # cells need not settle: which images lie together is clear before


def cells(X: NDArray[np.float32], k: int, rng: np.random.Generator) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """k-means by faiss, from random seeds: the cell (n,) of each row, and the centres (k, d). O(n·k·d)."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # of this thread, so that the answer does not depend on the machine
    try:
        X = np.ascontiguousarray(X, np.float32)
        run = faiss.Kmeans(X.shape[1], min(k, len(X)), niter=_ITERATIONS, seed=int(rng.integers(2**31)))
        run.cp.min_points_per_centroid = 1
        run.train(X)
        centers = np.asarray(run.centroids)
        return nearest(X, centers), centers
    finally:
        faiss.omp_set_num_threads(threads)


def nearest(X: NDArray[np.float32], centers: NDArray[np.float32]) -> NDArray[np.int32]:
    """The nearest centre (n,) of each row."""
    import faiss

    return faiss.knn(np.ascontiguousarray(X, np.float32), centers, 1)[1][:, 0].astype(np.int32)


def directions(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1."""
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12)


def typicality(neighbors: Neighbors, groups: NDArray[np.int32]) -> NDArray[np.float64]:
    """(n,): the inverse of the mean distance to the nearest (TypiClust), times their share in the own group.

    TypiClust looks for neighbours inside the group only; the share does the same with neighbours found once for all:
    an image in the middle of two groups is typical of neither.
    """
    indices, distances = neighbors
    if not indices.shape[1]:
        return np.ones(len(indices))
    together = (groups[indices] == groups[:, None]).mean(1)
    return together / np.maximum(distances.mean(1, dtype=np.float64), 1e-12)


def margins(proba: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,): how much likelier the likeliest class is than the second; 1 where there is one class."""
    if proba.shape[1] < 2:
        return np.ones(len(proba), np.float32)
    second, first = np.partition(proba, -2)[:, -2:].T
    return first - second


def between(proba: NDArray[np.float32], row: int, classes: Sequence[str]) -> str:
    """The reason to ask about a row: its two likeliest classes."""
    first, *rest = np.argsort(-proba[row], kind="stable")[:2]
    return f"between {classes[first]} and {classes[rest[0]]}" if rest else f"perhaps not {classes[first]}"


def highest(score: NDArray[np.floating], n: int) -> list[int]:
    """Up to n rows of the highest score, highest first; never one of −inf."""
    order = np.argsort(-score, kind="stable")[:n]
    return [int(row) for row in order if score[row] > -np.inf]


def apart(score: NDArray[np.floating], n: int, neighbors: Neighbors) -> list[int]:
    """`highest`, but no row among the nearest of one before it as long as there are others. O(n · rows)."""
    free, far, chosen = score.copy(), score.copy(), []
    for _ in range(n):
        row = int((far if far.max() > -np.inf else free).argmax())
        if free[row] == -np.inf:
            break
        chosen.append(row)
        free[row] = far[row] = -np.inf
        far[neighbors[0][row]] = -np.inf
    return chosen


def in_each(score: NDArray[np.floating], cell: NDArray[np.int32], order: NDArray[np.integer]) -> list[int]:
    """The row of the highest score of each of these cells, in their order; none for a cell that has only −inf."""
    by = np.lexsort((-score, cell))
    first = np.searchsorted(cell[by], order).clip(max=len(by) - 1)
    best = by[first]
    return [int(row) for row in best[(cell[best] == order) & (score[best] > -np.inf)]]
