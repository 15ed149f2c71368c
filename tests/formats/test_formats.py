"""Projects that earlier versions wrote open, say the same and go on; those of unknown versions say so.

`NUMBER.zip` is a project of that format: `_make.py` made it with the last code that wrote it. `1.zip`: commit 98d47fa.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from phyla import _tasks
from phyla.cli import main
from phyla.project import Project
from phyla.store import FORMAT
from phyla.types import PhylaError

from _make import URL, told, uri  # isort: skip

HERE = Path(__file__).parent
KEPT = sorted(HERE.glob("*.zip"))
QUICK: dict[str, Any] = {"threads": 1, "report": False}
OTHERS = [99, FORMAT + 1, 0, -1, "1", "2", 1.5, None, [], {}]


class Old:
    """A project of an older format, unpacked; its pictures lie where it looks for them."""

    def __init__(self, archive: Path, folder: Path) -> None:
        with zipfile.ZipFile(archive) as packed:
            self.files = {name: packed.read(name) for name in packed.namelist()}
        self.folder = folder / "project"
        for name, data in self.files.items():
            if name.startswith("project/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
        self.told = json.loads(self.files["told.json"])
        self.pictures = self.files["photos.zip"]
        self._put()

    def _put(self) -> None:
        fsspec.filesystem("memory").pipe("/phyla-formats/photos.zip", self.pictures)

    def add_new(self) -> None:
        """Have the archive hold more pictures."""
        packed = io.BytesIO(self.pictures)
        with zipfile.ZipFile(packed, "a") as archive:
            for name in (name for name in self.files if name.startswith("new/")):
                archive.writestr(name.removeprefix("new/"), self.files[name])
        self.pictures = packed.getvalue()
        self._put()

    def bytes(self) -> dict[str, bytes]:
        return {p.relative_to(self.folder).as_posix(): p.read_bytes() for p in self.folder.rglob("*") if p.is_file()}


@pytest.fixture(params=KEPT, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Old]:
    yield Old(request.param, tmp_path)
    fsspec.filesystem("memory").rm("/phyla-formats", recursive=True)


def same(now: dict[str, Any], then: dict[str, Any], but: tuple[str, ...] = ()) -> None:
    """All that was told then is told now; a later version may tell more."""
    for what in then.keys() - set(but):
        if isinstance(then[what], dict):
            same(now[what], then[what])
        elif what in ("proba", "strength") and isinstance(then[what], list):
            np.testing.assert_allclose(now[what], then[what], rtol=1e-6)
        elif what == "X":
            np.testing.assert_allclose(np.hstack(now[what]), np.hstack(then[what]), rtol=1e-6)
        elif what == "sizes":  # removed images counted among them then
            fewer = [old["images"] - new["images"] for new, old in zip(now[what], then[what], strict=True)]
            assert min(fewer) >= 0 and sum(fewer) <= then["removed"]
            for new, old, gone in zip(now[what], then[what], fewer, strict=True):
                counted = {} if not gone else {"images": new["images"], "strength": new["strength"]}
                assert new == old | counted
        else:
            assert now[what] == then[what], what


def test_every_older_format_is_kept() -> None:
    assert [int(path.stem) for path in KEPT] == list(range(1, FORMAT)), "see _make.py"
    assert all(path.stat().st_size < 150_000 for path in KEPT)


def test_it_says_the_same_and_stays_as_it_is(old: Old) -> None:
    before = old.bytes()
    same(told(Project(old.folder)), old.told)
    assert old.told["findings"] and old.told["show"]["drift"]["added"] and old.told["show"]["spread"]["accepted"]
    assert len({op for _, op, *_ in old.told["edits"]}) > 7
    after = {name: data for name, data in old.bytes().items() if not name.startswith(("near/", "thumbs/"))}
    assert after == before


def test_sorting_again_keeps_everything(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tasks, "open_picture", lambda *_: pytest.fail("it was described before"))
    Project(old.folder).sort(**QUICK)
    same(told(Project(old.folder)), old.told)
    assert json.loads((old.folder / "phyla.json").read_text())["format"] == FORMAT


def test_it_grows(old: Old) -> None:
    old.add_new()
    project = Project(old.folder)
    project.sort(**QUICK)
    rows = project.rows()
    of = dict(zip(rows["uri"].tolist(), rows["group"].tolist(), strict=True))
    was = dict(zip(old.told["rows"]["uri"], old.told["rows"]["group"], strict=True))
    assert {name: of[name] for name in was} == was
    new = {name for name in of if name not in was}
    assert len(new) == 6 and all(of[name] == was[uri(f"{name.partition('#')[2][:-7]}_01")] for name in new)
    same(told(project), old.told, but=("rows", "labels", "show", "X", "classes"))
    assert project.show()["drift"]["added"] == 6


def test_work_goes_on(old: Old, tmp_path: Path) -> None:
    project = Project(old.folder)
    project.name(0, "another")
    project.undo()
    assert [edit.seq for edit in project.edits] == list(range(len(old.told["edits"]) + 2))
    same(told(Project(old.folder)), old.told, but=("edits", "show"))
    project.label({uri("green_06"): "leaves"}, by="ana")
    project.spread(**QUICK)
    assert project.show()["spread"]["edits_since"] == 0
    found = project.audit(**QUICK)["findings"]
    assert any("flat.png" in of for finding in found for of in finding["uris"])
    assert project.search([uri("green_01")], n=5)[0]["uri"].rpartition("#")[2].startswith("green")
    files = len(old.told["rows"]["uri"])
    assert project.export(tmp_path / "out") == files - 2  # one is empty, one removed
    predicted = project.predict(URL, threads=1)
    assert len(predicted["uri"]) == files


def test_grouping_anew(old: Old) -> None:
    project = Project(old.folder)
    project.sort(anew=True, groups=3, **QUICK)
    assert set(project.names.values()) == {'Äpfel / "rot"', "leaves", "sky 🙂"}


def test_check_is_clean(old: Old) -> None:
    for _ in range(2):
        assert not Project(old.folder).check()["faults"]
        Project(old.folder).sort(**QUICK)


# ---- unknown formats


@pytest.fixture
def unknown(project: Project, request: pytest.FixtureRequest) -> Path:
    """A project that says it has some format; without any where it is None."""
    told = json.loads((project.folder / "phyla.json").read_text()) | {"format": request.param}
    if request.param is None:
        del told["format"]
    (project.folder / "phyla.json").write_text(json.dumps(told))
    return project.folder


@pytest.mark.parametrize("unknown", OTHERS, indirect=True, ids=repr)
def test_an_unknown_format_says_so_and_nothing_changes(
    unknown: Path, photos: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = {p: p.read_bytes() for p in unknown.rglob("*") if p.is_file()}
    for argv in (
        ["show", unknown], ["sort", photos, "-o", unknown, "-q"], ["sort", "-o", unknown, "-q"], ["open", unknown],
        ["name", unknown, 0, "x"], ["audit", unknown, "-q"], ["spread", unknown, "-q"],
        ["export", unknown, tmp_path / "x.csv"], ["predict", unknown, photos, "-o", tmp_path / "x.csv", "-q"],
    ):  # fmt: skip
        assert main([str(arg) for arg in argv]) == 2
        out, err = capsys.readouterr()
        first, second = err.splitlines()
        assert not out and first.startswith(f"phyla: {unknown} has format ") and "pip install --upgrade" in second
    with pytest.raises(PhylaError, match=f"reads formats up to {FORMAT}"):
        Project(unknown)
    assert {p: p.read_bytes() for p in unknown.rglob("*") if p.is_file()} == before
    assert not (tmp_path / "x.csv").exists()
