"""Mending a project: one bit put back where that is all, else what can be made again is, from what is whole."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import filelock

from phyla._auditing import audit
from phyla._checking import Found, again, every, sum_of
from phyla._opened import LOG
from phyla._progress import Progress
from phyla._putting_back import aside, mend_lines, mend_log, mend_sum, move, put_back, use_copies
from phyla._remaking import Remaking
from phyla._steps import Steps, usable_threads
from phyla.engine import LOCAL, limited
from phyla.project import Project
from phyla.store import LANCE, Busy, Store, plain
from phyla.types import PhylaError

_CACHES = ("near", "neighbors", "measured", "concepts", "student")  # made again when they are asked for
# In this order, for each is made of those before.
_ORDER = (
    *_CACHES, "scan", "features", "images", "aligned", "reduced", "groups", "map", "spread", "audit", "index",
    "report.html",
)  # fmt: skip
_AS_IT_WAS, _ANEW = "made again, the same byte by byte", "made again"


def mend(store: Store, faults: Found, digests: Mapping[str, str], threads: int | None, progress: Progress) -> Found:
    """Mend what can be mended of `faults`, and say of each how, or why not. What was damaged is kept in `damaged/`.

    Returns the faults that there are indeed, now that nobody else writes. digests : the checksums that the files of a
    project elsewhere have, by which its copies here are judged.
    """
    done: Found = []
    for _ in range(2):  # what phyla.json names is known once that is mended
        done += _mend(store, faults, digests, threads, progress)
        left = {fault.file: fault for fault in again(store, done)}
        for fault in done:
            if fault.mended and fault.file in left:  # it may hang on what could not be mended
                fault.what += f"; it can't be mended: made again it {left[fault.file].what}"
                fault.what += _way_out(store, fault.file)
                fault.mended = None
        faults = [fault for name, fault in left.items() if name not in {fault.file for fault in done}]
        if not faults:
            break
    return done + faults


def _mend(store: Store, faults: Found, digests: Mapping[str, str], threads: int | None, progress: Progress) -> Found:
    threads, there, store = usable_threads(threads), store, Store(store.place)
    with _alone(store):
        faults = again(there, faults)
        use_copies(store, faults, digests)
        for fault in faults:
            if fault.mended:
                continue
            if fault.file.startswith("sums/"):
                fault.mended = mend_sum(store, fault.file)
            elif not fault.file.startswith(LOG):
                fault.mended = put_back(store, fault.file)
        of_log = [fault for fault in faults if fault.file.startswith(LOG)]
        if store.remote:
            mend_lines(store, of_log)
        else:
            mend_log(store, of_log)
    left = [fault for fault in faults if not fault.mended and not fault.file.startswith(LOG)]
    if "phyla.json" in _names(left):
        for fault in left:
            fault.what += "; restore phyla.json from a backup first" if _names([fault]) != ["phyla.json"] else (
                "; it can't be made again: restore it from a backup"
            )  # fmt: skip
    elif left:
        _Mending(Project(store.place), left, threads, progress).run()
    return faults


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Hold the project and its log. As `Store.writing` does, but phyla.json may be damaged."""
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            held.enter_context(filelock.FileLock(store.folder / "lock", timeout=0))
            if store.remote:
                held.enter_context(store.remote.lease("lock"))
            held.enter_context(store.appending(LOG))
            yield
    except (filelock.Timeout, TimeoutError) as busy:
        raise Busy(f"Another process is working on {store.place}.", "Wait until it ends.") from busy
    except OSError as error:
        raise plain(error, store.place, "Copy it elsewhere, and repair the copy.") from error


# ---- what was computed


