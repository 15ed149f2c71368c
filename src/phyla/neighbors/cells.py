"""Only rows in the nearest of some thousand cells are compared (an inverted file): n·d to 3 million, then n^1.5·d."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.engine import Run
from phyla.engine.local import run
from phyla.neighbors._faiss import check, distances, one_thread, others, prepare
from phyla.neighbors._index import centers_of
from phyla.types import Rows

__all__ = ["cells"]

_PROBES = 24  # cells looked into, or k + 1: as each holds a row, k others are found
# Rows a cell, where √n cells would hold more: what a row is compared with then grows no longer. With more cells than so
# many, finding the nearest of them would.
_ROWS, _MOST = 400, 1 << 13
_SAMPLE = 64  # rows a cell that the cells are learnt from
_SHARD = 1 << 17  # rows in memory at a time, twice: of 96 axes they take 100 MB
# Rows a task, a sixteenth of all within these: each task reads all rows, which is to be little beside comparing them.
_LEAST, _TASK = 1 << 14, 1 << 18


def cells(
    X: Rows, k: int, metric: str = "euclidean", n_jobs: int = 1, run: Run = run,
    advance: Callable[[int], object] = lambda rows: None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:  # fmt: skip
    """Nearly the k nearest rows of each row of X (n, d) (inverted file: Jégou, Douze and Schmid, 2011).

    X may lie in files: `n_jobs` workers of an engine's `run` have a shard of it and the rows of a task in memory each.
    """
    n = len(X)
    check(n, k, metric)
    with one_thread():
        centers = _learnt(X, metric)
        shards = [slice(start, min(start + _SHARD, n)) for start in range(0, n, _SHARD)]
        cell = np.concatenate(list(run(_Cells(X, metric, centers), shards, n_jobs)))
        centers, cell = _in_use(centers, cell)
        # Cell by cell, so that what is looked into stays in the processor's cache.
        order = np.argsort(cell, kind="stable").astype(np.int32)
        size = min(max(n // 16, _LEAST), _TASK)
        tasks = [order[start : start + size] for start in range(0, n, size)]
        indices, squared = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
        for rows, (near, away) in zip(tasks, run(_Near(X, metric, centers, cell, k), tasks, n_jobs), strict=True):
            indices[rows], squared[rows] = near, away
            advance(len(rows))
    return indices, distances(squared, metric)


def _learnt(X: Rows, metric: str) -> NDArray[np.float32]:
    """The middles of the cells for the rows of X (n, d), of some of them."""
    n = len(X)
    count = max(1, min(max(int(np.sqrt(n)), min(n // _ROWS, _MOST)), n // 40))
    sample = np.linspace(0, n - 1, min(n, _SAMPLE * count)).astype(np.int64)
    return centers_of(prepare(X[sample], metric), count)


def inverted_file(X: NDArray[np.float32], k: int) -> Any:
    """An index of faiss over the rows of X (n, d), which finds k for each row of others."""
    with one_thread():
        centers = _learnt(X, "euclidean")
        centers, cell = _in_use(centers, _nearest(centers, X, 1)[1][:, 0])
        return _filled(centers, X, np.arange(len(X)), cell, k)


def _in_use(centers: NDArray[np.float32], cell: NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The cells in which there is a row, and of each row which of these: copies by the thousand leave many empty."""
    used, cell = np.unique(cell, return_inverse=True)
    return centers[used], cell.astype(np.int32)


def _probes(centers: NDArray[np.float32], k: int) -> int:
    return min(max(_PROBES, k + 1), len(centers))


def _filled(
    centers: NDArray[np.float32], X: NDArray[np.float32], ids: NDArray[np.int64], cell: NDArray[np.int32], k: int
) -> Any:
    """An inverted file of the rows of X (n, d), which lie in these cells and are known by these numbers."""
    import faiss

    cells = faiss.IndexFlatL2(centers.shape[1])
    cells.add(centers)
    index, cell = faiss.IndexIVFFlat(cells, *reversed(centers.shape)), cell.astype(np.int64)
    index.is_trained, index.nprobe = True, _probes(centers, k)
    index.add_core(len(ids), faiss.swig_ptr(X), faiss.swig_ptr(ids), faiss.swig_ptr(cell))
    return index


@dataclass(frozen=True)
class _Cells:
    """The cell (m,) that each row of a shard lies in."""

    X: Rows
    metric: str
    centers: NDArray[np.float32]

    def __call__(self, shard: slice) -> NDArray[np.int32]:
        return _nearest(self.centers, prepare(self.X[shard], self.metric), 1)[1][:, 0].astype(np.int32)


@dataclass(frozen=True)
class _Near:
    """The k nearest (m, k) of some rows (m,) among all, with their squared distances, merged shard by shard."""

    X: Rows
    metric: str
    centers: NDArray[np.float32]
    cell: NDArray[np.int32]
    k: int

    def __call__(self, rows: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        import faiss

        asked = prepare(self.X[rows], self.metric)
        far, probes = _nearest(self.centers, asked, _probes(self.centers, self.k))
        starts = range(0, len(self.cell), _SHARD)
        found = [self._shard(start).search_preassigned(asked, self.k + 1, probes, far) for start in starts]
        each, which = (np.stack(of) for of in zip(*found, strict=True))
        nearest, of = faiss.merge_knn_results(each, which)
        return others(rows, of, nearest)

    def _shard(self, start: int) -> Any:
        """An inverted file of the shard that begins with this row."""
        shard = prepare(self.X[start : start + _SHARD], self.metric)
        ids = np.arange(start, start + len(shard))
        return _filled(self.centers, shard, ids, self.cell[ids], self.k)


def _nearest(
    centers: NDArray[np.float32], X: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k nearest cells of each row of X (n, d): squared distances, and which they are."""
    import faiss

    faiss.omp_set_num_threads(1)  # of this thread
    index = faiss.IndexFlatL2(centers.shape[1])
    index.add(centers)
    found: tuple[NDArray[np.float32], NDArray[np.int64]] = index.search(X, k)
    return found
