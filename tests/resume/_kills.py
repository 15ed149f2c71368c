"""Kill whatever Phyla does at any moment (signal 9), look at what is left, and do it again.

Run as `_kills.py FOLDER SEED KILLS [OPERATION …]`; prints JSON: kills by operation, and what went wrong. To repeat a
kill: `_kills.py FOLDER SEED 0 OPERATION STEP`.

Each kill is a fork of this process, which has imported everything and started no thread; so is each look at what is
left. A step is a file about to be made durable, renamed, made, linked or removed, or a picture about to be decoded. An
operation of so many steps is killed at one of them, drawn by the seed. Then

- `phyla check` finds nothing, and nothing lies outside the project and what was asked for;
- every edit that was acknowledged (written down outside the project when the call had returned) is there, and at most
  one that was not;
- the operation, done again, ends in the same bytes as one that was left in peace (but for the time of an edit, and for
  the names that Lance gives to files: of a dataset the rows are compared).

A repair begins with damaged files instead: each lies where it lay, or in damaged/, or is mended already.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from phyla import plugins

EACH, COLOURS = 8, {"red": (200, 50, 50), "green": (50, 190, 60), "blue": (50, 60, 200)}
QUICK: dict[str, Any] = {"backbone": ["fake"], "groups": 3, "method": "kmeans", "threads": 1, "report": False}


def paint(folder: Path, numbers: range) -> None:
    folder.mkdir(exist_ok=True)
    for name, colour in COLOURS.items():
        for number in numbers:
            rng = np.random.default_rng([number, *name.encode()])
            pixels = np.array(colour) + rng.uniform(-35, 35) + rng.normal(0, 8, (16, 16, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{name}_{number:03}.png")


# ---- the operations, each in a folder `place` with a project


def sort(place: Path) -> None:
    from phyla.project import sort

    sort(place / "photos", place / "project", **QUICK)


def grow(place: Path) -> None:
    from phyla.project import Project

    Project(place / "project").sort(**QUICK)


def label(place: Path) -> None:
    """The commands label and spread."""
    from phyla.cli import main

    if not said(place):  # else it was said, though nobody was told so
        argv = ["label", str(place / "project"), str(place / "answers.csv"), "--json"]
        assert main(argv) == 0
        acknowledge(place, "confirm")
    assert main(["spread", str(place / "project"), "-q", "--no-report", "--threads", "1", "--json"]) == 0


def audit(place: Path) -> None:
    from phyla.project import Project

    Project(place / "project").audit(report=False, threads=1)


EDITS: list[dict[str, Any]] = [
    {"op": "name", "group": 0, "name": "zoë"},
    {"op": "confirm", "rows": [0, 1, 2], "name": "red"},
    {"op": "move", "rows": [9, 10], "name": "green"},
    {"op": "reject", "rows": [3], "name": "blue"},
    {"op": "undo"},
    {"op": "redo"},
    {"op": "remove", "rows": [5]},
    {"op": "split", "group": 1, "names": ["a", "b"]},
    {"op": "merge", "groups": [0, 2], "name": "both"},
]


def edits(place: Path) -> None:
    """What the page says to its server."""
    from phyla.app._server import Server
    from phyla.project import Project

    server = Server(Project(place / "project"))
    server.jobs.spread_if_due = lambda: None  # type: ignore[method-assign]
    for told in EDITS[len(said(place)) :]:
        server.say(told)
        acknowledge(place, "undo" if told["op"] == "redo" else told["op"])  # it is the undo of an undo
    server.thumbs.close()


def predict(place: Path) -> None:
    """A classifier's file, shard by shard."""
    from phyla import _predicting, backbones

    class Chain:
        sha256, in_doubt = "0" * 64, None

        def load(self, threads: int) -> list[backbones.Network]:
            return [backbones.load(backbones.card("fake"), 1)]

        def columns(self, features: list[np.ndarray]) -> dict[str, np.ndarray]:
            best = features[0][:, :3].argmax(1)
            return {
                "class": np.array([*COLOURS], object)[best],
                "probability": np.full(len(best), 0.5, np.float32),
                "defer": best == 0,
                "outlier": features[0][:, 0],
            }

    _predicting.read_chain = lambda path: Chain()  # type: ignore[assignment,return-value]
    for name in ("new.csv", "new.parquet"):
        _predicting.predict("net.onnx", place / "photos", place / name, threads=1, force=True)


