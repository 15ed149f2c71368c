"""Kill −9 at twenty random moments of a run, rerun: the same bytes, and no finished shard computed twice.

    python benchmarks/kill.py [--kills 20] [--images 1200] [--seed 0]

An undisturbed run goes first. Each of the others is killed once, at a moment drawn evenly from the undisturbed run's
length, and run again to its end; then every file but the lock is compared. Shards that were whole when the run was
killed keep their inode and time stamp, which a second computation would change.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _data import cifar_part


def command(source: Path, project: Path) -> list[str]:
    # Shards a tenth of the usual size, so that a short run has many.
    code = (
        "import sys, phyla.backbones._extract as e, phyla.cli as c; e.SHARD = 192;"
        f"sys.exit(c.main(['sort', {str(source)!r}, '-o', {str(project)!r}, '-k', '10', '--backbone', 'lite0', '-q']))"
    )
    return [sys.executable, "-c", code]


def files(project: Path) -> dict[str, bytes]:
    kept = (p for p in sorted(project.rglob("*")) if p.is_file() and p.name != "lock")
    return {str(p.relative_to(project)): p.read_bytes() for p in kept}


def shards(project: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in project.glob("features/*/?????.npy")}


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--images", type=int, default=1200)
    arguments.add_argument("--seed", type=int, default=0)
    args = arguments.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = cifar_part(folder, args.images)
        started = time.perf_counter()
        project = folder / "p.phyla"
        subprocess.run(command(source, project), check=True, stdout=subprocess.DEVNULL)
        length = time.perf_counter() - started
        expected = files(project)
        twice = different = 0
        for number in range(args.kills):
            project.rename(folder / f"done-{number}")  # the same path each time, for the report names it
            after = rng.uniform(0, length)
            run = subprocess.Popen(command(source, project), stdout=subprocess.DEVNULL)
            time.sleep(after)
            run.send_signal(signal.SIGKILL)
            run.wait()
            before = shards(project)
            subprocess.run(command(source, project), check=True, stdout=subprocess.DEVNULL)
            again = sum(shards(project)[path] != stat for path, stat in before.items())
            got = files(project)
            unequal = [name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name)]
            twice, different = twice + again, different + bool(unequal)
            kept = f"{len(before)} shards kept, {again} made twice"
            print(f"kill {number + 1} after {after:5.2f} s: {kept}, {unequal}", flush=True)
    print(f"{args.kills} kills: {different} runs ended in other bytes, {twice} finished shards were computed twice")
    sys.exit(bool(different or twice))


if __name__ == "__main__":
    main()
