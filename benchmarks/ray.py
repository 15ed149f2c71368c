"""The engine ray beside the local one: images a second once it runs, and whether the bytes are the same.

    python benchmarks/ray.py [--images 12000] [--rounds 3] [--backbone lite0]

CIFAR-10's pictures as files, sorted by turns by threads of one process and by as many workers of Ray on this machine.
Images a second are those of the longest step, the networks' look at the pictures, from its beginning to its end; what
Ray takes to start, and its workers to load the networks, is told apart. Needs Ray, and the folder of PHYLA_DATA.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from _data import cifar_part

# A run of its own, for Ray does not start twice in a process. The clock runs from the first shard to the last: those
# that each worker makes first, while it loads the networks, count for neither.
CODE = """
import sys, time, threading
from pathlib import Path
import phyla
source, project, engine, backbone, threads = sys.argv[1:]
times = {}
def watch():
    while not times.get("done"):
        for path in Path(project).glob("features/*/?????.npy"):
            times.setdefault(path.name, time.perf_counter())
        time.sleep(0.02)
watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
begun = time.perf_counter()
phyla.sort(source, project, backbone=[backbone], groups=10, report=False, engine=engine, threads=int(threads))
ended = time.perf_counter()
times["done"] = True
watcher.join()
shards = sorted(t for name, t in times.items() if name != "done")
print(ended - begun, *(t - begun for t in shards))
"""


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--images", type=int, default=12_000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--backbone", default="lite0")
    arguments.add_argument("--workers", type=int, default=2)
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        source, project = cifar_part(Path(temporary), args.images), Path(temporary, "p.phyla")
        told: dict[str, list[tuple[float, float]]] = {"local": [], "ray": []}
        made: dict[str, dict[str, bytes]] = {}
        for number in range(args.rounds):
            for engine in ("local", "ray") if number % 2 == 0 else ("ray", "local"):
                command = [sys.executable, "-c", CODE, source, project, engine, args.backbone, args.workers]
                run = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
                whole, *shards = map(float, run.stdout.split()[-1 - -(-args.images // 2048) :])
                # Of the first shards, one a worker, the last counts as the start.
                first = args.workers if engine == "ray" else 1
                rate = (args.images - 2048 * first) / (shards[-1] - shards[first - 1])
                told[engine].append((rate, whole))
                files = {p.relative_to(project).as_posix(): p.read_bytes() for p in project.rglob("*") if p.is_file()}
                same = made.setdefault("first", files) == files
                project.rename(Path(temporary, f"{number}-{engine}"))
                print(f"{engine:5}: {rate:6.1f} images/s, {whole:6.1f} s in all, the same bytes: {same}", flush=True)
        ratios = [ray / local for (ray, _), (local, _) in zip(told["ray"], told["local"], strict=True)]
        wholes = [ray / local for (_, ray), (_, local) in zip(told["ray"], told["local"], strict=True)]
        print(f"images/s by Ray over local: median {statistics.median(ratios):.3f}", [f"{r:.3f}" for r in ratios])
        print(f"seconds in all, Ray over local: median {statistics.median(wholes):.3f}")


if __name__ == "__main__":
    main()
