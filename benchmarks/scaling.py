"""How grouping grows with the number of images: 10,000 to 10,000,000 rows of a mixture in 64 dimensions.

    python benchmarks/scaling.py [--method vote] [--most 10000000] [--told]

Twenty Gaussian groups, told K and untold, each in a process of its own, by the way that `phyla sort` goes: all rows are
fitted up to `LANDMARKS`, above these the others are assigned. Seconds are of all processors and of the clock; memory is
the peak of the process, the data included; the exponent is the slope of least squares of log(seconds) over log(rows).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from functools import partial
from time import perf_counter, process_time

import numpy as np

from phyla import plugins
from phyla.cluster import fit, score
from phyla.engine import cores
from phyla.engine.local import run

GROUPS, WIDTH, BLOCK = 20, 64, 1 << 16
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)


def one(method: str, n: int, told: int | None) -> dict[str, float]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(GROUPS, WIDTH)).astype(np.float32)
    of, X = rng.integers(GROUPS, size=n), np.empty((n, WIDTH), np.float32)
    for start in range(0, n, BLOCK):
        block = X[start : start + BLOCK]
        rng.standard_normal(out=block, dtype=np.float32)
        block += centres[of[start : start + BLOCK]]
    grouper = plugins.load("cluster", method)(told)
    offered = {"blocks": (WIDTH,), "n_jobs": cores()}
    grouper.set_params(**{k: v for k, v in offered.items() if k in grouper.get_params()})
    clock, cpu = perf_counter(), process_time()
    fit(grouper, X, {}, 0, partial(run, workers=cores()), lambda rows: None)
    seconds = {"cpu": process_time() - cpu, "clock": perf_counter() - clock}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    some = rng.choice(n, min(n, 1_000_000), replace=False)
    right = score(grouper.labels_[some], np.zeros(len(some), bool), of[some])["accuracy"]
    return seconds | {"groups": grouper.n_clusters_, "accuracy": right, "memory": memory}


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--method", default="vote")
    arguments.add_argument("--most", type=int, default=SIZES[-1])
    arguments.add_argument("--told", action="store_true", help="only with K told")
    arguments.add_argument("--one", nargs=2, type=int)
    args = arguments.parse_args()
    if args.one:
        print(json.dumps(one(args.method, args.one[0], args.one[1] or None)))
        return
    for told in (GROUPS,) if args.told else (GROUPS, None):
        sizes = [n for n in SIZES if n <= args.most]
        seconds = []
        for n in sizes:
            given = ["--method", args.method, "--one", str(n), str(told or 0)]
            found = json.loads(subprocess.check_output([sys.executable, __file__, *given], text=True))
            seconds.append(found["cpu"])
            print(
                f"{args.method} K={told} {n:10,} rows: {found['cpu']:7.1f} CPU s, {found['clock']:7.1f} s, "
                f"{found['groups']} groups, accuracy {found['accuracy']:.3f}, peak memory {found['memory']:,.0f} MB",
                flush=True,
            )
        slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
        steepest = np.max(np.diff(np.log(seconds)) / np.diff(np.log(sizes)))
        print(f"exponent {slope:.2f}, steepest step {steepest:.2f}", flush=True)


if __name__ == "__main__":
    main()
