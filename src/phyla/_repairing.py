"""Mending a project: one bit put back where that is all, else what can be made again is, from what is whole."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from phyla import backbones, sources
from phyla._checking import DAMAGED, Found, _bits_between, _is_lines, aside, flipped_back, lines_of, sum_of
from phyla._opened import LOG
from phyla._progress import Progress
from phyla._searching import build_index
from phyla._spreading import spread
from phyla._steps import Steps, folders_of, images_of, scan_all, usable_threads
from phyla._tasks import open_picture
from phyla._telling import draw
from phyla.engine import LOCAL, limited, open_engine
from phyla.label import Replay
from phyla.project import Project
from phyla.store import LANCE, Busy, LanceFeatures, Store, features_of, plain, read_line
from phyla.types import UNREAD, Images, PhylaError

_CACHES = ("near", "neighbors", "measured")  # made again when they are asked for
# In this order, for each is made of those before.
_ORDER = (
    *_CACHES,
    "scan",
    "features",
    "images",
    "aligned",
    "reduced",
    "groups",
    "map",
    "spread",
    "audit",
    "index",
    "report.html",
)
_BIT, _AS_IT_WAS, _ANEW = "the one changed bit was put back", "made again, the same byte by byte", "made again"
_SPLIT = 8192  # rows of a shard of the scan


def mend(store: Store, faults: Found, threads: int | None, progress: Progress) -> None:
    """Mend what can be mended of `faults`, and say of each how, or why not. What was damaged is kept in `damaged/`."""
    threads, store = usable_threads(threads), Store(store.place)
    try:
        with filelock.FileLock(store.folder / "lock", timeout=0), store.appending(LOG):
            for fault in faults:
                if fault.file.startswith("sums/"):
                    fault.mended = _mend_sum(store, fault.file)
                elif fault.file != LOG:
                    fault.mended = _put_back(store, fault.file)
            _mend_log(store, [fault for fault in faults if fault.file == LOG])
    except filelock.Timeout as busy:
        raise Busy(f"Another process is working on {store.place}.", "Wait until it ends.") from busy
    except OSError as error:
        raise plain(error, store.place, "Copy it elsewhere, and repair the copy.") from error
    left = [fault for fault in faults if not fault.mended and not fault.file.startswith(LOG)]
    if any(fault.file == "phyla.json" for fault in left):
        for fault in left:
            fault.what += "; restore phyla.json from a backup first" if fault.file != "phyla.json" else (
                "; it can't be made again: restore it from a backup"
            )  # fmt: skip
        return
    if left:
        _Mending(Project(store.place), left, threads, progress).run()


def _put_back(store: Store, name: str) -> str | None:
    if not (store.folder / name).is_file() or not (sums := store.sums(name)):
        return None
    data = flipped_back((store.folder / name).read_bytes(), lambda trial: blake3(trial).hexdigest(16) in sums)
    if data is None:
        return None
    aside(store, name)
    store.write(name, data)
    return _BIT


def _mend_sum(store: Store, name: str) -> str | None:
    """One that is a bit away from what the file has is what is damaged, not the file."""
    digest = sum_of(store, name.removeprefix("sums/"))
    path = store.folder / name
    if _bits_between(path.read_bytes(), digest.encode() + b"\n") != 1:
        return None
    path.write_text(f"{digest}\n", "ascii")
    return _BIT


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
            told.append(b'{"at": "", "by": "", "classes": [], "ids": [], "op": "lost", "seq": %d}' % len(told))
    keeps = store.folder / DAMAGED / LOG
    keeps.parent.mkdir(exist_ok=True)
    number = 1
    while keeps.exists():
        number += 1
        keeps = keeps.with_name(f"{LOG} ({number})")
    shutil.copyfile(store.folder / LOG, keeps)
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
            fault.mended = f"the log as it was is {DAMAGED}/{keeps.name}"


class _Mending:
    """What is left of the faults of a project, made again by the steps that made it first."""

    def __init__(self, project: Project, faults: Found, threads: int, progress: Progress) -> None:
        self.project, self.store, self.faults, self.threads = project, project.store, faults, threads
        self.steps = Steps(self.store, threads, progress)
        self.meta = self.store.meta()

    def run(self) -> None:
        units: dict[str, Found] = {}
        for fault in sorted(self.faults, key=lambda f: (self._rank(f.file), f.file)):
            units.setdefault(_unit(fault.file.removeprefix("sums/")), []).append(fault)
        for unit, faults in units.items():
            room = unit.partition("/")[0]
            if room == "audit":  # which holds the project by itself
                self._replace(unit, faults, self._audit)
                continue
            with self.store.writing(), limited(self.threads):
                if room in _CACHES or not self._is_current(unit):
                    self._retire(unit, faults)
                else:
                    self._replace(unit, faults, lambda unit=unit: self._make(unit))  # type: ignore[misc]

    def _rank(self, name: str) -> int:
        room = name.removeprefix("sums/").partition("/")[0]
        return _ORDER.index(room) if room in _ORDER else len(_ORDER)

    def _is_current(self, unit: str) -> bool:
        room, _, rest = unit.partition("/")
        if room in ("reduced", "groups", "map", "spread", "aligned"):
            named = self.meta.get(room) or ()
            return unit in (named if isinstance(named, list) else [named])
        if room in ("images", "audit"):
            return bool(unit == self.meta.get(room))
        return not (room == "features" and rest.partition("/")[0] not in str(self.meta.get("features", ())))

    def _files(self, unit: str, faults: Found) -> list[str]:
        """What is moved away: the damaged files, and what says that the stage is finished."""
        names = [fault.file.removeprefix("sums/") for fault in faults]
        names = [name for name in names if not name.endswith("/recipe.json")]
        return ([f"{unit}/done"] if self.store.has(f"{unit}/done") else []) + names

    def _replace(self, unit: str, faults: Found, make: Callable[[], object]) -> None:
        was = {fault.file: self._sums(fault.file) for fault in faults}
        there = [name for name in self._files(unit, faults) if (self.store.folder / name).is_file()]
        moved = {name: aside(self.store, name) for name in there}
        self.project._held.clear()
        why = ""
        try:
            if any(fault.file.endswith("/recipe.json") for fault in faults):
                raise PhylaError("how it was made is not known any more")
            make()
        except (PhylaError, OSError) as error:
            why = getattr(error, "message", str(error)).rstrip(".")
        except Exception as error:  # of a method that was given what does not fit
            why = f"{type(error).__name__}: {error}"
        for fault in faults:
            name = fault.file.removeprefix("sums/")
            if why or not (self.store.folder / name).exists():
                fault.what += f"; it can't be made again: {why or 'nothing made it'}{self._way_out(unit)}"
            else:
                digest = sum_of(self.store, name) if (self.store.folder / name).is_file() else ""
                fault.mended = _AS_IT_WAS if digest in was[fault.file] else _ANEW
        for name, target in moved.items():
            if not (self.store.folder / name).exists():
                shutil.move(target, self.store.folder / name)
            elif name.endswith("/done"):
                target.unlink()
        self.project._held.clear()

    def _sums(self, name: str) -> list[str]:
        name = name.removeprefix("sums/")
        return [] if (self.store.folder / "sums" / name).is_dir() else self.store.sums(name)

    def _way_out(self, unit: str) -> str:
        verb = {"spread": "spread", "audit": "audit"}.get(unit.partition("/")[0], "sort --anew -o")
        return f" (anew: phyla {verb} {self.store.place})"

    def _retire(self, unit: str, faults: Found) -> None:
        """What is not in use, or only kept to be quick, is moved away with all that belongs to it."""
        folder = self.store.folder / unit
        names = [p.relative_to(self.store.folder).as_posix() for p in folder.rglob("*") if p.is_file()]
        for name in sorted(names or [unit], key=lambda name: not name.endswith("/done")):
            aside(self.store, name)
        for path in (folder, self.store.folder / "sums" / unit):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        for fault in faults:
            fault.mended = "moved away: it is made again when it is needed"

    # ---- making

    def _make(self, unit: str) -> None:
        room = unit.partition("/")[0]
        if room in ("reduced", "groups", "spread", "aligned"):
            inputs = self.store.recipe(unit).inputs
            if room == "aligned" or (inputs and inputs[-1].startswith(f"{room}/")):
                raise PhylaError("the project has grown, and what it grew from is gone")
        match room:
            case "scan":
                self._scan(int(Path(unit).name[:5]))
            case "features":
                self._features(unit)
            case "images":
                self._images()
            case "reduced":
                same(unit, *self.steps.reduce([self.store.recipe(unit).inputs[0]], self.project.images))
            case "groups":
                self._groups(unit)
            case "map":
                reduced = self.meta["reduced"]
                stage = self.steps.map(self.project._near_of(reduced), reduced, self.store.recipe(unit).seed)
                if stage != unit:  # one that had grown is drawn anew
                    self.store.update_meta(map=stage)
            case "spread":
                self._spread(unit)
            case "index":
                n = len(self.project.images)
                build_index(self.store, self.meta["reduced"], n, self.steps.run, self.steps.progress)
            case "report.html":
                draw(self.project, self.steps.progress)
            case _:
                raise PhylaError("it is of no kind that is known")

    def _source(self) -> sources.Source:
        return sources.open_source(self.meta["source"])

    def _scans(self) -> list[dict[str, NDArray[Any]]]:
        """The shards of the scan that are there."""
        names = [f"scan/{name}" for name in self.store.names("scan") if name.endswith(".parquet")]
        return [self.store.read_table(name) for name in names]

    def _scan(self, number: int) -> None:
        source, columns = self._source(), ("uri", "size", "stamp", "id", "width", "height", "fault")
        known = {row for part in self._scans() for row in zip(*(part[c].tolist() for c in columns[:3]), strict=True)}
        lacking = [e for e in sources.listed(source) if (e.uri, e.size, e.stamp) not in known][:_SPLIT]
        if not lacking:
            raise PhylaError("the files that it tells of are not there any more")
        found = scan_all(source, lacking, self.steps.run, lambda n: None)
        found |= {"size": [e.size for e in lacking], "stamp": [e.stamp for e in lacking]}
        self.store.write_table(f"scan/{number:05}.parquet", {c: tuple(found[c]) for c in columns})

    def _features(self, unit: str) -> None:
        room, key, *rest = unit.split("/")
        stage = f"{room}/{key}"
        card = backbones.card(self.store.recipe(stage).method)
        made = backbones.recipe(card, sources.DECODER_VERSION)
        same(stage, f"{made.room}/{made.key}")
        if self.store.has(f"{stage}/{LANCE}"):
            self._without_damage(LanceFeatures(self.store, stage))
        if not rest:  # images that no shard has
            self.steps.extract(self._source(), self.project.images, [card])
            return
        lie: dict[str, list[str]] = {}
        for part in self._scans():
            for id, uri, why in zip(*(part[c].tolist() for c in ("id", "uri", "fault")), strict=True):
                if why is None:
                    lie.setdefault(id, []).append(uri)
        name = f"{stage}/{rest[0]}.ids.npy"
        if self.store.has(name):
            ids = self.store.ids(name)
        else:  # those that no other shard has, as they come
            others = [self.store.array(f"{stage}/{n}") for n in self.store.names(stage) if n.endswith(".ids.npy")]
            held = set(np.concatenate(others).astype(str).tolist()) if others else set()
            ids = np.array([id for id in lie if id not in held][: backbones.SHARD])
        source = self._source()

        def open_row(row: int, at_least: int) -> NDArray[np.uint8]:
            fault = PhylaError(f"{UNREAD}it lies nowhere")
            for uri in reversed(lie.get(ids[row], [])):
                try:
                    return open_picture(source, uri, at_least, ids[row])
                except PhylaError as error:
                    fault = error
            raise fault

        none = np.zeros(len(ids), np.int32)
        images, network = Images(ids, ids, none, none, open_row), backbones.load(card, self.threads)
        shards = list(backbones.extract(images, range(len(ids)), [network], open_engine(LOCAL), self.threads))
        faults = {str(ids[row]): why for shard in shards for row, why in shard.faults.items()}
        if gone := [why for why in faults.values() if why.startswith(UNREAD)]:
            raise PhylaError(f"{len(gone):,} of its pictures are not there any more ({gone[0]})")
        X = np.concatenate([shard.features[0] for shard in shards])
        features_of(self.store, stage).write(int(rest[0]), ids, X, faults)

    def _without_damage(self, features: LanceFeatures) -> None:
        """Take out of a dataset what is damaged; where it opens no more, move it away."""
        try:
            features.remove_damaged()
        except PhylaError:
            aside(self.store, f"{features.stage}/{LANCE}")

    def _images(self) -> None:
        source = self._source()
        table = self.steps.scan(source)
        name = self.steps.keep(self.steps.without_broken(table, images_of(table, source), self.meta["features"][0])[0])
        if name != self.meta["images"]:
            self.store.remove([name])
            raise PhylaError("the files that it tells of are others by now")

    def _groups(self, unit: str) -> None:
        project, recipe = self.project, self.store.recipe(unit)
        is_known = any(of.startswith("domains ") for of in recipe.inputs)
        known = {"domains": folders_of(project.images)} if is_known else {}
        same(unit, self.steps.group(project.X, project.blocks, recipe, known))

    def _spread(self, unit: str) -> None:
        project = self.project
        replay = Replay(project.rows_with, project.grouping.best)
        said = replay.take(project.edits[: self.meta["spread_edits"]])
        answers, classes = project._answers(said)
        recipe = project._spread_recipe(self.store.recipe(unit), answers, classes)
        same(unit, f"{recipe.room}/{recipe.key}")
        groups = project.grouping.best
        spread(self.store, recipe, project.X, project.blocks, answers, groups, classes, self.threads)

    def _audit(self) -> None:
        was = self.meta.get("audit_edits")
        self.project.audit(report=False, threads=self.threads)
        with self.store.writing():
            if self.store.meta()["audit"] == self.meta["audit"]:
                self.store.update_meta(audit_edits=was)


def _unit(name: str) -> str:
    """What is made in one: a stage, a shard of a sequence, or a file."""
    parts = name.split("/")
    if parts[0] == "features" and len(parts) == 3 and (number := re.match(r"\d{5}(?=\.)", parts[2])):
        return f"{parts[0]}/{parts[1]}/{number[0]}"
    if parts[0] in ("scan", "images", "audit", "near") or len(parts) < 3:
        return name
    return "/".join(parts[:2])


def same(unit: str, made: str) -> None:
    if made != unit:
        raise PhylaError("this version of Phyla, or this machine, would make another, or its images are others by now")
