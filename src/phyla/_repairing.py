"""Mending a project: one bit put back where that is all, else what can be made again is, from what is whole."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import groupby
from pathlib import Path

import filelock
from blake3 import blake3

from phyla._checking import DAMAGED, Found, _bits_between, _is_lines, every, flipped_back, lines_of, sum_of
from phyla._opened import LOG
from phyla._progress import Progress
from phyla._remaking import Remaking
from phyla._steps import Steps, usable_threads
from phyla.engine import limited
from phyla.project import Project
from phyla.store import LANCE, Busy, Store, plain, read_line
from phyla.types import PhylaError

_CACHES = ("near", "neighbors", "measured", "concepts", "student")  # made again when they are asked for
# In this order, for each is made of those before.
_ORDER = (
    *_CACHES, "scan", "features", "images", "aligned", "reduced", "groups", "map", "spread", "audit", "index",
    "report.html",
)  # fmt: skip
_BIT, _AS_IT_WAS, _ANEW = "the one changed bit was put back", "made again, the same byte by byte", "made again"
_COPY = "put back from the copy that this machine keeps"
_STRANGE = 4  # ids of a shard in which a changed bit is looked for: it is in one
_HEADER = 128  # bytes before the values in an .npy of one axis
# What lies in the folder that this machine keeps of a project elsewhere, and is no copy.
_NO_COPIES = ("tmp", "near", "thumbs", "lock", LOG, f"{LOG}.lock")


def mend(store: Store, faults: Found, digests: Mapping[str, str], threads: int | None, progress: Progress) -> None:
    """Mend what can be mended of `faults`, and say of each how, or why not. What was damaged is kept in `damaged/`.

    digests : the checksums that the files of a project elsewhere have, by which its copies here are judged.
    """
    threads, store = usable_threads(threads), Store(store.place)
    with _alone(store):
        _use_copies(store, faults, digests)
        for fault in faults:
            if fault.mended:
                continue
            if fault.file.startswith("sums/"):
                fault.mended = _mend_sum(store, fault.file)
            elif not fault.file.startswith(LOG):
                fault.mended = _put_back(store, fault.file)
        of_log = [fault for fault in faults if fault.file.startswith(LOG)]
        if store.remote:
            _mend_lines(store, of_log)
        else:
            _mend_log(store, of_log)
    left = [fault for fault in faults if not fault.mended and not fault.file.startswith(LOG)]
    if any(fault.file == "phyla.json" for fault in left):
        for fault in left:
            fault.what += "; restore phyla.json from a backup first" if fault.file != "phyla.json" else (
                "; it can't be made again: restore it from a backup"
            )  # fmt: skip
        return
    if left:
        _Mending(Project(store.place), left, threads, progress).run()


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


# ---- files


def _move(store: Store, name: str, to: str) -> None:
    """Move a file, or all in a folder."""
    if store.remote:
        for each in store.remote.every(name) or [name]:
            store.remote.copy(each, to + each.removeprefix(name))
            store.remote.remove(each)
            (store.folder / each).unlink(missing_ok=True)
    else:
        (store.folder / to).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(store.folder / name, store.folder / to)


def _aside(store: Store, name: str) -> str:
    """Move what is damaged away, never over another; its name now."""
    target = _free(store, name)
    _move(store, name, target)
    return target


def _keep_copy(store: Store, name: str) -> None:
    """Keep a damaged file of a few KB, before it is replaced."""
    target = _free(store, name)
    if store.remote:
        store.remote.copy(name, target)
    else:
        (store.folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(store.folder / name, store.folder / target)


def _free(store: Store, name: str) -> str:
    target, number = f"{DAMAGED}/{name}", 1
    while store.has(target):
        number += 1
        target = f"{DAMAGED}/{name} ({number})"
    return target


def _use_copies(store: Store, faults: Found, digests: Mapping[str, str]) -> None:
    """What this machine keeps of a project elsewhere: put back what is whole, and forget what lies otherwise there."""
    if not store.remote:
        return
    shutil.rmtree(store.folder / "sums", ignore_errors=True)
    here, damaged = Store(store.folder), {fault.file: fault for fault in faults}
    for name in every(here):
        if name.partition("/")[0] in _NO_COPIES or (digest := sum_of(here, name)) == digests.get(name):
            continue
        if name in damaged and digest in store.sums(name):
            if name in digests:
                _keep_copy(store, name)
            store.write(name, here.read(name))
            damaged[name].mended = _COPY
        else:
            (store.folder / name).unlink()


def _put_back(store: Store, name: str) -> str | None:
    with suppress(OSError, PhylaError):  # it is missing, or a folder
        sums, data = store.sums(name), store.read(name)
        where = _strange(store, data) if name.endswith(".ids.npy") else None
        mended = flipped_back(data, lambda trial: blake3(trial).hexdigest(16) in sums, where) if sums else None
        if mended is not None:
            _keep_copy(store, name)
            store.write(name, mended)
            return _BIT
    return None


def _strange(store: Store, ids: bytes) -> list[int]:
    """The bytes of a file of ids that are in its header, or in an id that no file was ever found to have."""
    known: set[bytes] = set()
    for shard in store.shards("scan", "parquet"):
        with suppress(PhylaError, NotImplementedError):  # it may be damaged, too
            known.update(str(id).encode() for id in store.read_table(shard, ("id",))["id"])
    width = max(map(len, known), default=len(ids))
    rows = [row for row in range(_HEADER, len(ids), width) if ids[row : row + width] not in known][:_STRANGE]
    return [at for row in (range(_HEADER), *(range(row, row + width) for row in rows)) for at in row if at < len(ids)]


def _mend_sum(store: Store, name: str) -> str | None:
    """One that is a bit away from what the file has is what is damaged, not the file."""
    of = name.removeprefix("sums/")
    digest = sum_of(store, of)
    if _bits_between(store.read(name), digest.encode() + b"\n") != 1:
        return None
    store._note(of, [digest])
    return _BIT


# ---- what people said


def _nothing(number: int) -> bytes:
    """A line that says nothing, in the place of one that can't be mended."""
    return b'{"at": "", "by": "", "classes": [], "ids": [], "op": "lost", "seq": %d}' % number


