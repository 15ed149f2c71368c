"""Search among a million vectors: ways of indexing by recall, time of a query, time to build, bytes and memory.

    python benchmarks/search.py [--project cifar.phyla] [--rows 1000000] [--ways exact,index] [--folder DIR]

Each way runs in a process of its own on float16 rows in a file: two threads build, one searches, and the peak of its
resident memory is told for both. Queries are 200 rows of the file; recall is that of their ten nearest others. The rows
are a mixture of 2,000 Gaussians whose axes fade as those of features do, white noise (the worst case: no cell tells
anything), and, with --project, that project's vectors, each moved towards one of its 20 nearest and jittered.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

WIDTH, BLOCK, SHARD, QUERIES, K = 64, 1 << 16, 1 << 18, 200, 10
CANDIDATES = 10 * K  # ranked again by the stored rows, where codes are coarser than these
WAYS = ("exact", "index", "ivf-flat", "ivf-sq8", "ivf-pq", "pq-fast-scan", "hnsw-sq8")


def synthesise(kind: str, path: Path, rows: int, project: Path | None) -> None:
    rng = np.random.default_rng(0)
    out = np.lib.format.open_memmap(path, "w+", np.float16, (rows, WIDTH))
    if kind == "mixture":
        fade = np.float32((1 + np.arange(WIDTH)) ** -0.5)
        centers = rng.standard_normal((2000, WIDTH), np.float32) * fade
        weights = rng.dirichlet(np.full(2000, 0.5))
    elif kind == "features":
        import faiss

        from phyla.project import Project

        assert project is not None
        X = np.ascontiguousarray(Project(project).near[:, :WIDTH])
        index = faiss.IndexFlatL2(WIDTH)
        index.add(X)
        near = index.search(X, 21)[1][:, 1:]
    for start in range(0, rows, BLOCK):
        m = min(BLOCK, rows - start)
        block = rng.standard_normal((m, WIDTH), np.float32)
        if kind == "mixture":
            block = centers[rng.choice(2000, m, p=weights)] + 0.6 * fade * block
        elif kind == "features":
            of = rng.integers(len(X), size=m)
            towards = rng.uniform(0, 0.5, (m, 1)).astype(np.float32)
            block = (1 - towards) * X[of] + towards * X[near[of, rng.integers(20, size=m)]] + 0.3 * block
        out[start : start + m] = block
    out.flush()


Search = Callable[[np.ndarray, int], np.ndarray]


def ours(X: np.ndarray, folder: Path) -> tuple[Search, int]:
    from phyla.neighbors import Index, Shard, calibrate, centers_of, n_cells, sample_of, shard_of

    centers = centers_of(X[sample_of(len(X))], n_cells(len(X)))
    shards, size = [], 0
    for start in range(0, len(X), SHARD):
        shard, held = shard_of(X[start : start + SHARD], start, centers), {}
        for name in ("vectors", "rows", "ends"):
            path = folder / f"{start}.{name}.npy"
            np.save(path, getattr(shard, name))
            size += path.stat().st_size
            held[name] = np.load(path, mmap_mode="r")
        shards.append(Shard(**held))
    index = Index(centers, shards)
    measured = calibrate(index)
    print("measured", measured.tolist(), file=sys.stderr)
    index = Index(centers, shards, measured)
    return lambda query, k: index.search(query, k)[0], size


def of_faiss(way: str, X: np.ndarray, folder: Path) -> tuple[Search, int]:
    """faiss's own index, its parameter raised until a sample's recall is 0.97, as ours does."""
    import faiss

    faiss.omp_set_num_threads(2)
    key = {
        "ivf-flat": "IVF1024,Flat", "ivf-sq8": "IVF1024,SQ8", "ivf-pq": "IVF1024,PQ32", "pq-fast-scan": "PQ64x4fs",
        "hnsw-sq8": "HNSW24_SQ8",
    }[way]  # fmt: skip
    index = faiss.index_factory(WIDTH, key)
    index.train(X[np.linspace(0, len(X) - 1, 65_536).astype(int)].astype(np.float32))
    for start in range(0, len(X), BLOCK):
        index.add(X[start : start + BLOCK].astype(np.float32))
    faiss.write_index(index, str(folder / way))
    size = (folder / way).stat().st_size
    if "ivf" in way:
        del index
        index = faiss.read_index(str(folder / way), faiss.IO_FLAG_MMAP)
    faiss.omp_set_num_threads(1)
    coarse = way not in ("ivf-flat",)

    def search(query: np.ndarray, k: int) -> np.ndarray:
        if not coarse:
            return index.search(query[None], k)[1][0]
        rows = index.search(query[None], CANDIDATES * (10 if "fast" in way else 1))[1][0]
        rows = rows[rows >= 0]
        away = ((X[rows].astype(np.float32) - query) ** 2).sum(1)
        return rows[np.argsort(away)[:k]]

    if "fast" not in way:
        queries, true = truth(X, 100, seed=1)
        for effort in (4, 8, 16, 32, 64, 128, 256, 512, 1024):
            if "ivf" in way:
                index.nprobe = effort
            else:
                index.hnsw.efSearch = max(effort, CANDIDATES)
            if recall(search, queries, true) >= 0.97:
                break
        print("effort", effort, file=sys.stderr)
    return search, size


def truth(X: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    from phyla.neighbors import nearest_rows

    queries = X[np.sort(np.random.default_rng(seed).integers(len(X), size=n))].astype(np.float32)
    return queries, [nearest_rows(X, query, K + 1)[0] for query in queries]


def recall(search: Search, queries: np.ndarray, true: list[np.ndarray]) -> float:
    found = [search(query, K + 1) for query in queries]
    return float(np.mean([len(set(a[1:].tolist()) & set(b.tolist())) / K for a, b in zip(true, found, strict=True)]))


def one(way: str, path: Path) -> dict[str, Any]:
    """One way, in this process."""
    from phyla.neighbors import nearest_rows

    X = np.load(path, mmap_mode="r")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        started, cpu = perf_counter(), process_time()
        if way == "exact":
            search: Search = lambda query, k: nearest_rows(X, query, k)[0]  # noqa: E731
            size = 0
        else:
            search, size = ours(X, Path(folder)) if way == "index" else of_faiss(way, X, Path(folder))
        built, built_cpu = perf_counter() - started, process_time() - cpu
        queries, true = truth(X, QUERIES, seed=2)
        search(queries[0], K + 1)
        before, cpu = perf_counter(), process_time()
        for query in queries:
            search(query, K + 1)
        wall, busy = (perf_counter() - before) / QUERIES, (process_time() - cpu) / QUERIES
        return {
            "recall": round(recall(search, queries, true), 4),
            "ms": round(1e3 * wall, 2), "ms of CPU": round(1e3 * busy, 2),
            "build s": round(built, 1), "build s of CPU": round(built_cpu, 1), "MB": round(size / 1e6),
            "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--project", type=Path)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--ways", default=",".join(WAYS))
    arguments.add_argument("--folder", type=Path)
    arguments.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.one:
        print(json.dumps(one(args.one[0], Path(args.one[1]))))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for kind in ("mixture", "noise", *(["features"] if args.project else [])):
            path = Path(folder) / f"{kind}.npy"
            synthesise(kind, path, args.rows, args.project)
            for way in args.ways.split(","):
                command = [sys.executable, __file__, "--one", way, str(path)]
                told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
                print(f"{kind:9} {way:13}", json.loads(told.splitlines()[-1]), flush=True)
            path.unlink()


if __name__ == "__main__":
    main()
