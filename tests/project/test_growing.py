"""A project that grows: what was there stays byte for byte, what is new is placed among it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from phyla import _growing, _plain
from phyla.project import Project, sort
from phyla.store import Store
from phyla.types import PhylaError

QUICK: dict[str, Any] = {"backbone": ["fake"], "groups": 3, "threads": 1, "report": False}
AGAIN: dict[str, Any] = {"threads": 1, "report": False}


@pytest.fixture
def folder(make_photos: Callable, tmp_path: Path) -> Path:
    """20 pictures of each of three colours, to be changed."""
    return make_photos(tmp_path / "photos", each=20)


@pytest.fixture
def grown(folder: Path, make_photos: Callable, quick: Callable) -> Project:
    """A project of them with a name, answers, a list and a spread, before seven of each are added."""
    project = quick(folder)
    project.name(group_of(project, "red"), "apples")
    project.label({f"{c}_{n:03}.png": c for c in ("green", "blue") for n in (0, 5)})
    project.label({"green_007.png": "list"}, unchecked=True)
    project.spread(report=False, threads=1)
    project.label({"blue_008.png": "late"})
    make_photos(folder, each=7, start=20)
    return project


def group_of(project: Project, colour: str) -> int:
    rows = project.rows()
    of = [int(g) for uri, g in zip(rows["uri"], rows["group"], strict=True) if Path(uri).name.startswith(colour)]
    return max(set(of), key=of.count)


def by_id(project: Project) -> dict[str, dict[str, bytes]]:
    """id → what is stored of it."""
    stages = {
        "X": project.X,
        "residual": project.residual,
        "best": project.grouping.best,
        "strength": project.grouping.strength,
    }
    if project.store.meta()["map"]:
        stages["points"] = project._array(project.store.meta()["map"], "points")
    if project._spread:
        stages |= {name: project._array(project._spread, name) for name in ("proba", "codes", "accepted")}
    return {str(i): {k: v[row].tobytes() for k, v in stages.items()} for row, i in enumerate(project.images.ids)}


def content(folder: Path) -> dict[str, bytes]:
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: data for name, data in files.items() if name != "lock" and not name.endswith(".lock")}


class TestAdded:
    def test_what_was_there_keeps_its_bytes(self, grown: Project, work: Counter) -> None:
        grown.map(threads=1)
        before, recipe = by_id(grown), grown.grouping.recipe
        assert {"points", "proba", "X"} <= next(iter(before.values())).keys()
        work.clear()
        told = grown.sort(**AGAIN | {"report": True})
        assert work == {"read": 21, "decoded": 21}
        after = by_id(grown)
        assert len(after) == 81 and before.keys() < after.keys()
        assert {i: after[i] for i in before} == before
        assert grown.images.uris.tolist() == sorted(grown.images.uris.tolist())
        assert grown.grouping.recipe.params == recipe.params and grown.grouping.recipe.method == recipe.method
        assert told["drift"]["added"] == told["drift"]["since"] == 21 and told["regrouped"] is None

    def test_what_is_new_is_where_predict_puts_it(self, grown: Project, folder: Path, tmp_path: Path) -> None:
        new = tmp_path / "new"
        new.mkdir()
        for path in folder.iterdir():
            if int(path.stem[-3:]) >= 20:
                shutil.copyfile(path, new / path.name)
        predicted = grown.predict(new, threads=1)
        grown.sort(**AGAIN)
        rows = grown.rows()
        at = [i for i, uri in enumerate(rows["uri"]) if int(Path(uri).stem[-3:]) >= 20]
        assert len(at) == 21
        for column in ("group", "name", "left_out", "origin"):
            assert [rows[column][i] for i in at] == predicted[column].tolist(), column
        np.testing.assert_allclose(rows["strength"][at], predicted["strength"], atol=1e-3)  # kept in half precision

    def test_words_stay(self, grown: Project) -> None:
        names, labels, told = grown.names, grown.labels, grown.show()["spread"]
        before = dict(zip(grown.images.uris.tolist(), labels.codes.tolist(), strict=True))
        grown.sort(**AGAIN)
        assert grown.names == names and grown.labels.classes == labels.classes
        after = dict(zip(grown.images.uris.tolist(), grown.labels.codes.tolist(), strict=True))
        assert {uri: after[uri] for uri in before} == before
        spread = grown.show()["spread"]
        assert (spread["answers"], spread["stated_error"]) == (told["answers"], told["stated_error"])
        assert spread["edits_since"] == told["edits_since"] == 1
        assert spread["images"] == 81 == sum(spread["classes"].values())
        assert [a["images"] for a in grown.bought()] == [81]
        assert grown.history(1)[0]["rows"] == grown.rows_with(grown.edits[-1].ids).tolist()

    def test_a_new_point_lies_between_its_neighbours(self, grown: Project) -> None:
        old = set(grown.images.ids.tolist())
        grown.map(threads=1)
        grown.sort(**AGAIN | {"report": True})
        points, near = grown._array(grown.store.meta()["map"], "points"), grown.near
        there = np.array([i in old for i in grown.images.ids])
        for row in np.flatnonzero(~there):
            away = np.linalg.norm(near[there] - near[row], axis=1)
            first = np.argsort(away)[:10]
            weight = 1 / np.maximum(away[first], 1e-6)
            np.testing.assert_allclose(points[row], weight @ points[there][first] / weight.sum(), rtol=2e-2, atol=1e-2)
        assert "photos" in grown.report.read_text(encoding="utf-8")

    def test_the_page_and_what_else_asks(self, grown: Project, folder: Path) -> None:
        view = grown.view
        grown.sort(**AGAIN)
        assert grown.view != view
        assert len(grown.rows_of("all")) == grown.summary()["images"] == 81
        row = int(grown.rows_with([grown.images.ids[5]])[0])
        assert row == 5 and len(grown.find([grown.look((folder / "blue_020.png").read_bytes())], n=5)[0]) == 5
        np.testing.assert_allclose(grown._vectors, grown.near, atol=2e-2, rtol=2e-3)
        assert len(grown.suggest(3, threads=1)) == 3
        assert grown.audit(checks=["duplicates", "outlier"], threads=1)["skipped"] == {}
        assert grown.neighbors(1)[0].shape == (81, 20)
        grown.spread(report=False, threads=1)
        assert grown.show()["spread"]["answers"] > 5


class TestAgain:
    def test_twice_with_less_and_moved(self, folder: Path, make_photos: Callable, quick: Callable) -> None:
        project = quick(folder)
        first = by_id(project)
        make_photos(folder, each=2, start=20)
        project.sort(**AGAIN)
        second = by_id(project)
        make_photos(folder, each=2, start=30)
        gone = str(project.rows()["uri"][0])
        Path(gone).unlink()
        (folder / "deeper").mkdir()
        (folder / "red_003.png").rename(folder / "deeper" / "aaa.png")
        (folder / "green_003.png").rename(folder / "zzz.png")
        shutil.copyfile(folder / "blue_004.png", folder / "000.png")
        told = project.sort(**AGAIN)
        third = by_id(project)
        assert len(first) == 60 and len(second) == 66 and len(third) == 71
        assert all(third[i] == second[i] for i in third.keys() & second.keys())
        assert all(second[i] == first[i] for i in first)
        assert told["copies"] == 1 and (told["drift"]["added"], told["drift"]["gone"]) == (6, 1)
        assert told["drift"]["since"] == 12
        uris = project.images.uris.tolist()
        assert uris == sorted(uris) and uris[0].endswith("000.png")
        assert project.grouping.best[uris.index(str(folder / "zzz.png"))] == group_of(project, "green")

    @pytest.mark.parametrize("gone", [0, 1, 2])
    def test_all_images_of_a_group_are_gone(
        self, folder: Path, make_photos: Callable, quick: Callable, tmp_path: Path, gone: int
    ) -> None:
        """A group has none now; pictures like them are still of it, and bring it back."""
        project = quick(folder)
        rows = project.rows()
        lost = [Path(uri) for uri, group in zip(rows["uri"], rows["group"], strict=True) if group == gone]
        colour = lost[0].name.partition("_")[0]
        for path in lost:
            path.unlink()
        assert project.sort(**AGAIN)["regrouped"] is None and project.check()["faults"] == []
        new = make_photos(tmp_path / "new", each=3, start=40)
        told = project.predict(new, threads=1)
        like = [g for uri, g in zip(told["uri"], told["group"], strict=True) if Path(uri).name.startswith(colour)]
        assert like == [gone] * 3
        for path in new.iterdir():
            shutil.move(path, folder)
        project.sort(**AGAIN)
        assert (project.rows()["group"] == gone).sum() == 3

    def test_nothing_new_changes_nothing(self, grown: Project, work: Counter) -> None:
        grown.sort(**AGAIN)
        before = content(grown.folder)
        work.clear()
        grown.sort(**AGAIN)
        assert content(grown.folder) == before and not +work

    def test_only_the_last_generations_keep_their_rows(
        self, folder: Path, make_photos: Callable, quick: Callable
    ) -> None:
        project = quick(folder)
        for start in (20, 21, 22, 23):
            make_photos(folder, each=1, start=start)
            project.sort(**AGAIN)
        for room in ("reduced", "groups"):
            assert len(list((project.folder / room).glob("*/done"))) == 3, "the first, the last and the one before"
            assert len(list((project.folder / room).glob("*/recipe.json"))) == 5

    def test_killed_at_any_file_it_ends_with_the_same_bytes(
        self, grown: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        grown.map(threads=1)
        apart = Path(shutil.copytree(grown.folder, tmp_path / "apart"))
        grown.sort(**AGAIN | {"report": True})
        whole = content(grown.folder)
        write, left, stops = Store.write, 0, 0

        def stop(self: Store, name: str, data: Any) -> None:
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            write(self, name, data)

        while True:  # each run does three files more than the last
            left, project = 3 * (stops + 1), Project(apart)
            with monkeypatch.context() as broken:
                broken.setattr(Store, "write", stop)
                try:
                    project.sort(**AGAIN | {"report": True})
                    break
                except KeyboardInterrupt:
                    stops += 1
        told = content(apart)
        assert stops > 3
        assert sorted(n for n in whole.keys() | told.keys() if whole.get(n) != told.get(n)) in ([], ["report.html"])

    @pytest.mark.parametrize("change", [{"groups": 4}, {"seed": 1}, {"method": "kmeans"}, {"anew": True}], ids=str)
    def test_asked_for_other_groups_it_groups_anew(
        self, folder: Path, make_photos: Callable, quick: Callable, tmp_path: Path, change: dict
    ) -> None:
        project = quick(folder)
        project.name(group_of(project, "red"), "apples")
        make_photos(folder, each=2, start=20)
        project.sort(**AGAIN | {"groups": 3} | change)
        fresh = sort(folder, tmp_path / "fresh", **QUICK | change)
        assert project.X.tobytes() == fresh.X.tobytes()
        assert project.grouping.recipe == fresh.grouping.recipe
        assert project.drift is None
        rows = project.rows()  # of one more group than there are colours, two may be of one
        called = {Path(uri).name[:3] for uri, n in zip(rows["uri"], rows["name"], strict=True) if n == "apples"}
        assert called == {"red"}
        assert "groups" in change or project.names[group_of(project, "red")] == "apples"

    def test_what_was_asked_once_holds(self, folder: Path, make_photos: Callable, quick: Callable) -> None:
        project = quick(folder, method="kmeans", groups=5, seed=3, agreement=0.2)
        make_photos(folder, each=1, start=20)
        assert project.sort(**AGAIN)["groups"] == 5
        recipe = project.grouping.recipe
        assert (recipe.method, recipe.seed, project.store.meta()["agreement"]) == ("kmeans", 3, 0.2)
        project.sort(**AGAIN, agreement=0.9)
        assert project.grouping.recipe == recipe and project.store.meta()["agreement"] == 0.9

    def test_too_much_is_new(self, folder: Path, make_photos: Callable, quick: Callable, tmp_path: Path) -> None:
        project = quick(folder)
        make_photos(folder, each=21, start=20)
        told = project.sort(**AGAIN)
        assert told["regrouped"] == "of 123 images 60 are among those that the groups were made of"
        fresh = sort(folder, tmp_path / "fresh", **QUICK)
        assert project.grouping.strength.tobytes() == fresh.grouping.strength.tobytes()

    def test_too_much_is_gone(self, folder: Path, quick: Callable) -> None:
        project = quick(folder)
        for path in sorted(folder.iterdir())[:31]:
            path.unlink()
        assert "60 images that the groups were made of 29 are left" in project.sort(**AGAIN)["regrouped"]

    @pytest.mark.parametrize("room", ["groups", "reduced", "images"])
    def test_what_somebody_deleted_is_made_again(self, folder: Path, quick: Callable, room: str) -> None:
        project = quick(folder)
        before = by_id(project)
        shutil.rmtree(project.folder / room)
        again = Project(project.folder)
        again.sort(**AGAIN, groups=3)
        assert by_id(again) == before

    def test_one_image(self, make_photos: Callable, tmp_path: Path, quick: Callable) -> None:
        folder = make_photos(tmp_path / "one", each=1, colours=("red",))
        project = quick(folder, groups=None)
        make_photos(folder, each=1, colours=("green",))
        assert project.sort(**AGAIN)["unique"] == 2
        (folder / "red_000.png").unlink()
        assert project.sort(**AGAIN)["unique"] == 1

    def test_a_picture_that_breaks(self, folder: Path, make_photos: Callable, quick: Callable) -> None:
        project = quick(folder)
        for path in sorted(make_photos(folder, each=2, start=20).iterdir()):
            if path.stem.endswith("_020"):
                path.write_bytes(path.read_bytes()[:400])
        told = project.sort(**AGAIN)
        assert (told["unique"], told["unreadable"]) == (63, 3)
        assert project.sort(**AGAIN)["unreadable"] == 3


class TestDrift:
    def told(self, project: Project) -> dict[str, Any]:
        found: dict[str, Any] = project.sort(**AGAIN)["drift"]
        return found

    def test_more_of_the_same_is_none(self, photos: Path, make_photos: Callable, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(photos, tmp_path / "some"))
        project = sort(folder, tmp_path / "project", **QUICK)
        make_photos(folder, each=10, start=50)
        told = self.told(project)
        assert told["since"] == 30 and not told["anew"]
        make_photos(folder, each=25, start=80, colours=("red",))  # of one class only
        told = self.told(project)
        assert told["since"] == 55 and not told["anew"] and told["moved"] > 0.2

    def test_a_class_that_was_never_seen(self, photos: Path, make_photos: Callable, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(photos, tmp_path / "some"))
        project = sort(folder, tmp_path / "project", **QUICK)
        make_photos(folder, each=10, start=50)
        make_photos(folder, each=20, colours=("grey",))
        told = self.told(project)
        assert told["anew"] and 10 <= told["strange"] <= 25
        assert f"phyla sort --project {project.folder} --anew" in _plain.summary(project.show())
        assert project.sort(**AGAIN, anew=True, groups=4)["drift"] is None


@pytest.fixture
def turned(grown: Project, work: Counter) -> tuple[Project, dict[str, dict[str, bytes]]]:
    """`grown`, sorted again by another network; and what was stored before."""
    before = by_id(grown)
    work.clear()
    grown.sort(**AGAIN | {"backbone": ["fake:turned"]})
    return grown, before


class TestAnotherNetwork:
    def test_what_was_there_stays_and_what_is_new_is_placed(
        self, turned: tuple, work: Counter, colours: Callable
    ) -> None:
        project, before = turned
        assert work == {"read": 21, "decoded": 60 + 21}  # the sample: all that there were
        after = by_id(project)
        assert {i: after[i] for i in before} == before
        assert len(after) == 81 and len(colours(project.rows())) == 3
        assert project.show()["backbones"] == ["fake:turned"] and project.names
        rows = project.rows()
        placed = [
            of == "apples"
            for of, uri in zip(rows["name"], rows["uri"], strict=True)
            if "red" in Path(uri).name and int(Path(uri).stem[-3:]) >= 20
        ]
        assert len(placed) == 7 and all(placed)

    def test_the_alignment_is_needed_and_is_near_the_truth(self, turned: tuple, tmp_path: Path) -> None:
        """Beside what the first network says of the same pictures; the control is another picture of the colour."""
        project, before = turned
        fresh = Project(shutil.copytree(project.folder, tmp_path / "other"))
        fresh.sort(**AGAIN | {"backbone": ["fake"]})  # back: now described by the first network, the rows stay
        new = [row for row, i in enumerate(project.images.ids) if i not in before]
        truth = fresh.predict(project.store.meta()["source"], threads=1)
        assert [truth["group"][row] for row in new] == project.grouping.best[new].tolist()
        assert project.store.meta()["aligned"] and fresh.store.meta()["aligned"] is None

    def test_it_goes_on(self, turned: tuple, make_photos: Callable, folder: Path, work: Counter) -> None:
        project, _ = turned
        before, aligned = by_id(project), project.store.meta()["aligned"]
        make_photos(folder, each=2, start=40)
        work.clear()
        project.sort(**AGAIN)
        assert work == {"read": 6, "decoded": 6}
        after = by_id(project)
        assert {i: after[i] for i in before} == before and project.store.meta()["aligned"] == aligned
        found = project.predict(folder, threads=1)
        agree = (found["group"] == project.rows()["group"]).mean()
        assert agree > 0.9, f"by the new network alone {agree:.2f} are where they are"
        like = project.find([project.look((folder / "red_041.png").read_bytes())], n=10)[0]
        assert Counter(Path(project.images.uris[row]).name[:3] for row in like)["red"] >= 8
        project.spread(report=False, threads=1)
        project.audit(checks=["outlier"], threads=1, report=False)

    def test_anew_describes_all(self, turned: tuple, tmp_path: Path) -> None:
        project, _ = turned
        project.sort(**AGAIN, groups=3, anew=True)
        fresh = sort(
            project.store.meta()["source"], tmp_path / "fresh", **QUICK | {"backbone": ["fake:turned"], "groups": 3}
        )
        order = np.argsort(project.images.ids), np.argsort(fresh.images.ids)
        np.testing.assert_allclose(project.X[order[0]], fresh.X[order[1]], atol=1e-3)
        assert project.store.meta()["aligned"] is None
        assert project.names[group_of(project, "red")] == "apples"

    def test_words_need_all_described(self, grown: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_growing, "_SAMPLE", 30)
        project = grown
        project.sort(**AGAIN, backbone=["fake:turned"])
        assert np.bincount(project.grouping.best).min() >= 20
        with pytest.raises(PhylaError, match="are not described by fake:turned") as told:
            project.guess(["red", "green"], threads=1)
        assert "--anew" in told.value.hint

    def test_more_networks_say_nothing_of_the_groups(self, grown: Project) -> None:
        before = content(grown.folder)
        with pytest.raises(PhylaError, match="made without fake:turned") as told:
            grown.sort(**AGAIN, backbone=["fake", "fake:turned"])
        assert told.value.hint.endswith("--backbone fake,fake:turned --anew")
        kept = content(grown.folder)
        assert all(kept[name] == before[name] for name in before)

    def test_of_several_the_one_that_stays_is_exact(
        self, folder: Path, make_photos: Callable, quick: Callable, tmp_path: Path
    ) -> None:
        project = quick(folder, backbone=["fake", "fake:turned"])
        widths, (source, other) = project.blocks, (project.folder, tmp_path / "other")
        shutil.copytree(source, other)
        make_photos(folder, each=5, start=20)
        project.sort(**AGAIN, backbone=["fake:turned"])
        exact = Project(other)
        exact.sort(**AGAIN)  # both networks
        assert project.blocks == widths == exact.blocks
        new = np.array([int(Path(uri).stem[-3:]) >= 20 for uri in project.images.uris])
        stays = slice(widths[0], None)
        np.testing.assert_array_equal(project.X[new, stays], exact.X[new, stays])
        left, right = project.X[new, : widths[0]], exact.X[new, : widths[0]]
        assert not np.array_equal(left, right)
        alike, control = _correlation(left, right), _correlation(np.roll(left, 1, 0), right)
        assert alike > 0.9 > control + 0.3, f"{alike:.2f}, of other pictures {control:.2f}"
        assert project.grouping.best[new].tolist() == exact.grouping.best[new].tolist()


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
