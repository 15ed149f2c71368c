"""Told to stop, no room, no right to write, files that go, change or never come: it is said, and nothing is lost."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import _killed
import pytest

from phyla import _steps, sources
from phyla.cli import main
from phyla.project import Project, sort
from phyla.sources import _waiting
from phyla.types import PhylaError

STOPPED = "phyla: stopped. The same command goes on where it was."
HERE = Path(__file__).parent
QUICK: dict[str, Any] = {"backbone": ["fake"], "groups": 3, "threads": 1, "report": False}
Paint = Callable[[Path, str, int], None]


@pytest.fixture
def paint(make_photos: Callable[..., Path], tmp_path: Path) -> Paint:
    """(path, colour, number): write the picture `number` of a colour."""

    def write(path: Path, colour: str, number: int) -> None:
        made = make_photos(tmp_path / "painted", each=1, colours=(colour,), start=number)
        shutil.copyfile(made / f"{colour}_{number:03}.png", path)

    return write


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    _killed.small_shards(monkeypatch.setattr)


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([str(HERE.parent / "plugin"), *(p for p in sys.path if p)])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | more


def content(folder: Path) -> dict[str, bytes]:
    there = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "lock")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in there}


class Child:
    """A command in a process of its own, and what it says on stderr as it comes."""

    def __init__(self, *argv: Any, **more: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *map(str, argv)], env=environment(**more), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.said = ""

    def until(self, is_time: Callable[[], bool], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not is_time():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end, "it never came"
            time.sleep(0.02)

    def hear(self, word: str) -> None:
        assert self.process.stderr
        while word not in self.said:
            line = self.process.stderr.readline()
            assert line, self.said
            self.said += line

    def stop(self, number: int) -> tuple[int, str]:
        """Its exit status, and all that it said."""
        self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=30)
        return self.process.returncode, self.said + rest


class TestStop:
    """SIGTERM stops as Ctrl-C does."""

    @pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_sort(self, photos: Path, tmp_path: Path, number: int, status: int) -> None:
        folder = tmp_path / "project"
        run = "import sys, _killed; from phyla.cli import run; _killed.small_shards(setattr); run()"
        child = Child(
            "-c", run, "sort", photos, "-o", folder, "--backbone", "fake", "-k", 3, "--threads", 2, "--no-report",
            PHYLA_FAKE_SECONDS="0.05",
        )  # fmt: skip
        shards = lambda: [p for p in folder.glob("features/*/*.npy") if ".ids" not in p.name]  # noqa: E731
        child.until(lambda: len(shards()) > 1)
        told, said = child.stop(number)
        assert told == status and said.splitlines()[-1] == STOPPED
        assert "Traceback" not in said
        kept = shards()
        assert not (folder / "tmp").exists() and len(kept) < 8
        before = {p: p.stat().st_mtime_ns for p in kept}
        sort(photos, folder, **QUICK)
        assert {p: p.stat().st_mtime_ns for p in kept} == before, "finished shards stay"
        whole = sort(photos, tmp_path / "whole", **QUICK).folder
        assert content(folder) == content(whole)

    def test_predict(self, project: Project, photos: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.csv"
        argv = ("predict", project.folder, photos, "-o", out)
        child = Child("-m", "phyla", *argv, PHYLA_FAKE_SECONDS="0.1")
        child.hear("looking")
        assert child.stop(signal.SIGTERM)[0] == 143
        assert not out.exists() and not list(tmp_path.glob(".*")), "nothing half written"
        assert main([*map(str, argv), "-q"]) == 0 and len(out.read_text().splitlines()) == 121

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_the_page(self, project: Project, number: int) -> None:
        child = Child("-m", "phyla", "open", project.folder, "--no-browser")
        assert child.process.stdout and child.process.stdout.readline().startswith("Open http://127")
        time.sleep(0.5)
        told, said = child.stop(number)
        assert (told, said) == (0, "")

    def test_a_second_time_it_ends_at_once(self, project: Project) -> None:
        wait = (
            "import sys, time; from phyla import cli\n"
            "def show(args):\n"
            "    try:\n        print('here', file=sys.stderr, flush=True); time.sleep(60)\n"
            "    finally:\n        print('tidying', file=sys.stderr, flush=True); time.sleep(60)\n"
            "cli._show = show; cli.run()"
        )
        child = Child("-c", wait, "show", project.folder)
        child.hear("here")
        child.process.send_signal(signal.SIGINT)
        child.hear("tidying")
        assert child.stop(signal.SIGTERM) == (143, "here\ntidying\n")

    def test_handlers_are_as_they_were(self, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        assert main(["show", str(project.folder)]) == 0
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


# ---- the disk


class Disk:
    """A small file system of its own, how much of it is free, and whether it can be written to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def leave(self, free: int) -> None:
        """Fill it up but for `free` bytes."""
        self.empty()
        room = os.statvfs(self.path)
        with (self.path / "ballast").open("wb") as file, suppress(OSError):
            file.write(bytes(max(room.f_bavail * room.f_frsize - free, 0)))

    def empty(self) -> None:
        (self.path / "ballast").unlink(missing_ok=True)

    def protect(self, is_protected: bool) -> None:
        mode = "ro" if is_protected else "rw"
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.path)], check=True)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    path = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small file system can't be mounted here: it takes root on Linux")
    yield Disk(path)
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def on_disk(disk: Disk, sorted_project: Project) -> Iterator[Project]:
    """A copy of the small project on the small disk."""
    yield Project(shutil.copytree(sorted_project.folder, disk.path / "project"))
    disk.protect(False)
    for path in disk.path.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