def _mend_log(store: Store, faults: Found) -> None:
    """Put back the bits of damaged lines. One that can't be mended gives its place to a line that says nothing."""
    if not faults:
        return
    lines, rest = lines_of(store)
    told: list[bytes] = []
    lost = 0
    for is_whole, run in groupby([*lines, *([rest] if rest else [])], lambda line: read_line(line) is not None):
        part = list(run)
        if is_whole:
            told += part
            continue
        joined = b"\n".join(part)
        is_end = bool(rest) and part[-1] is rest
        # The end of a line may be what is damaged, so that two are one, or the last has none.
        mended = flipped_back(joined if is_end else joined + b"\n", _is_lines)
        if mended is not None:
            told += mended[:-1].split(b"\n")
            continue
        for line in part:
            if is_end and line is rest:  # of a writer that was killed
                continue
            lost += 1
            told.append(_nothing(len(told)))
    kept = _free(store, LOG)
    _keep_copy(store, LOG)
    written = store.folder / "tmp" / LOG
    written.parent.mkdir(exist_ok=True)
    with written.open("wb") as file:
        file.write(b"".join(line + b"\n" for line in told))
        file.flush()
        os.fsync(file.fileno())
    written.replace(store.folder / LOG)
    for fault in faults:
        if not lost:
            fault.mended = _BIT
        else:
            fault.what += f"; {lost} can't be mended and say nothing now, all others are kept"
            fault.mended = f"the log as it was is {kept}"


def _mend_lines(store: Store, faults: Found) -> None:
    """The same of a project elsewhere, where each line is a file."""
    assert store.remote
    here = (store.folder / LOG).read_bytes().split(b"\n") if (store.folder / LOG).exists() else []
    for fault in faults:
        number, data, line = int(Path(fault.file).stem), b"", None
        with suppress(FileNotFoundError):
            data = store.remote.read(fault.file)
            line, fault.mended = flipped_back(data, _is_lines), _BIT
        if line is None and any((read_line(of) or {}).get("seq") == number for of in here[number : number + 1]):
            line, fault.mended = here[number] + b"\n", _COPY
        if line is None:
            fault.what += " and can't be mended; it says nothing now, all others are kept"
            line, fault.mended = _nothing(number) + b"\n", f"the line as it was is in {DAMAGED}"
        if data:
            _keep_copy(store, fault.file)
        store.remote.write(fault.file, line)
    if faults:
        (store.folder / LOG).unlink(missing_ok=True)  # it is read anew


# ---- what was computed


class _Mending:
    """What is left of the faults of a project, made again by the steps that made it first."""

    def __init__(self, project: Project, faults: Found, threads: int, progress: Progress) -> None:
        self.project, self.store, self.threads = project, project.store, threads
        self.meta = self.store.meta()
        steps = Steps(self.store, threads, progress)
        self.remaking = Remaking(project, steps, _names(faults), lambda name: _aside(self.store, name))
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
                moved[name] = _aside(self.store, name)
            make()
        except (PhylaError, OSError) as error:
            why = getattr(error, "message", str(error)).rstrip(".")
        except Exception as error:  # of a method that was given what does not fit
            why = f"{type(error).__name__}: {error}"
        for fault in faults:
            name = fault.file.removeprefix("sums/")
            if why or not self.store.has(name):
                fault.what += f"; it can't be made again: {why or 'nothing made it'}{self._way_out(unit)}"
                self.failed.add(_stage(unit))
            else:
                digest = "" if not was[fault.file] else sum_of(self.store, name)
                fault.mended = _AS_IT_WAS if digest in was[fault.file] else _ANEW
        for name, target in moved.items():
            if not self.store.has(name):
                _move(self.store, target, name)
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

    def _way_out(self, unit: str) -> str:
        verb = {"spread": "spread", "audit": "audit"}.get(unit.partition("/")[0], "sort --anew -o")
        return f" (anew: phyla {verb} {self.store.place})"

    def _retire(self, unit: str, faults: Found) -> None:
        """What is not in use, or only kept to be quick, is moved away with all that belongs to it."""
        if unit == self.store.meta().get("spread"):  # of other groups than those of now
            self.store.update_meta(spread=None)
        names = list(every(self.store, unit)) or _names(faults)
        for name in sorted(names, key=lambda name: not name.endswith("/done")):
            if self.store.has(name):
                _aside(self.store, name)
        for name in (*every(self.store, f"sums/{unit}"), f"sums/{unit}"):
            with suppress(IsADirectoryError, PermissionError):
                self._drop(name)
        for folder in (unit, f"sums/{unit}"):
            shutil.rmtree(self.store.folder / folder, ignore_errors=True)
        why = "it is made again when it is needed" if unit.partition("/")[0] in _CACHES else "nothing in use needs it"
        for fault in faults:
            fault.mended = f"moved away: {why}"

    def _audit(self) -> None:
        was = self.meta.get("audit_edits")
        self.project.audit(report=False, threads=self.threads)
        with self.store.writing():
            if self.store.meta()["audit"] == self.meta["audit"]:
                self.store.update_meta(audit_edits=was)


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
