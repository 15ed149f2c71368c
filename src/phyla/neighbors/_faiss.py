"""What the ways of finding neighbours share: what metrics mean, and searching an index of faiss in threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.engine.local import run

# Rows a task, but half of what is few altogether. faiss multiplies them by 1,024 of the index at a time, and OpenBLAS
# takes products of fewer than some 130 million numbers by a way that is two to five times slower: 1,536 x 1,024 x 96.
_BLOCK, _FEW = 4096, 256


def check(n: int, k: int, metric: str) -> None:
    """Raise where k neighbours of each of n rows can't be found."""
    if metric not in {"euclidean", "cosine"}:
        raise ValueError(f"metric={metric!r} is not known; there is: euclidean, cosine")
    if not 0 < k < n:
        raise ValueError(f"k={k} neighbours of {n} rows; give a number from 1 to {n - 1}")


def prepare(X: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """X as an index wants it: rows of length one where the metric is the cosine."""
    X = np.ascontiguousarray(X, np.float32)
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12) if metric == "cosine" else X


def others(
    rows: NDArray[np.integer], which: NDArray[np.int64], squared: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(m, k) of what was found (m, k + 1) for these rows, without the rows themselves.

    Among exact copies a row may not have been found first, or at all: then the last goes.
    """
    own = which == rows[:, None]
    own[~own.any(1), -1] = True
    m, k = len(rows), which.shape[1] - 1
    return which[~own].reshape(m, k).astype(np.int32), squared[~own].reshape(m, k)


def distances(squared: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """What squared distances of `prepare`d rows are in the metric; `squared` is overwritten."""
    np.maximum(squared, 0, out=squared)
    return np.divide(squared, 2, out=squared) if metric == "cosine" else np.sqrt(squared, out=squared)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of linear algebra in this thread and those that it starts: rounding must not depend on how many."""
    import faiss
    from threadpoolctl import threadpool_limits

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        faiss.omp_set_num_threads(threads)


def search(index: Any, X: NDArray[np.float32], k: int, n_jobs: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k nearest of each row of X in an index, and their squared distances."""
    import faiss

    size = max(min(len(X) // 2, _BLOCK), _FEW)

    def block(start: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        faiss.omp_set_num_threads(1)  # of this thread
        found: tuple[NDArray[np.float32], NDArray[np.int64]] = index.search(X[start : start + size], k)
        return found

    with one_thread():
        squared, which = zip(*run(block, range(0, max(len(X), 1), size), n_jobs), strict=True)
    return np.concatenate(which), np.concatenate(squared)
