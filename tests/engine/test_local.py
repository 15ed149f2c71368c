from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from phyla import plugins

run = plugins.load("engine", "local")
WORKERS = [1, 2, 5]


@pytest.mark.parametrize("workers", WORKERS)
def test_results_keep_the_order_of_the_tasks(workers: int) -> None:
    gate = threading.Event()

    def work(task: int) -> int:
        if workers > 1 and task == 0:  # the first is the last to be ready
            assert gate.wait(10)
        if task == 1:
            gate.set()
        return task * task

    assert list(run(work, range(50), workers)) == [n * n for n in range(50)]


@pytest.mark.parametrize("workers", WORKERS)
def test_no_more_is_taken_than_a_bounded_way_ahead(workers: int) -> None:
    taken = 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for task in range(1000):
            taken += 1
            yield task

    results = run(lambda task: task, tasks(), workers)
    assert taken == 0, "nothing is done before it is asked for"
    for wanted in range(100):
        assert next(results) == wanted
        assert taken <= wanted + 1 + 4 * workers
    results.close()


@pytest.mark.parametrize("workers", WORKERS)
def test_never_more_at_once_than_workers(workers: int) -> None:
    busy, most, lock = 0, 0, threading.Lock()

    def work(task: int) -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        threading.Event().wait(0.001)
        with lock:
            busy -= 1

    list(run(work, range(40), workers))
    assert 1 <= most <= workers


def test_workers_work_side_by_side() -> None:
    meet = threading.Barrier(3, timeout=10)
    assert list(run(lambda task: meet.wait() >= 0, range(3), 3)) == [True] * 3


@pytest.mark.parametrize("workers", WORKERS)
def test_the_first_error_is_raised_and_stops_the_run(workers: int) -> None:
    begun: list[int] = []

    def work(task: int) -> int:
        begun.append(task)
        if task in (7, 9):
            raise ValueError(task)
        return task

    got: list[int] = []
    with pytest.raises(ValueError, match="7"):
        for result in run(work, range(10_000), workers):
            got.append(result)
    assert got == list(range(7))
    assert len(begun) <= 8 + 8 * workers
    assert not [t for t in threading.enumerate() if t.name.startswith("phyla")], "a thread is left"


def test_an_error_of_the_tasks_is_raised() -> None:
    def tasks() -> Iterator[int]:
        yield 1
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(run(str, tasks(), 2))


@pytest.mark.parametrize("workers", WORKERS)
def test_closing_early_ends_the_work(workers: int) -> None:
    begun: list[int] = []
    results = run(lambda task: begun.append(task), range(10_000), workers)
    next(results)
    results.close()
    count = len(begun)
    assert count <= 8 * workers
    assert not [t for t in threading.enumerate() if t.name.startswith("phyla")]
    assert len(begun) == count


def test_no_tasks() -> None:
    assert list(run(str, [], 2)) == []
