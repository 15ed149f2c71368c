"""Run a function over tasks. An engine knows nothing of images.

One file an engine; it offers one function, `run(function, tasks, workers)`, that yields the results in the order of
the tasks. An engine whose workers are processes, here or elsewhere, needs a function that can be pickled (of a module,
or a frozen dataclass with `__call__`): a worker keeps it as long as it runs its tasks, with what it has loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from phyla import plugins

__all__ = ["LOCAL", "Run", "check_engine", "cores", "limited", "open_engine"]

LOCAL = "local"

Run = Callable[..., Iterator[Any]]  # (function, tasks, workers)


def check_engine(name: str) -> None:
    """Raise `PhylaError` where there is no engine of this name."""
    plugins.check("engine", name.partition("://")[0])


def open_engine(name: str) -> Run:
    """The engine of this name; `ray://HOST:PORT` is that of the name `ray`, at an address."""
    kind, _, address = name.partition("://")
    run: Run = plugins.load("engine", kind)
    return partial(run, address=name) if address else run


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """At most `threads` threads in the linear algebra and in OpenMP, faiss included."""
    import cv2
    import faiss
    from threadpoolctl import threadpool_limits

    cv2.setNumThreads(1)  # resizing happens in threads of our own
    faiss.omp_set_num_threads(threads)
    with threadpool_limits(threads):
        yield
