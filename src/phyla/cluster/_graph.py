"""The graph of nearest neighbours, over one space or several."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._margin import axes
from phyla.cluster._spaces import TELLING
from phyla.neighbors import nearest_neighbors


def links(X: NDArray[np.float32], blocks: NDArray[np.int_], k: int, n_jobs: int) -> Any:
    """Sparse symmetric (n, n): how often one of two rows of X is among the other's k nearest, over all spaces.

    Distances are those of the leading axes of each space. Every row has a neighbour, so n must be 2 or more.
    """
    from scipy.sparse import csr_array

    n, k = len(X), min(k, len(X) - 1)
    near = [nearest_neighbors(X[:, space], k, n_jobs=n_jobs)[0] for space in axes(blocks, TELLING)]
    columns = np.hstack(near)
    starts = np.arange(0, columns.size + 1, columns.shape[1])
    directed = csr_array((np.ones(columns.size, np.float32), columns.ravel(), starts), shape=(n, n))
    graph = csr_array(directed + directed.T)
    graph.sum_duplicates()
    return graph
