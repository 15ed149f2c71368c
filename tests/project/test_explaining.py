"""Why an image is taken for what it is, what a group is, and what tells two apart."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from phyla import plugins
from phyla._steps import restore
from phyla.cli import main
from phyla.project import Project, sort
from phyla.reduce.pca import PCA
from phyla.types import PhylaError


def colour(uri: str) -> str:
    return Path(uri).name.partition("_")[0]


@pytest.fixture
def named(project: Project) -> Project:
    """The small project, each group called by its colour."""
    for group in range(3):
        project.name(group, colour(str(project.images.uris[project.foremost(group, 1)[0]])))
    return project


@pytest.fixture(scope="module")
def seen(make_photos: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Thirty pictures, seen by two real networks. To be read only."""
    photos = make_photos(tmp_path_factory.mktemp("seen") / "photos", each=10)
    options = {"backbone": ["lite0-int8", "lite0"], "groups": 3, "threads": 1, "report": False}
    return sort(photos, photos.parent / "project", **options)


def test_an_image_is_explained_by_those_like_it(named: Project) -> None:
    row, near = 7, named.near
    told = named.explain(row)
    assert told["uri"] == str(named.images.uris[row]) and told["kind"] == "class"
    assert told["name"] == colour(told["uri"]) != told["rival"]
    for key, of in (("prototypes", told["name"]), ("counter_examples", told["rival"])):
        rows = [r for r in named.rows_of(f"class:{of}").tolist() if r != row]
        away = {r: float(np.linalg.norm(near[r] - near[row])) for r in rows}
        assert [one["distance"] for one in told[key]] == pytest.approx(sorted(away.values())[:6], rel=5e-3, abs=2e-3)
        assert {one["name"] for one in told[key]} == {of}
        assert all(one["uri"] == str(named.images.uris[one["row"]]) for one in told[key])


def test_what_pushes_is_all_there_is(named: Project) -> None:
    told = named.explain(7)
    learnt, judged = named._learnt("class"), named._judged(7)
    scores = learnt.model.scores(named.X[7:8])[0]
    code, rival = (learnt.names.index(told[key]) for key in ("name", "rival"))
    assert scores.argmax() == code and told["lead"] == pytest.approx(scores[code] - scores[rival], abs=1e-9)
    pushes = learnt.model.pushes(judged.x, code, rival)
    assert pushes.sum() == pytest.approx(told["lead"], abs=1e-12) and told["learnt_from"] == len(pushes)
    others = np.sort(pushes[learnt.rows != 7])
    assert [one["push"] for one in told["pushes"]["for"]] == pytest.approx(others[::-1][:6], abs=1e-6)
    assert [one["push"] for one in told["pushes"]["against"]] == pytest.approx(others[:6], abs=1e-6)
    assert {one["name"] for one in told["pushes"]["for"]} == {told["name"]}


def test_an_answer_counts_from_the_next_explanation_on(named: Project) -> None:
    row = 7
    before = named.why(row)
    near = [str(named.images.uris[one["row"]]) for one in before["prototypes"][:2]]
    named.move(near, before["rival"])
    after = named.why(row)
    assert before["lead"] > after["lead"]
    told = {one["row"]: one for side in after["pushes"].values() for one in side} | {
        one["row"]: one for one in after["counter_examples"]
    }
    assert all(told[one["row"]]["answered"] for one in before["prototypes"][:2])


def test_a_picture_is_found_by_whatever_names_it(named: Project, photos: Path, tmp_path: Path) -> None:
    uri = str(named.images.uris[7])
    same = [named.explain(given) for given in (7, uri, Path(uri).name, str(named.images.ids[7]))]
    assert all(told == same[0] for told in same[1:])
    copy = tmp_path / "new.png"
    Image.fromarray(np.full((30, 20, 3), (50, 190, 60), np.uint8)).save(copy)
    told = named.explain(copy)
    assert (told["row"], told["uri"], told["name"]) == (None, str(copy), "green")
    assert {colour(one["uri"]) for one in told["prototypes"]} == {"green"}


