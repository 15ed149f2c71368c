"""Every row compared with every other: exact; n²·d."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.neighbors._faiss import check, distances, others, prepare, search

__all__ = ["exact"]


def exact(
    X: NDArray[np.float32], k: int, metric: str = "euclidean", n_jobs: int = 1
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k nearest rows of each row of X (n, d)."""
    import faiss

    check(len(X), k, metric)
    X = prepare(X, metric)
    index = faiss.IndexFlatL2(X.shape[1])
    index.add(X)
    indices, squared = others(np.arange(len(X)), *search(index, X, k + 1, n_jobs))
    return indices, distances(squared, metric)