class TestFullDisk:
    def test_sort_at_any_point(self, disk: Disk, photos: Path, tmp_path: Path) -> None:
        whole = content(sort(photos, tmp_path / "whole", **QUICK).folder)
        size = sum(-(-len(data) // 4096) * 4096 for data in whole.values())
        told = set()
        for part in (0.0, 0.2, 0.5, 0.8, 0.95):
            folder = disk.path / f"project{part}"
            disk.leave(int(part * size))
            with pytest.raises(PhylaError) as full:
                sort(photos, folder, **QUICK)
            told.add(full.value.message)
            assert "Free some space" in full.value.hint
            assert not (folder / "tmp").exists()
            disk.empty()
            again = Project(folder, create=True)
            again.sort(photos, **QUICK)
            assert content(folder) == whole, "what is there was whole"
            shutil.rmtree(folder)
        assert all("is full" in message for message in told)

    @pytest.mark.parametrize("suffix", [".csv", ".parquet", ""])
    def test_export(self, disk: Disk, on_disk: Project, tmp_path: Path, suffix: str) -> None:
        to = disk.path / f"out{suffix}"
        disk.leave(0)
        with pytest.raises(PhylaError, match="is full"):
            on_disk.export(to, copy=not suffix)
        assert {p.name for p in disk.path.iterdir()} == {"ballast", "project"}, "nothing half written"
        disk.empty()
        assert on_disk.export(to, copy=not suffix) == 120
        assert {p.name for p in disk.path.iterdir()} == {"project", to.name}

    def test_predict(self, disk: Disk, on_disk: Project, photos: Path) -> None:
        disk.leave(4096)
        with pytest.raises(PhylaError, match=r"out\.csv is full"):
            on_disk.predict(photos, disk.path / "out.csv")
        assert {p.name for p in disk.path.iterdir()} == {"ballast", "project"}
        disk.empty()
        on_disk.predict(photos, disk.path / "out.csv")
        assert len((disk.path / "out.csv").read_text().splitlines()) == 121

    def test_edits(self, disk: Disk, on_disk: Project) -> None:
        on_disk.draws = False
        on_disk.name(0, "before")
        disk.leave(0)
        ids = on_disk.images.ids[:100].tolist()
        with pytest.raises(PhylaError, match="is full"):
            for _ in range(100):
                on_disk.say("confirm", ids, "during")
        said = len(Project(on_disk.folder).edits)
        disk.empty()
        again = Project(on_disk.folder)
        again.name(1, "after")
        assert [e.seq for e in Project(on_disk.folder).edits] == list(range(said + 1))
        assert again.names == {0: "before", 1: "after"} or "before" in again.names.values()

    def test_what_is_only_kept_to_be_quick(self, disk: Disk, on_disk: Project) -> None:
        from starlette.testclient import TestClient

        from phyla.app import application

        disk.leave(0)
        with TestClient(application(on_disk, token="t" * 20, hosts=["h"]), base_url="http://h") as page:
            page.get("/", params={"token": "t" * 20})
            assert page.get("/thumb/3").status_code == 200
            assert page.get("/api/tree").status_code == 200
        found = on_disk.search([str(on_disk.images.uris[0])], n=3)
        assert len(found) == 3 and not list(on_disk.folder.glob("near/*"))


class TestReadOnly:
    def test_all_that_only_reads_works(self, disk: Disk, on_disk: Project, photos: Path, tmp_path: Path) -> None:
        from starlette.testclient import TestClient

        from phyla.app import application

        told = on_disk.show()
        vectors = on_disk.folder / "near" / f"{on_disk._name_of_vectors}.npy"
        vectors.parent.mkdir(exist_ok=True)
        vectors.write_bytes(b"no array")
        disk.protect(True)
        project = Project(on_disk.folder)
        assert project.show() == told
        assert project.export(tmp_path / "out.csv") == 120
        assert len(project.predict(photos)["uri"]) == 120
        assert len(project.suggest(3)) == 3 and len(project.search([str(project.images.uris[0])], n=3)) == 3
        with TestClient(application(project, token="t" * 20, hosts=["h"]), base_url="http://h") as page:
            page.get("/", params={"token": "t" * 20})
            assert page.get("/api/summary").json()["images"] == 120 and page.get("/thumb/3").status_code == 200
            assert page.get("/api/tree").status_code == 200
            said = page.post("/api/edits", json={"op": "name", "group": 0, "name": "x"}, headers={"Origin": "http://h"})
            assert said.status_code == 400 and "can't be written to" in said.json()["error"]

    @pytest.mark.parametrize("verb", ["name 0 x", "spread", "audit", "sort", "train", "export out.csv", "predict"])
    def test_what_writes_says_so(
        self, disk: Disk, on_disk: Project, photos: Path, verb: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        on_disk.draws = False
        on_disk.confirm([str(on_disk.images.uris[0])], "one")
        on_disk.confirm([str(on_disk.images.uris[90])], "two")
        verb, *more = verb.split()
        argv = [verb, str(on_disk.folder), *more]
        if verb == "sort":
            argv = ["sort", "-q", "--anew", "-o", str(on_disk.folder)]
        if verb in ("export", "predict"):
            to = str(disk.path / "out.csv")
            argv = [verb, str(on_disk.folder), *([str(photos), "-o"] * (verb == "predict")), to]
        before = content(on_disk.folder)
        disk.protect(True)
        capsys.readouterr()
        assert main(argv) == 2
        what, hint = [line for line in capsys.readouterr().err.splitlines() if "skipped" not in line][-2:]
        way_out = "Give another name." if verb in ("export", "predict") else "Make it writable, or copy it"
        assert "can't be written to" in what and hint.strip().startswith(way_out)
        assert content(on_disk.folder) == before

    def test_by_permissions(self, project: Project, photos: Path, tmp_path: Path) -> None:
        if sys.platform != "linux":
            pytest.skip("root minds permissions only where it can lay down its powers")
        import ctypes

        libc = ctypes.CDLL(None)
        quick = ("--backbone", "fake", "-k", 1, "--no-report", "-q")

        def humbly() -> None:
            for power in (1, 2):  # to write, and to read, whatever the permissions: root's alone
                libc.prctl(24, power, 0, 0, 0)

        def run(*argv: Any) -> tuple[int, str, str]:
            command = [sys.executable, "-m", "phyla", *map(str, argv)]
            done = subprocess.run(command, env=environment(), text=True, capture_output=True, preexec_fn=humbly)
            assert "Traceback" not in done.stderr
            return done.returncode, done.stdout, done.stderr

        denied = tmp_path / "denied"
        denied.mkdir()
        for name, photo in zip("ab", sorted(photos.iterdir())[::50], strict=False):
            shutil.copyfile(photo, denied / f"{name}.png")
        folders = [project.folder, *(p for p in project.folder.rglob("*") if p.is_dir())]
        (denied / "b.png").chmod(0)
        try:
            for folder in folders:
                folder.chmod(0o500)
            status, out, _ = run("show", project.folder)
            assert status == 0 and "120 files" in out
            status, _, err = run("name", project.folder, 0, "x")
            assert status == 2 and "can't be written to" in err
            status, out, _ = run("sort", denied, "-o", tmp_path / "p", *quick)
            assert status == 0 and "b.png (permission denied)" in out
            denied.chmod(0)
            status, _, err = run("sort", denied, "-o", tmp_path / "q", *quick)
            assert status == 2 and "permission denied" in err.lower()
        finally:
            for folder in (*folders, denied):
                folder.chmod(0o700)


# ---- the source


class TestChanging:
    @pytest.fixture
    def own(self, make_photos: Callable[..., Path], tmp_path: Path) -> Path:
        return make_photos(tmp_path / "own", each=12)

    def test_gone_after_it_was_listed(self, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        listed = sources.listed

        def then_gone(source: Any) -> Any:
            entries = listed(source)
            (own / "red_003.png").unlink()
            return entries

        monkeypatch.setattr(sources, "listed", then_gone)
        told = sort(own, tmp_path / "p", **QUICK).show()
        assert told["unreadable_files"] == [{"uri": str(own / "red_003.png"), "reason": "missing"}]
        monkeypatch.undo()
        _killed.small_shards(monkeypatch.setattr)
        assert sort(own, tmp_path / "p", **QUICK).show()["images"] == 35

    @pytest.mark.parametrize("change", ["gone", "other"])
    def test_between_reading_and_looking(
        self, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, paint: Paint
    ) -> None:
        """Nothing false is kept of it: neither that it is broken, nor what lay there later for what lay there first."""
        path = own / "red_003.png"
        kept, scanned = path.read_bytes(), _steps.Steps.scan

        def then_changed(self: Any, source: Any) -> Any:
            table = scanned(self, source)
            path.unlink() if change == "gone" else paint(path, "blue", 99)
            return table

        with monkeypatch.context() as patch:
            patch.setattr(_steps.Steps, "scan", then_changed)
            told = sort(own, tmp_path / "p", **QUICK).show()
        why = "No such file or directory" if change == "gone" else "it changed meanwhile"
        assert told["unreadable_files"] == [{"uri": str(path), "reason": f"not read: {why}"}]
        path.write_bytes(kept)
        project = sort(own, tmp_path / "p", **QUICK | {"anew": True})
        fresh = sort(own, tmp_path / "fresh", **QUICK)
        assert project.show()["unreadable"] == 0
        assert (project.X == fresh.X).all(), "described as if nothing had been"

    def test_other_pictures_under_old_names(
        self, own: Path, tmp_path: Path, paint: Paint, capsys: pytest.CaptureFixture[str]
    ) -> None:
        project = sort(own, tmp_path / "p", **QUICK)
        assert project.show()["changed"] == 0
        project.confirm([str(own / "red_001.png")], "red")
        for number, name in enumerate(("red_001.png", "blue_002.png", "green_003.png")):
            paint(own / name, "red", 50 + number)
            os.utime(own / name, (1, 1 + number))  # the clock may be coarse
        argv = ["sort", "-o", str(project.folder), "--no-report", "-q", "--backbone", "fake", "--threads", "1"]
        assert main(argv) == 0
        assert "3 files changed since the last time, and looked at anew." in capsys.readouterr().out
        project = Project(project.folder)
        fresh = sort(own, tmp_path / "fresh", **QUICK)
        assert sorted(project.images.ids) == sorted(fresh.images.ids), "the bytes that lie there now"
        rows = {
            Path(uri).name: int(group) for uri, group in zip(project.images.uris, project.grouping.best, strict=True)
        }
        assert rows["blue_002.png"] == rows["green_003.png"] == rows["red_000.png"] != rows["blue_000.png"]
        assert "person" not in project.rows()["origin"], "it was said of another picture"
        assert main(argv) == 0 and "changed" not in capsys.readouterr().out

    def test_an_audit_does_not_measure_another_picture(self, own: Path, tmp_path: Path, paint: Paint) -> None:
        project = sort(own, tmp_path / "p", **QUICK)
        paint(own / "red_001.png", "blue", 77)
        with pytest.raises(PhylaError, match=r"red_001\.png can't be read any more: it changed"):
            project.audit()

    def test_one_picture_is_gone_when_all_are_copied(self, own: Path, tmp_path: Path, caplog: Any) -> None:
        project = sort(own, tmp_path / "p", **QUICK)
        (own / "red_001.png").unlink()
        assert project.export(tmp_path / "out", copy=True) == 35
        assert "red_001.png can't be read any more" in caplog.text


class TestSilence:
    """A source that gives nothing."""

    def test_it_is_told_and_goes_on(
        self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = type(sources.open_source(photos))
        read, gate = folder.read, threading.Event()

        def slowly(self: Any, uri: str) -> bytes:
            if uri.endswith("red_007.png"):
                assert gate.wait(20)
            return bytes(read(self, uri))

        class Hears(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                gate.set()

        monkeypatch.setattr(_waiting, "SILENCE", 0.2)
        monkeypatch.setattr(folder, "read", slowly)
        logging.getLogger("phyla").addHandler(hears := Hears())
        try:
            assert sort(photos, tmp_path / "p", **QUICK).show()["images"] == 120
        finally:
            logging.getLogger("phyla").removeHandler(hears)
        assert "red_007.png has given nothing for" in caplog.text
        assert not _waiting._underway

    @pytest.mark.parametrize(
        "what, named", [("read", "_007.png has given nothing"), ("find", "stall://photos has given")]
    )
    def test_it_can_be_interrupted(self, photos: Path, tmp_path: Path, what: str, named: str) -> None:
        argv = ("sort", "stall://photos", "-o", tmp_path / "p", "--backbone", "fake", "-q")
        child = Child(HERE / "_stalling.py", *argv, STALL=what, PHOTOS=str(photos))
        child.hear(named)
        told, said = child.stop(signal.SIGINT)
        assert told == 130 and STOPPED in said.splitlines() and "Traceback" not in said