def export(place: Path) -> None:
    from phyla.project import Project

    project = Project(place / "project")
    for name, copy in (("out.csv", False), ("out.parquet", False), ("links", False), ("copies", True)):
        project.export(place / name, copy=copy, force=True)
    project.export(place / "shards", kind="webdataset", force=True)
    project.predict(place / "photos", place / "predicted.csv", threads=1, force=True)


def tools(place: Path) -> None:
    """Exports to Lance (twice: the second is a version) and FiftyOne."""
    from phyla.project import Project

    project = Project(place / "project")
    for images in (True, False):
        project.export(place / "out.lance", images=images, force=True)
    for name, copy in (("fo-links", False), ("fo-copies", True)):
        project.export(place / name, kind="fiftyone", copy=copy, force=True)


def train(place: Path) -> None:
    """A classifier's file, its card and its example."""
    from phyla.project import Project

    Project(place / "project").train(place / "net.onnx", threads=1, force=True)


def index(place: Path) -> None:
    """The index for searches."""
    from phyla import _searching, project

    project.INDEXED = _searching.INDEXED = 10
    project.Project(place / "project").sort(**QUICK)


def repair(place: Path) -> None:
    from phyla._checking import check

    told = check(place / "project", repair=True, threads=1)
    assert told["whole"], told["faults"]


@dataclass(frozen=True)
class Operation:
    run: Callable[[Path], None]
    begins: str  # the state that it begins with: nothing, a sorted project, one with answers, a damaged one
    outputs: tuple[str, ...] = ()


OPERATIONS = {
    "sort": Operation(sort, "nothing"),
    "grow": Operation(grow, "more"),
    "label": Operation(label, "sorted"),
    "audit": Operation(audit, "labelled"),
    "edits": Operation(edits, "sorted"),
    "predict": Operation(predict, "nothing", ("new.csv", "new.parquet")),
    "export": Operation(export, "labelled", ("out.csv", "out.parquet", "links", "copies", "shards", "predicted.csv")),
    "tools": Operation(tools, "labelled", ("out.lance", "fo-links", "fo-copies")),
    "train": Operation(train, "labelled", ("net.onnx", "net.md", "net.py")),
    "index": Operation(index, "sorted"),
    "repair": Operation(repair, "damaged"),
}


# ---- what was said


def acknowledge(place: Path, op: str) -> None:
    with (place / "acknowledged").open("a") as file:
        file.write(f"{op}\n")


def said(place: Path) -> list[str]:
    from phyla.project import Project

    return [edit.op for edit in Project(place / "project").edits]


# ---- killing


def small() -> None:
    """A few pictures fill several shards."""
    from phyla import _steps
    from phyla.backbones import _extract

    _extract.TASK, _extract.SHARD, _steps._SCAN_SHARD = 2, 8, 10


def quick() -> None:
    """A classifier is soon taught, and has a network that can be written."""
    from phyla import _training
    from phyla.train import _student

    _training._MEASURED, _student._FEWEST_STEPS = 0.001, 8
    fake = plugins.load("backbones", "fake")
    fake.splice = staticmethod(lambda card, graph, view: graph.node("ReduceMean", graph.cast(view, np.float32)))


def damage(place: Path) -> None:
    """Of each kind a file: bits that can be put back, and files that can't be mended but by making them again."""
    project = place / "project"
    meta = json.loads((project / "phyla.json").read_text())
    (space,), features = meta["reduced"], meta["features"][0]
    before = json.loads((project / space / "recipe.json").read_text())["inputs"][-1]
    assert before.startswith("reduced/") and (project / before / "X.npy").exists(), "it has grown"
    bits = ("phyla.json", "edits.jsonl", meta["images"], f"{space}/recipe.json", f"sums/{space}/mean_.npy")
    for name in bits:
        flip(project / name, 1)
    more = (f"{features}/00001.npy", "scan/00000.parquet", f"{before}/X.npy", f"{space}/X.npy")
    for name in (*more, f"{meta['groups']}/labels_.npy", f"{meta['spread']}/proba.npy", f"{meta['spread']}/told.json"):
        flip(project / name, 5)


