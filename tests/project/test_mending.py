"""What has grown, and what lies elsewhere, is made again as it was."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.core import url_to_fs

from phyla import _checking, _steps
from phyla.backbones import _extract
from phyla.project import Project, sort
from phyla.store import Store
from phyla.types import PhylaError

QUICK: dict[str, Any] = {"groups": 3, "threads": 1, "report": False}
FIXED = ("phyla.json", "recipe.json", "edits.jsonl", "done")  # can't be made, or hold nothing


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """A small collection fills several shards, and no bit is put back where the file can be made again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_extract, "SHARD", 8)
        patch.setattr(_steps, "_SCAN_SHARD", 10)
        patch.setattr(_checking, "_BITS_TRIED", 0)
        yield


@pytest.fixture(scope="module")
def grown(make_photos: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Four times: twice by the same network, then by another, then again. To be read only."""
    folder = tmp_path_factory.mktemp("grown")
    photos = make_photos(folder / "photos", each=8)
    made = sort(photos, folder / "project", **QUICK | {"backbone": ["fake"], "report": True})
    made.draws = False
    for uri in made.images.uris[::4].tolist():
        made.confirm([uri], Path(uri).name.partition("_")[0])
    made.spread(threads=1)
    for start, more in enumerate(({}, {}, {"backbone": ["fake:turned"]}, {})):
        make_photos(photos, each=1, start=20 + start)
        made.sort(threads=1, report=True, **more)
    return made


@pytest.fixture
def copy(grown: Project, tmp_path: Path) -> Path:
    return Path(shutil.copytree(grown.folder, tmp_path / "project"))


def content(folder: Path) -> dict[str, bytes]:
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.endswith("lock")]
    named = {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}
    return {name: data for name, data in named.items() if name.partition("/")[0] not in ("damaged", "thumbs", "near")}


def flip(data: bytes, rng: random.Random) -> bytes:
    spoilt = bytearray(data)
    spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def repaired(place: str | Path) -> list[dict[str, Any]]:
    told = _checking.check(place, repair=True, threads=1)
    assert told["whole"] and _checking.check(place)["whole"], [f for f in told["faults"] if not f["mended"]]
    faults: list[dict[str, Any]] = told["faults"]
    return faults


def test_there_is_something_to_mend(grown: Project) -> None:
    rooms = {path.parent.parent.name for path in grown.folder.rglob("recipe.json")}
    assert {"features", "reduced", "groups", "map", "spread", "aligned"} <= rooms
    done = {room: len([*grown.folder.glob(f"{room}/*/done")]) for room in ("reduced", "groups")}
    assert done == {"reduced": 3, "groups": 3} and len([*grown.folder.glob("reduced/*")]) == 5, "two gave up their rows"
    assert _checking.check(grown.folder)["whole"]


@pytest.mark.parametrize("room", ["scan", "features", "images", "aligned", "reduced", "groups", "map", "spread"])
def test_a_bit_in_every_file(copy: Path, room: str) -> None:
    before, rng = content(copy), random.Random(room)
    names = [name for name in before if name.startswith(f"{room}/") and not name.endswith(FIXED)]
    names = names[1:2] if room == "scan" else names  # where one shard ended and the next began is not known
    for name in names:
        (copy / name).write_bytes(flip(before[name], rng))
    assert sorted(fault["file"] for fault in _checking.check(copy)["faults"]) == names and names
    faults = repaired(copy)
    away = {fault["file"] for fault in faults if fault["mended"].startswith("moved away")}
    assert len(away) < len(names) and (not away or room == "images"), away
    after = content(copy)
    gone = away | {f"sums/{name}" for name in away}
    assert after == {name: data for name, data in before.items() if name not in gone}
    kept = {path.relative_to(copy / "damaged").as_posix() for path in (copy / "damaged").rglob("*") if path.is_file()}
    assert kept == set(names)


def test_all_of_the_last_growths(copy: Path) -> None:
    """Each is made of what was made again before it, and what had given up its rows gives them up once more."""
    before, rng = content(copy), random.Random(0)
    rooms = ("features", "aligned", "reduced", "groups", "map", "spread")
    names = [name for name in before if name.partition("/")[0] in rooms and not name.endswith(FIXED)]
    for name in names:
        (copy / name).write_bytes(flip(before[name], rng))
    assert len(repaired(copy)) == len(names)
    assert content(copy) == before


def test_which_files_the_tables_told_of_is_found_out(copy: Path) -> None:
    """Even where all that reading them told is made again, too, so that nobody knows what came when."""
    before, rng = content(copy), random.Random(3)
    names = [name for name in before if name.startswith(("scan/", "images/", "reduced/")) and not name.endswith(FIXED)]
    for name in names:
        (copy / name).write_bytes(flip(before[name], rng))
    mended = {fault["file"]: fault["mended"] for fault in repaired(copy)}
    same = [name for name, how in mended.items() if "same byte by byte" in how]
    assert {name for name in names if name.startswith("reduced/")} <= set(same)
    tables = [name for name in same if name.startswith("images/")]
    assert len(tables) > 2 and all((copy / name).read_bytes() == before[name] for name in same)


def test_it_grows_on_after_a_repair(copy: Path, grown: Project, make_photos: Callable[..., Path]) -> None:
    meta, before = grown.store.meta(), {str(i): of for i, of in zip(grown.images.ids, grown.grouping.best, strict=True)}
    (copy / meta["reduced"][0] / "X.npy").write_bytes(b"nothing")
    (copy / Store(copy).recipe(meta["groups"]).inputs[-1] / "labels_.npy").write_bytes(b"")
    repaired(copy)
    photos = Path(meta["source"])
    (new := make_photos(photos, each=1, start=60, colours=("red",)) / "red_060.png").is_file()
    try:
        project = Project(copy)
        assert project.sort(threads=1, report=False)["drift"]["added"] == 1
        after = dict(zip(project.images.ids.tolist(), project.grouping.best.tolist(), strict=True))
        assert {i: after[i] for i in before} == before and len(after) == len(before) + 1
    finally:
        new.unlink()


def test_what_it_is_made_of_is_gone(copy: Path, grown: Project) -> None:
    """A photo that was removed since, and the table that told of it: said, and all is left as it was."""
    photos = Path(grown.show()["source"])
    (gone := photos / "blue_000.png").rename(photos.parent / "gone.png")
    try:
        Project(copy).sort(threads=1, report=False)
        meta = Project(copy).store.meta()
        reduced, shards = meta["reduced"][0], sorted(copy.glob("features/*/00000.npy"))
        for path in (*shards, copy / reduced / "X.npy"):
            path.write_bytes(flip(path.read_bytes(), random.Random(1)))
        before = content(copy)
        told = _checking.check(copy, repair=True, threads=1)
        what = {fault["file"]: fault["what"] for fault in told["faults"] if not fault["mended"]}
        assert any("1 of its pictures are not there any more" in why for why in what.values()), what
        assert "which is damaged" in what.get(f"{reduced}/X.npy", "which is damaged")
        assert {name: content(copy)[name] for name in what} == {name: before[name] for name in what}
    finally:
        (photos.parent / "gone.png").rename(gone)


def test_nothing_tells_of_the_images_any_more(copy: Path, grown: Project) -> None:
    meta = grown.store.meta()
    name = f"{meta['reduced'][0]}/components_.npy"
    for path in (*copy.glob("images/*"), *copy.glob("scan/*")):
        path.unlink() if path != copy / meta["images"] else None
    (copy / name).write_bytes(b"?")
    told = _checking.check(copy, repair=True, threads=1)
    (why,) = (fault["what"] for fault in told["faults"] if fault["file"] == name)
    assert "table of the images that it was made of is gone" in why and "--anew" in why
    assert (copy / name).read_bytes() == b"?"


@pytest.fixture(scope="module")
def elsewhere(make_photos: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable]:
    """(URL, whether it shall have grown) → a project there, with three edits."""
    folder = tmp_path_factory.mktemp("elsewhere")

    def make(place: str, grows: bool) -> str:
        photos = make_photos(folder / "photos", each=4)
        made = sort(photos, place, **QUICK | {"backbone": ["fake"]})
        for group, name in enumerate(("zoë", "two", "three")):
            made.name(group, name)
        if grows:
            make_photos(photos, each=1, start=20)
            made.sort(threads=1, report=False)
        return place

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHYLA_CACHE", str(folder / "cache"))
        yield make


@pytest.fixture(scope="module")
def there(elsewhere: Callable[[str, bool], str]) -> str:
    """The URL of a project that has grown. It is left as it was by each test."""
    return elsewhere("memory://mended/there.phyla", True)


def objects(place: str) -> dict[str, bytes]:
    system, root = url_to_fs(place, use_listings_cache=False)
    found = {path[len(root) + 1 :]: system.cat_file(path) for path in system.find(root)}
    return {name: data for name, data in found.items() if not name.startswith("damaged/") and "lock" not in name}


def of_each_kind(there: str) -> list[str]:
    meta = Store(there, keeps=False).read_json("phyla.json")
    names = [f"{meta['reduced'][0]}/X.npy", f"{meta['groups']}/labels_.npy", meta["images"], "scan/00000.parquet"]
    return sorted([*names, f"{meta['features'][0]}/00001.npy", "edits.jsonl/00000001.json", "phyla.json"])


def test_on_s3(s3: str, elsewhere: Callable[[str, bool], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = elsewhere(f"{s3}/mended.phyla", False)
    monkeypatch.setenv("PHYLA_CACHE", str(tmp_path / "other"))
    mended(place, monkeypatch)


def test_elsewhere(there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another machine all is made again, though what it kept is damaged, too."""
    monkeypatch.setenv("PHYLA_CACHE", str(tmp_path / "other"))
    meta = Project(there).store.meta()
    Project(there).show()
    (copy := Store(there).folder / meta["groups"] / "strength_.npy").write_bytes(b"a damaged copy")
    how = mended(there, monkeypatch)
    assert not [name for name in how if "copy" in how[name] and name.startswith(("features", "reduced", "scan"))], how
    assert not copy.exists()
    assert Project(there).names == {0: "zoë", 1: "two", 2: "three"} and Project(there).show()["unique"] == 15


def test_what_this_machine_keeps(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    how = mended(there, monkeypatch)
    assert {why for name, why in how.items() if "edits" not in name} == {
        "put back from the copy that this machine keeps"
    }


def mended(place: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """How a bit in a file of each kind is mended: all is as before then."""
    monkeypatch.setattr(_checking, "_BITS_TRIED", 4096)
    before, rng = objects(place), random.Random(5)
    system, root = url_to_fs(place)
    for name in (names := of_each_kind(place)):
        system.pipe_file(f"{root}/{name}", flip(before[name], rng))
    how = {fault["file"]: fault["mended"] for fault in repaired(place)}
    assert sorted(how) == names and objects(place) == before
    assert sorted(path.removeprefix(f"{root}/damaged/") for path in system.find(f"{root}/damaged")) == names
    system.rm(f"{root}/damaged", recursive=True)
    return how


def test_a_line_elsewhere_that_cannot_be_mended(there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = objects(there)
    system, root = url_to_fs(there)
    monkeypatch.setenv("PHYLA_CACHE", str(tmp_path / "other"))
    system.pipe_file(f"{root}/edits.jsonl/00000001.json", b"????")
    system.rm_file(f"{root}/edits.jsonl/00000000.json")
    told = _checking.check(there)
    assert [(f["file"][-7:], f["what"]) for f in told["faults"]] == [
        ("00.json", "is missing"),
        ("01.json", "is damaged"),
    ]
    assert all("says nothing now" in fault["what"] for fault in repaired(there))
    assert [edit.op for edit in Project(there).edits] == ["lost", "lost", "name"]
    system.rm(f"{root}/damaged", recursive=True)
    for name in (f"edits.jsonl/{number:08}.json" for number in range(2)):
        system.pipe_file(f"{root}/{name}", before[name])


def test_somebody_works_on_it(there: str) -> None:
    store = Store(there)
    with store.writing(), pytest.raises(PhylaError, match="Another process is working"):
        _checking.check(there, repair=True)
