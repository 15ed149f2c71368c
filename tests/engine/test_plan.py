"""The simulation of the plan for a billion images, against runs of the local engine."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import pytest

from phyla.engine.local import run

WORKERS = 3


@pytest.fixture(scope="module")
def plan() -> Any:
    path = Path(__file__).parents[2] / "benchmarks" / "plan.py"
    spec = importlib.util.spec_from_file_location("plan", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("first", [0.02, 0.6])
def test_it_foretells_a_run(plan: Any, first: float) -> None:
    """A slow task at the head holds up what lies more than a window behind it: 0.6 s and then 0.3 more."""
    work = np.append(first, np.random.default_rng(0).uniform(0.005, 0.025, 72))
    even, window = np.ones(WORKERS), plan.WINDOW * WORKERS
    told, unbounded = plan.makespan(work, even, window), plan.makespan(work, even, len(work))
    begun = perf_counter()
    for _ in run(sleep, work.tolist(), WORKERS):
        pass
    took = perf_counter() - begun
    assert told * 0.99 < took < told * 1.25 + 0.1, f"took {took:.2f} s, foretold {told:.2f}"
    if first > 0.1:
        assert told > unbounded + 0.2, f"foretold {told:.2f}, without a window {unbounded:.2f}"


def test_what_can_be_reckoned(plan: Any) -> None:
    ones, even = np.ones(12), np.ones(WORKERS)
    assert plan.makespan(ones, even, 12) == 4
    assert plan.makespan(ones, even, 1) == 12, "one at a time"
    assert plan.makespan(ones, np.array([2.0, 1, 1]), 12) == 3
    assert plan.makespan(ones, even, 12, np.array([0, 2, 100])) == 7, "the second joins after 2 s, the third too late"
    whole, lossy = plan.makespan(np.ones(3000), even, 12), plan.makespan(np.ones(3000), even, 12, None, 1 / 5000)
    assert whole == 1000 < lossy < 1.5 * whole
    assert plan.reducing(10**9, 1000, 1)[1] > 10 * plan.reducing(10**9, 1000, 64)[1]
