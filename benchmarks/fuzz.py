"""Hostile input by the thousand: the fuzzing tests, with many more examples of each kind than in CI.

    python benchmarks/fuzz.py [EXAMPLES]        (500 by default; CI makes 10)

RESULT_HERE
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = ("tests/hostile/test_mutated.py", "tests/app/test_openapi.py")


def main() -> int:
    examples = sys.argv[1] if len(sys.argv) > 1 else "500"
    command = [sys.executable, "-m", "pytest", "-q", "-s", "--durations=5", *TESTS]
    return subprocess.run(
        command, cwd=Path(__file__).parents[1], env=os.environ | {"PHYLA_FUZZ": examples}, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
