"""A busy neighbour: how much slower extraction and grouping get beside processes that take a share of the processors.

    python benchmarks/neighbour.py [--rounds 3]

With t threads on t cores, one more busy thread leaves t / (t + 1) of the machine, so a fair slow-down is (t + 1) / t.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from _data import cifar_part
from extraction import whole

from phyla._steps import limited
from phyla.cluster.vote import Vote
from phyla.engine import cores

SPIN = "while True: pass"


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=3)
    args = arguments.parse_args()
    threads = cores()
    rng = np.random.default_rng(0)
    X = np.float32(rng.normal(size=(20, 96))[rng.integers(20, size=20_000)] + rng.normal(size=(20_000, 96)))

    def group() -> float:
        with limited(threads):
            started = perf_counter()
            Vote(20, random_state=0, n_jobs=threads).fit(X)
            return perf_counter() - started

    with tempfile.TemporaryDirectory() as temporary:
        part = cifar_part(Path(temporary), 2000)
        for what, work in {"extraction": lambda: 2000 / whole(part, ("lite0",), threads), "grouping": group}.items():
            work()
            slower = []
            for _ in range(args.rounds):
                alone = work()
                spinner = subprocess.Popen([sys.executable, "-c", SPIN])
                try:
                    slower.append(work() / alone)
                finally:
                    spinner.kill()
                    spinner.wait()
            fair = (threads + 1) / threads
            each = np.round(slower, 2).tolist()
            print(f"{what}: {median(slower):.2f} times slower beside one busy process (fair: {fair:.2f}) {each}")


if __name__ == "__main__":
    main()
