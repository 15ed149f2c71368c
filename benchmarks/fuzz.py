"""Hostile input by the thousand: the fuzzing tests, with many more examples of each kind than in CI.

    python benchmarks/fuzz.py [EXAMPLES]        (500 by default; CI makes 10)

60 examples (4,000 mutated pictures, 960 archives, tables and lists, 2,100 requests): 0 tracebacks, 0 lost edits, 0
files written elsewhere, in 39 s of CPU time. Two cores of a shared machine (AMD EPYC), Python 3.11.7, Pillow 13.0,
PyArrow 26.0, Starlette 1.10, Schemathesis 4.32; 2026-11-22. Forged projects came later: docs/benchmarks.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = ("tests/hostile/test_mutated.py", "tests/hostile/test_projects.py", "tests/app/test_openapi.py")


def main() -> int:
    examples = sys.argv[1] if len(sys.argv) > 1 else "500"
    command = [sys.executable, "-m", "pytest", "-q", "-s", "--durations=5", "-n", "0", *TESTS]
    return subprocess.run(
        command, cwd=Path(__file__).parents[1], env=os.environ | {"PHYLA_FUZZ": examples}, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