def flip(path: Path, bits: int) -> None:
    data = bytearray(path.read_bytes())
    for place in range(bits):
        data[len(data) // 2 + place] ^= 1 << place % 7
    path.write_bytes(data)


def watch(step: Callable[[], None]) -> None:
    """Call `step` before everything that changes the disk, and before each picture."""
    from phyla import sources

    def before(owner: Any, name: str) -> None:
        does = getattr(owner, name)

        def done(*args: Any, **options: Any) -> Any:
            step()
            return does(*args, **options)

        setattr(owner, name, done)

    for owner, names in (
        (os, ("fsync",)),
        (Path, ("replace", "mkdir", "unlink", "symlink_to", "write_bytes", "write_text", "rmdir")),
        (shutil, ("rmtree", "move", "copyfile")),
        (sources, ("decode", "fetch")),
    ):
        for name in names:
            before(owner, name)


def fork(work: Callable[[], object]) -> tuple[int, str]:
    """Run `work` in a child; its status as `os.waitpid` gives it, and what it returned or stumbled over, as text."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(reads)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            told = str(work())
            status = 0
        except BaseException:
            told = traceback.format_exc()
        finally:
            os.write(writes, told.encode()[-60_000:])
            os._exit(status)
    os.close(writes)
    with os.fdopen(reads, "rb") as file:
        told = file.read().decode()
    return os.waitpid(child, 0)[1], told


def steps_of(run: Callable[[Path], None], place: Path, at: int | None = None) -> int:
    """Run it, and count its steps; die at step `at`."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

    watch(step)
    run(place)
    return count


def content(place: Path, but: tuple[str, ...] = ("acknowledged",)) -> dict[str, bytes]:
    """Every file below `place`, but for locks and small pictures; of edits all but their time."""
    found = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if name.endswith("lock") or {"thumbs", "tmp", "damaged"} & {*name.split("/")} or name in but:
            continue
        if ".lance/" in f"{name}/":
            continue
        if path.is_symlink():
            found[name] = os.readlink(path).replace(str(place), "").encode()
        elif name.endswith("edits.jsonl"):
            lines = map(json.loads, path.read_text("utf-8").splitlines())
            found[name] = repr([{k: v for k, v in line.items() if k not in ("at", "sum")} for line in lines]).encode()
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def rows(place: Path) -> str:
    """What the datasets of Lance hold."""
    import lance

    return repr([lance.dataset(str(path)).to_table().to_pylist() for path in sorted(place.glob("*.lance"))])


def is_kept(place: Path, state: Path, expected: dict[str, bytes]) -> None:
    """In the midst of a repair every file is as it was or as it shall be, or lies in damaged/."""
    there, before = content(place / "project"), content(state / "project")
    moved = {path.read_bytes() for path in (place / "project/damaged").rglob("*") if path.is_file()}
    lost = [
        name for name, data in before.items()
        if not name.startswith("sums/") and data not in moved
        and there.get(name) not in (data, expected[f"project/{name}"])
    ]  # fmt: skip
    assert not lost, f"neither there nor in damaged/: {lost}"


def look(operation: Operation, place: Path, state: Path, expected: dict[str, bytes], told: str) -> None:
    """Raise `AssertionError` where something was lost, or is not as it shall be."""
    from phyla._checking import check
    from phyla.project import Project

    def is_whole() -> None:
        if (place / "project/phyla.json").exists():
            told = check(place / "project")
            assert told["whole"] and not told["unchecked"], told
            Project(place / "project").show() if "groups" in Project(place / "project").store.meta() else None

    if is_repair := operation.begins == "damaged":
        is_kept(place, state, expected)
    else:
        is_whole()
    acknowledged = (place / "acknowledged").read_text().split() if (place / "acknowledged").exists() else []
    if is_repair:
        operation.run(place)
    if (place / "project/phyla.json").exists():
        there = said(place)
        assert there[: len(acknowledged)] == acknowledged and len(there) <= len(acknowledged) + 1, (acknowledged, there)
    if not is_repair:
        operation.run(place)
    is_whole()
    after = content(place)
    differing = sorted(n for n in after.keys() | expected.keys() if after.get(n) != expected.get(n))
    assert not differing, f"not as undisturbed: {differing}"
    assert not told or rows(place) == told, "other rows"
    lies = {p.name for p in place.iterdir()} - {
        "photos",
        "project",
        "answers.csv",
        "acknowledged",
        "temp",
        *operation.outputs,
    }
    assert not lies and not any((place / "temp").iterdir()), f"outside the project: {lies or 'in temp'}"


class Kills:
    """Where operations are done, killed and looked at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.states, self.calm = folder / "states", folder / "calm"
        small()
        quick()
        begins = self.states / "nothing"
        (begins / "temp").mkdir(parents=True)
        paint(begins / "photos", range(EACH))
        # Every state and every run lies at the same path in turn, for the paths of pictures are in the files.
        self._state("sorted", "nothing", sort)
        self._state("labelled", "sorted", label)
        self._state("more", "sorted", lambda place: paint(place / "photos", range(50, 52)))
        self._state("grown", "labelled", lambda place: (paint(place / "photos", range(50, 52)), grow(place)))
        self._state("damaged", "grown", damage)
        self.steps: dict[str, int] = {}
        self.rows: dict[str, str] = {}
        self.expected: dict[str, dict[str, bytes]] = {}

    @property
    def place(self) -> Path:
        return self.folder / "place"

    def _lay(self, state: str) -> Path:
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.states / state, self.place, symlinks=True)  # with the times of the files
        tempfile.tempdir = str(self.place / "temp")
        return self.place

    def _state(self, name: str, begins: str, work: Callable[[Path], object]) -> None:
        place = self._lay(begins)
        if not (place / "answers.csv").exists():
            lines = [f"{p},{p.name.partition('_')[0]}" for p in sorted((place / "photos").iterdir())[::3]]
            (place / "answers.csv").write_text("\n".join(["uri,label", *lines]) + "\n")
        status, told = fork(lambda: work(place))
        assert status == 0, told
        (place / "acknowledged").unlink(missing_ok=True)
        shutil.copytree(place, self.states / name, symlinks=True)

    def undisturbed(self, name: str) -> int:
        """How many steps an operation has; what it ends in is remembered."""
        if name not in self.steps:
            place = self._lay(OPERATIONS[name].begins)
            status, told = fork(lambda: steps_of(OPERATIONS[name].run, place))
            assert status == 0, told
            self.steps[name], self.expected[name] = int(told), content(place)
            self.rows[name] = fork(lambda: rows(place))[1] if [*place.glob("*.lance")] else ""
        return self.steps[name]

    def kill(self, name: str, at: int) -> str | None:
        """Kill it at a step; what is wrong then."""
        operation = OPERATIONS[name]
        place = self._lay(operation.begins)
        self._acknowledged(name)
        status, told = fork(lambda: steps_of(operation.run, place, at))
        if status != signal.SIGKILL:
            return f"it was not killed: {told}"
        state, after = self.states / operation.begins, self.expected[name]
        status, told = fork(lambda: look(operation, place, state, after, self.rows[name]))
        return told if status else None

    def _acknowledged(self, name: str) -> None:
        """What was said before the operation begins."""
        if OPERATIONS[name].begins in ("labelled", "damaged"):
            acknowledge(self.place, "confirm")


def main(folder: str, seed: str, kills: str, *names: str) -> None:
    warnings.filterwarnings("ignore", "lance is not fork-safe")  # no thread of its runs yet
    for slow in (
        "faiss", "openTSNE", "pyarrow.parquet", "scipy.sparse.linalg", "sklearn.metrics", "sklearn.cluster", "filelock",
        "threadpoolctl", "tqdm", "cv2", "phyla.cli", "phyla.app._server", "phyla._checking", "phyla._predicting",
        "phyla.project", "phyla._auditing", "phyla.cluster.kmeans", "phyla._export", "phyla.report", "phyla_fake",
        "pyarrow.dataset", "pyarrow.compute", "pyarrow.csv", "pyarrow.json", "PIL.ImageOps", "scipy.cluster.hierarchy",
        "phyla._repairing", "phyla._packing", "phyla._training", "onnx", "lance",
    ):  # fmt: skip
        import_module(slow)  # once, not in every child
    for room in ("sources", "engine", "audit", "reduce", "label.spread", "backbones"):
        for name in plugins.names(room):
            if name not in ("ray", "timm", "openclip", "hf"):
                plugins.load(room, name)
    Image.init()
    begun = time.perf_counter()
    rng, work = random.Random(int(seed)), Kills(Path(folder))
    if kills == "0":
        work.undisturbed(names[0])
        print(work.kill(names[0], int(names[1])) or "Nothing is lost.")
        return
    chosen = list(names or OPERATIONS)
    # By turns, each in as many parts as it is killed times.
    told: dict[str, Any] = {"kills": Counter(), "wrong": [], "steps": work.steps}
    for number in range(int(kills)):
        name = chosen[number % len(chosen)]
        steps, parts = work.undisturbed(name), -(-(int(kills) - number % len(chosen)) // len(chosen))
        at = min(int(steps * (number // len(chosen) + rng.random()) / parts) + 1, steps)
        told["kills"][name] += 1
        if wrong := work.kill(name, at):
            told["wrong"].append({"operation": name, "step": at, "of": steps, "seed": int(seed), "why": wrong})
    told["seconds"] = round(time.perf_counter() - begun, 1)
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
