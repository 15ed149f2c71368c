"""The rows nearest to one vector among millions: all compared, or those of the nearest cells (an inverted file).

Rows stay the half-precision numbers they are on the disk, mapped, and distances are those of the rows themselves, so
nothing is left to be ranked again. All of it is plain arrays; who keeps them in files can make them shard by shard.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phyla.engine.local import run
from phyla.neighbors._faiss import one_thread

__all__ = ["Index", "Shard", "calibrate", "centers_of", "n_cells", "nearest_rows", "sample_of", "shard_of"]

Half = NDArray[np.float16]

_SAMPLE = 64  # rows a cell that the cells are learnt from; faiss warns under 39
_ROUNDS = 10  # of k-means
_BLOCK = 1 << 14  # rows in single precision at a time
_ASKED = (10, 100, 1000)  # numbers of neighbours that the number of cells to look into is measured for
_QUERIES, _NEAR = 256, 50
_AIM = 0.97  # recall; of 256 queries' ten neighbours its standard error is some 0.005, and 0.95 is promised
_WHOLE = 0.25  # share of the cells from which on comparing all is as quick: it jumps to no other place


@dataclass(frozen=True)
class Shard:
    """Rows of a block, sorted by cell. vectors : (m, d) float16. rows : (m,) int32. ends : (cells,) int64, of each."""

    vectors: Half
    rows: NDArray[np.int32]
    ends: NDArray[np.int64]

    def is_whole(self, first: int, cells: int, width: int) -> bool:
        """Whether its arrays belong together, and hold the rows from `first` on."""
        m = len(self.rows)
        return bool(
            m
            and self.vectors.dtype == np.float16
            and self.vectors.shape == (m, width)
            and self.rows.dtype == np.int32
            and (self.rows.min(), self.rows.max()) == (first, first + m - 1)
            and self.ends.shape == (cells,)
            and self.ends[-1] == m
            and (np.diff(self.ends, prepend=0) >= 0).all()
        )


def nearest_rows(vectors: Half, query: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k rows of `vectors` (n, d) nearest to `query` (d,), and their squared distances; all are compared.

    A million rows of 64 take 5 ms in one thread, from a memory map too.
    """
    found = _Nearest(query, min(k, len(vectors)))
    found.look(vectors, 0, len(vectors), 0)
    return found.told()[1:]


def n_cells(n: int) -> int:
    """How many cells n rows are kept in: about √n, so that there are about as many cells as rows in each."""
    return 1 << max(round(math.log2(max(n, 1)) / 2), 0)


def sample_of(n: int) -> NDArray[np.int64]:
    """The rows, evenly spread over all n, that cells are learnt from."""
    return np.linspace(0, n - 1, min(n, _SAMPLE * n_cells(n))).astype(np.int64)


def centers_of(sample: Half | NDArray[np.float32], cells: int, seed: int = 0) -> NDArray[np.float32]:
    """(cells, d) the middles of the cells that k-means finds in a sample of the rows (m, d); 1,024 take 2 s."""
    import faiss

    kmeans = faiss.Kmeans(sample.shape[1], cells, niter=_ROUNDS, seed=seed, min_points_per_centroid=1)
    with one_thread():
        kmeans.train(np.ascontiguousarray(sample, np.float32))
    return np.asarray(kmeans.centroids, np.float32)


def shard_of(vectors: Half, first: int, centers: NDArray[np.float32], n_jobs: int = 1) -> Shard:
    """A block of rows (m, d), of which the first is the row `first` of all, sorted by the cells they lie in.

    A million rows of 64 and 1,024 cells take 2.5 s of CPU time.
    """
    import faiss

    index = faiss.IndexFlatL2(centers.shape[1])
    index.add(centers)

    def cells_of(start: int) -> NDArray[np.int64]:
        faiss.omp_set_num_threads(1)  # of this thread
        return index.search(vectors[start : start + _BLOCK].astype(np.float32), 1)[1][:, 0]

    with one_thread():
        cell = np.concatenate(list(run(cells_of, range(0, len(vectors), _BLOCK), n_jobs)))
    order = np.argsort(cell, kind="stable")
    ends = np.cumsum(np.bincount(cell, minlength=len(centers)))
    return Shard(vectors[order], (first + order).astype(np.int32), ends)


