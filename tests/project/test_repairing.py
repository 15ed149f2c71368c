"""What `check` says is so, and what it says it mended is mended; where it can't, what it advises is a way out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phyla import _checking
from phyla._remaking import Remaking
from phyla._sound import unsound
from phyla.cli import main
from phyla.project import Project, sort
from phyla.store import FORMAT, Store
from phyla.types import PhylaError

QUICK: dict[str, Any] = {"threads": 1, "report": False}


@pytest.fixture(scope="module")
def taught(make_photos: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a spread and an audit. To be read only."""
    folder = tmp_path_factory.mktemp("taught")
    made = sort(make_photos(folder / "photos", each=8), folder / "project", backbone=["fake"], groups=3, **QUICK)
    made.draws = False
    for uri in made.images.uris[::4].tolist():
        made.confirm([uri], Path(uri).name.partition("_")[0])
    made.spread(**QUICK)
    made.audit(checks=["duplicates"], **QUICK)
    return made


@pytest.fixture
def copy(taught: Project, tmp_path: Path) -> Path:
    return Path(shutil.copytree(taught.folder, tmp_path / "project"))


@pytest.fixture
def labels(taught: Project, tmp_path: Path) -> Path:
    """A list by which one image is of a class of its own."""
    rows = [f"{uri},{'a' if i else 'b'}\n" for i, uri in enumerate(taught.images.uris.tolist())]
    (tmp_path / "labels.csv").write_text("".join(["uri,label\n", *rows]))
    return tmp_path / "labels.csv"


def check(folder: Path, repair: bool = False) -> dict[str, Any]:
    return _checking.check(folder, repair=repair, threads=1)


def faults(folder: Path, repair: bool = False) -> list[tuple[str, str]]:
    return [(fault["file"], fault["what"]) for fault in check(folder, repair)["faults"]]


class TestASpreadOfOtherGroups:
    """phyla.json still names it after grouping anew; it counts for nothing."""

    def test_it_is_no_fault(self, copy: Path, taught: Project, make_photos: Callable[..., Path]) -> None:
        photos = Path(taught.show()["source"])
        new = make_photos(photos.parent / "new", each=1, start=30)
        added = [Path(shutil.copy(path, photos)) for path in sorted(new.iterdir())]
        try:
            project = Project(copy)
            project.sort(anew=True, backbone=["fake", "fake:turned"], **QUICK)
            meta = project.store.meta()
            assert meta["spread"] and project._spread is None
            assert faults(copy) == []
            (copy / meta["spread"] / "proba.npy").write_bytes(b"?")
            (fault,) = check(copy, repair=True)["faults"]
            assert "nothing in use needs it" in fault["mended"]
            assert faults(copy) == [] and Project(copy).show()["unique"] == 27
        finally:
            for path in added:
                path.unlink()


def forge(folder: Path, name: str, data: bytes) -> None:
    """Replace a file, and make its checksum fit."""
    store = Store(folder)
    with store.writing():
        store.write(name, data)


