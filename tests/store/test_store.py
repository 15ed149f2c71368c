"""Files that are there and whole, or not there."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from phyla.store import FORMAT, Store, _files
from phyla.types import PhylaError, Recipe


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "project")
    with store.writing():
        store.update_meta(source="/photos")
    return store


class Crash(BaseException):
    """The process ends here."""


def crash(*_: object) -> None:
    raise Crash


class TestWriting:
    def test_what_is_written_is_read(self, store: Store) -> None:
        with store.writing():
            store.write("a/b.bin", b"\0\1")
            store.write_json("c.json", {"ü": [1, None]})
            store.write_array("d.npy", np.eye(2, dtype=np.float16))
            store.write_table("e.parquet", {"x": np.arange(3), "t": np.array(["a", None, "ü"], object)})
        assert (store.folder / "a/b.bin").read_bytes() == b"\0\1"
        assert store.read_json("c.json") == {"ü": [1, None]}
        assert_array_equal(store.array("d.npy"), np.eye(2))
        table = store.read_table("e.parquet")
        assert table["x"].tolist() == [0, 1, 2] and table["t"].tolist() == ["a", None, "ü"]

    @pytest.mark.parametrize("where", ["os.fsync", "pathlib.Path.replace"])
    def test_a_crash_leaves_the_old_content(self, store: Store, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with store.writing():
            store.write("x", b"old")
        with monkeypatch.context() as broken, pytest.raises(Crash), store.writing():
            broken.setattr(where, crash)
            store.write("x", b"new, and longer")
        assert (store.folder / "x").read_bytes() == b"old"
        with store.writing():
            store.write("x", b"new")
        assert (store.folder / "x").read_bytes() == b"new"

    @pytest.mark.parametrize("where", ["os.fsync", "pathlib.Path.replace"])
    def test_a_crash_leaves_no_new_file(self, store: Store, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as broken, pytest.raises(Crash), store.writing():
            broken.setattr(where, crash)
            store.write("stage/x.npy", b"half")
        assert not (store.folder / "stage/x.npy").exists()

    def test_it_is_on_the_disk_before_it_gets_its_name(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        steps: list[str] = []
        sync, replace = os.fsync, Path.replace
        monkeypatch.setattr(os, "fsync", lambda f: (steps.append("sync"), sync(f))[1])
        monkeypatch.setattr(Path, "replace", lambda a, b: (steps.append("rename"), replace(a, b))[1])
        with store.writing():
            store.write("x", b"1")
        assert steps == ["sync", "rename", "rename"], "the checksum first"

    def test_leftovers_of_a_killed_writer_are_removed(self, store: Store) -> None:
        (store.folder / "tmp").mkdir()
        (store.folder / "tmp/half").write_bytes(b"x" * 1000)
        with store.writing():
            assert not (store.folder / "tmp/half").exists()
            store.write("x", b"1")
        assert sorted(p.name for p in store.folder.iterdir()) == ["lock", "phyla.json", "sums", "x"]

    def test_objects_are_never_pickled(self, store: Store) -> None:
        with pytest.raises(ValueError, match="Object arrays"), store.writing():
            store.write_array("x.npy", np.array([{}], object))
        assert not (store.folder / "x.npy").exists()


class TestDisk:
    @pytest.mark.parametrize(
        "number, message, hint",
        [
            (errno.ENOSPC, "is full", "Free some space"),
            (errno.EDQUOT, "is full", "Free some space"),
            (errno.EROFS, "can't be written to", "copy it"),
            (errno.EACCES, "can't be written to", "copy it"),
            (errno.EIO, "Input/output error", "again"),
        ],
    )
    def test_faults_are_told_plainly(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, number: int, message: str, hint: str
    ) -> None:
        def fail(_: int) -> None:
            raise OSError(number, os.strerror(number))

        with store.writing():
            store.write("x", b"old")
        with monkeypatch.context() as broken, pytest.raises(PhylaError) as told, store.writing():
            broken.setattr(os, "fsync", fail)
            store.write("x", b"new")
        assert message in told.value.message and hint in told.value.hint
        assert str(store.folder) in told.value.message
        assert (store.folder / "x").read_bytes() == b"old"
        with store.writing():  # the lock is free again
            store.write("x", b"new")

    def test_only_a_new_project_can_have_another_name(self, tmp_path: Path) -> None:
        store = Store.create(tmp_path / "new")

        def refused() -> str:
            with pytest.raises(PhylaError, match="can't be written to") as told, store.writing():
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return told.value.hint

        assert refused() == "Name another folder with --project."
        with store.writing():
            store.update_meta()
        assert refused() == "Make it writable, or copy it and go on with the copy."

    def test_a_folder_that_may_not_be_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", fail)
        store = Store.create(tmp_path / "project")
        with pytest.raises(PhylaError, match="can't be written to"), store.writing():
            pytest.fail("it was made")

    def test_it_is_made_when_something_is_written(self, tmp_path: Path) -> None:
        store = Store.create(tmp_path / "deep/project")
        assert not (tmp_path / "deep").exists()
        with store.writing():
            store.update_meta(source="/photos")
        assert Store.open(tmp_path / "deep/project").meta()["source"] == "/photos"

    def test_a_file_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "project").write_text("mine")
        with pytest.raises(PhylaError):
            Store.create(tmp_path / "project")
        assert (tmp_path / "project").read_text() == "mine"


class TestFolder:
    def test_another_folder_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "letter.txt").write_text("dear")
        with pytest.raises(PhylaError, match="is not empty and is no Phyla project"):
            Store.create(tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]

    def test_one_that_was_killed_at_its_start_is_taken(self, tmp_path: Path) -> None:
        (tmp_path / "lock").touch()
        (tmp_path / "tmp").mkdir()
        assert Store.create(tmp_path).meta() == {}

    def test_none_is_there(self, tmp_path: Path) -> None:
        with pytest.raises(PhylaError, match="is no Phyla project") as told:
            Store.open(tmp_path / "nothing")
        assert "phyla sort" in told.value.hint
        assert not (tmp_path / "nothing").exists()

    def test_create_opens_what_is_there(self, store: Store) -> None:
        assert Store.create(store.folder).meta()["source"] == "/photos"

    def test_meta_keeps_what_it_is_not_told_about(self, store: Store) -> None:
        with store.writing():
            store.update_meta(map="map/m")
        assert store.meta() == {"format": FORMAT, "source": "/photos", "map": "map/m"}

    @pytest.mark.parametrize("version", [FORMAT + 1, 99, "2", None])
    @pytest.mark.parametrize("way", [Store.open, Store.create])
    def test_a_future_format_is_refused_with_the_way_out(self, store: Store, version: object, way: object) -> None:
        (store.folder / "phyla.json").write_text(json.dumps({"format": version}))
        with pytest.raises(PhylaError, match=rf"has format {version!r}; .* up to {FORMAT}") as told:
            way(store.folder)  # type: ignore[operator]
        assert "pip install --upgrade phyla" in told.value.hint

    def test_an_older_format_is_brought_forward_by_who_writes(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_files, "FORMAT", FORMAT + 2)
        later = {FORMAT: lambda folder, meta: meta | {"a": 1}, FORMAT + 1: lambda folder, meta: meta | {"b": 2}}
        monkeypatch.setattr(_files, "_MIGRATIONS", later)
        opened = Store.open(store.folder)
        assert opened.meta() == {"format": FORMAT, "source": "/photos"}  # who only looks changes nothing
        with opened.writing():
            pass
        assert opened.meta() == {"format": FORMAT + 2, "source": "/photos", "a": 1, "b": 2}

    @pytest.mark.parametrize("content", ["", "{", "not json", '{"format": 1'])
    def test_a_damaged_phyla_json(self, store: Store, content: str) -> None:
        (store.folder / "phyla.json").write_text(content)
        with pytest.raises(PhylaError, match=r"phyla\.json is damaged") as told:
            Store.open(store.folder)
        assert told.value.hint


class TestArrays:
    @pytest.mark.parametrize("keep", [0, 5, 40, -1])
    @pytest.mark.parametrize("mmap", [False, True])
    def test_a_damaged_array(self, store: Store, keep: int, mmap: bool) -> None:
        path = store.folder / "x.npy"
        np.save(path, np.arange(100.0))
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(PhylaError, match=r"x\.npy is damaged") as told:
            store.array("x.npy", mmap=mmap)
        assert "check" in told.value.hint and "--repair" in told.value.hint

    @pytest.mark.parametrize("content", [b"", b"PAR1", b'{"a": '])
    @pytest.mark.parametrize("name, read", [("x.json", Store.read_json), ("x.parquet", Store.read_table)])
    def test_a_damaged_file(self, store: Store, name: str, read: Callable, content: bytes) -> None:
        (store.folder / name).write_bytes(content)
        with pytest.raises(PhylaError, match=f"{name} is damaged"):
            read(store, name)

    def test_a_pickle_is_not_opened(self, store: Store) -> None:
        path = store.folder / "x.npy"
        np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
        with pytest.raises(PhylaError, match="is damaged"):
            store.array("x.npy")

    def test_a_stage_is_there_when_it_is_finished(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        recipe = Recipe("groups", "vote", {"k": 3})
        with store.writing():
            stage = store.stage(recipe)
        assert stage == f"groups/{recipe.key}"
        assert store.read_json(f"{stage}/recipe.json") == json.loads(recipe.to_json())
        assert store.arrays(stage) is None
        with monkeypatch.context() as broken, pytest.raises(Crash), store.writing():
            write = Store.write

            def last_one_crashes(self: Store, name: str, data: bytes) -> None:
                if name.endswith("done"):
                    raise Crash
                write(self, name, data)

            broken.setattr(Store, "write", last_one_crashes)
            store.finish(stage, {"a": np.arange(2)})
        assert store.arrays(stage) is None
        with store.writing():
            store.finish(stage, {"a": np.arange(2), "n": np.asarray(3)})
        arrays = store.arrays(stage)
        assert arrays is not None and sorted(arrays) == ["a", "n"]
        assert arrays["n"] == 3

    def test_shards_end_at_the_first_that_is_missing(self, store: Store) -> None:
        with store.writing():
            for number in (0, 1, 3):
                store.write(f"s/{number:05}.npy", b"")
        assert store.shards("s", "npy") == ["s/00000.npy", "s/00001.npy"]
        assert store.shards("none", "npy") == []


class TestLog:
    def test_lines_come_back_in_order(self, store: Store) -> None:
        for number in range(3):
            store.append("log", {"seq": number, "name": "zoë\n🙂\u2028"})
        assert store.log("log")[0] == [{"seq": n, "name": "zoë\n🙂\u2028"} for n in range(3)]

    @pytest.mark.parametrize("torn", [b'{"seq": 1', b"{", '{"name": "zo\u00eb'.encode()[:-1]])
    def test_a_torn_last_line_is_dropped(self, store: Store, torn: bytes) -> None:
        store.append("log", {"seq": 0})
        with (store.folder / "log").open("ab") as file:
            file.write(torn)
        assert store.log("log")[0] == [{"seq": 0}]
        store.append("log", {"seq": 1})
        assert store.log("log")[0] == [{"seq": 0}, {"seq": 1}]
        assert (store.folder / "log").read_bytes().count(b"\n") == 2

    def test_a_torn_first_line_is_dropped(self, store: Store) -> None:
        (store.folder / "log").write_bytes(b'{"se')
        assert store.log("log")[0] == []
        store.append("log", {"seq": 0})
        assert store.log("log")[0] == [{"seq": 0}]

    def test_none_is_empty(self, store: Store) -> None:
        assert store.log("log")[0] == []

    def test_a_flipped_bit_is_noticed(self, store: Store) -> None:
        for number in range(3):
            store.append("log", {"seq": number, "name": "zoë"})
        whole = (store.folder / "log").read_bytes()
        assert [line["seq"] for line in store.log("log")[0]] == [0, 1, 2]
        for bit in range(0, 8 * len(whole), 5):
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            (store.folder / "log").write_bytes(flipped)
            try:
                told = store.log("log")[0]
            except PhylaError as fault:
                assert "--repair" in fault.hint
            else:  # a torn last line is no damage: nobody was told that it was written
                assert len(told) == 2 and bit // 8 == len(whole) - 1, bit

    def test_lines_from_before_there_were_checksums(self, store: Store) -> None:
        (store.folder / "log").write_bytes(b'{"seq": 0}\n')
        store.append("log", {"seq": 1})
        assert store.log("log")[0] == [{"seq": 0}, {"seq": 1}]


HOLD = """
import sys, pathlib
from phyla.store import Store
with Store(pathlib.Path(sys.argv[1])).writing():
    (pathlib.Path(sys.argv[1]) / "tmp").mkdir()
    (pathlib.Path(sys.argv[1]) / "tmp" / "half").touch()
    print("held", flush=True)
    sys.stdin.read()
"""


class TestLock:
    @pytest.fixture
    def holder(self, store: Store) -> Iterator[subprocess.Popen]:
        """Another process that writes, until its standard input is closed."""
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(store.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
        process.kill()
        process.communicate()

    def test_a_second_writer_is_refused_and_may_read(self, store: Store, holder: subprocess.Popen) -> None:
        with pytest.raises(PhylaError, match="Another process is working on") as told, store.writing():
            pytest.fail("two writers")
        assert "Wait" in told.value.hint
        assert (store.folder / "tmp/half").exists(), "the refused one swept up the other's work"
        assert Store.open(store.folder).meta()["source"] == "/photos"
        holder.communicate("")
        assert holder.returncode == 0
        with store.writing():
            store.write("x", b"1")

    def test_a_killed_writer_frees_it(self, store: Store, holder: subprocess.Popen) -> None:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with store.writing():
            assert not (store.folder / "tmp/half").exists()
            store.write("x", b"1")
        assert (store.folder / "x").read_bytes() == b"1"

    def test_an_error_inside_frees_it(self, store: Store) -> None:
        with pytest.raises(KeyError), store.writing():
            raise KeyError
        with store.writing():
            pass
