"""Processes of Ray, on this machine or a cluster (pip install 'phyla[ray]')."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from time import monotonic
from typing import Any, TypeVar
from uuid import uuid4

from phyla.engine import limited
from phyla.types import PhylaError

__all__ = ["run"]

Task = TypeVar("Task")
Result = TypeVar("Result")

_IN_FLIGHT = 4  # calls for each core, as for threads
_RETRIES = 8  # of a call whose worker died; a picture that kills every worker must end the run some day
_SECONDS = 0.5  # that a call should take: each costs Ray about a millisecond
_MOST = 64  # tasks a call; what a killed worker loses
_COUNTED = 5.0  # seconds between two looks at how many cores there are

_kept: tuple[str, Callable[[Any], Any]] | None = None  # in a worker: the last function that it was given


def run(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int, address: str | None = None
) -> Iterator[Result]:
    """Yield `function(task)` for every task, in order, computed by all cores of a cluster a bounded way ahead.

    Without an `address` (`ray://HOST:10001`, or what $RAY_ADDRESS says) Ray is started here, with `workers` cores, and
    ends with this process. Ray itself decides which node does what: nodes may come and go, and what a lost one had
    in hand is done by another. Short tasks are sent several at a time. A function is sent once, and kept by each
    worker with what it has loaded, until it gets another; it has one thread for its linear algebra.

    The first error stops the run and is raised here.
    """
    ray = _started(workers, address)
    call = ray.remote(num_cpus=1, max_retries=_RETRIES)(_call)
    held = [ray.put(function)]  # in a list, or Ray would unpack it for every call
    name, waiting = uuid4().hex, deque[Any]()
    left, size, cores, counted = iter(tasks), 1, workers, -_COUNTED
    try:
        while True:
            if monotonic() - counted > _COUNTED:
                cores, counted = max(int(ray.cluster_resources().get("CPU", 1)), 1), monotonic()
            while len(waiting) < _IN_FLIGHT * cores and (bundle := list(islice(left, size))):
                waiting.append(call.remote(name, held, bundle))
            if not waiting:
                return
            results, seconds = _result(ray, waiting.popleft())
            # Twice or half as many the next time, until a call takes about as long as it should.
            if seconds < _SECONDS / 2 and len(results) >= size:
                size = min(2 * size, _MOST)
            elif seconds > 2 * _SECONDS:
                size = max(size // 2, 1)
            yield from results
    finally:
        for call_left in waiting:
            ray.cancel(call_left)


def _call(name: str, held: list[Any], tasks: list[Any]) -> tuple[list[Any] | PhylaError, float]:
    """In a worker: the results of some tasks, or the fault of ours that one had; and the seconds they took."""
    global _kept
    import ray

    if _kept is None or _kept[0] != name:
        _kept = name, ray.get(held[0])
    begun = monotonic()
    with limited(1):
        try:
            return [_kept[1](task) for task in tasks], monotonic() - begun
        except PhylaError as fault:
            return fault, 0.0


def _result(ray: Any, call: Any) -> tuple[list[Any], float]:
    try:
        results, seconds = ray.get(call)
    except ray.exceptions.RayTaskError as fault:
        raise fault.cause from fault
    except ray.exceptions.RayError as fault:
        raise PhylaError(
            f"Ray gave up after {_RETRIES} tries: {str(fault).splitlines()[0]}.",
            "Run the same command again: what is done is kept. If it ends there again, --engine local tells more.",
        ) from fault
    if isinstance(results, PhylaError):
        raise results
    return results, seconds


def _started(workers: int, address: str | None) -> Any:
    try:
        import ray
    except ImportError as fault:
        raise PhylaError("The engine ray needs Ray, which is not installed.", "pip install 'phyla[ray]'") from fault
    if ray.is_initialized():
        return ray
    # By default workers are nice (15), and starve on a machine that does anything else.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine unasked
    address = address or os.environ.get("RAY_ADDRESS")
    on_stop = signal.getsignal(signal.SIGTERM)
    here: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **here)
    except (ConnectionError, RuntimeError, ValueError) as fault:
        where = f"at {address}" if address else "here"
        raise PhylaError(
            f"Ray can't be reached {where}: {str(fault).splitlines()[0] if str(fault) else type(fault).__name__}.",
            "Check the address, that $RAY_AUTH_TOKEN is the cluster's, and its versions of Ray and Phyla.",
        ) from fault
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_stop)  # Ray puts its own there
    return ray
