"""Nearest neighbours of every row, once, for grouping, audits, maps and search. One file a way of finding them.

A way is a function `(X, k, metric="euclidean", n_jobs=1) → (indices, distances)`: (n, k) int32 and float32, nearest
first, the row itself left out. The metric is "euclidean" or "cosine" (distance 1 − cosine).

For one query, such as somebody's search, `nearest_rows` compares all rows of a file, and an `Index` over millions only
those of the nearest cells.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from phyla import plugins
from phyla.engine import Run
from phyla.engine.local import run
from phyla.neighbors._faiss import distances, search
from phyla.neighbors._index import Index, Shard, calibrate, centers_of, n_cells, nearest_rows, sample_of, shard_of
from phyla.neighbors.cells import inverted_file
from phyla.types import Rows

__all__ = [
    "Index", "Shard", "calibrate", "centers_of", "n_cells", "nearest_neighbors", "nearest_of", "nearest_rows",
    "sample_of", "shard_of",
]  # fmt: skip

_EXACT = 100_000  # rows up to which comparing all with all is cheap: 60,000 x 64 take seconds


def nearest_neighbors(
    X: Rows,
    k: int,
    metric: str = "euclidean",
    n_jobs: int = 1,
    run: Run = run,
    advance: Callable[[int], object] = lambda rows: None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k nearest rows of each row of X (n, d): all compared up to 100,000 rows, found through cells above.

    Above, X may lie in files, of which `n_jobs` workers of an engine's `run` read a shard at a time.
    """
    found: tuple[NDArray[np.int32], NDArray[np.float32]]
    if len(X) > _EXACT:
        found = plugins.load("neighbors", "cells")(X, k, metric, n_jobs, run, advance)
    else:
        found = plugins.load("neighbors", "exact")(X[:], k, metric, n_jobs)
        advance(len(X))
    return found


def nearest_of(
    X: NDArray[np.float32], others: NDArray[np.float32], k: int, n_jobs: int = 1
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k nearest of the rows `others` (m, d) for each row of X (n, d), and their distances, (n, k): all compared up
    to 100,000 others, found through cells above."""
    import faiss

    if not 0 < k <= len(others):
        raise ValueError(f"k={k} neighbours among {len(others)} rows; give a number from 1 to {len(others)}")
    others = np.ascontiguousarray(others, np.float32)
    if len(others) > _EXACT:
        index = inverted_file(others, k)
    else:
        index = faiss.IndexFlatL2(others.shape[1])
        index.add(others)
    indices, squared = search(index, np.ascontiguousarray(X, np.float32), k, n_jobs)
    return indices.astype(np.int32), distances(squared, "euclidean")
