"""A project on an object store: a real S3 API, served on this machine."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phyla import Project
from phyla.project import sort
from phyla.store import Busy, Store, _remote
from phyla.types import PhylaError

QUICK: dict[str, Any] = {"backbone": ["fake"], "groups": 3, "threads": 1, "report": False}


@pytest.fixture
def place(s3: str, request: pytest.FixtureRequest) -> str:
    return f"{s3}/{request.node.name}.phyla"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Be another machine from now on, which has nothing yet."""
    places = iter(range(99))
    return lambda: monkeypatch.setenv("PHYLA_CACHE", str(tmp_path / f"machine{next(places)}"))


def test_what_is_written_is_read_by_others(place: str, elsewhere: Callable[[], None]) -> None:
    store = Store.create(place)
    with store.writing():
        store.update_meta(source="/photos")
        store.write("a/b.bin", b"\0\1")
        with store.streaming("big") as put:
            for piece in (b"one", b"two"):
                put(piece)
    elsewhere()
    other = Store.open(place)
    assert other.folder != store.folder
    assert other.meta()["source"] == "/photos"
    assert other.read("a/b.bin") == b"\0\1" and other.path("a/b.bin").read_bytes() == b"\0\1"
    assert other.read("big") == b"onetwo" and other.sums("big") == store.sums("big") != []
    assert other.names() == ["a", "big", "phyla.json", "sums"]
    with other.writing():
        other.update_meta(source="/others")
        other.remove(["big"])
    assert not other.has("big") and other.sums("big") == []
    store.remote._looked.clear()  # a second has passed
    assert store.meta()["source"] == "/others"


def test_a_worker_keeps_nothing(place: str, elsewhere: Callable[[], None]) -> None:
    elsewhere()
    worker = Store(place, keeps=False)
    worker.write("x.bin", b"1")
    assert worker.read("x.bin") == b"1"
    assert not [p for p in worker.folder.rglob("*") if p.is_file()]


def test_nothing_is_there(place: str) -> None:
    with pytest.raises(PhylaError, match="is no Phyla project"):
        Store.open(place)


def test_something_else_is_there(place: str, s3: str) -> None:
    store = Store(place)
    store.remote.write("photo.jpg", b"1")
    with pytest.raises(PhylaError, match="is not empty and is no Phyla project"):
        Store.create(place)


def test_out_of_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PHYLA_CACHE", str(tmp_path))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    monkeypatch.setattr("s3fs.S3FileSystem._cache", {})  # a connection to the one that works
    with pytest.raises(PhylaError, match=r"s3://nobody/x\.phyla can't be reached") as told:
        Store.open("s3://nobody/x.phyla")
    assert "credentials" in told.value.hint


def test_a_protocol_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(PhylaError, match="carrier-pigeon:// is not known"):
        Store.open("carrier-pigeon://x.phyla")


class TestLock:
    def test_a_second_writer_is_refused(self, place: str, elsewhere: Callable[[], None]) -> None:
        one = Store.create(place)
        elsewhere()
        other = Store.create(place)
        with one.writing():
            one.update_meta(source="/photos")
            with pytest.raises(Busy, match="Another process is working on"), other.writing():
                pytest.fail("two writers")
        with other.writing():
            assert other.meta()["source"] == "/photos"

    def test_a_killed_writer_frees_it_in_time(
        self, place: str, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_remote, "_LEASE", -1.0)  # its minute is over
        one = Store.create(place)
        assert one.remote._takes("lock", "somebody who was killed")
        monkeypatch.undo()
        with one.writing():
            assert one.remote._holder("lock")[0] != "somebody who was killed"

    def test_it_is_renewed_and_given_back(self, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_remote, "_RENEWED", 0.02)
        remote = Store.create(place).remote
        with remote.lease("lock"):
            first = remote._holder("lock")[1]
            ended = threading.Event()
            for _ in range(200):
                if remote._holder("lock")[1] > first or ended.wait(0.02):
                    break
            assert remote._holder("lock")[1] > first
        assert not remote.has("lock")

    def test_who_lost_it_does_not_take_it_away(self, place: str) -> None:
        remote = Store.create(place).remote
        with remote.lease("lock"):
            remote.remove("lock")
            assert remote._takes("lock", "another")
        assert remote._holder("lock")[0] == "another"


class TestLog:
    def test_lines_of_two_machines(self, place: str, elsewhere: Callable[[], None]) -> None:
        one = Store.create(place)
        elsewhere()
        other = Store.create(place)
        for number in range(3):
            for store in (one, other):
                with store.appending("log"):
                    store.append("log", {"seq": number, "name": "zoë"})
        told = [{"seq": n // 2, "name": "zoë"} for n in range(6)]
        for store in (one, other):
            store.remote._looked.clear()
            assert store.log("log")[0] == told
            assert store.log_size("log") == (store.folder / "log").stat().st_size


def test_a_project_from_the_first_to_the_last(
    photos: Path, place: str, elsewhere: Callable[[], None], tmp_path: Path
) -> None:
    """Sorted, named and spread here, it is the same there; and the files are those of one in a folder."""
    here = sort(photos, tmp_path / "here", **QUICK)
    there = sort(photos, place, **QUICK)
    for project in (here, there):
        project.name(0, "red")
        project.name(1, "blue")
        project.spread(threads=1)
    told = {k: v for k, v in there.show().items() if k != "project"}
    assert told == {k: v for k, v in here.show().items() if k != "project"}
    elsewhere()
    again = Project(place)
    assert {k: v for k, v in again.show().items() if k != "project"} == told
    assert [e.classes for e in again.edits] == [("red",), ("blue",)]
    for path in here.folder.rglob("*.npy"):
        name = path.relative_to(here.folder).as_posix()
        if not name.startswith(("near/", "sums/")):
            assert again.store.read(name) == path.read_bytes(), name
    again.undo()
    shutil.rmtree(there.folder)  # what is kept here may go at any time
    assert [e.op for e in Project(place).edits] == ["name", "name", "undo"]
    more = Project(place)
    more.sort(quiet=True, threads=1, report=False)
    assert more.show()["images"] == 120
