"""Only rows in the nearest of some thousand cells are compared (an inverted file): n·d to 3 million, then n^1.5·d."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.neighbors._faiss import prepare, search

__all__ = ["cells"]

_PROBES = 24  # cells looked into
# Rows a cell, where √n cells would hold more: what a row is compared with then grows no longer. With more cells than so
# many, finding the nearest of them would.
_ROWS, _MOST = 400, 1 << 13
_SAMPLE = 64  # rows a cell that the cells are learnt from


def cells(
    X: NDArray[np.float32], k: int, metric: str = "euclidean", n_jobs: int = 1
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Nearly the k nearest rows of each row of X (n, d) (inverted file: Jégou, Douze and Schmid, 2011)."""
    import faiss

    X = prepare(X, k, metric)
    d = X.shape[1]
    count = max(1, min(max(int(np.sqrt(len(X))), min(len(X) // _ROWS, _MOST)), len(X) // 40))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(d), d, count)
    index.cp.seed, index.cp.niter, index.nprobe = 0, 10, min(_PROBES, count)
    index.cp.max_points_per_centroid = _SAMPLE
    index.train(X)
    index.add(X)
    # Cell by cell, so that what is looked into stays in the processor's cache.
    held: Any = index.invlists
    full = [cell for cell in range(count) if held.list_size(cell)]
    order = np.concatenate([faiss.rev_swig_ptr(held.get_ids(cell), held.list_size(cell)) for cell in full])
    return search(index, X, k, metric, n_jobs, order.astype(np.int32))
