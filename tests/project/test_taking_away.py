"""Names, tables, folders, new pictures and scores."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from phyla._export import read_rows
from phyla.project import Project, score_rows, sort
from phyla.types import PhylaError

QUICK: dict[str, Any] = {"backbone": ["fake"], "groups": 3, "threads": 1, "report": False}
COLUMNS = ["uri", "group", "name", "strength", "left_out", "fault", "origin"]


def group_of(project: Project, colour: str) -> int:
    rows = project.rows()
    groups = [int(g) for uri, g in zip(rows["uri"], rows["group"], strict=True) if Path(uri).name.startswith(colour)]
    return max(set(groups), key=groups.count)


def tree(folder: Path) -> dict[str, list[str]]:
    return {place.name: sorted(p.name for p in place.iterdir()) for place in sorted(folder.iterdir())}


class TestNames:
    @pytest.mark.parametrize("change", [{"seed": 5}, {"groups": 4}, {"method": "kmeans"}, {"agreement": 0.9}], ids=str)
    def test_they_survive_sorting_again(self, project: Project, change: dict) -> None:
        project.name(group_of(project, "red"), "apples")
        project.name(group_of(project, "blue"), "  skies ")
        project.sort(**QUICK | change)
        assert project.names[group_of(project, "red")] == "apples"
        assert project.names[group_of(project, "blue")] == "skies"
        assert len(project.names) == 2

    def test_they_are_shown(self, project: Project) -> None:
        group = group_of(project, "green")
        project.name(group, "<b>leaves & co</b>")
        again = Project(project.folder)
        assert again.show()["sizes"][group]["name"] == "<b>leaves & co</b>"
        page = again.report.read_text(encoding="utf-8")
        assert "&lt;b&gt;leaves &amp; co&lt;/b&gt;" in page and "<b>leaves" not in page

    def test_the_later_one_counts(self, project: Project) -> None:
        project.name(0, "first")
        project.name(0, "second")
        assert project.names == {0: "second"}
        project.name(1, "second")
        assert project.names == {0: "second", 1: "second"}
        assert [edit.seq for edit in project.edits] == [0, 1, 2]

    @pytest.mark.parametrize(
        "group, name, match", [(3, "x", "no group 3"), (-1, "x", "no group -1"), (0, " ", "empty")]
    )
    def test_refused(self, project: Project, group: int, name: str, match: str) -> None:
        with pytest.raises(PhylaError, match=match):
            project.name(group, name)
        assert not project.edits


class TestTables:
    @pytest.mark.parametrize("suffix", ["csv", "parquet", "CSV"])
    def test_written_and_read_back(self, project: Project, tmp_path: Path, suffix: str) -> None:
        project.name(1, 'a, "b"\nc')
        out = tmp_path / "new" / f"out.{suffix}"
        assert project.export(out) == 120
        rows, back = project.rows(), read_rows(out)
        for column in ("uri", "group", "left_out"):
            np.testing.assert_array_equal(back[column], rows[column])
        assert os.listdir(out.parent) == [out.name]

    def test_csv(self, project: Project, tmp_path: Path) -> None:
        project.name(1, 'a, "b"\nc')
        project.export(tmp_path / "out.csv")
        with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        assert list(lines[0]) == COLUMNS and len(lines) == 120
        assert {line["name"] for line in lines if line["group"] == "1"} == {'a, "b"\nc'}
        assert {line["left_out"] for line in lines} <= {"0", "1"}

    def test_parquet(self, project: Project, tmp_path: Path) -> None:
        project.export(tmp_path / "out.parquet")
        assert pq.read_table(tmp_path / "out.parquet").column_names == COLUMNS

    @pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
    def test_nothing_is_overwritten_unasked(self, project: Project, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("mine")
        with pytest.raises(PhylaError, match="is there already") as told:
            project.export(tmp_path / name)
        assert "--force" in told.value.hint
        assert (tmp_path / name).read_text() == "mine"
        assert project.export(tmp_path / name, force=True) == 120

    def test_unreadable_files_have_a_row(self, make_photos: Callable, tmp_path: Path) -> None:
        folder = make_photos(tmp_path / "some", each=4)
        (folder / "a, b\n.png").touch()
        sort(folder, tmp_path / "p", **QUICK).export(tmp_path / "out.csv")
        back = read_rows(tmp_path / "out.csv")
        assert len(back["uri"]) == 13
        assert back["group"][back["uri"].tolist().index(str(folder / "a, b\n.png"))] == -1

    @pytest.mark.parametrize("content", ["", "uri,label\na,b\n", "nonsense"])
    def test_another_table_is_refused(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "other.csv").write_text(content)
        with pytest.raises(PhylaError, match="is not a table that predict or export wrote"):
            read_rows(tmp_path / "other.csv")

    @pytest.mark.parametrize("uri", [["a.png", None], ["a.png", ""], [["a.png"], ["b.png"]]])
    def test_a_row_without_a_uri_is_refused(self, tmp_path: Path, uri: list[Any]) -> None:
        columns = {"uri": uri, "group": [0, 1], "name": ["", ""], "left_out": [False, False]}
        pq.write_table(pa.table(columns), tmp_path / "other.parquet")
        with pytest.raises(PhylaError, match="is not a table that predict or export wrote"):
            read_rows(tmp_path / "other.parquet")

    def test_a_damaged_table_is_refused(self, project: Project, tmp_path: Path) -> None:
        project.export(tmp_path / "out.parquet")
        data = (tmp_path / "out.parquet").read_bytes()
        for damaged in (data[:-100], data[:4] + bytes(200) + data[204:]):
            (tmp_path / "out.parquet").write_bytes(damaged)
            with pytest.raises(PhylaError, match="is not a table that predict or export wrote"):
                read_rows(tmp_path / "out.parquet")

    def test_empty_cells_and_numbers(self, tmp_path: Path) -> None:
        columns = {"uri": [1, 2], "group": [0, None], "name": [7, None], "left_out": [0, None]}
        pq.write_table(pa.table(columns), tmp_path / "other.parquet")
        told = {column: values.tolist() for column, values in read_rows(tmp_path / "other.parquet").items()}
        assert told == {"uri": ["1", "2"], "group": [0, -1], "name": ["7", ""], "left_out": [False, True]}


class TestTree:
    def test_links(self, project: Project, tmp_path: Path) -> None:
        project.name(group_of(project, "red"), "apples")
        assert project.export(tmp_path / "out") == 120
        found = tree(tmp_path / "out")
        assert len(found) == 3 and found["apples"] == [f"red_{n:03}.png" for n in range(40)]
        link = tmp_path / "out/apples/red_007.png"
        assert link.is_symlink() and link.read_bytes() == Path(os.readlink(link)).read_bytes()

    def test_copies(self, project: Project, photos: Path, tmp_path: Path) -> None:
        project.name(group_of(project, "red"), "apples")
        project.export(tmp_path / "out", copy=True)
        copied = tmp_path / "out/apples/red_007.png"
        assert not copied.is_symlink() and copied.read_bytes() == (photos / "red_007.png").read_bytes()

    def test_what_a_killed_run_left_goes_with_the_next(self, project: Project, tmp_path: Path) -> None:
        """One that was killed when all was in its place but what it was made in."""
        project.export(tmp_path / "out")
        (tmp_path / ".out.phyla").mkdir()
        (tmp_path / ".out.phyla/lock").touch()
        project.export(tmp_path / "out", force=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "project"]

    def test_left_out_files_lie_apart_and_unreadable_ones_nowhere(self, make_photos: Callable, tmp_path: Path) -> None:
        folder = make_photos(tmp_path / "some", each=10)
        (folder / "empty.png").touch()
        shutil.copyfile(folder / "red_000.png", folder / "red_copy.png")
        project = sort(folder, tmp_path / "p", **QUICK | {"groups": 5, "agreement": 1.0})
        assert project.export(tmp_path / "out") == 31
        rows, found = project.rows(), tree(tmp_path / "out")
        assert sum(map(len, found.values())) == 31
        assert len(found.get("unsorted", [])) == int((rows["left_out"] & (rows["group"] >= 0)).sum())

    def test_a_full_folder_is_refused(self, project: Project, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/mine").write_text("mine")
        with pytest.raises(PhylaError, match="is not empty"):
            project.export(tmp_path / "out")
        assert os.listdir(tmp_path / "out") == ["mine"]

    @pytest.mark.parametrize("place", ["", "sorted", "../project/groups.csv"])
    @pytest.mark.parametrize("linked", [False, True])
    def test_nothing_is_put_into_the_project(
        self, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, linked: bool
    ) -> None:
        monkeypatch.chdir(project.folder)
        if linked:
            (tmp_path / "link").symlink_to(project.folder)
        with pytest.raises(PhylaError, match="lies in the project"):
            project.export(tmp_path / "link" / place if linked else place, force=True)
        project.export(tmp_path / "beside")
        assert project.check()["whole"]

    def test_adding_by_force_replaces_nothing(self, project: Project, tmp_path: Path) -> None:
        project.export(tmp_path / "out", copy=True)
        first = tree(tmp_path / "out")
        mine = tmp_path / "out" / next(iter(first)) / next(iter(first.values()))[0]
        mine.write_text("mine")
        project.export(tmp_path / "out", copy=True, force=True)
        assert mine.read_text() == "mine"
        assert sum(map(len, tree(tmp_path / "out").values())) == 121, "what is there already is not written twice"

    @pytest.mark.parametrize("copy", [False, True])
    def test_file_names_that_are_hostile(self, make_photos: Callable, tmp_path: Path, copy: bool) -> None:
        folder = make_photos(tmp_path / "some", each=4, colours=("red", "green"))
        names = [
            "🙂é.png",
            "l" * 250 + ".png",
            "🙂" * 60 + ".png",
            "a:b*?.png",
            "-rf.png",
            " .png",
            "no suffix",
            "a#b.png",
            "n\nl.png",
        ]
        for number, name in enumerate(names):
            make_photos(tmp_path / "made", each=1, start=100 + number, colours=("blue",))
            shutil.move(tmp_path / f"made/blue_{100 + number}.png", folder / name)
        make_photos(folder / "deep", each=4, colours=("red",), start=50)
        for number in range(4):
            (folder / f"deep/red_{50 + number:03}.png").rename(folder / f"deep/red_{number:03}.png")
        project = sort(folder, tmp_path / "p", **QUICK)
        before = sorted(p for p in tmp_path.rglob("*"))
        assert project.export(tmp_path / "out", copy=copy) == project.show()["images"] == 12 + len(names)
        written = [p for p in (tmp_path / "out").rglob("*") if not p.is_dir()]
        assert len(written) == 12 + len(names), "same names got numbers"
        assert sorted(p for p in tmp_path.rglob("*") if tmp_path / "out" not in (p, *p.parents)) == before
        contents = sorted(p.read_bytes() for p in written)
        assert contents == sorted(p.read_bytes() for p in folder.rglob("*") if p.is_file())
        assert sum(p.suffix == ".png" for p in written) == 12 + len(names) - 2, "a cut name keeps its suffix"

    @pytest.mark.parametrize(
        "name",
        ["../../evil", "/etc", "..", "a/b", "🙂" * 100, "x" * 300, "nul\0", ".", "unsorted"],
        ids=lambda name: ascii(name)[:12],
    )
    def test_group_names_that_are_hostile(self, project: Project, tmp_path: Path, name: str) -> None:
        project.name(0, name)
        project.export(tmp_path / "deep/out")
        assert os.listdir(tmp_path / "deep") == ["out"]
        found = tree(tmp_path / "deep/out")
        assert [len(files) for files in found.values()] == [40, 40, 40]
        assert "unsorted" not in found, "nothing is left out"

    def test_two_names_that_look_alike_as_folders(self, project: Project, tmp_path: Path) -> None:
        project.name(0, "cats/dogs")
        project.name(1, "cats:dogs")
        project.export(tmp_path / "out")
        assert [len(files) for files in tree(tmp_path / "out").values()] == [40, 40, 40]

    def test_two_groups_of_one_name_are_one_class(self, project: Project, tmp_path: Path) -> None:
        project.name(0, "plants")
        project.name(2, "plants")
        project.export(tmp_path / "out")
        assert {name: len(files) for name, files in tree(tmp_path / "out").items()} == {"group 1": 40, "plants": 80}

    def test_members_of_an_archive_are_written_out(self, photos: Path, tmp_path: Path) -> None:
        import zipfile

        with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
            for number, path in enumerate(sorted(photos.iterdir())):
                archive.write(path, f"../../up/{path.name}" if number % 2 else path.name)
        project = sort(tmp_path / "photos.zip", tmp_path / "p", **QUICK)
        assert project.export(tmp_path / "deep/er/out") == 120
        written = [p for p in (tmp_path / "deep").rglob("*") if p.is_file()]
        assert sorted(p.name for p in written) == sorted(p.name for p in photos.iterdir())
        assert all(p.is_relative_to(tmp_path / "deep/er/out") and not p.is_symlink() for p in written)
        assert written[0].read_bytes() == (photos / written[0].name).read_bytes()


@pytest.fixture(scope="module")
def new(make_photos: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_photos(tmp_path_factory.mktemp("new") / "new", each=5, start=500)
    shutil.copyfile(folder / "red_500.png", folder / "red_copy.png")
    (folder / "zzz.png").touch()
    (folder / "cut.png").write_bytes((folder / "red_501.png").read_bytes()[:300])
    return folder


class TestPredict:
    def test_new_pictures_go_where_they_belong(self, sorted_project: Project, new: Path, colours: Callable) -> None:
        before = {p: p.read_bytes() for p in sorted_project.folder.rglob("*") if p.is_file()}
        rows = sorted_project.predict(new, threads=1)
        assert colours(rows) == colours(sorted_project.rows())
        assert [Path(uri).name for uri in rows["uri"]] == sorted(os.listdir(new))
        broken = np.isin([Path(uri).name for uri in rows["uri"]], ["zzz.png", "cut.png"])
        assert (rows["group"] < 0).tolist() == broken.tolist()
        assert rows["left_out"].tolist() == broken.tolist()
        assert [bool(fault) for fault in rows["fault"]] == broken.tolist()
        assert (rows["strength"][~broken] > 0.9).all() and not rows["strength"][broken].any()
        after = {p: p.read_bytes() for p in sorted_project.folder.rglob("*") if p.is_file()}
        assert after == before, "predicting changes nothing of the project"

    def test_columns(self, project: Project, new: Path, tmp_path: Path) -> None:
        project.name(0, "first")
        rows = project.predict(new, tmp_path / "out.csv", threads=1)
        assert list(rows) == COLUMNS == list(project.rows())
        assert set(rows["name"]) == {"first", ""}
        for mine, theirs in zip(rows.values(), project.rows().values(), strict=True):
            assert mine.dtype.kind == theirs.dtype.kind
        back = read_rows(tmp_path / "out.csv")
        np.testing.assert_array_equal(back["group"], rows["group"])

    def test_pictures_it_was_made_of(self, sorted_project: Project, photos: Path) -> None:
        told, rows = sorted_project.predict(photos, threads=3), sorted_project.rows()
        np.testing.assert_array_equal(told["group"], rows["group"])
        np.testing.assert_array_equal(told["strength"], rows["strength"])

    def test_nothing_readable(self, sorted_project: Project, tmp_path: Path) -> None:
        (tmp_path / "none").mkdir()
        (tmp_path / "none/a.png").touch()
        rows = sorted_project.predict(tmp_path / "none", tmp_path / "out.csv", threads=1)
        assert rows["group"].tolist() == [-1] and rows["left_out"].tolist() == [True] and rows["fault"][0]

    def test_it_refuses_before_it_works(
        self, project: Project, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from phyla import backbones

        monkeypatch.setattr(backbones, "load", lambda *_: pytest.fail("it worked first"))
        (tmp_path / "out.csv").write_text("mine")
        with pytest.raises(PhylaError, match="is there already"):
            project.predict(new, tmp_path / "out.csv")
        with pytest.raises(PhylaError, match=r"neither a \.csv nor a \.parquet"):
            project.predict(new, tmp_path / "out.txt")
        with pytest.raises(PhylaError, match="-2 threads"):
            project.predict(new, threads=-2)


class TestScore:
    @pytest.fixture(params=["relative", "absolute", "jsonl"])
    def truth(self, request: pytest.FixtureRequest, photos: Path, tmp_path: Path) -> Path:
        paths = sorted(photos.iterdir())
        shown = [p.name if request.param == "relative" else str(p) for p in paths]
        labels = [p.name.partition("_")[0] for p in paths]
        if request.param == "jsonl":
            path = tmp_path / "truth.jsonl"
            path.write_text("".join(f'{{"uri": "{u}", "label": "{t}"}}\n' for u, t in zip(shown, labels, strict=True)))
        else:
            path = tmp_path / "truth.csv"
            path.write_text("\n".join(["uri,label", *map(",".join, zip(shown, labels, strict=True))]))
        return path

    def test_a_project(self, sorted_project: Project, truth: Path) -> None:
        told = sorted_project.score(truth)
        want = {"accuracy": 1, "accuracy_many_to_one": 1, "nmi": 1, "ari": 1, "coverage": 1, "accuracy_sorted": 1}
        assert told == pytest.approx(want | {"scored": 120, "groups": 3})

    def test_a_table(self, sorted_project: Project, truth: Path, tmp_path: Path) -> None:
        sorted_project.export(tmp_path / "out.csv")
        assert score_rows(read_rows(tmp_path / "out.csv"), truth) == sorted_project.score(truth)

    @pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
    def test_what_a_classifier_wrote(self, tmp_path: Path, name: str) -> None:
        rows = [("a.png", "0", True), ("b.png", "0", False), ("c.png", "1", False), ("broken.png", "", True)]
        table = pa.table(dict(zip(("uri", "class", "defer"), map(list, zip(*rows, strict=True)), strict=True)))
        if name == "out.csv":
            pa_csv.write_csv(table.set_column(2, "defer", table["defer"].cast("int8")), tmp_path / name)
        else:
            pq.write_table(table, tmp_path / name)
        (tmp_path / "truth.csv").write_text("uri,label\na.png,1\nb.png,0\nc.png,1\nbroken.png,1\n")
        told = score_rows(read_rows(tmp_path / name), tmp_path / "truth.csv")
        assert (told["scored"], told["groups"], told["coverage"]) == (3, 2, pytest.approx(2 / 3))
        assert (told["accuracy_named"], told["accuracy_named_sorted"]) == (pytest.approx(2 / 3), 1)

    def test_a_table_of_nothing(self, sorted_project: Project, truth: Path, tmp_path: Path) -> None:
        sorted_project.export(tmp_path / "out.csv")
        (tmp_path / "none.csv").write_text((tmp_path / "out.csv").read_text().partition("\n")[0] + "\n")
        with pytest.raises(PhylaError, match="There are no images to compare"):
            score_rows(read_rows(tmp_path / "none.csv"), truth)

    def test_wrong_labels_cost(self, sorted_project: Project, photos: Path, tmp_path: Path) -> None:
        paths = sorted(photos.iterdir())
        lines = [f"{p.name},{'red' if p.name == 'blue_000.png' else p.name.partition('_')[0]}" for p in paths]
        (tmp_path / "truth.csv").write_text("\n".join(["uri,label", *lines]))
        assert sorted_project.score(tmp_path / "truth.csv")["accuracy"] == pytest.approx(119 / 120)

    def test_some_labels(self, sorted_project: Project, tmp_path: Path) -> None:
        (tmp_path / "truth.csv").write_text("uri,label\nred_000.png,a\nred_001.png,a\nblue_000.png,b\nother.png,c\n")
        told = sorted_project.score(tmp_path / "truth.csv")
        assert told["scored"] == 3 and told["groups"] == 2 and told["accuracy"] == 1

    @pytest.mark.parametrize(
        "content, match", [("uri,label\nother.png,c\n", "None of the images"), ("uri\nx\n", "has no labels")]
    )
    def test_useless_truth(self, sorted_project: Project, tmp_path: Path, content: str, match: str) -> None:
        (tmp_path / "truth.csv").write_text(content)
        with pytest.raises(PhylaError, match=match):
            sorted_project.score(tmp_path / "truth.csv")
