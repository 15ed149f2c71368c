"""Run a function over tasks. An engine knows nothing of images.

One file an engine; it offers one function, `run(function, tasks, workers)`, that yields the results in the order of
the tasks.
"""

from __future__ import annotations

import os

__all__ = ["cores"]


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
