"""Long work beside the page: one job at a time, what it does and how far it is."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from threading import Lock, Thread
from time import monotonic
from typing import Any

from phyla import _progress
from phyla._sound import blame
from phyla.project import Project
from phyla.types import PhylaError

KINDS = ("spread", "audit", "map", "train")
_ENOUGH = 5  # new answers after which labels are spread anew
_EVERY = 0.25  # seconds between two pieces of news
# Images from which a job is a process of its own: it gives its memory back, and edits don't wait for it. It takes a
# second to start.
_APART = 50_000

Hear = Callable[[str, int, int], object]
Told = dict[str, Any]


class Jobs:
    """The one job that runs, or ran last. `tell` is called, from any thread, whenever there is news of it."""

    def __init__(self, project: Project, tell: Callable[[], object]) -> None:
        self._project, self._tell, self._lock = project, tell, Lock()
        self._thread: Thread | None = None
        self._tried = -1  # edits at which a spread was last begun by itself
        self.now: Told | None = None
        self.taught: Told | None = None  # what the last `train` told, with the `view` and the edits, `seq`, it knew

    def start(self, what: str) -> Told:
        if what not in KINDS:
            raise PhylaError(f"There is no job {what[:40]!r}.", f"There is: {', '.join(KINDS)}.")
        return self._begin(what, {}, Future())

    def write(self, to: Path, options: dict[str, Any]) -> None:
        """The job "write", a classifier to `to`; ends with it, and raises what it stumbled over."""
        ended: Future[Told | None] = Future()
        self._begin("write", {"to": to, **options}, ended)
        if error := ended.result():
            raise PhylaError(error["error"], error["hint"])

    def _begin(self, what: str, options: dict[str, Any], ended: Future[Told | None]) -> Told:
        with self._lock:
            if self.now and not self.now["finished"]:
                raise Running(f"The job “{self.now['what']}” still runs.", "Wait until it ends.")
            self.now = self._told(what)
            run = partial(self._run, what, options, ended)
            self._thread = Thread(target=run, name=f"phyla {what}", daemon=True)
            self._thread.start()
            return self.now

    def _told(self, what: str) -> Told:
        return {"what": what, "done": 0, "total": 0, "rate": 0.0, "left": None, "error": None, "finished": False}

    def _run(self, what: str, options: dict[str, Any], ended: Future[Told | None]) -> None:
        current, since, told = "", monotonic(), monotonic()
        known = {"view": self._project.view, "seq": self._project.seq}

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
        place: Any = self._project.store.place if apart else self._project
        error, brought = (_beside if apart else _work)(place, what, options, hear)
        last = self.now or self._told(what)
        if not error:
            last["done"] = last["total"]
            if what == "train":
                self.taught = brought | known
        self.now = last | {"finished": True, "left": None, "error": error}
        self._tell()
        ended.set_result(error)
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


def _work(project: Project, what: str, options: dict[str, Any], hear: Hear) -> tuple[Told | None, Any]:
    """Do a job; return what went wrong, and what it brought."""
    heard = _progress.heard.set(hear)
    try:
        match what:
            case "train" | "write":
                return None, project.train(**options)
            case "map":
                project.map()
            case "audit":
                project.audit(report=False)
            case "spread":
                project.spread(report=False)
                project.tidy()
    except PhylaError as fault:
        return {"error": fault.message, "hint": fault.hint}, None
    except Exception as fault:
        if why := blame(project.store.place):
            return {"error": why.message, "hint": why.hint}, None
        traceback.print_exc()
        return {"error": f"A fault of Phyla's own: {type(fault).__name__}: {fault}", "hint": "Please report it."}, None
    finally:
        _progress.heard.reset(heard)
    return None, None


def _beside(folder: Path, what: str, options: dict[str, Any], hear: Hear) -> tuple[Told | None, Any]:
    """The same in a process of its own, which ends with this one."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_at_work, args=(folder, what, options, there), daemon=True)
    process.start()
    there.close()
    try:
        while (told := here.recv())[0] == "heard":
            hear(*told[1:])
        return told[1], told[2]
    except EOFError:
        return {"error": f"The job “{what}” was killed.", "hint": "Perhaps there was too little memory."}, None
    finally:
        process.join()


def _at_work(folder: Path, what: str, options: dict[str, Any], there: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the page, whose end is this one's
    last = 0.0

    def hear(*told: Any) -> None:
        nonlocal last
        if monotonic() - last > _EVERY / 2:
            last = monotonic()
            there.send(("heard", *told))

    there.send(("done", *_work(Project(folder), what, options, hear)))


class Running(PhylaError):
    """Another job is not done yet."""