def test_without_names_groups_are_explained(project: Project) -> None:
    told = project.explain(7)
    assert told["kind"] == "group" and told["name"] == f"group {project.grouping.best[7]}"
    assert {colour(one["uri"]) for one in told["prototypes"]} == {colour(told["uri"])}


def test_one_group_has_no_rival(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"backbone": ["fake"], "groups": 1, "threads": 1, "report": False}
    project = sort(photos, tmp_path / "project", **options)
    told = project.explain(0)
    assert told["rival"] is None and told["lead"] is None and len(told["prototypes"]) == 6
    assert project.explain(group=0)["near"] == []


def test_a_group_is_explained_by_its_images(named: Project) -> None:
    told = named.explain(group="red")
    assert told["images"] == 40 and {colour(one["uri"]) for one in told["typical"]} == {"red"}
    assert [one["row"] for one in told["typical"]] == named.rows_of("class:red").tolist()[:6]
    assert [one["row"] for one in told["uncertain"]] == named.rows_of("class:red", "uncertain").tolist()[:6]
    assert {one["name"] for one in told["near"]} <= {"green", "blue"} and len(told["near"]) == 6
    (group,) = (g for g, name in named.names.items() if name == "red")
    assert named.explain(group=group)["typical"] == told["typical"]


def test_concepts_tell_two_groups_apart(named: Project) -> None:
    told = named.explain(group="red", against="blue")
    for side, of in (("more", "red"), ("less", "blue")):
        assert told["concepts"][side]
        for one in told["concepts"][side]:
            assert one["share"] > 0.6
        first = told["concepts"][side][0]
        assert first["share"] > 0.95 and {colour(uri) for uri in first["uris"]} == {of}
    assert told["concepts"]["less"] == named.explain(group="blue", against="red")["concepts"]["more"]
    assert named.explain(group="red")["concepts"]["less"] == []


def test_concepts_are_learnt_once(named: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with named.store.writing():  # another is at work: they are made, and not kept
        first = Project(named.folder).explain(group="red", against="blue")
    assert not list(named.folder.glob("concepts/*/done"))
    assert named.explain(group="red", against="blue") == first
    assert len(list(named.folder.glob("concepts/*/done"))) == 1

    def fit(*_: Any) -> None:
        raise AssertionError("learnt again")

    monkeypatch.setattr(plugins.load("reduce", "sparse_codes"), "fit", fit)
    assert Project(named.folder).explain(group="red", against="blue") == first


def test_what_is_removed_is_shown_nowhere(named: Project) -> None:
    before = named.explain(group="red")
    gone = [one["uri"] for one in before["typical"]] + before["concepts"]["more"][0]["uris"]
    named.remove(list(dict.fromkeys(gone)))
    row = int(named.rows_of("class:red")[0])
    for told in (named.explain(group="red"), named.explain(row)):
        shown = set(re.findall(r'"uri": "([^"]+)"', json.dumps(told, default=str)))
        assert shown and not shown & set(gone)


# ---- heat


def test_heat_has_the_shape_of_the_picture(seen: Project, tmp_path: Path) -> None:
    told = seen.explain(4)
    for key in ("heat", "heat_of_class"):
        assert told[key].shape == (320, 320) and told[key].dtype == np.float32
        assert told[key].min() >= 0 and told[key].max() == 1
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 120, 3)).astype(np.uint8)).save(tmp_path / "a.png")
    assert seen.explain(tmp_path / "a.png")["heat"].shape == (160, 320)


@pytest.mark.parametrize("number", [0, 1])
def test_the_weights_of_a_class_are_the_gradient_by_the_features(seen: Project, number: int) -> None:
    judged = seen._judged(4)
    model = seen._learnt(judged.kind).model
    pca, own = (
        restore(PCA(), seen.store.arrays(seen._current("reduced")[number])),
        slice(sum(seen.blocks[:number]), sum(seen.blocks[: number + 1])),
    )
    features = pca.mean_ + np.random.default_rng(0).normal(size=1280) * 0.2
    judged.x[own] = pca.transform(features[None].astype(np.float32))[0]
    weights = seen._weights(judged, number)
    along = np.random.default_rng(1).normal(size=1280)
    leads = []
    for step in (-0.005, 0.005):
        x = judged.x.astype(np.float64)
        x[own] = pca.transform((features + step * along)[None].astype(np.float32))[0]
        scores = model.scores(x[None])[0]
        leads.append(scores[judged.code] - scores[judged.rival])
    assert weights @ along == pytest.approx((leads[1] - leads[0]) / 0.01, rel=0.02)


