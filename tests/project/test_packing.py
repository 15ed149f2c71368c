"""Collections for other tools: their layouts as those tools document them, and that nothing is lost in writing them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from phyla import _export, _packing, sources
from phyla.cli import main
from phyla.project import Project, sort
from phyla.types import PhylaError

QUICK: dict[str, Any] = {"backbone": ["fake"], "groups": 3, "threads": 1, "report": False}
KINDS = {"out.parquet": {"images": True}, "wd": {"kind": "webdataset"}, "fo": {"kind": "fiftyone"}}
try:
    import lance
except ImportError:
    lance = None
else:
    KINDS["out.lance"] = {"images": True}
needs_lance = pytest.mark.skipif(lance is None, reason="needs the package pylance: pip install 'phyla[lance]'")
kinds = pytest.mark.parametrize("name", KINDS)


@pytest.fixture(scope="module")
def mixed(make_photos: Callable, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """10 pictures of each of 3 colours and a copy; one is removed, one unreadable, some are left out, reds are named.

    To be read only.
    """
    place = tmp_path_factory.mktemp("mixed")
    folder = make_photos(place / "photos", each=10)
    shutil.copyfile(folder / "red_000.png", folder / "red_copy.png")
    (folder / "empty.png").touch()
    project = sort(folder, place / "p", **QUICK)
    strength = np.sort(project.grouping.strength)
    project.sort(agreement=float(strength[4] + strength[5]) / 2, **QUICK)
    rows = project.rows()
    red = int(rows["group"][rows["uri"].tolist().index(str(folder / "red_001.png"))])
    project.name(red, "äpples / pears")
    project.remove([str(folder / "blue_003.png")])
    return project


@pytest.fixture(scope="module")
def wanted(mixed: Project) -> dict[str, tuple[str, bytes, str | None]]:
    """Of each image that is to be exported: uri → id, bytes, and class (None where it was left out)."""
    rows, told = mixed.rows(), {}
    for uri, group, name, out, origin in zip(
        *(rows[c].tolist() for c in ("uri", "group", "name", "left_out", "origin")), strict=True
    ):
        if group >= 0 and origin != "removed":
            data = Path(uri).read_bytes()
            told[uri] = sources.id_of(data), data, None if out else name or f"group {group}"
    assert len(told) == 30 and {of for _, _, of in told.values()} > {None, "äpples / pears"}
    return told


def class_of(code: int, classes: list[str]) -> str | None:
    return None if code == -1 else classes[code]


class TestWebDataset:
    def test_layout(self, mixed: Project, wanted: dict, tmp_path: Path) -> None:
        assert mixed.export(tmp_path / "wd", kind="webdataset") == 30
        classes = json.loads((tmp_path / "wd/dataset.json").read_text("utf-8"))["classes"]
        assert classes[0] == "äpples / pears" and classes[1:] == sorted(classes[1:])
        with tarfile.open(tmp_path / "wd/wd-000000.tar") as tar:
            members = [(m.name, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]
        assert [name for name, _ in members[:4]] == [
            "000000000.png",
            "000000000.cls",
            "000000000.json",
            "000000001.png",
        ]
        found = {}
        for (image, data), (_, code), (_, told) in zip(*(members[i::3] for i in range(3)), strict=True):
            row = json.loads(told)
            assert image.endswith(".png") and row["left_out"] is (code == b"-1")
            found[row["uri"]] = row["id"], data, class_of(int(code), classes)
        assert found == wanted

    def test_shards_are_bounded(
        self, mixed: Project, wanted: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_packing, "_SHARD", 20_000)
        mixed.export(tmp_path / "a {b}::c", kind="webdataset")
        names = sorted(os.listdir(tmp_path / "a {b}::c"))
        assert names[:2] == ["a_b_c-000000.tar", "a_b_c-000001.tar"] and len(names) > 5
        keys = []
        for name in names[:-1]:  # the last is dataset.json
            with tarfile.open(tmp_path / "a {b}::c" / name) as tar:
                keys.append(tar.getnames())
        assert all(len(shard) % 3 == 0 for shard in keys), "an image lies in one shard"
        assert len({key for shard in keys for key in shard}) == 3 * len(wanted)
        assert all(os.path.getsize(tmp_path / "a {b}::c" / name) < 2 * 20_000 for name in names)


def test_parquet_as_hugging_face_reads_it(
    mixed: Project, wanted: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_packing, "_GROUP", 10_000)
    out = tmp_path / "out.parquet"
    assert mixed.export(out, images=True) == 30
    file = pq.ParquetFile(out)
    features = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == file.schema_arrow.names and features["image"] == {"_type": "Image"}
    classes = features["label"]["names"]
    rows = file.read().to_pylist()
    assert {r["uri"]: (r["id"], r["image"]["bytes"], class_of(r["label"], classes)) for r in rows} == wanted
    assert {Path(r["uri"]).name for r in rows} == {r["image"]["path"] for r in rows}
    sizes = [file.metadata.row_group(i).column(0).total_uncompressed_size for i in range(file.num_row_groups)]
    assert len(sizes) > 3 and max(sizes) < 12_000
    # And Phyla reads it back, with its classes.
    source = sources.open_source(out)
    labels = source.labels()  # type: ignore[attr-defined]
    again = [(source.read(e.uri), labels.get(e.uri)) for e in source.entries()]
    assert sorted(again, key=repr) == sorted([(data, of) for _, data, of in wanted.values()], key=repr)


class TestFiftyOne:
    @pytest.mark.parametrize("copy", [False, True])
    def test_layout(self, mixed: Project, wanted: dict, tmp_path: Path, copy: bool) -> None:
        assert mixed.export(tmp_path / "fo", kind="fiftyone", copy=copy) == 30
        told = json.loads((tmp_path / "fo/labels.json").read_text("utf-8"))
        # As FiftyOne's importer does: a file is known by its name without the suffix.
        files = {os.path.splitext(path.name)[0]: path for path in (tmp_path / "fo/data").iterdir()}
        assert len(files) == 30 and files.keys() == told["labels"].keys()
        for key, path in files.items():
            assert path.is_symlink() is not copy
            target, uri = told["labels"][key], next(u for u in wanted if Path(u).name == path.name)
            assert path.read_bytes() == wanted[uri][1]
            assert (target and told["classes"][target["label"]]) == wanted[uri][2]
            assert target is None or (target["attributes"]["uri"] == uri and 0 <= target["confidence"] <= 1)

    def test_members_that_look_alike(self, photos: Path, tmp_path: Path) -> None:
        paths = sorted(photos.iterdir())[::10]
        with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
            for number, path in enumerate(paths):
                leaf = ("../../a.png", "b/A.PNG", "c/a.jpg", "up..", "x\\y:z", "n\nl.png")[number % 6]
                archive.write(path, leaf + "#" * (number // 6))
        project = sort(tmp_path / "photos.zip", tmp_path / "p", **QUICK)
        assert project.export(tmp_path / "deep/fo", kind="fiftyone") == 12
        files = list((tmp_path / "deep/fo/data").iterdir())
        assert len({os.path.splitext(f.name)[0].casefold() for f in files}) == 12
        assert sorted(f.read_bytes() for f in files) == sorted(p.read_bytes() for p in paths)
        assert not any(f.is_symlink() for f in files) and os.listdir(tmp_path / "deep") == ["fo"]


@needs_lance
class TestLance:
    def test_rows_and_vectors(self, mixed: Project, wanted: dict, tmp_path: Path) -> None:
        assert mixed.export(tmp_path / "out.lance", images=True) == 30
        data = lance.dataset(str(tmp_path / "out.lance"))
        classes = json.loads(data.schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
        rows = data.to_table().to_pylist()
        assert {r["uri"]: (r["id"], r["image"]["bytes"], class_of(r["label"], classes)) for r in rows} == wanted
        stage = mixed.folder / mixed.store.meta()["features"][0]
        held = dict(zip(np.load(stage / "00000.ids.npy").astype(str), np.load(stage / "00000.npy"), strict=True))
        for row in rows:
            np.testing.assert_array_equal(row["fake"], held[row["id"]])
        (nearest,) = data.to_table(nearest={"column": "fake", "q": rows[7]["fake"], "k": 1}, columns=["id"]).to_pylist()
        assert nearest["id"] == rows[7]["id"]

    def test_another_version(self, mixed: Project, tmp_path: Path) -> None:
        mixed.export(tmp_path / "out.lance")
        with pytest.raises(PhylaError, match="is there already"):
            mixed.export(tmp_path / "out.lance")
        (left := tmp_path / ".out.lance.phyla").mkdir()  # by a run that was killed when all was there but this
        mixed.export(tmp_path / "out.lance", images=True, force=True)
        assert not left.exists()
        assert "image" in lance.dataset(str(tmp_path / "out.lance")).schema.names
        assert "image" not in lance.dataset(str(tmp_path / "out.lance"), version=1).schema.names


def test_without_the_package_it_says_what_to_install(
    mixed: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(PhylaError, match="Lance needs the package pylance") as told:
        mixed.export(tmp_path / "out.lance")
    assert told.value.hint == "pip install 'phyla[lance]'" and not os.listdir(tmp_path)


class TestNothingIsLost:
    @pytest.mark.parametrize("name", [name for name in KINDS if name != "out.lance"])
    def test_equal_bytes_again(self, mixed: Project, tmp_path: Path, name: str) -> None:
        def content(path: Path) -> dict[str, bytes]:
            files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
            return {p.relative_to(tmp_path / path.parts[-2]).as_posix(): p.read_bytes() for p in files}

        for turn in ("a", "b"):
            mixed.export(tmp_path / turn / name, **KINDS[name])
        assert content(tmp_path / "a" / name) == content(tmp_path / "b" / name)

    @kinds
    def test_nothing_is_overwritten_unasked(self, mixed: Project, tmp_path: Path, name: str) -> None:
        mixed.export(tmp_path / name, **KINDS[name])
        before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        with pytest.raises(PhylaError, match="is there already") as told:
            mixed.export(tmp_path / name, **KINDS[name])
        assert "--force" in told.value.hint
        assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
        assert mixed.export(tmp_path / name, force=True, **KINDS[name]) == 30

    @pytest.mark.parametrize("name", ["wd", "fo"])
    @pytest.mark.parametrize("mine", ["mine.txt", "labels/mine.txt"])
    def test_a_folder_with_more_in_it_stays(self, mixed: Project, tmp_path: Path, name: str, mine: str) -> None:
        for first in (True, False):  # the folder of somebody, and one where something was added
            folder = tmp_path / str(first)
            if not first:
                mixed.export(folder, **KINDS[name])
            (folder / mine).parent.mkdir(parents=True, exist_ok=True)
            (folder / mine).write_text("mine")
            with pytest.raises(PhylaError, match="holds more than an export wrote"):
                mixed.export(folder, force=True, **KINDS[name])
            assert (folder / mine).read_text() == "mine"

    @pytest.mark.parametrize("name, options", [("t.parquet", {"images": True}), ("t.parquet", {}), ("", KINDS["wd"])])
    def test_the_source_is_never_replaced(self, mixed: Project, tmp_path: Path, name: str, options: dict) -> None:
        mixed.export(tmp_path / "data/t.parquet", images=True)
        project = sort(tmp_path / "data", tmp_path / "p", **QUICK)
        before = (tmp_path / "data/t.parquet").read_bytes()
        (tmp_path / "link").symlink_to(tmp_path / "data")
        for place in ("data", "link"):
            with pytest.raises(PhylaError, match="what the project was sorted from"):
                project.export(tmp_path / place / name, force=True, **options)
        assert (tmp_path / "data/t.parquet").read_bytes() == before and os.listdir(tmp_path / "data") == ["t.parquet"]

    @kinds
    @pytest.mark.parametrize("change", ["gone", "changed"])
    def test_an_image_that_is_not_what_was_sorted(self, mixed: Project, tmp_path: Path, name: str, change: str) -> None:
        options = KINDS[name] | ({"copy": True} if name == "fo" else {})
        project = Project(shutil.copytree(mixed.folder, tmp_path / "p"))
        uri = next(u for u in project.rows()["uri"] if u.endswith("green_005.png"))
        read = sources.open_source(Path(uri).parent).read

        def changed(self: object, asked: str) -> bytes:
            if asked != uri:
                return read(asked)
            if change == "gone":
                raise FileNotFoundError(2, "No such file")
            return read(asked) + b" "

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(sources.open_source(Path(uri).parent)), "read", changed)
            with pytest.raises(PhylaError, match=r"can't be read any more|no longer the image") as told:
                project.export(tmp_path / "out" / name, **options)
        assert "phyla sort" in told.value.hint and os.listdir(tmp_path / "out") == []

    @kinds
    def test_killed_on_the_way(self, mixed: Project, tmp_path: Path, name: str) -> None:
        code = (
            "import os, sys\nsys.path.insert(0, sys.argv[3])\nfrom phyla import _packing, sources\n"
            "from phyla.project import Project\n_packing._GROUP = _packing._SHARD = 3000\n"
            "seen, read = [], _packing._read\n"
            "def dying(*args):\n    seen.append(1)\n    if len(seen) > 15:\n        os.kill(os.getpid(), 9)\n"
            "    return read(*args)\n_packing._read = dying\n"
            f"Project(sys.argv[1]).export(sys.argv[2], copy={name == 'fo'}, **{KINDS[name]!r})\n"
        )
        plugin = str(Path(__file__).parents[1] / "plugin")
        argv = [sys.executable, "-c", code, str(mixed.folder), str(tmp_path / name), plugin]
        assert subprocess.run(argv, capture_output=True).returncode == -9
        (left,) = os.listdir(tmp_path)
        assert left == f".{name}.phyla"
        mixed.export(tmp_path / name, **KINDS[name])
        assert os.listdir(tmp_path) == [name]

    def test_another_process_at_work_is_left_alone(self, mixed: Project, tmp_path: Path) -> None:
        with _export.put_at(tmp_path / "wd") as aside:
            aside.mkdir()
            (aside / "1.tar").write_text("half")
            with pytest.raises(PhylaError, match="Another process is writing"):
                mixed.export(tmp_path / "wd", kind="webdataset")
            assert os.listdir(aside) == ["1.tar"]
        assert os.listdir(tmp_path) == ["wd"]

    def test_killed_between_the_last_two_steps(self, tmp_path: Path) -> None:
        (tmp_path / ".wd.phyla/old").mkdir(parents=True)
        (tmp_path / ".wd.phyla/old/1.tar").write_text("was there")
        (tmp_path / ".wd.phyla/new").write_text("")
        with pytest.raises(ZeroDivisionError), _export.put_at(tmp_path / "wd") as aside:
            assert not aside.exists()
            raise ZeroDivisionError
        assert os.listdir(tmp_path) == ["wd"] and (tmp_path / "wd/1.tar").read_text() == "was there"


class TestRefused:
    @pytest.mark.parametrize(
        "name, options, match",
        [
            ("x", {"kind": "coco"}, "no export to 'coco'"),
            ("x", {"kind": "parquet"}, "does not end in .parquet"),
            ("x.csv", {"kind": "webdataset"}, "ends in .csv"),
            ("x.parquet", {"kind": "csv"}, "ends in .parquet"),
            ("x.csv", {"images": True}, "no use of --images"),
            ("x", {"images": True}, "no use of --images"),
            ("x.parquet", {"copy": True}, "no use of --copy"),
            ("x", {"kind": "webdataset", "copy": True}, "no use of --copy"),
        ],
    )
    def test_what_would_be_ignored(self, mixed: Project, tmp_path: Path, name: str, options: dict, match: str) -> None:
        with pytest.raises(PhylaError, match=match) as told:
            mixed.export(tmp_path / name, **options)
        assert told.value.hint and not os.listdir(tmp_path)

    def test_nothing_left(self, mixed: Project, tmp_path: Path) -> None:
        project = Project(shutil.copytree(mixed.folder, tmp_path / "p"))
        project.remove(project.rows()["uri"][project.rows()["group"] >= 0].tolist())
        with pytest.raises(PhylaError, match="No image is left"):
            project.export(tmp_path / "wd", kind="webdataset")


def test_a_class_that_is_called_as_a_group(mixed: Project, tmp_path: Path) -> None:
    project = Project(shutil.copytree(mixed.folder, tmp_path / "p"))
    named = next(iter(project.names))
    other = next(group for group in range(3) if group != named)
    project.name(named, f"group {other}")
    project.export(tmp_path / "wd", kind="webdataset")
    classes = json.loads((tmp_path / "wd/dataset.json").read_text())["classes"]
    assert classes[0] == f"group {other}" and f"group {other} (group {other})" in classes
    assert len(set(classes)) == 3


def test_the_command(mixed: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "wd"
    assert main(["export", str(mixed.folder), str(out), "--to", "webdataset", "-q", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"to": str(out), "written": 30}
    assert main(["export", str(mixed.folder), str(out), "--page", "--to", "webdataset"]) == 2
    assert "makes no use of --to" in capsys.readouterr().err
