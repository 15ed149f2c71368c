"""Searching a project: by pictures of it or from elsewhere, away from others, and by words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from phyla import _searching, project
from phyla._searching import open_index
from phyla.cli import main
from phyla.project import Project, sort
from phyla.types import PhylaError

QUICK: dict[str, Any] = {"backbone": ["fake"], "groups": 3, "threads": 1, "report": False}


def colours(found: list[dict[str, Any]]) -> list[str]:
    return [Path(one["uri"]).name.partition("_")[0] for one in found]


def rows_of(project: Project, colour: str) -> list[int]:
    return [row for row, uri in enumerate(project.images.uris) if Path(str(uri)).name.startswith(colour)]


def directions(project: Project) -> np.ndarray:
    """Of rows, as the documentation says: 64 leading axes of each network, of length one."""
    X = project.X  # of one network, of fewer axes
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def test_one_picture_finds_its_own_as_comparing_all_does(project: Project) -> None:
    X = directions(project)
    told = project.search([3], n=30)
    cosine = X @ X[3]
    np.testing.assert_allclose([one["similarity"] for one in told], np.sort(np.delete(cosine, 3))[::-1][:30], atol=2e-3)
    assert set(colours(told)) == set(colours([{"uri": str(project.images.uris[3])}]))
    project.name(told[0]["group"], "of a name")
    assert project.search([3], n=1)[0]["name"] == "of a name"


def test_an_image_may_be_told_in_many_ways(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(str(project.images.uris[9]))
    copy = shutil.copy(path, tmp_path / "copied elsewhere.png")
    monkeypatch.chdir(path.parent.parent)
    by_row = project.search([9])
    for one in (str(path), path.name, str(project.images.ids[9]), copy, Path(path.parent.name) / path.name):
        assert project.search([one]) == by_row, one
    assert str(path) not in [one["uri"] for one in by_row]


def test_a_picture_from_elsewhere(project: Project, tmp_path: Path) -> None:
    red = rows_of(project, "red")
    other = tmp_path / "larger.bmp"
    Image.open(str(project.images.uris[red[0]])).resize((60, 60), Image.Resampling.NEAREST).save(other)
    found = project.search([other], n=20)
    assert set(colours(found)) == {"red"}


def test_several_are_averaged_as_directions(project: Project) -> None:
    X = directions(project)
    some = [*rows_of(project, "red")[:2], rows_of(project, "blue")[0]]
    query = X[some].mean(0)
    query /= np.linalg.norm(query)
    want = np.argsort(-np.where(np.isin(np.arange(len(X)), some), -np.inf, X @ query), kind="stable")[:30]
    got, similarity = project.find(some, n=30)
    assert not set(got.tolist()) & set(some)
    np.testing.assert_allclose(similarity, (X @ query)[want], atol=2e-3)


def test_what_shall_be_avoided_comes_later(project: Project) -> None:
    red, blue = rows_of(project, "red"), rows_of(project, "blue")
    both = [red[0], blue[0]]
    mixed = colours(project.search(both, n=70))
    without = colours(project.search(both, without=blue[1:4], n=70))
    assert {"red", "blue"} <= set(mixed)
    place = {of: (found.index("blue"), found.count("blue")) for of, found in (("plain", mixed), ("without", without))}
    assert place["without"][0] > place["plain"][0], place  # and so, the first blue one stands further down
    assert not {str(project.images.uris[row]) for row in blue[1:4]} & {
        one["uri"] for one in project.search(both, without=blue[1:4], n=200)
    }


def test_removed_images_are_not_found(project: Project) -> None:
    first = project.search([3], n=5)
    project.remove([one["uri"] for one in first])
    again = project.search([3], n=200)
    assert len(again) == 120 - 1 - 5 and not {one["uri"] for one in first} & {one["uri"] for one in again}


class TestWords:
    def test_alone(self, project: Project) -> None:
        assert set(colours(project.search(words="green", n=20))) == {"green"}

    def test_beside_a_picture(self, project: Project) -> None:
        """Half of a picture of one colour, half words for another: both colours come before the third."""
        red = rows_of(project, "red")[0]
        found = colours(project.search([red], words="blue", n=60))
        alone = colours(project.search([red], n=60))
        print(f"blue among 60: {found.count('blue')}, by the picture alone {alone.count('blue')}")
        assert found.count("blue") > alone.count("blue")

    def test_the_sum_is_that_of_scaled_directions(self, project: Project) -> None:
        network = project._networks[0]
        X = np.concatenate(list(_features(project)))
        X /= np.linalg.norm(X, axis=1, keepdims=True)
        texts = network.texts([template.format("blue") for template in _searching.TEMPLATES])  # type: ignore[attr-defined]
        text = (texts / np.maximum(np.linalg.norm(texts, axis=1, keepdims=True), 1e-9)).mean(
            0
        )  # some say nothing to it
        text /= np.linalg.norm(text)
        query = X[0] / (X @ X[0]).std() + text / (X @ text).std()
        alike = X @ (query / np.linalg.norm(query))
        alike[0] = -np.inf
        _, similarity = project.find([0], words="blue", n=20)
        np.testing.assert_allclose(similarity, np.sort(alike)[::-1][:20], atol=1e-4)

    def test_minus_words_and_pictures(self, project: Project) -> None:
        red, blue = rows_of(project, "red")[0], rows_of(project, "blue")[0]
        plain, minus, without = (
            colours(project.search([red, blue], n=60, **more))
            for more in ({"words": "red"}, {"words": "red", "minus": "blue"}, {"words": "red", "without": [blue]})
        )
        print(f"blue among 60: {plain.count('blue')}, minus blue {minus.count('blue')}")
        assert minus.count("blue") <= plain.count("blue")
        assert colours(project.search([red, blue], minus="blue", n=20)).count("blue") == 0
        assert without.count("red") >= plain.count("red")

    def test_need_a_network_that_reads(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_searching, "words_of", lambda *told: None)
        for given in ({"words": "a dog"}, {"like": [1], "minus": "a dog"}):
            with pytest.raises(PhylaError, match="can't read words"):
                project.search(**given)


def _features(project: Project) -> Any:
    from phyla._progress import Progress
    from phyla._steps import Steps

    return Steps(project.store, 1, Progress(True)).features(project._current("features")[0], project.images.ids)


@pytest.mark.parametrize(
    "given, message",
    [
        ({}, "Search for what"),
        ({"words": " ", "without": [1]}, "Search for what"),
        ({"like": [120]}, "no row 120"),
        ({"like": [-1]}, "no row -1"),
        ({"like": ["nowhere.png"]}, "neither a file nor an image"),
        ({"like": [__file__]}, "can't be searched by: not an image"),
        ({"like": [1], "n": 0}, "0 images"),
    ],
)
def test_bad_questions(project: Project, given: dict[str, Any], message: str) -> None:
    with pytest.raises(PhylaError, match=message):
        project.search(**given)


@pytest.fixture(scope="class")
def sorted_once(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(project, "INDEXED", 100)
        patch.setattr(_searching, "_SHARD", 32)
        yield sort(photos, tmp_path_factory.mktemp("indexed") / "indexed", **QUICK).folder


class TestIndexed:
    @pytest.fixture
    def indexed(self, sorted_once: Path, tmp_path: Path) -> Project:
        """A small project that keeps an index of four shards."""
        return Project(shutil.copytree(sorted_once, tmp_path / "indexed"))

    def index(self, project: Project) -> Any:
        return open_index(project.store, project._current("reduced"), len(project.images))

    def test_it_finds_what_comparing_all_finds(self, indexed: Project, project: Project) -> None:
        assert self.index(indexed).n == 120 and len(self.index(indexed).shards) == 4
        for row in (0, 50, 119):
            assert indexed.search([row], n=10) == project.search([row], n=10)
        assert not list(indexed.folder.glob("near/directions*")), "the index has all that is needed"

    def test_what_a_look_begins_with_is_kept(self, indexed: Project, project: Project, photos: Path) -> None:
        asks: list[Callable[[Project], Any]] = [
            lambda p: p.cards("group"), lambda p: p.tree(), lambda p: p.rows_of("all"), lambda p: p._ordered[1],
            lambda p: p.rows_with([*p.images.ids[[7, 119]].tolist(), "f" * 32, "é", ""]),
        ]  # fmt: skip
        opened = Project(indexed.folder)
        assert isinstance(opened._ordered[1], np.memmap) and not isinstance(project._ordered[1], np.memmap)
        for ask in asks:
            np.testing.assert_equal(ask(opened), ask(project))
        assert opened.rows_with([opened.images.ids[7], "é"]).tolist() == [7, -1]
        kept = {path.name for path in (indexed.folder / "near").iterdir()}
        assert len(kept) == 3
        shutil.rmtree(next(indexed.folder.glob("near/ids-*")))
        next(indexed.folder.glob("near/ground-*/ranked.npy")).write_bytes(b"no array")
        for ask in asks:
            np.testing.assert_equal(ask(Project(indexed.folder)), ask(project))
        sort(photos, indexed.folder, **QUICK | {"groups": 4})
        now = {path.name for path in (indexed.folder / "near").iterdir()}
        assert len(now) == 3 and len(now & kept) == 2, "of other groups there is another ground, and the former went"

    def test_sorting_again_makes_nothing_anew(self, indexed: Project, photos: Path) -> None:
        before = {p: p.stat().st_mtime_ns for p in indexed.folder.glob("index/**/*")}
        sort(photos, indexed.folder, **QUICK)
        assert {p: p.stat().st_mtime_ns for p in indexed.folder.glob("index/**/*")} == before

    def test_a_killed_build_goes_on(self, indexed: Project, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = {p: p.read_bytes() for p in indexed.folder.glob("index/*/*")}
        shards = {p for p in files if p.name.startswith("0")}
        for path in files:
            if path.name in ("done", "measured.npy") or path.name.startswith("00002") or path.name == "00003.rows.npy":
                path.unlink()
        kept = {p: p.stat().st_mtime_ns for p in shards if p.name < "00002"}
        assert self.index(indexed) is None
        assert indexed.search([5], n=5), "without it all are compared"
        sort(photos, indexed.folder, **QUICK)
        assert {p: p.read_bytes() for p in indexed.folder.glob("index/*/*")} == files
        assert {p: p.stat().st_mtime_ns for p in kept} == kept

    @pytest.mark.parametrize("how", ["short", "foreign", "other rows", "gone"])
    @pytest.mark.parametrize("name", ["centers.npy", "00001.vectors.npy", "00002.rows.npy", "00003.ends.npy"])
    def test_a_damaged_file(self, indexed: Project, photos: Path, name: str, how: str) -> None:
        (path,) = indexed.folder.glob(f"index/*/{name}")
        whole, want = path.read_bytes(), indexed.search([5], n=10)
        match how:
            case "short":
                path.write_bytes(whole[:-7])
            case "foreign":
                path.write_bytes(b"no array at all")
            case "other rows":
                np.save(path, np.load(path)[::-1][:-1].copy())
            case "gone":
                path.unlink()
        assert Project(indexed.folder).search([5], n=10) == want, "all are compared"
        sort(photos, indexed.folder, **QUICK)
        assert path.read_bytes() == whole

    def test_of_more_images_there_is_another(
        self, indexed: Project, make_photos: Callable[..., Path], tmp_path: Path, photos: Path
    ) -> None:
        """Nothing of a former index is ever searched: neither before the new one is there, nor after."""
        more = make_photos(tmp_path / "more", each=55)
        grown = sort(more, tmp_path / "grown", **QUICK)
        former = next(indexed.folder.glob("index/*"))
        shutil.copytree(former, grown.folder / "index" / former.name)
        (current,) = (p for p in grown.folder.glob("index/*") if p.name != former.name)
        want = grown.search([160], n=20)
        shutil.rmtree(current)
        again = Project(grown.folder)
        assert again.search([160], n=20) == want and self.index(again) is None
        sort(more, grown.folder, **QUICK)
        assert [p.name for p in grown.folder.glob("index/*")] == [current.name], "the former is gone"

    def test_threads_change_nothing(self, indexed: Project, photos: Path, tmp_path: Path) -> None:
        two = sort(photos, tmp_path / "two", **QUICK | {"threads": 3})
        (one,) = indexed.folder.glob("index/*")
        (other,) = two.folder.glob("index/*")
        assert {p.name: p.read_bytes() for p in one.iterdir()} == {p.name: p.read_bytes() for p in other.iterdir()}


def test_the_command(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    uri = str(project.images.uris[0])
    assert main(["search", str(project.folder), uri, "-n", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == project.search([uri], n=3) and told[0].keys() == {"uri", "similarity", "group", "name"}
    command = ["search", str(project.folder), "--words", "blue", "--minus", "red", "--without", uri, "-n", "3"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all("blue_" in line and "group" in line for line in lines)
    assert main(["search", str(project.folder)]) == 2
    assert "Search for what?" in capsys.readouterr().err
