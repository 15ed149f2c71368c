"""Waiting for what a disk or a network gives: silence is told of, and can be interrupted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import Lock, Thread
from time import monotonic, sleep
from typing import Any, TypeVar

SILENCE = 30.0  # seconds of it until it is told of; then twice as many, and so on

Value = TypeVar("Value")

_underway: dict[int, list[Any]] = {}  # number of a wait → for what, since when, and seconds until it is told of
_numbers, _lock = count(), Lock()
_watcher: Thread | None = None


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Where the block takes long, say on stderr that `what` gives nothing. A microsecond or two."""
    number = next(_numbers)
    _underway[number] = [what, monotonic(), SILENCE]
    if _watcher is None or not _watcher.is_alive():  # the first in this process, which may be a fork
        _watch()
    try:
        yield
    finally:
        del _underway[number]


def apart(what: str, work: Callable[[], Value]) -> Value:
    """`work()`, in a thread of its own: one that waits for a stalled mount hears no Ctrl-C."""
    given: list[Value] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            given.append(work())
        except BaseException as fault:
            faults.append(fault)

    thread = Thread(target=run, name=f"reading {what}", daemon=True)
    with waiting(what):
        thread.start()
        thread.join()
    if faults:
        raise faults[0]
    return given[0]


def _watch() -> None:
    global _watcher
    with _lock:
        if _watcher is None or not _watcher.is_alive():
            _watcher = Thread(target=_look_on, name="watching what is read", daemon=True)
            _watcher.start()


def _look_on() -> None:
    while True:
        sleep(min(SILENCE / 4, 1))
        now = monotonic()
        for what, since, told in list(_underway.values()):
            if now - since > told:
                _tell(what, now - since)


def _tell(what: str, seconds: float) -> None:
    for wait in list(_underway.values()):
        if wait[0] == what:
            wait[2] = 2 * seconds
    logging.getLogger("phyla").warning("phyla: %s has given nothing for %.0f s; Ctrl-C stops.", what, seconds)
