"""What the ways of finding neighbours share: searching an index of faiss block by block, each the work of a thread."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.engine.local import run

_BLOCK = 1024  # rows a task: their distances to a block of the index stay in a core's cache
_FEW = 256  # of what may be few altogether, so that there is a task for each thread


def prepare(X: NDArray[np.float32], k: int, metric: str) -> NDArray[np.float32]:
    """X as the index wants it: rows of length one where the metric is the cosine."""
    if metric not in {"euclidean", "cosine"}:
        raise ValueError(f"metric={metric!r} is not known; there is: euclidean, cosine")
    if not 0 < k < len(X):
        raise ValueError(f"k={k} neighbours of {len(X)} rows; give a number from 1 to {len(X) - 1}")
    X = np.ascontiguousarray(X, np.float32)
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12) if metric == "cosine" else X


def search(
    index: Any, X: NDArray[np.float32], k: int, metric: str, n_jobs: int, order: NDArray[np.int32] | None = None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k nearest of each row of X in an index of squared distances that holds X itself in order.

    order : the rows as they are to be asked for, by default as they come; those after each other should be near.
    """
    import faiss

    order = np.arange(len(X), dtype=np.int32) if order is None else order

    def block(start: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        faiss.omp_set_num_threads(1)  # of this thread
        rows = order[start : start + _BLOCK]
        squared, which = index.search(X[rows], k + 1)
        # The row itself goes; among exact copies it may not have been found first, or at all: then the last goes.
        own = which == rows[:, None]
        own[~own.any(1), -1] = True
        return which[~own].reshape(-1, k).astype(np.int32), squared[~own].reshape(-1, k)

    indices, squared = np.empty((len(X), k), np.int32), np.empty((len(X), k), np.float32)
    starts, threads = range(0, len(X), _BLOCK), faiss.omp_get_max_threads()
    try:
        for start, (near, away) in zip(starts, run(block, starts, n_jobs), strict=True):
            rows = order[start : start + _BLOCK]
            indices[rows], squared[rows] = near, away
    finally:
        faiss.omp_set_num_threads(threads)
    np.maximum(squared, 0, out=squared)
    return indices, np.divide(squared, 2, out=squared) if metric == "cosine" else np.sqrt(squared, out=squared)


def search_others(index: Any, X: NDArray[np.float32], k: int, n_jobs: int) -> tuple[NDArray[np.int32], NDArray]:
    """The k nearest of each row of X among those in an index of squared distances, and how far they are."""
    import faiss

    def block(start: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        faiss.omp_set_num_threads(1)  # of this thread
        found: tuple[NDArray[np.float32], NDArray[np.int64]] = index.search(X[start : start + _FEW], k)
        return found

    threads = faiss.omp_get_max_threads()
    try:
        squared, which = zip(*run(block, range(0, max(len(X), 1), _FEW), n_jobs), strict=True)
    finally:
        faiss.omp_set_num_threads(threads)
    return np.concatenate(which).astype(np.int32), np.sqrt(np.maximum(np.concatenate(squared), 0))
