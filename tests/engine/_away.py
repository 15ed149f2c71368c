"""What processes of Ray run, and drivers: `_away.py PHOTOS PROJECT` sorts, `_away.py` has nodes come and go."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phyla.types import PhylaError


def double(task: int) -> int:
    return 2 * task


def slow(task: int) -> tuple[int, int]:
    time.sleep(0.05)
    return task, os.getpid()


def ours(task: int) -> int:
    if task == 7:
        raise PhylaError("Seven is bad.", "Leave it out.")
    return task


def theirs(task: int) -> int:
    return 10 // (task - 7)


def threads(task: int) -> list[int]:
    import numpy as np
    from threadpoolctl import threadpool_info

    np.eye(2) @ np.eye(2)
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@dataclass(frozen=True)
class Fragile:
    """Kills its worker once, on task 5; counts how often it was loaded in each."""

    marker: Path
    seen: list[int] = field(default_factory=list)

    def __call__(self, task: int) -> tuple[int, int]:
        if task == 5 and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen.append(task)
        return task, len(self.seen)


def always(task: int) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def small_shards(patch: Any) -> None:
    """Have a small collection fill several shards; `patch(owner, name, value)` sets."""
    from phyla import backbones
    from phyla.backbones import _extract

    patch(backbones, "SHARD", 16)
    patch(_extract, "SHARD", 16)


def main(photos: str, project: str) -> None:
    from phyla.project import sort

    small_shards(setattr)
    sort(photos, project, backbone=["fake"], groups=3, threads=2, report=False, engine="ray")


def nodes(tasks: int = 100) -> None:
    """Tell which process did each task, of a cluster of one core that gets two more and loses them again."""
    from ray.cluster_utils import Cluster

    from phyla import plugins

    run = plugins.load("engine", "ray")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    sys.modules[run.__module__]._COUNTED = 0.2
    told, node = [], None
    for task, process in run(slow, range(tasks), 1, address=cluster.address):
        told.append(process if task == len(told) else None)
        if task == 20:
            node = cluster.add_node(num_cpus=2)
        if len(set(told)) == 3 and node:
            cluster.remove_node(node)
            node = None
    print(json.dumps(told), node)


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) > 1 else nodes()