def test_networks_without_maps_say_so(named: Project) -> None:
    told = named.explain(3)
    assert told["heat"] is None and told["heat_of_class"] is None and "fake" in told["heat_why"]
    assert not named.why(3)["looks"]
    with pytest.raises(PhylaError, match="can't show where it looks"):
        named.heat(3)


# ---- the command


def test_files_hold_it_all(seen: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = str(seen.images.uris[4])
    png, page = tmp_path / "new" / "why.png", tmp_path / "why.html"
    assert main(["explain", str(seen.folder), picture, "-o", str(png), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["uri"] == picture and "heat" not in told and told["to"] == str(png)
    with Image.open(png) as image:
        assert image.size == (3 * 320 + 2 * 12, 320)
    assert main(["explain", str(seen.folder), picture, "-o", str(page)]) == 0
    assert "rather than" in capsys.readouterr().out
    html = page.read_text()
    shown = 3 + sum(len(told[key]) for key in ("prototypes", "counter_examples"))
    assert html.count("<img ") == shown + sum(map(len, told["pushes"].values()))
    assert not re.search(r'(src|href)="(?!data:)', html) and picture in html
    assert main(["explain", str(seen.folder), "--group", "1", "--against", "0", "-o", str(page)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["explain", str(seen.folder), "--group", "1", "--against", "0", "-o", str(page), "--force", "-q"]) == 0
    assert "group 1 or group 0" in page.read_text()


@pytest.mark.parametrize(
    "asked, message",
    [
        ({}, "a picture, or a group"),
        ({"picture": 1, "group": 1}, "a picture, or a group"),
        ({"picture": 1, "against": 1}, "not explained against"),
        ({"picture": "nothing.png"}, "neither an image"),
        ({"picture": 120}, "no row 120"),
        ({"group": 3}, "no group 3"),
        ({"group": "giraffe"}, "no class 'giraffe'"),
        ({"group": 1, "to": "a.png"}, "can't be written"),
        ({"picture": 1, "to": "a.pdf"}, "can't be written"),
        ({"picture": 1, "to": "a.png"}, "can't show where it looks"),
    ],
)
def test_what_can_not_be_explained(
    project: Project, tmp_path: Path, asked: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PhylaError, match=message) as told:
        project.explain(**asked)
    assert told.value.hint
    assert not list(tmp_path.glob("a.*"))


def test_where_nothing_is_sorted_nothing_explains(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"backbone": ["fake"], "groups": 3, "threads": 1, "report": False, "method": "kmeans"}
    project = sort(photos, tmp_path / "project", **options, agreement=1.0)
    if (project.grouping.labels >= 0).any():
        project.remove([str(uri) for uri in project.images.uris[project.grouping.labels >= 0]])
    with pytest.raises(PhylaError, match="nothing to explain by"):
        project.explain(0)


def test_a_few_images_have_no_concepts(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    options: dict[str, Any] = {"backbone": ["fake"], "groups": 3, "threads": 1, "report": False}
    project = sort(make_photos(tmp_path / "photos", each=4), tmp_path / "project", **options)
    told = project.explain(group=1, to=tmp_path / "a.html")
    assert told["concepts"] == {"more": [], "less": []} and len(told["typical"]) == 4
    assert project.explain(0)["prototypes"]


def test_a_picture_that_is_gone_is_explained_without_its_heat(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", each=10)
    options: dict[str, Any] = {"backbone": ["lite0-int8"], "groups": 3, "threads": 1, "report": False}
    project = sort(photos, tmp_path / "project", **options)
    Path(str(project.images.uris[3])).unlink()
    told = project.explain(3)
    assert told["heat"] is None and told["heat_why"] and len(told["prototypes"]) == 6
