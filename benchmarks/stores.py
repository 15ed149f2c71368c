"""Features in files of NumPy and in Lance: CPU time to append and to scan, time to take, bytes; and Lance's index.

    python benchmarks/stores.py [--rows 1000000] [--dim 512] [--stores npy,lance] [--index 60000] [--folder DIR]

Each store runs in a process of its own, through `phyla.store` as a sort does: shards of 2,048 rows (float16; a mixture
of 2,000 Gaussians whose axes fade as those of features do) with their ids, one by one; then 200 times 1,000 rows at
random places, and all of them in blocks of 4,096. Files are in the page cache. CPU time is that of all threads.
`--index` builds Lance's IVF-PQ index over so many rows and asks it for the ten nearest of 200 rows, by cosine, beside
the exact answer (0: not). Needs `pip install pylance`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from phyla.store import Store, features_of
from phyla.types import Recipe

SHARD, BLOCK, TAKEN, TIMES, QUERIES, K = 2048, 4096, 1000, 200, 200, 10


def shards(rows: int, dim: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    fade = np.float32((1 + np.arange(dim)) ** -0.5)
    centers = rng.standard_normal((2000, dim), np.float32) * fade
    for start in range(0, rows, SHARD):
        n = min(SHARD, rows - start)
        block = centers[rng.integers(2000, size=n)] + 0.6 * fade * rng.standard_normal((n, dim), np.float32)
        yield np.array([rng.bytes(16).hex() for _ in range(n)]), block.astype(np.float16)


def measure(kind: str, folder: Path, rows: int, dim: int) -> dict[str, Any]:
    store = Store.create(folder)
    with store.writing():
        store.update_meta(store=kind)
        stage = store.stage(Recipe("features", kind))
        features, cpu, first, last = features_of(store, stage), 0.0, 0.0, 0.0
        for number, (ids, X) in enumerate(shards(rows, dim)):
            begun = process_time()
            features.write(number, ids, X, {})
            last = process_time() - begun
            first, cpu = first or last, cpu + last
    rng = np.random.default_rng(1)
    features = features_of(store, stage)
    begun = process_time()
    ids = features.ids
    held = process_time() - begun
    asked = [features.places(ids[rng.integers(rows, size=TAKEN)]) for _ in range(3)]
    asked += [rng.integers(rows, size=TAKEN) for _ in range(TIMES)]
    took = []
    for places in asked:
        begun = perf_counter()
        features.take(places)
        took.append(perf_counter() - begun)
    begun = process_time()
    for start in range(0, rows, BLOCK):
        features.take(np.arange(start, min(start + BLOCK, rows)))
    return {
        "store": kind, "append_cpu_s": cpu, "first_ms": 1000 * first, "last_ms": 1000 * last, "ids_cpu_s": held,
        "take_ms": 1000 * float(np.median(took)), "scan_cpu_s": process_time() - begun,
        "mb": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6,
    }  # fmt: skip


def index(folder: Path, rows: int, dim: int) -> list[dict[str, Any]]:
    import lance
    import pyarrow as pa

    X = np.concatenate([block for _, block in shards(rows, dim)])
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), dim)
    data = lance.write_dataset(pa.table({"X": vectors}), str(folder))
    unit = X / np.linalg.norm(X.astype(np.float32), axis=1, keepdims=True)
    asked = np.random.default_rng(2).integers(rows, size=QUERIES)
    exact = np.argsort(-(unit[asked] @ unit.T), axis=1)[:, : K + 1]
    begun, cpu = perf_counter(), process_time()
    data.create_index("X", "IVF_PQ", metric="cosine", num_partitions=max(rows // 4096, 16), num_sub_vectors=dim // 8)
    built = {"seconds": perf_counter() - begun, "cpu_s": process_time() - cpu}
    data = lance.dataset(str(folder))
    told = []
    for probes, refine in ((10, None), (10, 10), (40, 10)):
        found, took = [], []
        for row in asked:
            begun = perf_counter()
            near = {"column": "X", "q": X[row].astype(np.float32), "k": K + 1, "nprobes": probes}
            near |= {"refine_factor": refine} if refine else {}
            found.append(data.to_table(nearest=near, columns=["_distance"], with_row_id=True)["_rowid"].to_numpy())
            took.append(perf_counter() - begun)
        hits = [len(set(a.tolist()) & set(b.tolist()) - {row}) for a, b, row in zip(found, exact, asked, strict=True)]
        of = {"probes": probes, "refine": refine or 0, "recall": float(np.mean(hits)) / K}
        told.append({"index of": rows} | built | of | {"ms": 1000 * float(np.median(took))})
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--stores", default="npy,lance")
    parser.add_argument("--index", type=int, default=60_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        if args.one == "index":
            for row in index(Path(folder) / "x.lance", args.index, args.dim):
                print(json.dumps(row))
            return
        if args.one:
            print(json.dumps(measure(args.one, Path(folder) / "p", args.rows, args.dim)))
            return
    for kind in [*args.stores.split(","), *["index"] * bool(args.index)]:
        argv = ["--rows", args.rows, "--dim", args.dim, "--index", args.index, "--one", kind]
        argv += ["--folder", args.folder] if args.folder else []
        told = subprocess.run(
            [sys.executable, __file__, *map(str, argv)], capture_output=True, text=True, check=True
        ).stdout
        for line in told.splitlines():
            row = json.loads(line)
            row = {k: f"{v:.3f}" if isinstance(v, float) else v for k, v in row.items()}
            print(*(f"{k} {v}" for k, v in row.items()), sep="  ", flush=True)


if __name__ == "__main__":
    main()
