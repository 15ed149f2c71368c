"""The simulation of the plan for a billion images, against the engines and what can be reckoned."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phyla.engine import ray as engine_of_ray
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


def test_as_many_are_under_way_as_in_a_run(plan: Any) -> None:
    """While the first task lasts the engine begins as many others as the simulation has it begin."""
    window, begun, enough = plan.WINDOW * WORKERS, list[int](), threading.Event()
    begun_beside_the_first = []

    def work(task: int) -> None:
        begun.append(task)
        if len(begun) == window:
            enough.set()
        if task == 0:
            assert enough.wait(60), "fewer"
            begun_beside_the_first.append(len(begun))

    for _ in run(work, range(200), WORKERS):
        pass
    assert begun_beside_the_first == [window], "more"
    told = plan.makespan(np.array([100.0] + [1.0] * 199), np.ones(WORKERS), window)
    assert told == 100 + np.ceil((200 - window) / WORKERS)
    assert plan.WINDOW == engine_of_ray._IN_FLIGHT


def test_what_can_be_reckoned(plan: Any) -> None:
    ones, even = np.ones(12), np.ones(WORKERS)
    assert plan.makespan(ones, even, 12) == 4
    assert plan.makespan(ones, even, 1) == 12, "one at a time"
    assert plan.makespan(ones, np.array([2.0, 1, 1]), 12) == 3
    assert plan.makespan(ones, even, 12, np.array([0, 2, 100])) == 7, "the second joins after 2 s, the third too late"
    whole, lossy = plan.makespan(np.ones(3000), even, 12), plan.makespan(np.ones(3000), even, 12, None, 1 / 5000)
    assert whole == 1000 < lossy < 1.5 * whole
    assert plan.reducing(10**9, 1000, 1)[1] > 10 * plan.reducing(10**9, 1000, 64)[1]
