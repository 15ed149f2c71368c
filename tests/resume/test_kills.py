"""Killed a hundred times, at other moments every day: nothing that was said or finished is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

KILLS = 100
HERE = Path(__file__).parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_nothing_is_lost(tmp_path: Path) -> None:
    """Two processes, each with half of the kills; a failure names what repeats it."""
    seed = int(os.environ.get("PHYLA_SEED") or datetime.now(UTC).date().toordinal())
    path = os.pathsep.join([str(HERE.parent / "plugin"), *(p for p in sys.path if p)])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    halves = [
        subprocess.Popen(
            [sys.executable, str(HERE / "_kills.py"), str(tmp_path / str(half)), str(2 * seed + half), str(KILLS // 2)],
            env=environment, stdout=subprocess.PIPE, text=True,
        )
        for half in range(2)
    ]  # fmt: skip
    told = [json.loads(half.communicate(timeout=600)[0]) for half in halves]
    kills = {name: sum(one["kills"][name] for one in told) for name in told[0]["kills"]}
    assert sum(kills.values()) == KILLS and len(kills) == 11 and min(kills.values()) >= 8, kills
    assert all(steps >= 20 for one in told for steps in one["steps"].values()), told[0]["steps"]
    assert not [wrong for one in told for wrong in one["wrong"]], f"PHYLA_SEED={seed}"
