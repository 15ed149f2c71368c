"""Long work beside the page: one job at a time, what it does and how far it is."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from pathlib import Path
from threading import Lock, Thread
from time import monotonic
from typing import Any

from phyla import _progress
from phyla.project import Project
from phyla.types import PhylaError

KINDS = ("spread", "audit", "map")
_ENOUGH = 5  # new answers after which labels are spread anew
_EVERY = 0.25  # seconds between two pieces of news
# Images from which a job is a process of its own: it gives its memory back, and edits don't wait for it. It takes a
# second to start.
_APART = 50_000

Hear = Callable[[str, int, int], object]
Fault = dict[str, str] | None


class Jobs:
    """The one job that runs, or ran last. `tell` is called, from any thread, whenever there is news of it."""

    def __init__(self, project: Project, tell: Callable[[], object]) -> None:
        self._project, self._tell, self._lock = project, tell, Lock()
        self._thread: Thread | None = None
        self._tried = -1  # edits at which a spread was last begun by itself
        self.now: dict[str, Any] | None = None

    def start(self, what: str) -> dict[str, Any]:
        if what not in KINDS:
            raise PhylaError(f"There is no job {what[:40]!r}.", f"There is: {', '.join(KINDS)}.")
        with self._lock:
            if self.now and not self.now["finished"]:
                raise Running(f"The job “{self.now['what']}” still runs.", "Wait until it ends.")
            self.now = self._told(what)
            self._thread = Thread(target=self._run, args=(what,), name=f"phyla {what}", daemon=True)
            self._thread.start()
            return self.now

    def _told(self, what: str) -> dict[str, Any]:
        return {"what": what, "done": 0, "total": 0, "rate": 0.0, "left": None, "error": None, "finished": False}

    def _run(self, what: str) -> None:
        current, since, told = "", monotonic(), monotonic()

        def hear(step: str, done: int, total: int) -> None:
            nonlocal current, since, told
            now = monotonic()
            if step != current:  # each step of the job has its own length
                current, since = step, now
            rate = done / max(now - since, 1e-3)
            left = round((total - done) / rate, 1) if done and total > done else None
            self.now = self._told(what) | {"done": done, "total": total, "rate": round(rate, 2), "left": left}
            if now - told > _EVERY:
                told = now
                self._tell()

        apart = len(self._project.images) >= _APART
        error = _beside(self._project.folder, what, hear) if apart else _work(self._project, what, hear)
        ended = self.now or self._told(what)
        if not error:
            ended["done"] = ended["total"]
        self.now = ended | {"finished": True, "left": None, "error": error}
        self._tell()
        if not error:
            self.spread_if_due()

    def spread_if_due(self) -> None:
        """Spread anew where at least five images were answered for since the last time, and nothing runs."""
        if (self.now and not self.now["finished"]) or self._project.seq == self._tried:
            return
        if self._project.answers_since_spread() >= _ENOUGH:
            self._tried = self._project.seq
            try:
                self.start("spread")
                self._tell()
            except Running:
                pass

    def wait(self, seconds: float | None = None) -> None:
        if self._thread:
            self._thread.join(seconds)


def _work(project: Project, what: str, hear: Hear) -> Fault:
    """Do a job; return what went wrong."""
    heard = _progress.heard.set(hear)
    try:
        work: Callable[..., Any] = getattr(project, what)
        work(**{} if what == "map" else {"report": False})
        if what == "spread":
            project.tidy()
    except PhylaError as fault:
        return {"error": fault.message, "hint": fault.hint}
    except Exception as fault:
        traceback.print_exc()
        return {"error": f"A fault of Phyla's own: {type(fault).__name__}: {fault}", "hint": "Please report it."}
    finally:
        _progress.heard.reset(heard)
    return None


def _beside(folder: Path, what: str, hear: Hear) -> Fault:
    """The same in a process of its own, which ends with this one."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_at_work, args=(folder, what, there), daemon=True)
    process.start()
    there.close()
    try:
        while (told := here.recv())[0] == "heard":
            hear(*told[1:])
        fault: Fault = told[1]
        return fault
    except EOFError:
        return {"error": f"The job “{what}” was killed.", "hint": "Perhaps there was too little memory."}
    finally:
        process.join()


def _at_work(folder: Path, what: str, there: Any) -> None:
    last = 0.0

    def hear(*told: Any) -> None:
        nonlocal last
        if monotonic() - last > _EVERY / 2:
            last = monotonic()
            there.send(("heard", *told))

    there.send(("done", _work(Project(folder), what, hear)))


class Running(PhylaError):
    """Another job is not done yet."""