class Index:
    """An inverted file (Jégou, Douze and Schmid, 2011) over n rows in shards; how far it looks is measured.

    Parameters
    ----------
    centers : (c, d) float32, the middles of the cells.
    shards : the rows in order, each shard sorted by cell (`shard_of`). May be memory maps.
    measured : (m, 3) what `calibrate` found; without it all rows are compared.

    Raises `ValueError` where these don't belong together, as after a file was damaged.
    """

    VERSION = 1

    def __init__(
        self, centers: NDArray[np.float32], shards: Iterable[Shard], measured: NDArray[np.float64] | None = None
    ) -> None:
        self.centers, self.shards, self.n = centers, list(shards), 0
        self.measured = np.zeros((0, 3)) if measured is None else measured
        if centers.ndim != 2 or centers.dtype != np.float32 or not np.isfinite(centers).all():
            raise ValueError("the middles of the cells are damaged")
        for shard in self.shards:
            if not shard.is_whole(self.n, *centers.shape):
                raise ValueError(f"the shard that begins with row {self.n:,} is damaged")
            self.n += len(shard.rows)
        if self.measured.ndim != 2 or self.measured.shape[1] != 3 or not np.isfinite(self.measured).all():
            raise ValueError("what was measured is damaged")

    def probes(self, k: int) -> int:
        """Cells looked into for k neighbours; all of them where that was not measured, or is as quick."""
        enough = [int(cells) for asked, cells, _ in self.measured.tolist() if asked >= k]
        return enough[0] if enough and 0 < enough[0] < _WHOLE * len(self.centers) else len(self.centers)

    def search(self, query: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Nearly the k rows nearest to `query` (d,), nearest first, and their squared distances (k,)."""
        of, place, squared = self._look(query, k, self.probes(k))
        rows = np.empty(len(of), np.int64)
        for number in np.unique(of):
            rows[of == number] = self.shards[number].rows[place[of == number]]
        order = np.lexsort((rows, squared))
        return rows[order], squared[order]

    def _look(
        self, query: NDArray[np.float32], k: int, probes: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Of each row found its shard, its place there, and its squared distance."""
        found = _Nearest(query, min(k, self.n))
        cells = self._nearest_cells(query)[:probes]
        for number, shard in enumerate(self.shards):
            if probes >= len(self.centers):
                found.look(shard.vectors, 0, len(shard.rows), number)
                continue
            stops = shard.ends[cells]
            starts = np.where(cells > 0, shard.ends[cells - 1], 0)
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
                found.look(shard.vectors, start, stop, number)
        return found.told()

    def _nearest_cells(self, query: NDArray[np.float32]) -> NDArray[np.intp]:
        return np.argsort(((self.centers - query) ** 2).sum(1), kind="stable")


def calibrate(index: Index, seed: int = 0) -> NDArray[np.float64]:
    """(m, 3): k neighbours, the cells to look into for them, and the mean recall that these give.

    Measured on the index's own rows, against comparing all. Half of the queries are rows, the others the mean of a row
    and two near it, as a search by several examples asks. A million rows take 3 s.
    """
    rng = np.random.default_rng(seed)
    asked = [k for k in _ASKED if 4 * k <= index.n]
    measured = np.zeros((len(asked), 3))
    measured[:, 0], measured[:, 2] = asked, 1
    for together in (1, 3) if asked else ():
        ranks = np.array([_ranks(index, rng, asked[-1], together) for _ in range(_QUERIES // 2)])
        for told, k in zip(measured, asked, strict=True):
            needed = np.sort(ranks[:, :k].ravel())
            cells = int(needed[math.ceil(_AIM * len(needed)) - 1]) + 1
            told[1:] = max(told[1], cells), min(told[2], (needed < cells).mean())
    return measured


def _ranks(index: Index, rng: np.random.Generator, k: int, together: int) -> NDArray[np.intp]:
    """Of a query, drawn from the index, how near the cell of each of its k nearest rows is, counted from 0."""
    shard = index.shards[rng.choice(len(index.shards), p=[len(s.rows) / index.n for s in index.shards])]
    query = shard.vectors[rng.integers(len(shard.rows))].astype(np.float32)
    every = len(index.centers)
    if together > 1:
        of, place, _ = index._look(query, _NEAR, every)
        others = rng.choice(np.arange(1, len(of)), together - 1, replace=False)
        near = [index.shards[of[i]].vectors[place[i]].astype(np.float32) for i in others]
        query = np.mean([query, *near], axis=0)
    rank = np.empty(every, int)
    rank[index._nearest_cells(query)] = np.arange(every)
    of, place, _ = index._look(query, k + 1, every)
    cell = np.array([np.searchsorted(index.shards[i].ends, at, side="right") for i, at in zip(of, place, strict=True)])
    return rank[cell[1:] if together == 1 else cell[:k]]  # a row itself is no find


class _Nearest:
    """The k rows nearest to a query of all that it is shown, by faiss's kernel for half-precision rows."""

    def __init__(self, query: NDArray[np.float32], k: int) -> None:
        import faiss

        d = len(query)
        # An inverted file of one empty list lends its scanner, which reads rows wherever they lie.
        self._index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatL2(d), d, 1, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2, False
        )
        try:
            self._scanner = self._index.get_InvertedListScanner(True, None, None)
        except TypeError:  # as faiss 1.9 has it
            self._scanner = self._index.get_InvertedListScanner(True, None)
        self._query, self._at = np.ascontiguousarray(query, np.float32), faiss.swig_ptr
        self._scanner.set_query(self._at(self._query))
        self._squared, self._labels = np.full(k, np.inf, np.float32), np.full(k, -1, np.int64)
        self._looked: list[tuple[int, int]] = []

    def look(self, vectors: Half, start: int, stop: int, number: int) -> None:
        """Compare the rows from `start` to `stop` of the array that is told of as `number`."""
        if start < stop:
            self._scanner.set_list(len(self._looked), 0.0)
            self._looked.append((number, start))
            codes = vectors[start:stop].view(np.uint8)
            heap = self._at(self._squared), self._at(self._labels), len(self._labels)
            self._scanner.scan_codes(stop - start, self._at(codes), None, *heap)

    def told(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Of each row found the number of its array, its place there, and its squared distance; nearest first."""
        found = self._labels >= 0
        squared, labels = self._squared[found], self._labels[found]
        number, start = np.array(self._looked, np.int64).reshape(-1, 2)[labels >> 32].T  # faiss: list << 32 | offset
        place = start + (labels & 0xFFFFFFFF)
        order = np.lexsort((place, number, squared))
        return number[order], place[order], squared[order]
