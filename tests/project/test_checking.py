"""What is damaged is found, named, and made again as it was."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from phyla import _checking, _searching, _steps, project
from phyla.backbones import _extract
from phyla.cli import main
from phyla.project import Project, sort
from phyla.store import Store
from phyla.types import PhylaError, Recipe

QUICK: dict[str, Any] = {"backbone": ["fake"], "groups": 3, "threads": 1, "report": False}
SEED = int(os.environ.get("PHYLA_SEED") or datetime.now(UTC).date().toordinal())


def content(folder: Path, but: tuple[str, ...] = ("damaged", "thumbs")) -> dict[str, bytes]:
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.endswith("lock")]
    named = {p.relative_to(folder).as_posix(): p for p in paths}
    return {name: p.read_bytes() for name, p in named.items() if name.partition("/")[0] not in but}


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """A small collection fills several shards, and has an index."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_extract, "SHARD", 16)
        patch.setattr(_steps, "_SCAN_SHARD", 30)
        patch.setattr(_searching, "INDEXED", 10)
        patch.setattr(project, "INDEXED", 10)
        patch.setattr(_checking, "_BITS_TRIED", 4096)  # so that little is mended so, and quickly
        yield


@pytest.fixture(scope="module")
def finished(make_photos: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which everything was done that leaves a file. To be read only."""
    folder = tmp_path_factory.mktemp("finished")
    photos = make_photos(folder / "photos", each=12)
    made = sort(photos, folder / "project", **QUICK | {"report": True})
    made.draws = False
    for uri in made.images.uris[::5].tolist():
        made.confirm([uri], Path(uri).name.partition("_")[0])
    made.name(0, "zoë")
    made.spread(threads=1)
    made.audit(threads=1)
    made.suggest(3)
    made.search([str(made.images.uris[0])], n=3)
    made.tree()
    return made


@pytest.fixture
def copy(finished: Project, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.folder, tmp_path / "project"))


def check(folder: Path, repair: bool = False) -> dict[str, Any]:
    return _checking.check(folder, repair=repair, threads=1)


def test_a_whole_project(finished: Project, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(finished.folder)
    told = finished.check()
    assert told["whole"] and not told["faults"] and not told["unchecked"] and not told["leftovers"]
    rooms = {name.partition("/")[0] for name in before} - {"sums", "edits.jsonl"}
    assert rooms == {
        "phyla.json", "report.html", "scan", "images", "features", "reduced", "groups", "map", "spread", "audit",
        "measured", "neighbors", "index", "near",
    }  # fmt: skip
    assert told["files"] == sum(not name.startswith(("sums/", "edits")) for name in before)
    assert main(["check", str(finished.folder), "-q"]) == 0
    assert "all is whole" in capsys.readouterr().out
    assert content(finished.folder) == before


def damage(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))


MADE_WHEN_NEEDED = ("near/", "neighbors/", "measured/")


def test_one_bit_in_a_file(copy: Path, finished: Project) -> None:
    """In turn, a third of all by the day, and the largest: found, named, and as before after the repair."""
    rng, before, again = random.Random(SEED), content(copy), 0
    names = [name for name, data in before.items() if data]
    sums = [name for name in names if name.startswith("sums/")]
    largest = max(names, key=lambda name: len(before[name]))
    some = {*sorted({*names} - {*sums})[SEED % 3 :: 3], largest}
    for name in sorted(some) + rng.sample(sums, 4):
        damage(copy / name, rng)
        spoilt = (copy / name).read_bytes()
        mended = check(copy, repair=True)
        named = [fault["file"] for fault in mended["faults"]]
        assert named == [name] and mended["whole"], f"seed {SEED}, {name}: {mended['faults']}"
        how = mended["faults"][0]["mended"]
        if name.startswith(MADE_WHEN_NEEDED) and "moved away" in how:
            assert not (copy / name).exists()
            assert check(copy)["whole"]
            shutil.copytree(finished.folder, copy, dirs_exist_ok=True)
        else:
            assert content(copy) == before, f"seed {SEED}, {name}: {how}"
            again += "same byte by byte" in how
        if not name.startswith("sums/"):
            kept = [p.read_bytes() for p in (copy / "damaged").rglob("*") if p.is_file()]
            assert spoilt in kept, name
        shutil.rmtree(copy / "damaged", ignore_errors=True)
    assert check(copy)["whole"] and again >= 1, "larger files are made again"


def spoil(path: Path) -> None:
    """More than a bit."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(255 - b for b in data[middle : middle + 8])
    path.write_bytes(bytes(data))


CANT = ("phyla.json", "recipe.json", "edits.jsonl")


def of_each_kind(folder: Path) -> dict[str, str]:
    """Room and leaf → the name of one such file."""
    names = [name for name, data in content(folder).items() if len(data) > 8 and not name.startswith("sums/")]
    every = {f"{n.partition('/')[0]} {n.rpartition('/')[2].lstrip('0123456789')}": n for n in names}
    rooms: Counter[str] = Counter()
    for kind in sorted(every):  # three of each room are enough
        rooms[kind.partition(" ")[0]] += 1
        if rooms[kind.partition(" ")[0]] > 3 and not kind.endswith(CANT):
            del every[kind]
    return every


def test_more_than_a_bit(copy: Path, finished: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every kind of file one: what was computed is computed again, and is the same."""
    monkeypatch.setattr(_checking, "_BITS_TRIED", 0)
    before = content(copy)
    for kind, name in of_each_kind(copy).items():
        if kind.endswith(CANT):
            continue
        spoil(copy / name)
        mended = check(copy, repair=True)
        assert [fault["file"] for fault in mended["faults"]] == [name] and mended["whole"], mended["faults"]
        if "moved away" in mended["faults"][0]["mended"]:
            assert name.startswith(MADE_WHEN_NEEDED) and check(copy)["whole"]
            shutil.copytree(finished.folder, copy, dirs_exist_ok=True)
        assert content(copy) == before, f"{name}: {mended['faults']}"


def test_all_at_once(copy: Path) -> None:
    before = content(copy, ("damaged", "thumbs", *(n.strip("/") for n in MADE_WHEN_NEEDED), "sums"))
    names = [name for kind, name in of_each_kind(copy).items() if not kind.endswith(CANT)]
    for name in names:
        spoil(copy / name)
    assert sorted(fault["file"] for fault in check(copy)["faults"]) == sorted(names)
    mended = Project(copy).check(repair=True, threads=1)
    assert mended["whole"], mended["faults"]
    after = content(copy)
    assert {name: after.get(name) for name in before} == before
    assert check(copy)["whole"]


@pytest.mark.parametrize(
    "pattern",
    ["features/*/00001.npy", "features/*/00001.ids.npy", "scan/00000.parquet", "reduced/*/X.npy", "groups/*/done"],
)
def test_what_is_missing(copy: Path, pattern: str) -> None:
    before = content(copy)
    (path,) = copy.glob(pattern)
    path.unlink()
    name = path.relative_to(copy).as_posix()
    assert name in [fault["file"] for fault in check(copy)["faults"]]
    mended = check(copy, repair=True)
    assert mended["whole"], mended["faults"]
    assert content(copy) == before and check(copy)["whole"]


class TestEdits:
    def test_a_line_that_cannot_be_mended(self, copy: Path, finished: Project) -> None:
        log = copy / "edits.jsonl"
        lines = log.read_bytes().split(b"\n")
        lines[2] = lines[2][:20] + b"????" + lines[2][24:]
        log.write_bytes(b"\n".join(lines))
        spoilt = log.read_bytes()
        told = check(copy)
        assert [(f["file"], f["what"]) for f in told["faults"]] == [("edits.jsonl", "line 3 is damaged")]
        with pytest.raises(PhylaError, match="is damaged") as fault:
            Project(copy).show()
        assert fault.value.hint.endswith("--repair")
        (mended,) = check(copy, repair=True)["faults"]
        assert "1 can't be mended" in mended["what"] and (copy / "damaged/edits.jsonl").read_bytes() == spoilt
        project = Project(copy)
        assert [e for e in project.edits if e.seq != 2] == [e for e in finished.edits if e.seq != 2]
        assert project.edits[2].op == "lost" and check(copy)["whole"]
        n = len(project.edits)
        project.name(1, "after")
        project.undo()
        assert len(Project(copy).edits) == n + 2 and Project(copy).names == finished.names

    @pytest.mark.parametrize("where", ["between", "at the end"])
    def test_the_end_of_a_line(self, copy: Path, where: str) -> None:
        log = copy / "edits.jsonl"
        data = bytearray(before := log.read_bytes())
        data[data.index(b"\n") if where == "between" else len(data) - 1] ^= 1 << 6
        log.write_bytes(bytes(data))
        assert {fault["file"] for fault in check(copy)["faults"]} == {"edits.jsonl"}
        assert check(copy, repair=True)["whole"] and log.read_bytes() == before

    def test_what_a_killed_writer_leaves_is_no_fault(self, copy: Path) -> None:
        with (copy / "edits.jsonl").open("ab") as file:
            file.write(b'{"at": "2026')
        (copy / "tmp").mkdir()
        (copy / "tmp/half").write_bytes(b"1")
        told = check(copy)
        assert told["whole"] and told["leftovers"] == ["tmp/half"]


def test_phyla_json(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(copy / "phyla.json")
    spoil(next(copy.glob("groups/*/labels_.npy")))
    assert main(["check", str(copy), "-q"]) == 1
    assert "phyla.json is not what its checksum says" in capsys.readouterr().out
    before = content(copy)
    assert main(["check", str(copy), "--repair", "-q", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert sorted(f["file"].partition("/")[0] for f in told["faults"]) == ["groups", "phyla.json"]
    assert all("backup" in f["what"] for f in told["faults"])
    assert content(copy) == before


def test_pictures_that_are_gone(copy: Path, finished: Project, tmp_path: Path) -> None:
    photos = Path(finished.show()["source"])
    (name,) = copy.glob("features/*/00001.npy")
    spoil(name)
    spoilt = content(copy)
    photos.rename(photos.with_name("elsewhere"))
    try:
        (fault,) = check(copy, repair=True)["faults"]
        assert fault["mended"] is None and "can't be made again" in fault["what"]
        assert content(copy) == spoilt, "what is damaged stays where nothing takes its place"
    finally:
        photos.with_name("elsewhere").rename(photos)
    assert check(copy, repair=True)["whole"]


def test_a_project_that_has_grown(
    copy: Path, finished: Project, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    photos = shutil.copytree(finished.show()["source"], tmp_path / "photos")
    grown = sort(photos, tmp_path / "grown", **QUICK)
    make_photos(photos, each=2, start=80)
    grown.sort(**QUICK)
    assert check(grown.folder)["whole"]


@pytest.mark.parametrize("room", ["student", "concepts"])
def test_what_is_made_again_when_it_is_asked_for(copy: Path, room: str) -> None:
    store = Store(copy)
    with store.writing():
        stage = store.stage(Recipe(room, "any"))
        store.finish(stage, {"weights": np.arange(9)})
    spoil(copy / stage / "weights.npy")
    (fault,) = check(copy, repair=True)["faults"]
    assert fault["file"] == f"{stage}/weights.npy" and "when it is needed" in fault["mended"]
    assert not store.is_done(stage) and check(copy)["whole"]


def test_a_recipe_that_goes_in_circles(copy: Path) -> None:
    """Of a forged project: said, and there is an end to it."""
    store = Store(copy)
    stage = store.meta()["groups"]
    with store.writing():
        store.write_json(f"{stage}/recipe.json", store.read_json(f"{stage}/recipe.json") | {"inputs": [stage]})
    spoil(copy / stage / "labels_.npy")
    told = check(copy, repair=True)
    assert {f["file"] for f in told["faults"] if not f["mended"]} == {f"{stage}/recipe.json", f"{stage}/labels_.npy"}


def test_files_without_a_checksum(copy: Path) -> None:
    shutil.rmtree(copy / "sums")
    told = check(copy)
    assert told["whole"] and len(told["unchecked"]) > 30
    (copy / "map").rename(copy / "maps")
    spoil(next(copy.glob("scan/00000.parquet")))
    faults = {fault["file"].partition("/")[0] for fault in check(copy)["faults"]}
    assert "map" in faults


def test_rows_that_do_not_fit(copy: Path) -> None:
    project = Project(copy)
    stage = project.store.meta()["groups"]
    with project.store.writing():
        project.store.write_array(f"{stage}/labels_.npy", project.grouping.best[:-1])
    assert [(f["file"], f["what"]) for f in check(copy)["faults"]] == [
        (f"{stage}/labels_.npy", "has 35 rows for 36 images")
    ]
    assert check(copy, repair=True)["whole"] and check(copy)["whole"]


def test_on_an_object_store(make_photos: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = f"memory://{tmp_path.name}/there.phyla"
    made = sort(make_photos(tmp_path / "photos", each=8), place, **QUICK)
    made.name(0, "zoë")
    told = _checking.check(place)
    assert told["whole"] and told["files"] > 20 and not told["unchecked"], told
    system = fsspec.filesystem("memory")
    (path,) = system.glob(f"/{tmp_path.name}/there.phyla/reduced/*/X.npy")
    system.pipe_file(path, system.cat_file(path)[:-1] + b"?")
    (line,) = system.glob(f"/{tmp_path.name}/there.phyla/edits.jsonl/*.json")
    system.pipe_file(line, system.cat_file(line).replace(b"zo", b"fo"))
    assert [fault["file"].partition("/")[0] for fault in _checking.check(place)["faults"]] == ["reduced", "edits.jsonl"]
    told = _checking.check(place, repair=True, threads=1)
    assert told["whole"] and _checking.check(place)["whole"], told["faults"]


def test_no_project(tmp_path: Path) -> None:
    with pytest.raises(PhylaError, match="is no Phyla project"):
        check(tmp_path)
