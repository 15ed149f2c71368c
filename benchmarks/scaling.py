"""How the time of grouping grows with the number of images: 10,000 to 1,000,000 rows of a mixture in 64 dimensions.

    python benchmarks/scaling.py [--method vote] [--most 1000000]

Twenty Gaussian groups, told K and untold; the exponent is the slope of log(seconds) over log(rows).
"""

from __future__ import annotations

import argparse
import resource
from time import perf_counter

import numpy as np

from phyla import plugins
from phyla.cluster import score
from phyla.engine import cores

GROUPS, WIDTH = 20, 64


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--method", default="vote")
    arguments.add_argument("--most", type=int, default=1_000_000)
    args = arguments.parse_args()
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(GROUPS, WIDTH)).astype(np.float32)
    for told in (GROUPS, None):
        sizes, seconds = [], []
        for n in (10_000, 30_000, 100_000, 300_000, 1_000_000):
            if n > args.most:
                continue
            of = rng.integers(GROUPS, size=n)
            X = centres[of] + rng.standard_normal((n, WIDTH), dtype=np.float32)
            grouper = plugins.load("cluster", args.method)(told)
            offered = {"blocks": (WIDTH,), "n_jobs": cores()}
            grouper.set_params(**{k: v for k, v in offered.items() if k in grouper.get_params()})
            started = perf_counter()
            grouper.fit(X)
            sizes.append(n)
            seconds.append(perf_counter() - started)
            right = score(grouper.labels_, np.zeros(n, bool), of)["accuracy"]
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{args.method} K={told} {n:9,} rows: {seconds[-1]:7.2f} s, {grouper.n_clusters_} groups, "
                f"accuracy {right:.3f}, peak memory of the process {memory:.0f} MB",
                flush=True,
            )
        whole = np.log(seconds[-1] / seconds[0]) / np.log(sizes[-1] / sizes[0])
        steepest = np.max(np.diff(np.log(seconds)) / np.diff(np.log(sizes)))
        print(f"exponent from first to last {whole:.2f}, steepest step {steepest:.2f}")


if __name__ == "__main__":
    main()
