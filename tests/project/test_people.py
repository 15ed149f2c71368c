"""What people say of a project, what they are asked, and how far it reaches."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phyla import _near, _people, _spreading, plugins
from phyla._plain import summary
from phyla.project import Project
from phyla.types import ORIGINS, PhylaError

COLOURS = ("red", "green", "blue")


def colour(uri: str) -> str:
    return Path(uri).name.partition("_")[0]


def uris(project: Project, of: str, count: int = 40) -> list[str]:
    return [uri for uri in project.images.uris.tolist() if colour(uri) == of][:count]


def group_of(project: Project, of: str) -> int:
    at = [i for i, uri in enumerate(project.images.uris) if colour(uri) == of]
    return int(np.bincount(project.grouping.best[at]).argmax())


@pytest.fixture
def answered(project: Project, tmp_path: Path) -> Project:
    """Two images of each colour, answered for."""
    path = tmp_path / "answers.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["uri", "label"])
        writer.writerows([Path(uri).name, of] for of in COLOURS for uri in uris(project, of, 2))
    told = project.label(path)
    assert told == {"answers": 6, "classes": dict.fromkeys(COLOURS, 2), "unknown": 0, "total": 6}
    return project


class TestSaying:
    def test_undo_and_redo(self, project: Project) -> None:
        for name in ("a", "b"):
            project.name(0, name)
        seen = []
        for step in (project.undo, project.undo, project.redo, project.redo):
            step()
            seen.append(project.names.get(0))
        assert seen == ["a", None, "a", "b"]
        with pytest.raises(PhylaError, match="nothing to redo"):
            project.redo()
        project.undo()
        project.name(1, "new")
        with pytest.raises(PhylaError, match="nothing to redo"):
            project.redo()

    def test_what_others_say_is_heard(self, project: Project) -> None:
        other = Project(project.folder)
        assert project.names == other.names == {}
        other.name(1, "theirs")
        assert project.names == {1: "theirs"}
        project.name(0, "mine")
        assert other.names == {0: "mine", 1: "theirs"} and [e.seq for e in other.edits] == [0, 1]

    def test_what_is_said_while_the_log_is_read_is_heard_next(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other, read = Project(project.folder), Project.edits.fget
        other.draws = False

        def edits(self: Project) -> Any:
            found = read(self)
            if self is project and not other.edits:
                other.name(0, "theirs")
            return found

        with monkeypatch.context() as patched:
            patched.setattr(Project, "edits", property(edits))
            assert project.said.names in ({}, {0: "theirs"})
        assert project.names == {0: "theirs"}

    def test_nothing_said_at_once_is_lost(self, project: Project) -> None:
        project.draws = False
        images = project.images.ids.tolist()
        with ThreadPoolExecutor(8) as pool:
            others = [Project(project.folder) for _ in range(4)]
            for other in others:
                other.draws = False
            list(pool.map(lambda i: others[i % 4].say("confirm", [images[i]], f"class {i % 3}"), range(60)))
        assert sorted(e.seq for e in project.edits) == list(range(60))
        assert (project.said.person[:60] >= 0).all()

    def test_a_group_named_after_a_spread_is_called_so_at_once(self, answered: Project) -> None:
        answered.spread(report=False, threads=1)
        group = group_of(answered, "red")
        answered.name(group, "scarlet")
        rows, of = answered.rows(), answered.grouping.best
        known = answered.said.person[answered._table["row"]] >= 0
        called = {
            n for n, g, k in zip(rows["name"], of[answered._table["row"]], known, strict=True) if g == group and not k
        }
        assert called == {"scarlet"}
        answered.undo()
        assert "scarlet" not in set(answered.rows()["name"])

    def test_a_removed_image_is_left_out_of_everything(self, answered: Project) -> None:
        gone = [uris(answered, "red", 1)[0], uris(answered, "blue", 30)[-1]]
        answered.remove(gone)
        rows = answered.rows()
        of = {uri: (name, bool(out), origin) for uri, name, out, origin in zip(
            *(rows[c].tolist() for c in ("uri", "name", "left_out", "origin")), strict=True)}  # fmt: skip
        assert [of[uri] for uri in gone] == [("", True, "removed")] * 2
        told = answered.show()
        assert told["removed"] == 2 and ", 2 removed." in summary(told)
        assert sum(group["images"] for group in told["sizes"]) + told["unsorted"] == 118
        assert told["answers"] == 5 == sum(of["confirmed"] for of in told["classes"])
        assert not set(gone) & {asked["uri"] for asked in answered.suggest(120)}
        told = answered.spread(report=False, threads=1)
        assert told["answers"] == 5 and answered.rows()["origin"].tolist().count("removed") == 2
        answered.undo()
        told = answered.show()
        assert told["removed"] == 0 and told["answers"] == 6

    def test_a_merge_makes_one_class(self, project: Project) -> None:
        both = [group_of(project, "red"), group_of(project, "green")]
        project.merge(both, "warm")
        rows = project.rows()
        assert {colour(u) for u, n in zip(rows["uri"], rows["name"], strict=True) if n == "warm"} == {"red", "green"}
        assert set(rows["origin"][rows["name"] == "warm"]) == {"group"}
        assert {c["name"]: c["images"] for c in project.show()["classes"]} == {"warm": 80}

    def test_it_survives_sorting_again(self, project: Project) -> None:
        project.merge([group_of(project, "red"), group_of(project, "green")], "warm")
        project.sort(backbone=["fake"], groups=3, seed=7, report=False, threads=1)
        assert {project.names.get(group_of(project, of)) for of in ("red", "green")} == {"warm"}
        assert group_of(project, "blue") not in project.names

    def test_a_split_parts_what_is_apart(self, project: Project) -> None:
        project.sort(backbone=["fake"], groups=1, report=False, threads=1)
        assert sorted(project.split(0, ["a", "b", "c"])) == [40, 40, 40]
        rows = project.rows()
        pairs = Counter((colour(u), n) for u, n in zip(rows["uri"], rows["name"], strict=True))
        assert len(pairs) == 3 and set(pairs.values()) == {40}
        project.undo()
        assert set(project.rows()["name"]) == {""}  # one edit, whatever it parts

    def test_a_persons_word_is_above_all(self, project: Project) -> None:
        red = group_of(project, "red")
        project.name(red, "apples")
        one, two, *_ = uris(project, "red")
        project.move([one], "pears")
        project.reject([two], "apples")
        rows = project.rows()
        by_uri = {u: (n, o, bool(left)) for u, n, o, left in zip(
            rows["uri"], rows["name"], rows["origin"], rows["left_out"], strict=True)}  # fmt: skip
        assert by_uri[one] == ("pears", "person", False)
        assert by_uri[two] == ("", "", True)
        assert by_uri[uris(project, "red")[2]][:2] == ("apples", "group")

    def test_an_undo_is_kept_and_undone(self, project: Project) -> None:
        project.name(0, "first")
        project.confirm(uris(project, "red", 1), "second")
        assert project.undo() == 1 and project.undo() == 0
        assert project.names == {} and project.show()["answers"] == 0
        assert project.undo(2) == 2  # of the first undo
        assert project.show()["answers"] == 1
        assert [e.op for e in Project(project.folder).edits] == ["name", "confirm", "undo", "undo", "undo"]

    @pytest.mark.parametrize(
        "say, match",
        [
            (lambda p: p.undo(), "nothing to undo"),
            (lambda p: p.undo(3), "no edit 3"),
            (lambda p: p.merge([0, 9], "x"), "no group 9"),
            (lambda p: p.split(0, ["x"]), "two parts"),
            (lambda p: p.split(0, [str(i) for i in range(99)]), "can't be split into 99"),
            (lambda p: p.confirm(["nowhere.png"], "x"), "no image of the project"),
            (lambda p: p.confirm([str(p.images.uris[0])], " "), "empty"),
            (lambda p: p.label({"nowhere.png": "x"}), "No image of the project is in"),
            (lambda p: p.label({}), "answers nothing"),
        ],
    )
    def test_refused_without_a_trace(self, project: Project, say: Any, match: str) -> None:
        with pytest.raises(PhylaError, match=match):
            say(project)
        assert not project.edits

    def test_answers_in_a_table_without_pictures(self, project: Project, tmp_path: Path) -> None:
        path = tmp_path / "answers.parquet"
        names = uris(project, "red", 3) + uris(project, "blue", 3)
        pq.write_table(pa.table({"uri": names, "label": [colour(uri) for uri in names]}), path)
        assert project.label(path)["classes"] == {"red": 3, "blue": 3}
        assert project.score(path)["scored"] == 6
        assert not project.audit(path, checks=["imbalance"], threads=1)["skipped"]

    def test_answers_that_contradict(self, project: Project) -> None:
        uri = str(project.images.uris[0])
        with pytest.raises(PhylaError, match="Keep one"):
            project.label({uri: "cat", Path(uri).name: "dog"})

    def test_who_and_when(self, project: Project) -> None:
        project.label({str(project.images.uris[0]): "cat"}, by="Ada")
        (edit,) = project.edits
        assert (edit.op, edit.classes, edit.by) == ("confirm", ("cat",), "Ada") and edit.at.startswith("20")

    def test_a_list_yields_to_answers(self, answered: Project) -> None:
        one, *others = uris(answered, "red", 4)
        answered.label({uri: "mislabelled" for uri in [one, *others]}, unchecked=True)
        labels = answered.labels
        at = {u: i for i, u in enumerate(answered.images.uris.tolist())}
        assert ORIGINS[labels.origin[at[one]]] == "person" and labels.classes[labels.codes[at[one]]] == "red"
        assert ORIGINS[labels.origin[at[others[-1]]]] == "import"


class TestAsking:
    def test_every_group_is_asked_for_first(self, project: Project) -> None:
        asked = project.suggest(3)
        assert {colour(a["uri"]) for a in asked} == set(COLOURS)
        assert all(a["why"] and a["guess"] == "" for a in asked)

    def test_what_is_answered_is_not_asked(self, answered: Project) -> None:
        known = {u for of in COLOURS for u in uris(answered, of, 2)}
        asked = answered.suggest(500)
        assert len(asked) == 120 - 6 and not known & {a["uri"] for a in asked}

    def test_the_same_seed_asks_the_same(self, project: Project) -> None:
        assert project.suggest(9, seed=3) == Project(project.folder).suggest(9, seed=3)

    @pytest.mark.parametrize("method", plugins.names("label.ask"))
    def test_of_many_images_some_are_asked_about(
        self, project: Project, method: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for row, name in zip((0, 50, 100), COLOURS, strict=True):
            project.say("confirm", project.images.ids[[row]].tolist(), name)
        project.spread(threads=1, report=False)
        of_all = project.suggest(9, method=method)
        monkeypatch.setattr(_people, "_MANY", 50)
        monkeypatch.setattr(_near, "_AMONG", 120)  # that is all
        monkeypatch.setattr(_near, "_FEW", 20)
        if method not in ("hierarchical", "typical"):  # cells move by the digits that half precision takes away
            assert {a["id"] for a in of_all} == {a["id"] for a in project.suggest(9, method=method)}
        shutil.rmtree(project.folder / "neighbors", ignore_errors=True)
        monkeypatch.setattr(_near, "_AMONG", 42)
        monkeypatch.setattr(_near, "_FEW", 2)
        asked = project.suggest(9, method=method)
        assert len(asked) == 9 and project.suggest(9, method=method) == asked, (
            "by the neighbours that were found before"
        )
        for path in project.folder.glob("neighbors/*/rows.npy"):
            assert np.bincount(project.grouping.best[np.load(path)]).tolist() == [14, 14, 14]
            if method == "csval":  # it asks those whose neighbours tell most
                assert set(project.rows_with([a["id"] for a in asked]).tolist()) <= set(np.load(path).tolist())
        assert list(project.folder.glob("neighbors/*/rows.npy")) or method not in ("auto", "typical", "csval")

    def test_of_many_images_while_another_process_writes(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_people, "_MANY", 50)
        with Project(project.folder).store.writing():
            assert len(project.suggest(3)) == 3

    def test_neighbours_that_are_not_there(self, project: Project) -> None:
        project.neighbors()
        (path,) = project.folder.glob("neighbors/*/indices.npy")
        np.save(path, np.load(path) + 1)
        with pytest.raises(PhylaError, match=r"indices\.npy is damaged"):
            Project(project.folder).audit()

    def test_refused(self, project: Project) -> None:
        with pytest.raises(PhylaError, match="0 images"):
            project.suggest(0)
        with pytest.raises(PhylaError, match="no way of asking 'typcal'"):
            project.suggest(3, method="typcal")


class TestGuessing:
    def test_words_name_groups(self, project: Project) -> None:
        told = project.guess(COLOURS)
        assert {row["group"]: row["name"] for row in told} == {group_of(project, of): of for of in COLOURS}
        assert project.names == {} and all(0 <= row["sureness"] <= 1 for row in told)

    def test_and_are_kept_when_asked(self, project: Project) -> None:
        sure = {row["group"]: row["name"] for row in project.guess(COLOURS, apply=True) if row["sureness"] >= 0.5}
        assert sure and project.names == sure

    def test_refused(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(PhylaError, match="two classes"):
            project.guess(["red", "red "])
        monkeypatch.delattr("phyla_fake.Network.texts")
        with pytest.raises(PhylaError, match="fake can't read words"):
            project.guess(COLOURS)


class TestSpreading:
    def test_few_answers_reach_all(self, answered: Project) -> None:
        told = answered.spread(threads=1)
        assert told["answers"] == 6 and told["images"] == 120 and told["classes"] == dict.fromkeys(COLOURS, 40)
        rows = answered.rows()
        assert all(colour(u) == n for u, n in zip(rows["uri"], rows["name"], strict=True))
        assert Counter(rows["origin"]) == {"person": 6, "spread": 114}
        assert told["accepted"] == (~rows["left_out"]).sum()
        assert answered.show()["spread"] == told

    @pytest.mark.parametrize("method", ["anchored", "laplacian", "discover"])
    def test_of_many_images_some_are_learnt_from(
        self, answered: Project, method: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All answers among them; who labels the others changes nothing, and what they get is what new images get."""
        for room in (_people, _spreading):
            monkeypatch.setattr(room, "LANDMARKS", 50)
        monkeypatch.setattr(_spreading, "_BLOCK", 16)
        told, stages = [], []
        for threads in (1, 3):
            told.append(answered.spread(method=method, threads=threads))
            stages.append(answered.store.arrays(str(answered._spread)))
            classes = answered.store.read_json(f"{answered._spread}/classes.json")
            shutil.rmtree(answered.folder / str(answered._spread))
        assert told[0] == told[1] and stages[0] and stages[1]
        assert told[0]["answers"] == 6 and told[0]["images"] == 120 and sum(told[0]["classes"].values()) == 120
        for name, values in stages[0].items():
            np.testing.assert_array_equal(values, stages[1][name], err_msg=name)
        right = np.array([classes.index(colour(uri)) for uri in answered.images.uris])
        assert (stages[0]["codes"] == right).mean() > 0.95

    def test_classes_that_are_found_are_called_as_none_is(self, project: Project) -> None:
        every = [uri for uri in project.images.uris.tolist() if colour(uri) != "blue"]
        project.label({uri: "red" if colour(uri) == "red" else "new 1" for uri in every[::3]})
        told = project.spread(method="discover", threads=1)
        assert {"new 1", "red", "new 2"} <= told["classes"].keys()
        assert project.check()["whole"]

    def test_labels_and_findings_of_other_groups_are_told_of(self, answered: Project) -> None:
        answered.spread(threads=1)
        answered.confirm(uris(answered, "red", 3)[2:], "blue")
        answered.audit(threads=1)
        assert answered.findings and not answered.show()["audit_of_other_groups"]
        assert not answered.show()["to_spread_again"] and "spread them again" not in summary(answered.show())
        told = answered.sort(groups=2, backbone=["fake"], threads=1, report=False)
        assert told["spread"] is None and told["to_spread_again"] and "spread them again" in summary(told)
        assert told["audit_of_other_groups"] and "It knew other groups" in summary(told)
        assert answered.summary()["audit_of_other_groups"]
        answered.spread(threads=1)
        answered.audit(threads=1)
        assert not answered.show()["to_spread_again"] and not answered.show()["audit_of_other_groups"]

    def test_a_rare_class_is_learnt_among_many_answers(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of 120 answers 50 are learnt from; two are of a class that is said last, and at no place of its own."""
        for room in (_people, _spreading):
            monkeypatch.setattr(room, "LANDMARKS", 50)
        monkeypatch.setattr(_spreading, "_SURE", 5)
        every = project.images.uris.tolist()
        unlucky = [every[row] for row in np.random.default_rng([0, 120]).permutation(120)[60:62]]
        project.label({uri: colour(uri) for uri in every if uri not in unlucky}, unchecked=True)
        project.label(dict.fromkeys(unlucky, "zz"))
        told = project.spread(threads=1)
        assert told["answers"] == 120 and told["classes"].keys() == {*COLOURS, "zz"}
        rows = dict(zip(every, project.rows()["name"], strict=True))
        assert all(rows[uri] == ("zz" if uri in unlucky else colour(uri)) for uri in every)
        learnt = _spreading._landmarks(np.repeat([-1, 2, 1, 0], [1000, 200, 7, 300]).astype(np.int32), 0)
        assert np.diff(np.searchsorted(learnt, [1000, 1200, 1207, 1508])).min() >= 5 and len(learnt) == 50

    def test_new_images_get_classes(self, answered: Project, make_photos: Any, tmp_path: Path) -> None:
        answered.spread(threads=1)
        rows = answered.predict(make_photos(tmp_path / "new", 5, start=100), threads=1)
        assert all(colour(u) == n for u, n in zip(rows["uri"], rows["name"], strict=True))
        assert set(rows["origin"]) == {"spread"}

    def test_an_image_seen_before_gets_the_same_class(self, answered: Project, photos: Path) -> None:
        answered.spread(threads=1)
        before, after = answered.rows(), answered.predict(photos, threads=1)
        spread = before["origin"] == "spread"
        np.testing.assert_array_equal(before["name"], after["name"])
        np.testing.assert_allclose(before["strength"][spread], after["strength"][spread], atol=1e-3)  # kept in half
        np.testing.assert_array_equal(before["left_out"][spread], after["left_out"][spread])

    def test_score_goes_by_classes(self, answered: Project, tmp_path: Path) -> None:
        answered.spread(threads=1)
        truth = tmp_path / "truth.csv"
        truth.write_text("uri,label\n" + "".join(f"{u},{colour(u)}\n" for u in answered.images.uris))
        told = answered.score(truth)
        assert told["accuracy"] == told["accuracy_named"] == 1 and told["groups"] == 3
        answered.undo()
        assert "accuracy_named" in answered.score(truth)  # the spread is still that of before

    def test_a_new_grouping_needs_a_new_spread(self, answered: Project) -> None:
        answered.spread(threads=1)
        answered.sort(backbone=["fake"], groups=4, report=False, threads=1)
        assert answered.show()["spread"] is None
        assert Counter(answered.rows()["origin"]) == {"person": 6, "": 114}

    def test_it_says_what_came_after(self, answered: Project) -> None:
        answered.spread(threads=1)
        answered.confirm(uris(answered, "red", 3)[2:], "red")
        assert answered.show()["spread"]["edits_since"] == 1

    def test_said_and_taken_back_and_spread_again_is_up_to_date(self, answered: Project) -> None:
        answered.spread(threads=1)
        answered.confirm(uris(answered, "red", 3)[2:], "red")
        answered.undo()
        assert answered.show()["spread"]["edits_since"] == 2
        assert answered.spread(threads=1)["edits_since"] == 0

    def test_what_a_person_rejects_is_accepted_as_nothing_else(self, answered: Project) -> None:
        answered.spread(threads=1)
        one = uris(answered, "red")[-1]
        at = answered.images.uris.tolist().index(one)
        assert answered.labels.accepted[at]
        answered.reject([one], "red")
        labels = answered.labels
        assert labels.classes[labels.codes[at]] != "red" and not labels.accepted[at]

    def test_names_of_groups_are_answers_too(self, project: Project) -> None:
        for of in COLOURS:
            project.name(group_of(project, of), of)
        told = project.spread(threads=1)
        assert told["classes"] == dict.fromkeys(COLOURS, 40)

    def test_classes_that_nobody_named_are_discovered(self, project: Project) -> None:
        for of in COLOURS[:2]:
            project.label(dict.fromkeys(uris(project, of, 5), of))
        told = project.spread(method="discover", threads=1)
        assert told["classes"] == {"red": 40, "green": 40, "new 1": 40}
        assert project.show()["spread"]["classes"] == told["classes"]

    def test_refused(self, project: Project) -> None:
        with pytest.raises(PhylaError, match="Nothing is labelled"):
            project.spread()
        with pytest.raises(PhylaError, match="error of 2"):
            project.spread(error=2)

    def test_the_report_shows_classes(self, answered: Project) -> None:
        answered.spread(threads=1)
        page = answered.report.read_text(encoding="utf-8")
        assert "6 answers were spread" in page and "<h3>green</h3>" in page and "in <b>3 classes</b>" in page

    def test_the_report_shows_nothing_that_was_removed(self, answered: Project) -> None:
        def shown() -> list[str]:
            page = answered.report.read_text(encoding="utf-8")
            return [uri for uri in answered.images.uris.tolist() if uri in page]

        for _ in range(2):  # the report of the groups, then that of the classes
            gone = shown()[::9]
            assert len(gone) > 2
            answered.remove(gone)
            assert len(shown()) > 20 and not set(gone) & set(shown())
            assert f"{len(gone)} removed" in answered.report.read_text(encoding="utf-8")
            answered.undo()
            answered.spread(threads=1)


def test_a_copy_is_answered_for_with_its_twin(photos: Path, tmp_path: Path, quick: Any) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    shutil.copy(folder / "red_000.png", folder / "twin.png")
    project = quick(folder)
    assert project.label({"twin.png": "red"})["answers"] == 1
    rows = project.rows()
    assert [n for u, n in zip(rows["uri"], rows["name"], strict=True) if n] == ["red", "red"]


def test_one_image_is_enough(make_photos: Any, tmp_path: Path, quick: Any) -> None:
    project = quick(make_photos(tmp_path / "photos", 1, ("red",)), groups=None)
    (asked,) = project.suggest(5)
    project.label({asked["uri"]: "red"})
    assert project.spread(threads=1)["classes"] == {"red": 1}
    assert project.rows()["name"].tolist() == ["red"]
    assert project.audit(threads=1)["findings"] == []
