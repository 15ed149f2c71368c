"""A project teaches a small classifier, which runs without it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import phyla
from phyla.cli import main
from phyla.project import Project, sort
from phyla.types import PhylaError

SHAPES = ("disc", "stripes", "checks")


def shape(uri: str) -> str:
    return Path(uri).name.partition("_")[0]


def draw(folder: Path, each: int, start: int = 0) -> Path:
    """`each` pictures of every shape, in two colours, somewhere and of some size: what networks tell apart at once."""
    folder.mkdir(parents=True)
    y, x = np.mgrid[:64, :64]
    for kind in SHAPES:
        for number in range(start, start + each):
            rng = np.random.default_rng([number, *kind.encode()])
            (left, top), width = rng.uniform(22, 42, 2), rng.uniform(8, 12)
            inside = {
                "disc": np.hypot(x - left, y - top) < 2 * width,
                "stripes": (x + left) % width < width / 2,
                "checks": ((x + left) % width < width / 2) ^ ((y + top) % width < width / 2),
            }[kind]
            dark, light = rng.uniform(0, 100, 3), rng.uniform(150, 255, 3)
            pixels = np.where(inside[..., None], dark, light) + rng.normal(0, 6, (64, 64, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{kind}_{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """90 pictures of three shapes, sorted by two networks, of which 36 are answered for; the labels are spread."""
    folder = tmp_path_factory.mktemp("taught")
    photos = draw(folder / "photos", each=30)
    project = sort(photos, folder / "project", backbone=["lite0", "lite1"], groups=3, report=False)
    with (folder / "answers.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["uri", "label"])
        rows.writerows([f"{name}_{n:03}.png", name] for name in SHAPES for n in range(12))
    project.label(folder / "answers.csv")
    project.spread(report=False)
    return project


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve more pictures, and one that is none."""
    folder = draw(tmp_path_factory.mktemp("new") / "photos", each=4, start=100)
    (folder / "disc_broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds are measured for a moment only."""
    monkeypatch.setattr("phyla._training._MEASURED", 0.01)


def right(rows: dict[str, Any]) -> float:
    fine = rows["fault"] == ""
    return float(
        np.mean([shape(uri) == name for uri, name in zip(rows["uri"][fine], rows["class"][fine], strict=True)])
    )


def test_the_choice_is_told_before_anything_is_written(taught: Project) -> None:
    told = taught.train()
    assert [one["backbone"] for one in told["students"]] == ["lite0", "lite1"]
    assert sum(one["recommended"] for one in told["students"]) == 1
    assert all(0.5 < one["right"] <= 1 and one["images_per_second"] > 0 for one in told["students"])
    assert told["written"] == [] and set(told["classes"]) == set(SHAPES)
    assert told["cascade"]["cost"] <= 1 and told["cascade"]["asked"][0] == 1


@pytest.mark.parametrize("integer", [False, True])
def test_a_classifier_names_new_pictures(taught: Project, new: Path, tmp_path: Path, integer: bool) -> None:
    path = tmp_path / "shapes.onnx"
    told = taught.train(path, backbone="lite0", integer=integer)
    (file,) = told["written"]
    assert file["file"] == str(path) and file["megabytes"] < (9 if integer else 25)
    assert (file["same_as_float"] is None) != integer
    rows = phyla.predict(path, new, threads=1)["rows"]
    print(f"right: {right(rows):.3f}")
    assert right(rows) > 0.75 and (rows["fault"] != "").sum() == 1  # by chance a third
    card = (tmp_path / "shapes.md").read_text(encoding="utf-8")
    assert "36 pictures" in card and "photos" in card and str(tmp_path.parent) not in card


def test_it_says_what_its_teacher_says(taught: Project, tmp_path: Path) -> None:
    path = tmp_path / "shapes.onnx"
    taught.train(path, backbone="lite1")
    rows = phyla.predict(path, taught._current("source"), threads=1)["rows"]
    labels = taught.labels
    mine = {uri: labels.classes[c] for uri, c in zip(taught.images.uris.tolist(), labels.codes, strict=True)}
    agreed = np.mean([mine[uri] == name for uri, name in zip(rows["uri"], rows["class"], strict=True)])
    print(f"agreed: {agreed:.3f}")
    assert agreed > 0.85


def test_a_cascade_asks_further_networks_only_where_it_is_in_doubt(taught: Project, new: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cascade"
    told = taught.train(folder, cascade=True)
    first, second = (Path(file["file"]) for file in told["written"])
    assert first.name.startswith("1-") and second.name.startswith("2-")
    rows = phyla.predict(folder, new, threads=1)["rows"]
    assert right(rows) > 0.75
    # Never in doubt, it says what its first network says; always, it says what both do.
    alone = phyla.predict(first, new, threads=1)["rows"]
    for window, same in ((0.0, True), (1.5, False)):
        content = json.loads((folder / "cascade.json").read_text())
        (folder / "cascade.json").write_text(json.dumps(content | {"windows": [window]}))
        said = phyla.predict(folder, new, threads=1)["rows"]
        fine = said["fault"] == ""
        assert np.allclose(said["probability"][fine], alone["probability"][fine], atol=1e-6) == same


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"phyla": 1}', '{"phyla": 2, "files": ["a", "b"], "windows": [0.5], "radius": [1, 1]}',
     '{"phyla": 1, "files": ["../a.onnx", "b.onnx"], "windows": [0.5], "radius": [1, 1]}',
     '{"phyla": 1, "files": ["a.onnx", "b.onnx"], "windows": [0.5, 0.1], "radius": [1, 1]}'],
)  # fmt: skip
def test_a_folder_that_is_no_cascade_is_refused(content: str, new: Path, tmp_path: Path) -> None:
    (tmp_path / "cascade.json").write_text(content)
    with pytest.raises(PhylaError, match="does not say"):
        phyla.predict(tmp_path, new)


