"""Threads of this process; what they run must release the interpreter's lock to gain from more than one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["run"]

Task = TypeVar("Task")
Result = TypeVar("Result")

# Tasks in flight for each worker: enough that none waits for a slow neighbour, few enough to bound memory.
_IN_FLIGHT = 4


def run(function: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> Iterator[Result]:
    """Yield `function(task)` for every task, in order, computed by `workers` threads a bounded way ahead.

    The first error stops the run and is raised here; so does closing the iterator, after the tasks that are running.
    An interrupt does not wait for these: one may hang in a read.
    """
    waiting: deque[Future[Result]] = deque()
    pool, waits = ThreadPoolExecutor(workers, thread_name_prefix="phyla"), True
    try:
        for task in tasks:
            waiting.append(pool.submit(function, task))
            if len(waiting) >= _IN_FLIGHT * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except KeyboardInterrupt:
        waits = False
        raise
    finally:
        pool.shutdown(waits, cancel_futures=True)