def spoil(path: Path) -> None:
    """Three bits, so that none is put back."""
    data = bytearray(path.read_bytes())
    for at in (len(data) // 4, len(data) // 2, len(data) * 3 // 4):
        data[at] ^= 1
    path.write_bytes(bytes(data))


def test_what_was_made_again_and_is_no_better_is_not_mended(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spread = Store(copy).meta()["spread"]
    forge(copy, f"{spread}/classes.json", b'["red"]')
    held = {name: (copy / name).read_bytes() for name in (f"{spread}/proba.npy", f"{spread}/done")}
    monkeypatch.setattr(Remaking, "make", lambda self, *of: [self.store.write(*each) for each in held.items()])
    told = check(copy, repair=True)
    (fault,) = told["faults"]
    assert not told["whole"] and not fault["mended"]
    assert "can't be mended: made again it" in fault["what"] and f"phyla spread {copy}" in fault["what"]


class TestBesideAWriter:
    """What another command is about is no fault, and is not mended."""

    def during(self, monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
        """Another command runs once, after the files are listed."""
        lines, to_do = _checking._of_lance, [do]

        def meanwhile(*args: Any) -> Any:
            if to_do:
                to_do.pop()()
            return lines(*args)

        monkeypatch.setattr(_checking, "_of_lance", meanwhile)

    @pytest.mark.parametrize("repair", [False, True])
    def test_an_audit(self, copy: Path, labels: Path, monkeypatch: pytest.MonkeyPatch, repair: bool) -> None:
        self.during(monkeypatch, lambda: Project(copy).audit(labels, checks=["separability"], **QUICK))
        was = Store(copy).meta()["audit"]
        assert faults(copy, repair) == []
        assert was != Store(copy).meta()["audit"] and check(copy)["whole"] and not (copy / "damaged").exists()

    def test_new_groups(self, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.during(monkeypatch, lambda: Project(copy).sort(groups=2, **QUICK))
        assert faults(copy) == []

    def test_it_ends_before_the_repair_begins(self, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        name = next(copy.glob("groups/*/strength_.npy")).relative_to(copy).as_posix()
        before = (copy / name).read_bytes()
        (copy / name).write_bytes(b"half of it")
        content = unsound

        def then(*args: Any) -> Any:
            (copy / name).write_bytes(before)
            return content(*args)

        monkeypatch.setattr("phyla._sound.unsound", then)
        assert faults(copy, repair=True) == [] and not (copy / "damaged").exists()


class TestAnAudit:
    def test_it_is_made_again_as_it_was_asked_for(self, copy: Path, labels: Path) -> None:
        Project(copy).audit(labels, checks=["separability", "imbalance"], **QUICK)
        meta = Store(copy).meta()
        before = (copy / meta["audit"]).read_bytes()
        (copy / meta["audit"]).unlink()
        assert check(copy, repair=True)["whole"]
        assert Store(copy).meta() == meta and (copy / meta["audit"]).read_bytes() == before
        assert json.loads(before)["findings"]

    def test_another_does_not_take_its_place(self, copy: Path, taught: Project) -> None:
        project = Project(copy)
        project.draws = False
        project.audit(checks=["mislabelled"], **QUICK)
        meta = project.store.meta()
        (copy / meta["audit"]).write_bytes(b"{")
        red = [uri for uri in taught.images.uris.tolist() if "red" in uri]
        project.confirm(red[1:3], "blue")
        told = check(copy, repair=True)
        (fault,) = told["faults"]
        assert not told["whole"] and f"phyla audit {copy}" in fault["what"], fault
        assert Store(copy).meta() == meta and (copy / meta["audit"]).read_bytes() == b"{"
        project.audit(**QUICK)
        check(copy, repair=True)
        assert faults(copy) == []


class TestRecipes:
    @pytest.mark.parametrize("cut", [False, True])
    def test_of_the_groups(self, copy: Path, cut: bool) -> None:
        """It can't be known again; what the repair advises is a way out."""
        path = copy / Store(copy).meta()["groups"] / "recipe.json"
        path.write_bytes(path.read_bytes()[:100]) if cut else spoil(path)
        told = check(copy, repair=True)
        assert not told["whole"] and "phyla sort --anew" in told["faults"][0]["what"]
        with pytest.raises(PhylaError):
            Project(copy).sort(groups=3, **QUICK)
        Project(copy).sort(groups=3, anew=True, **QUICK)
        assert Project(copy).show()["groups"] == 3
        assert check(copy, repair=True)["whole"] and check(copy)["whole"]

    @pytest.mark.parametrize("room", ["groups", "spread"])
    def test_what_is_advised_is_a_way_out(self, copy: Path, room: str) -> None:
        (path,) = copy.glob(f"{room}/*/recipe.json")
        path.write_bytes(b"{")
        (fault,) = check(copy, repair=True)["faults"]
        verb = {"spread": ["spread"]}.get(room, ["sort", "--anew", "-o"])
        assert f"phyla {' '.join([*verb, str(copy)])})" in fault["what"]
        assert main([*verb, str(copy), "-q", "--threads", "1"]) == 0
        assert check(copy, repair=True)["whole"] and check(copy)["whole"] and Project(copy).show()["unique"] == 24

    @pytest.mark.parametrize("how", ["cut", "gone"])
    @pytest.mark.parametrize("room", ["features", "reduced", "map"])
    def test_of_what_is_made_as_always(self, copy: Path, room: str, how: str) -> None:
        if room == "map":
            Project(copy).sort(threads=1)
        (path,) = copy.glob(f"{room}/*/recipe.json")
        before = path.read_bytes()
        path.unlink() if how == "gone" else path.write_bytes(before[:100])
        assert [name for name, _ in faults(copy)] == [path.relative_to(copy).as_posix()], "told of once"
        assert check(copy, repair=True)["whole"]
        assert path.read_bytes() == before and check(copy)["whole"]

    @pytest.mark.parametrize("said", [b"junk", b"0" * 32 + b"\n"])
    def test_only_its_checksum(self, copy: Path, said: bytes) -> None:
        for path in copy.glob("sums/*/*/recipe.json"):
            path.write_bytes(said)
        before = {path: path.read_bytes() for path in copy.glob("*/*/recipe.json")}
        told = check(copy, repair=True)
        assert told["whole"] and len(told["faults"]) == len(before)
        assert {path: path.read_bytes() for path in before} == before and check(copy)["whole"]

    def test_a_damaged_one_is_written_again_where_it_is_known(self, copy: Path) -> None:
        store = Store(copy)
        (stage,) = store.meta()["reduced"]
        recipe, before = store.recipe(stage), (copy / stage / "recipe.json").read_bytes()
        (copy / stage / "recipe.json").write_bytes(b"{")
        with store.writing():
            assert store.stage(recipe) == stage
        assert (copy / stage / "recipe.json").read_bytes() == before


class TestPhylaJson:
    def test_only_its_checksum(self, copy: Path) -> None:
        path = copy / "sums/phyla.json"
        path.write_bytes(path.read_bytes()[:10])
        assert faults(copy) == [("sums/phyla.json", "is a damaged checksum")]
        assert check(copy, repair=True)["whole"] and check(copy)["whole"] and not (copy / "damaged/phyla.json").exists()

    def test_neither_it_nor_its_checksum(self, copy: Path) -> None:
        (copy / "sums/phyla.json").write_bytes(b"junk")
        (copy / "phyla.json").write_bytes(b"{")
        before = (copy / "phyla.json").stat()
        told = check(copy, repair=True)
        assert not told["whole"] and all("from a backup" in fault["what"] for fault in told["faults"])
        assert (copy / "phyla.json").stat().st_ino == before.st_ino, "it is left where it lies"

    def test_of_a_newer_format(self, copy: Path) -> None:
        meta = Store(copy).meta()
        forge(copy, "phyla.json", json.dumps(meta | {"format": FORMAT + 1, "groups": {"new": 1}}).encode())
        for repair in (False, True):
            with pytest.raises(PhylaError, match=f"has format {FORMAT + 1}") as fault:
                check(copy, repair)
            assert "--upgrade" in fault.value.hint


def test_a_file_is_no_project(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(PhylaError, match="is no Phyla project"):
        check(tmp_path / "model.onnx")


class TestEdits:
    def test_the_log_is_gone(self, copy: Path, taught: Project) -> None:
        (copy / "edits.jsonl").unlink()
        assert faults(copy) == [("edits.jsonl", "is missing")]
        told = check(copy, repair=True)
        assert told["whole"] and told["faults"][0]["what"].endswith(f"{taught.seq} can't be mended and say nothing now")
        assert [edit.op for edit in Project(copy).edits] == ["lost"] * taught.seq and check(copy)["whole"]

    def test_it_is_cut(self, copy: Path, taught: Project) -> None:
        lines = (copy / "edits.jsonl").read_bytes().splitlines(keepends=True)
        (copy / "edits.jsonl").write_bytes(b"".join(lines[:-2]))
        assert faults(copy) == [("edits.jsonl", f"lacks 2 of {len(lines)} lines")]
        assert check(copy, repair=True)["whole"] and check(copy)["whole"]
        assert Project(copy).edits[:-2] == taught.edits[:-2] and Project(copy).seq == taught.seq

    def test_lines_between_are_gone(self, copy: Path, taught: Project) -> None:
        lines = (copy / "edits.jsonl").read_bytes().splitlines(keepends=True)
        (copy / "edits.jsonl").write_bytes(b"".join([*lines[:1], *lines[3:]]))
        assert faults(copy) == [("edits.jsonl", f"lacks 2 of {len(lines)} lines")]
        assert check(copy, repair=True)["whole"] and check(copy)["whole"]
        now = Project(copy).edits
        assert [edit.op for edit in now[1:3]] == ["lost"] * 2 and now[3:] == taught.edits[3:]

    def test_of_a_stranger_who_counts_far(self, copy: Path) -> None:
        forge(copy, "phyla.json", json.dumps(Store(copy).meta() | {"audit_edits": 2**50}).encode())
        told = check(copy, repair=True)
        assert not told["whole"] and "can't be mended" in told["faults"][0]["what"]
        assert (copy / "edits.jsonl").stat().st_size < 10_000 and "from a backup" in told["faults"][0]["what"]