def test_groups_teach_where_nothing_is_named(quick: Callable[..., Project], photos: Path) -> None:
    project = quick(photos)
    told = project.train()
    assert told["classes"] == ["group 0", "group 1", "group 2"] and not told["checked"]
    project.name(0, "first")
    project.name(1, "second")
    assert project.train()["classes"] == ["first", "second"]


def test_removed_images_teach_nothing(quick: Callable[..., Project], photos: Path) -> None:
    project = quick(photos)
    gone = [str(uri) for uri in project.images.uris if Path(uri).name.startswith("red")]
    project.remove(gone)
    assert len(project.train()["classes"]) == 2


def test_what_was_taught_is_not_taught_again(taught: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    taught.train()
    monkeypatch.setattr("phyla.train.Student.fit", lambda *_: pytest.fail("it is taught again"))
    taught.train()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"to": "a.txt"}, "no .onnx"), ({"to": "a.onnx", "backbone": "lite2"}, "not sorted by"),
     ({"to": "a.onnx", "error": 2}, "can't be aimed at"), ({"to": "a.onnx", "budget": 0.5}, "a budget is"),
     ({"to": "a", "cascade": True, "backbone": "lite0"}, "several networks"),
     ({"to": "a", "cascade": True, "budget": 1.5}, "a budget is")],
)  # fmt: skip
def test_what_can_t_be_is_refused(taught: Project, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    options["to"] = tmp_path / options["to"]
    with pytest.raises(PhylaError, match=f"(?i){message}"):
        taught.train(**options)
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced_unasked(taught: Project, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_text("mine")
    with pytest.raises(PhylaError, match="there already"):
        taught.train(path)
    folder = tmp_path / "b"
    (folder / "c").mkdir(parents=True)
    with pytest.raises(PhylaError, match="there already"):
        taught.train(folder, cascade=True)
    assert path.read_text() == "mine"
    (tmp_path / "d.py").write_text("print('mine')")
    with pytest.raises(PhylaError, match="not from Phyla"):
        taught.train(tmp_path / "d.onnx", backbone="lite0")
    assert not (tmp_path / "d.onnx").exists() and "mine" in (tmp_path / "d.py").read_text()


def test_on_the_command_line(taught: Project, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.onnx"
    assert main(["train", str(taught.folder), str(path), "--backbone", "lite0", "-q"]) == 0
    told = capsys.readouterr().out
    assert "lite0" in told and "cascade" in told and str(path) in told
    assert main(["predict", str(path), str(new), "-o", str(tmp_path / "out.csv"), "-q"]) == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 13 and {row["class"] for row in rows} == {*SHAPES, ""}


def test_too_few_pictures_to_state_an_error_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = draw(tmp_path / "photos", each=14)
    project = sort(photos, tmp_path / "project", backbone=["lite0"], groups=3, report=False)
    project.label({path.name: "odd" if n % 2 else "even" for n, path in enumerate(sorted(photos.iterdir()))})
    project.spread(report=False)
    argv = ["train", str(project.folder), str(tmp_path / "net.onnx"), "-q", "--force"]
    assert main(argv) == 0
    assert "how many of them are wrong is not known" in capsys.readouterr().out
    assert main([*argv, "--json"]) == 0
    out = capsys.readouterr().out
    told = json.loads(out)
    assert told["checked"] and told["written"][0]["stated_error"] is None
    assert "nan" not in (out + (tmp_path / "net.md").read_text(encoding="utf-8")).lower()
