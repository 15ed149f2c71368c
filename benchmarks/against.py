"""From image files to features and groups, beside fastdup, as whole processes in turn.

    python benchmarks/against.py --fastdup FOLDER/bin/python [--rounds 3] [--images 5000] [--effort fast]

FOLDER is a virtual environment with fastdup in it. Both start from nothing each time: 5,000 CIFAR-10 PNGs, and the
1,164 grocery photos. Phyla runs `sort --backbone lite0 --no-report`, which is what fastdup's run is: features,
neighbours, groups; with the effort "fast", which is that of one network, or another. The rate is files over wall
seconds, start-up included; memory is the largest resident size of the process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from _data import cifar_pngs, grocery

FASTDUP = "import sys, fastdup; fastdup.create(input_dir=sys.argv[1], work_dir=sys.argv[2]).run(overwrite=True)"


def timed(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident MB of a process."""
    started = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command} failed with {process.returncode}")
    return perf_counter() - started, usage.ru_maxrss / 1024


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--fastdup", help="a Python that has fastdup")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--images", type=int, default=5000)
    arguments.add_argument("--effort", default="fast")
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for what, place in {"CIFAR-10 PNGs": cifar_pngs(folder, args.images), "grocery": grocery(folder)}.items():
            n = sum(p.is_file() for p in place.rglob("*"))
            ours, theirs = [], []
            for number in range(args.rounds):
                out = folder / f"{place.name}-{number}"  # no blanks: fastdup fails on them
                phyla = [sys.executable, "-m", "phyla", "sort", str(place), "-q", "--no-report",
                         "--effort", args.effort]  # fmt: skip
                ours.append(timed([*phyla, "--project", f"{out}.phyla"]))
                if args.fastdup:
                    theirs.append(timed([args.fastdup, "-c", FASTDUP, str(place), f"{out}.fastdup"]))
            rate, memory = n / median(s for s, _ in ours), max(m for _, m in ours)
            print(f"{what}, {n} files: phyla {rate:.0f} img/s, {memory:.0f} MB", flush=True)
            if theirs:
                ratios = [round(b / a, 2) for (a, _), (b, _) in zip(ours, theirs, strict=True)]
                print(f"  fastdup {n / median(s for s, _ in theirs):.0f} img/s, {max(m for _, m in theirs):.0f} MB")
                print(f"  phyla / fastdup: {median(ratios):.2f}, pair by pair {ratios}")


if __name__ == "__main__":
    main()
