"""The main job, from a folder to groups, and again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import phyla
from phyla import sources
from phyla.project import Project, sort
from phyla.store import Store
from phyla.types import PhylaError

QUICK: dict[str, Any] = {"backbone": ["fake"], "groups": 3, "threads": 1, "report": False}
Quick = Callable[..., Project]


@pytest.fixture
def mess(make_photos: Callable[..., Path], tmp_path: Path) -> Path:
    """36 pictures, three copies of one of them and one of another, and five files that are none."""
    folder = make_photos(tmp_path / "mess", each=12)
    for name in ("red_copy1.png", "red_copy2.png", "deeper/red_copy3.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / "red_003.png", folder / name)
    shutil.copyfile(folder / "blue_001.png", folder / "blue_copy.png")
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(folder / "torn.jpg")
    data = (folder / "torn.jpg").read_bytes()
    (folder / "torn.jpg").write_bytes(data[: len(data) // 2])
    (folder / "torn_copy.jpg").write_bytes(data[: len(data) // 2])
    (folder / "empty.png").touch()
    (folder / "letter.jpg").write_text("Dear all,")
    (folder / "cut.png").write_bytes((folder / "green_000.png").read_bytes()[:300])
    return folder


BROKEN = {"torn.jpg", "torn_copy.jpg", "empty.png", "letter.jpg", "cut.png"}


class TestGroups:
    def test_they_are_the_classes(self, sorted_project: Project, colours: Callable) -> None:
        assert set(colours(sorted_project.rows()).values()) == {"red", "green", "blue"}
        told = sorted_project.show()
        assert (told["images"], told["unique"], told["copies"], told["unreadable"]) == (120, 120, 0, 0)
        assert [group["images"] for group in told["sizes"]] == [40, 40, 40]
        assert told["groups"] == 3 and told["unsorted"] == 0 and told["strength"] > 0.9

    def test_their_number_is_found(self, photos: Path, quick: Quick, colours: Callable) -> None:
        project = quick(photos, groups=None)
        assert len(colours(project.rows())) == 3
        evidence = np.array(project.grouping.scores["evidence"])
        assert evidence[evidence[:, 1].argmax(), 0] == 3

    def test_another_method(self, photos: Path, quick: Quick, colours: Callable) -> None:
        project = quick(photos, method="kmeans")
        assert len(colours(project.rows())) == 3
        assert project.show()["method"] == "kmeans"

    def test_an_archive_and_a_list_of_paths(self, photos: Path, tmp_path: Path, colours: Callable) -> None:
        archive = shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
        (tmp_path / "list.csv").write_text("\n".join(["uri", *map(str, sorted(photos.iterdir()))]))
        of_zip = sort(archive, tmp_path / "zip", **QUICK)
        of_list = sort(tmp_path / "list.csv", tmp_path / "list", **QUICK)
        assert of_zip.show()["unique"] == of_list.show()["unique"] == 120
        rows = of_zip.rows()
        assert len(colours(rows | {"uri": [uri.replace("#", "/") for uri in rows["uri"]]})) == 3
        assert len(colours(of_list.rows())) == 3

    def test_agreement_decides_what_is_left_out(self, photos: Path, quick: Quick) -> None:
        one = quick(photos, groups=7, agreement=0.0)
        assert one.show()["unsorted"] == 0
        two = quick(photos, groups=7, agreement=0.9)
        strength = two.grouping.strength
        assert 0 < two.show()["unsorted"] == int((strength < 0.9).sum()) < 120
        assert sum(g["images"] for g in two.show()["sizes"]) == 120 - two.show()["unsorted"]
        np.testing.assert_array_equal(one.grouping.best, two.grouping.best)

    def test_effort_decides_how_long_the_vote_takes(self, photos: Path, quick: Quick) -> None:
        voters = [
            quick(photos, groups=3, effort=effort).grouping.recipe.params.get("n_voters") for effort in ("fast", "best")
        ]
        assert voters[0] < voters[1]
        with pytest.raises(PhylaError, match="no effort 'huge'"):
            quick(photos, effort="huge")
        with pytest.raises(PhylaError, match="kmeans knows no better effort"):
            quick(photos, effort="best", method="kmeans")

    def test_seeds(self, photos: Path, tmp_path: Path) -> None:
        one, same, other = (
            sort(photos, tmp_path / f"p{i}", **QUICK | {"groups": 7, "seed": seed}) for i, seed in enumerate((1, 1, 2))
        )
        assert one.grouping.strength.tobytes() == same.grouping.strength.tobytes()
        assert one.grouping.strength.tobytes() != other.grouping.strength.tobytes()

    def test_images_open(self, sorted_project: Project) -> None:
        images = sorted_project.images
        assert len(images) == len(sorted_project.grouping.best) == len(sorted_project.X) == 120
        assert set(images.width.tolist()) == {24}
        for row in (0, 50, 119):
            with Image.open(images.uris[row]) as picture:
                np.testing.assert_array_equal(images.open(row, 24), picture)


class TestMess:
    def test_everything_is_counted(self, mess: Path, quick: Quick, colours: Callable) -> None:
        project = quick(mess)
        told = project.show()
        assert told["images"] == sum(1 for p in mess.rglob("*") if p.is_file()) == 45
        assert (told["unique"], told["copies"], told["unreadable"]) == (36, 4, 5)
        assert told["unique"] + told["copies"] + told["unreadable"] == told["images"]
        assert {Path(f["uri"]).name for f in told["unreadable_files"]} == BROKEN
        assert all(f["reason"] for f in told["unreadable_files"])
        reasons = {Path(f["uri"]).name: f["reason"] for f in told["unreadable_files"]}
        assert "empty" in reasons["empty.png"] and "not an image" in reasons["letter.jpg"]

    def test_rows(self, mess: Path, quick: Quick, colours: Callable) -> None:
        rows = quick(mess).rows()
        assert {len(column) for column in rows.values()} == {45}
        assert len(set(rows["uri"])) == 45
        by_name = {Path(uri).name: i for i, uri in enumerate(rows["uri"])}
        broken = [by_name[name] for name in BROKEN]
        assert set(rows["group"][broken]) == {-1} and rows["left_out"][broken].all()
        assert all(rows["fault"][broken]) and not any(np.delete(rows["fault"], broken))
        assert len(set(colours(rows).values())) == 3  # copies go where their original is, by name
        assert rows["group"][by_name["red_copy3.png"]] == rows["group"][by_name["red_003.png"]]

    def test_again(self, mess: Path, quick: Quick) -> None:
        assert quick(mess).show() == quick(mess).show()

    def test_a_project_among_its_pictures_is_not_one_of_them(self, mess: Path) -> None:
        first = sort(mess, mess / "project", **QUICK | {"report": True}).show()
        assert first["images"] == 45
        assert sort(mess, mess / "project", **QUICK).show()["images"] == 45


class TestAgain:
    def test_nothing_is_done_twice(self, photos: Path, quick: Quick, work: Counter) -> None:
        first = quick(photos)
        assert work == {"read": 120, "decoded": 120}
        work.clear()
        again = quick(photos)
        assert not +work
        assert again.show() == first.show()

    def test_without_a_source_it_goes_on_with_its_own(self, project: Project, work: Counter) -> None:
        before = project.rows()["group"]
        project.sort(**QUICK)
        assert not +work
        np.testing.assert_array_equal(project.rows()["group"], before)

    def test_another_number_looks_at_no_picture(self, photos: Path, quick: Quick, work: Counter) -> None:
        quick(photos)
        work.clear()
        assert quick(photos, groups=5).show()["groups"] == 5
        assert not +work

    def test_only_added_pictures_are_looked_at(
        self, make_photos: Callable, quick: Quick, work: Counter, tmp_path: Path, colours: Callable
    ) -> None:
        folder = make_photos(tmp_path / "some", each=12)
        quick(folder)
        make_photos(folder, each=3, start=12)
        work.clear()
        project = quick(folder)
        assert work == {"read": 9, "decoded": 9}
        assert project.show()["images"] == 45
        assert len(colours(project.rows())) == 3
        project.sort(**QUICK, anew=True)
        fresh = sort(folder, tmp_path / "fresh", **QUICK)
        np.testing.assert_array_equal(fresh.grouping.best, project.grouping.best)
        assert fresh.X.tobytes() == project.X.tobytes()

    def test_a_copy_is_read_and_not_looked_at(
        self, make_photos: Callable, quick: Quick, work: Counter, tmp_path: Path
    ) -> None:
        folder = make_photos(tmp_path / "some", each=12)
        quick(folder)
        shutil.copyfile(folder / "red_000.png", folder / "aaa.png")
        work.clear()
        assert quick(folder).show()["copies"] == 1
        assert work["read"] == 1 and not work["decoded"]

    def test_a_changed_picture_is_read_again(
        self, make_photos: Callable, quick: Quick, work: Counter, tmp_path: Path
    ) -> None:
        folder = make_photos(tmp_path / "some", each=12)
        quick(folder)
        shutil.copyfile(folder / "blue_000.png", tmp_path / "other.png")
        Image.new("RGB", (24, 24), (50, 180, 70)).save(folder / "red_000.png")
        os.utime(folder / "red_000.png", ns=(1, 1))
        work.clear()
        rows = quick(folder).rows()
        assert work == {"read": 1, "decoded": 1}
        of = {Path(uri).name: int(group) for uri, group in zip(rows["uri"], rows["group"], strict=True)}
        assert of["red_000.png"] == of["green_000.png"] != of["red_001.png"]

    def test_a_removed_picture_is_gone(
        self, make_photos: Callable, quick: Quick, work: Counter, tmp_path: Path
    ) -> None:
        folder = make_photos(tmp_path / "some", each=12)
        quick(folder)
        (folder / "red_000.png").unlink()
        work.clear()
        project = quick(folder)
        assert project.show()["images"] == 35
        assert not any("red_000" in uri for uri in project.rows()["uri"])
        assert not +work

    def test_another_source_is_refused(self, project: Project, make_photos: Callable, tmp_path: Path) -> None:
        before = project.show()
        with pytest.raises(PhylaError, match="holds the images of") as told:
            project.sort(make_photos(tmp_path / "other", each=3), **QUICK)
        assert "--project" in told.value.hint
        assert Project(project.folder).show() == before

    def test_the_same_source_written_otherwise(
        self, project: Project, photos: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(photos.parent)
        project.sort("./photos/", **QUICK)

    def test_a_failed_sort_leaves_the_last_one_current(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        before = project.show()

        write = Store.write_array

        def fail(self: Store, name: str, array: Any) -> None:
            if name.startswith("map/"):  # the last step but one
                raise RuntimeError("out of order")
            write(self, name, array)

        with monkeypatch.context() as broken, pytest.raises(RuntimeError, match="out of order"):
            broken.setattr(Store, "write_array", fail)
            project.sort(**QUICK | {"groups": 4, "seed": 1, "report": True})
        assert Project(project.folder).show() == before


class TestSmall:
    @pytest.mark.parametrize("groups", [None, 1, 3])
    @pytest.mark.parametrize("method", ["vote", "kmeans"])
    @pytest.mark.parametrize("count", [1, 2])
    def test_few_images(
        self, make_photos: Callable, quick: Quick, tmp_path: Path, groups: int | None, method: str, count: int
    ) -> None:
        folder = make_photos(tmp_path / "few", each=1, colours=("red", "green")[:count])
        project = quick(folder, groups=groups, method=method, report=True)
        told = project.show()
        assert told["unique"] == count
        assert told["groups"] == min(groups or 1, count)
        assert "red_000.png" in project.report.read_text(encoding="utf-8")
        assert project.predict(folder, threads=1)["group"].tolist() == project.rows()["group"].tolist()

    def test_identical_images_are_one_with_copies(self, make_photos: Callable, quick: Quick, tmp_path: Path) -> None:
        folder = make_photos(tmp_path / "few", each=1, colours=("red",))
        for number in range(9):
            shutil.copyfile(folder / "red_000.png", folder / f"red_{number + 1:03}.png")
        told = quick(folder).show()
        assert (told["images"], told["unique"], told["copies"], told["groups"]) == (10, 1, 9, 1)

    def test_images_that_look_identical(self, quick: Quick, tmp_path: Path) -> None:
        for number in range(30):  # the same pixels in unlike files
            path = tmp_path / "same" / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (10 + number, 20), (9, 90, 200)).save(path)
        told = quick(tmp_path / "same", report=True).show()
        assert told["unique"] == 30
        assert max(group["images"] for group in told["sizes"]) + told["unsorted"] == 30

    def test_more_groups_than_images(self, make_photos: Callable, quick: Quick, tmp_path: Path) -> None:
        project = quick(make_photos(tmp_path / "few", each=2), groups=50)
        assert project.show()["groups"] <= 6
        assert sum(g["images"] for g in project.show()["sizes"]) + project.show()["unsorted"] == 6


class TestRefused:
    def test_an_empty_folder(self, quick: Quick, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(PhylaError, match="holds no files"):
            quick(tmp_path / "empty")

    def test_nothing_there(self, quick: Quick, tmp_path: Path) -> None:
        with pytest.raises(PhylaError, match="There is nothing at"):
            quick(tmp_path / "nowhere")

    def test_no_readable_image(self, quick: Quick, tmp_path: Path) -> None:
        folder = tmp_path / "papers"
        folder.mkdir()
        (folder / "a.txt").write_text("no picture")
        (folder / "b.jpg").touch()
        with pytest.raises(PhylaError, match=r"None of the 2 files .* is a readable image") as told:
            quick(folder)
        assert "not an image" in told.value.message or "empty" in told.value.message

    def test_no_image_that_can_be_decoded(self, mess: Path, quick: Quick, tmp_path: Path) -> None:
        folder = tmp_path / "torn"
        folder.mkdir()
        shutil.copyfile(mess / "torn.jpg", folder / "torn.jpg")
        with pytest.raises(PhylaError, match="None of the"):
            quick(folder)

    @pytest.mark.parametrize(
        "option, match",
        [
            ({"groups": 0}, "0 groups"),
            ({"groups": -2}, "-2 groups"),
            ({"agreement": 1.5}, "agreement of 1.5"),
            ({"agreement": float("nan")}, "agreement of nan"),
            ({"method": "votes"}, "no grouping method 'votes'"),
            ({"backbone": ["lite9"]}, "no backbone 'lite9'"),
            ({"backbone": []}, "[Bb]ackbone"),
            ({"threads": -1}, "-1 threads"),
            ({"threads": 0}, "0 threads"),
            ({"seed": -1}, "seed"),
            ({"seed": 2**40}, "seed"),
        ],
        ids=str,
    )
    def test_senseless_options(self, photos: Path, quick: Quick, option: dict, match: str) -> None:
        with pytest.raises(PhylaError, match=match) as told:
            quick(photos, **option)
        assert told.value.hint

    def test_a_folder_that_holds_something_else(self, photos: Path) -> None:
        with pytest.raises(PhylaError, match="is not empty"):
            sort(photos, photos, **QUICK)
        assert not (photos / "phyla.json").exists()

    def test_not_sorted_yet(self, tmp_path: Path, photos: Path) -> None:
        project = Project(tmp_path / "new", create=True)
        for ask in (project.show, project.rows, lambda: project.predict(photos), lambda: project.name(0, "x")):
            with pytest.raises(PhylaError, match=r"is not sorted yet|is no Phyla project"):
                ask()
        with pytest.raises(PhylaError, match="has no images yet"):
            project.sort(**QUICK)


class TestTwoAtOnce:
    @pytest.fixture
    def busy(self, project: Project) -> Iterator[None]:
        """Another process that writes to `project`."""
        code = "import sys, phyla.store, pathlib\nwith phyla.store.Store(pathlib.Path(sys.argv[1])).writing():\n"
        code += "    print(flush=True)\n    sys.stdin.read()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(project.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout and process.stdout.readline()
        yield
        process.communicate(b"")

    def test_the_second_is_told(self, project: Project, busy: None) -> None:
        with pytest.raises(PhylaError, match="Another process is working on"):
            project.sort(**QUICK)

    def test_people_can_say_things_meanwhile(self, project: Project, busy: None) -> None:
        project.name(0, "Rosalind")
        assert project.names == {0: "Rosalind"} and "Rosalind" not in project.report.read_text(encoding="utf-8")

    def test_reading_goes_on(self, project: Project, photos: Path, busy: None) -> None:
        assert project.show()["images"] == 120
        assert len(project.predict(photos, threads=1)["uri"]) == 120


class TestReport:
    def test_it_shows_the_files(self, sorted_project: Project) -> None:
        page = sorted_project.report.read_text(encoding="utf-8")
        rows = sorted_project.rows()
        shown = {Path(uri).name for uri in rows["uri"] if Path(uri).name in page}
        assert len(shown) >= 30
        assert {name.partition("_")[0] for name in shown} == {"red", "green", "blue"}
        assert "3 groups, as asked" in page

    def test_it_lists_what_cannot_be_read(self, mess: Path, quick: Quick) -> None:
        page = quick(mess, report=True).report.read_text(encoding="utf-8")
        assert all(name in page for name in BROKEN)

    def test_a_sort_without_one_leaves_none_that_is_wrong(self, project: Project) -> None:
        assert project.show()["report"] == str(project.report)
        project.sort(**QUICK | {"groups": 4})
        assert project.show()["report"] is None and not project.report.exists()


def test_the_folder_is_called_after_the_source(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    project = phyla.sort(f"{photos}/", **QUICK)
    assert project.folder == Path("photos.phyla")
    assert (tmp_path / "photos.phyla/phyla.json").exists()
    assert phyla.Project("photos.phyla").show() == project.show()


def test_another_decoder_describes_anew(
    project: Project, photos: Path, work: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "DECODER_VERSION", sources.DECODER_VERSION + 1)
    with pytest.raises(PhylaError, match="describe images otherwise"):
        project.predict(photos)
    project.sort(**QUICK)
    assert work == {"decoded": 120}


def test_a_group_of_which_no_image_is_sure_is_not_counted(photos: Path, quick: Quick) -> None:
    project = quick(photos, method="kmeans")
    strength = project.grouping.strength
    least = max(float(strength[project.grouping.best == g].max()) for g in range(3))
    project.sort(groups=3, method="kmeans", backbone=["fake"], report=False, agreement=least)
    told = project.show()
    assert told["groups"] == len(told["sizes"]) < 3
    assert sum(size["images"] for size in told["sizes"]) + told["unsorted"] == told["unique"]


def test_the_report_says_how_the_number_was_found(photos: Path, quick: Quick) -> None:
    said = {}
    for method, groups in (("kmeans", None), ("kmeans", 3), ("leiden", None)):
        project = quick(photos, method=method, groups=groups, report=True)
        said[method, groups] = project.report.read_text()
    assert "at which independent runs agreed best" in said["kmeans", None] and "<svg" in said["kmeans", None]
    assert "3 groups, as asked" in said["kmeans", 3] and "How many groups" not in said["kmeans", 3]
    assert "a number that the method found itself" in said["leiden", None]
