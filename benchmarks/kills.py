"""A thousand kills (signal 9) at any step of what Phyla does: sort, growing, label and spread, audit, page edits,
predict, all exports, train, the index for searches, and repairs.

Result: see docs/benchmarks.md, "Killed and run again".

    python benchmarks/kills.py [KILLS [SEED]]

The kills are forks of a process that has imported everything, as in `tests/resume/_kills.py`, which says what a step is
and what is looked at after each: `phyla check`, every acknowledged edit, the bytes after the same operation again, what
lies outside the project. A thousand take nine minutes of CPU time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
BATCH = 50


def main(kills: int = 1000, seed: int = 0) -> None:
    path = os.pathsep.join([str(TESTS / "plugin"), *(p for p in sys.path if p)])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done: Counter[str] = Counter()
    wrong, seconds = [], 0.0
    for start in range(0, kills, BATCH):
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                str(TESTS / "resume/_kills.py"),
                f"{folder}/kills",
                str(seed * 1_000_000 + start),
            ]
            batch = subprocess.run([*command, str(min(BATCH, kills - start))], env=environment, stdout=subprocess.PIPE)
        told = json.loads(batch.stdout)
        done.update(told["kills"])
        wrong += told["wrong"]
        seconds += told["seconds"]
        print(f"{sum(done.values()):5} kills, {len(wrong)} wrong, {seconds:.0f} s; steps {told['steps']}", flush=True)
    print(dict(done))
    for each in wrong:
        print(json.dumps(each, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
