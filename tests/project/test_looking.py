"""What a page shows of a project, and that the project says the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phyla.project import Project, sort
from phyla.types import PhylaError

QUICK = {"backbone": ["fake"], "groups": 3, "threads": 1, "report": False}


def colour(project: Project, row: int) -> str:
    return Path(str(project.images.uris[row])).name.partition("_")[0]


def test_what_a_card_shows_is_what_a_name_is_remembered_by(project: Project) -> None:
    typical = project.cards("group")[1]["typical"]
    project.name(1, "blue")
    assert project.edits[0].ids[:12] == tuple(project.images.ids[typical].tolist())


def test_the_vectors_on_the_disk_are_those_of_the_project(project: Project) -> None:
    rows = np.arange(0, 120, 7)
    np.testing.assert_allclose(project._vectors_of(rows), project.near[rows], rtol=2e-3, atol=1e-4)
    (path,) = (project.folder / "near").iterdir()
    for content in (b"no array", path.read_bytes()[:-2]):
        path.write_bytes(content)
        np.testing.assert_allclose(project._vectors_of(rows), project.near[rows], rtol=2e-3, atol=1e-4)
        assert path.stat().st_size > 1000, "made anew"


def test_folders_suggest_names(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("red", "green", "blue"):
        make_photos(tmp_path / "photos" / f"all {name}", each=20, colours=(name,))
    project = sort(tmp_path / "photos", tmp_path / "project", **QUICK)
    for card in project.cards("group"):
        assert card["suggestion"] == f"all {colour(project, card['typical'][0])}"
    project.name(0, "mine")
    assert project.cards("group")[0]["suggestion"] is None


def test_imports_and_then_answers_suggest_names(project: Project) -> None:
    uris = project.images.uris
    rows = project.rows_of("group:0")
    project.label({str(uris[row]): "of a list" for row in rows}, unchecked=True)
    assert project.cards("group")[0]["suggestion"] == "of a list"
    project.confirm([str(uris[row]) for row in rows[:3]], "of a person")
    assert project.cards("group")[0]["suggestion"] == "of a person"
    project.confirm([str(uris[row]) for row in rows[3:6]], "of another")
    assert project.cards("group")[0]["suggestion"] == "of a list"  # the answers don't speak for one clearly


def test_time_goes_by_the_files(photos: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(photos, tmp_path / "photos")
    names = sorted(path.name for path in (tmp_path / "photos").iterdir())
    for age, name in enumerate(names):
        os.utime(tmp_path / "photos" / name, (1e9 - age, 1e9 - age))
    project = sort(tmp_path / "photos", tmp_path / "project", **QUICK)
    assert project.rows_of("all", "time").tolist() == list(range(119, -1, -1))


def test_copies_of_an_image(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", each=10)
    (photos / "again.png").write_bytes((photos / "red_003.png").read_bytes())
    project = sort(photos, tmp_path / "project", **QUICK)
    row = (
        project.rows_with([str(i) for i in project.images.ids])
        .tolist()
        .index(next(r for r, uri in enumerate(project.images.uris) if uri.endswith("again.png")))
    )
    told = project.image(row)
    assert [Path(uri).name for uri in told["copies"]] == ["red_003.png"]
    assert project.summary()["copies"] == 1 and project.summary()["files"] == 31


def audited(project: Project, found: list[dict]) -> None:
    with project.store.writing():
        project.store.write_json("audit/planted.json", {"findings": found, "skipped": {}})
        project.store.update_meta(audit="audit/planted.json", audit_edits=project.seq)


def test_findings_leave_once_dealt_with(project: Project) -> None:
    ids = project.images.ids.tolist()
    uris = project.images.uris.tolist()
    project.confirm([uris[row] for row in range(40, 50)], "dog")
    pair = {"check": "duplicates", "severity": 1.0, "why": "2 are the same."}
    wrong = {"check": "mislabelled", "severity": 0.8, "why": "It is labelled cat, but looks like dog."}
    audited(
        project,
        [pair | {"ids": ids[:2]}, pair | {"ids": ids[2:4]}, pair | {"ids": ids[4:7]}, wrong | {"ids": [ids[8]]},
         {"check": "separability", "ids": [], "severity": 0.5, "why": "Two groups are one."}],
    )  # fmt: skip
    assert project.summary()["findings"] == {"duplicates": 3, "mislabelled": 1, "separability": 1}
    assert [found["rows"] for found in project.findings_of("duplicates")] == [[0, 1], [2, 3], [4, 5, 6]]
    told = project.findings_of("mislabelled")[0]
    assert told["instead"] == "dog" and set(told["near"]) <= set(range(40, 50)) and len(told["near"]) == 6
    worst = project.array("severity")
    assert worst[0] == 255 and worst[8] == 204 and worst[20] == 0

    project.say("remove", ids[:1])
    assert [found["rows"] for found in project.findings_of("duplicates")] == [[2, 3], [4, 5, 6]]
    project.say("keep", ids[2:4], "duplicates")
    assert [found["rows"] for found in project.findings_of("duplicates")] == [[4, 5, 6]]
    project.say("remove", ids[4:5])
    assert [found["rows"] for found in project.findings_of("duplicates")] == [[5, 6]]
    project.say("confirm", [ids[8]], "dog")
    assert project.findings_of("mislabelled") == []
    for _ in range(4):
        project.undo()
    assert project.summary()["findings"] == {"duplicates": 3, "mislabelled": 1, "separability": 1}


def test_a_preview_changes_nothing(project: Project) -> None:
    assert sum(part["size"] for part in project.preview(0, 3)) == int((project.grouping.best == 0).sum())
    assert project.seq == 0 and project.cards("class") == []
    with pytest.raises(PhylaError, match="two parts"):
        project.preview(0, 1)
    with pytest.raises(PhylaError, match="can't be split"):
        project.preview(0, 1000)


def test_what_waits_and_what_is_accepted(project: Project) -> None:
    for row, name in ((5, "blue"), (50, "green"), (100, "red")):
        project.confirm([str(project.images.uris[row])], name)
    project.spread(report=False)
    waiting, accepted = project.rows_of("waiting"), project.rows_of("accepted")
    assert sorted([*waiting.tolist(), *accepted.tolist()]) == list(range(120))
    assert len(accepted) == project.summary()["spread"]["accepted"]
    assert [card["name"] for card in project.cards("class")] == ["blue", "green", "red"]
    assert not len(project.rows_of("unlabelled"))


def test_a_new_view_has_a_new_name(project: Project) -> None:
    before, cards = project.view, project.cards("group")
    project.sort(**QUICK | {"groups": 2})
    assert project.view != before and len(project.cards("group")) == 2 != len(cards)


@pytest.mark.parametrize("size, shown", [((400, 100), (192, 48)), ((100, 400), (48, 192)), ((10, 10), (40, 40))])
def test_thumbnails_keep_the_shape(
    make_photos: Callable[..., Path], tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    import io

    photos = make_photos(tmp_path / "photos", each=5)
    Image.new("RGB", size, "orange").save(photos / "0.png")
    project = sort(photos, tmp_path / "project", **QUICK)
    row = [Path(uri).name for uri in project.images.uris].index("0.png")
    assert Image.open(io.BytesIO(project.thumbnail(row, 192))).size == shown


def test_what_browsers_don_t_show_is_made_anew(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", each=5)
    Image.new("RGB", (3000, 100), "orange").save(photos / "0.tif")
    project = sort(photos, tmp_path / "project", **QUICK)
    row = [Path(uri).name for uri in project.images.uris].index("0.tif")
    data, kind = project.picture(row)
    import io

    assert kind == "image/webp" and Image.open(io.BytesIO(data)).size == (2048, 68)