class _Mending:
    """What is left of the faults of a project, made again by the steps that made it first."""

    def __init__(self, project: Project, faults: Found, threads: int, progress: Progress) -> None:
        self.project, self.store, self.threads = project, project.store, threads
        self.meta = self.store.meta()
        steps = Steps(self.store, threads, progress)
        self.remaking = Remaking(project, steps, _names(faults), lambda name: aside(self.store, name))
        self.units: dict[str, Found] = {}
        for fault in sorted(faults, key=lambda f: (_rank(f.file), f.file)):
            self.units.setdefault(_unit(fault.file.removeprefix("sums/")), []).append(fault)
        self.failed: set[str] = set()

    def run(self) -> None:
        for unit in self._ordered():
            faults = self.units[unit]
            room = unit.partition("/")[0]
            if room == "audit" and self._is_current(unit):  # which holds the project by itself
                self._replace(unit, faults, self._audit)
                continue
            with self.store.writing(), limited(self.threads):
                if room in _CACHES or not self._is_current(unit):
                    self._retire(unit, faults)
                else:
                    self._replace(unit, faults, partial(self.remaking.make, unit, _names(faults)))
        with self.store.writing():
            self.remaking.forget_older()

    def _ordered(self) -> list[str]:
        """The units, each after what it is made of."""
        first = [unit for unit in self.units if _rank(unit) < _rank("aligned")]
        stages = self.remaking.lineage(unit for unit in self.units if unit not in first)
        return [*first, *(stage for stage in stages if stage in self.units)]

    def _is_current(self, unit: str) -> bool:
        room = unit.partition("/")[0]
        if room in ("reduced", "groups", "map", "spread", "aligned"):
            return unit in self.remaking.current
        if room == "images":
            return bool(unit == self.meta.get(room)) or self.remaking.lacks_tables()
        if room == "audit":
            return bool(unit == self.meta.get(room))
        if room == "features":
            return any(f"{unit}/".startswith(f"{stage}/") for stage in self.remaking.current)
        return True

    def _files(self, unit: str, faults: Found) -> list[str]:
        """What is moved away: the damaged files, and what says that the stage is finished."""
        names = [name for name in _names(faults) if not name.endswith(("/recipe.json", f"/{LANCE}"))]
        names = [name for name in names if "." in name.rpartition("/")[2]]  # not a stage that lacks images
        return [name for name in dict.fromkeys([f"{unit}/done", *names]) if self.store.has(name)]

    def _replace(self, unit: str, faults: Found, make: Callable[[], object]) -> None:
        was = {fault.file: self._sums(fault.file) for fault in faults}
        moved: dict[str, str] = {}
        self.project._held.clear()
        why = ""
        try:
            if any(fault.file.endswith("/recipe.json") for fault in faults):
                raise PhylaError("how it was made is not known any more")
            if lacking := [of for of in self.remaking.inputs(unit) if of in self.failed]:
                raise PhylaError(f"it is made of {lacking[0]}, which is damaged")
            for name in self._files(unit, faults):
                moved[name] = aside(self.store, name)
            make()
        except (PhylaError, OSError) as error:
            why = getattr(error, "message", str(error)).rstrip(".")
        except Exception as error:  # of a method that was given what does not fit
            why = f"{type(error).__name__}: {error}"
        for fault in faults:
            name = fault.file.removeprefix("sums/")
            if why or not self.store.has(name):
                fault.what += f"; it can't be made again: {why or 'nothing made it'}{_way_out(self.store, unit)}"
                self.failed.add(_stage(unit))
            else:
                digest = "" if not was[fault.file] else sum_of(self.store, name)
                fault.mended = _AS_IT_WAS if digest in was[fault.file] else _ANEW
        for name, target in moved.items():
            if not self.store.has(name):
                move(self.store, target, name)
            elif name.endswith("/done"):
                self._drop(target)
        self.project._held.clear()

    def _drop(self, name: str) -> None:
        if self.store.remote:
            self.store.remote.remove(name)
        (self.store.folder / name).unlink(missing_ok=True)

    def _sums(self, name: str) -> list[str]:
        with suppress(OSError, PhylaError):  # a folder has none
            return self.store.sums(name.removeprefix("sums/"))
        return []

    def _retire(self, unit: str, faults: Found) -> None:
        """What is not in use, or only kept to be quick, is moved away with all that belongs to it."""
        if unit == self.store.meta().get("spread"):  # of other groups than those of now
            self.store.update_meta(spread=None)
        names = list(every(self.store, unit)) or _names(faults)
        for name in sorted(names, key=lambda name: not name.endswith("/done")):
            if self.store.has(name):
                aside(self.store, name)
        for name in (*every(self.store, f"sums/{unit}"), f"sums/{unit}"):
            with suppress(IsADirectoryError, PermissionError):
                self._drop(name)
        for folder in (unit, f"sums/{unit}"):
            shutil.rmtree(self.store.folder / folder, ignore_errors=True)
        why = "it is made again when it is needed" if unit.partition("/")[0] in _CACHES else "nothing in use needs it"
        for fault in faults:
            fault.mended = f"moved away: {why}"

    def _audit(self) -> None:
        """As it was asked for; of a project of an older Phyla it is taken for one that was asked for nothing."""
        asked = self.meta.get("audit_asked") or {"labels": None, "checks": None}
        offered = self.project._offered(self.threads, LOCAL, True)
        audit(self.project, offered, **asked, engine=LOCAL, threads=self.threads, report=False, quiet=True,
              lost=self.meta["audit"])  # fmt: skip


def _way_out(store: Store, name: str) -> str:
    if name in ("phyla.json", LOG):
        return " (restore it from a backup)"
    verb = {"spread": "spread", "audit": "audit"}.get(name.partition("/")[0], "sort --anew -o")
    return f" (anew: phyla {verb} {store.place})"


def _rank(name: str) -> int:
    room = name.removeprefix("sums/").partition("/")[0]
    return _ORDER.index(room) if room in _ORDER else len(_ORDER)


def _names(faults: Found) -> list[str]:
    return list(dict.fromkeys(fault.file.removeprefix("sums/") for fault in faults))


def _stage(unit: str) -> str:
    return "/".join(unit.split("/")[:2])


def _unit(name: str) -> str:
    """What is made in one: a stage, a shard of a sequence, or a file."""
    parts = name.split("/")
    if parts[0] == "features" and len(parts) == 3 and (number := re.match(r"\d{5}(?=\.)", parts[2])):
        return f"{parts[0]}/{parts[1]}/{number[0]}"
    if parts[0] == "scan":  # what one of its shards tells hangs on what the others do
        return "scan"
    if parts[0] in ("images", "audit", "near") or len(parts) < 3:
        return name
    return "/".join(parts[:2])
