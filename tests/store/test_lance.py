"""Features in Lance: what is written comes back, once, whoever wrote it; and a project is the same, byte by byte."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phyla.backbones import _extract
from phyla.project import Project, sort
from phyla.store import Store, features_of
from phyla.types import UNREAD, PhylaError, Recipe

lance = pytest.importorskip("lance", reason="needs the package pylance: pip install 'phyla[lance]'")
QUICK: dict[str, Any] = {"backbone": ["fake"], "groups": 3, "threads": 1, "report": False}


def made(number: int, n: int = 50) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """The ids, the features and the faults of a shard."""
    rng = np.random.default_rng(number)
    ids = np.array([f"{number:016x}{row:016x}" for row in rng.permutation(n)])
    X = rng.normal(size=(n, 6)).astype(np.float16)
    X[3] = np.nan
    return ids, X, {str(ids[3]): "truncated"}


@pytest.fixture
def stage(tmp_path: Path) -> tuple[Store, str]:
    store = Store.create(tmp_path / "p")
    with store.writing():
        store.update_meta(store="lance")
        return store, store.stage(Recipe("features", "x"))


def test_what_is_written_comes_back(stage: tuple[Store, str]) -> None:
    empty = features_of(*stage)
    assert len(empty) == 0 and not len(empty.ids) and empty.faults == {} and not empty.is_written(0, made(0)[0])
    for number in (0, 2, 1):  # as workers do, in no order
        features_of(*stage).write(number, *made(number))
    features = features_of(*stage)
    ids, X = (np.concatenate([made(number)[part] for number in range(3)]) for part in range(2))
    assert len(features) == 3 and sorted(features.ids) == sorted(ids)
    assert features.faults == {k: v for number in range(3) for k, v in made(number)[2].items()}
    for asked in (np.arange(150), np.random.default_rng(0).integers(0, 150, 70), np.array([149]), np.arange(40, 90)):
        found = features.take(features.places(ids[asked]))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, X[asked].astype(np.float32))
    whole = features.take(np.arange(150))  # a scan
    np.testing.assert_array_equal(whole[features.places(ids)], X.astype(np.float32))
    with pytest.raises(PhylaError, match="1 of 2 images are not described"):
        features.places(np.array([ids[0], "f" * 32]))


def test_a_shard_is_written_once(stage: tuple[Store, str]) -> None:
    ids, X, faults = made(0)
    features = features_of(*stage)
    features.write(0, ids[:20], X[:20], faults)  # of a run that was killed
    assert not features.is_written(0, ids) and features.is_written(0, ids[:20][::-1])
    for _ in range(2):
        features.write(0, ids, X, faults)
    assert features.is_written(0, ids) and len(features.ids) == 50 == len(set(features.ids))
    assert lance.dataset(features.place).count_rows() == 50  # type: ignore[attr-defined]


def test_what_could_not_be_read_is_replaced(stage: tuple[Store, str]) -> None:
    ids, X, _ = made(0)
    unread = np.where(np.arange(50)[:, None] < 5, np.nan, X)
    features_of(*stage).write(0, ids, unread, {i: f"{UNREAD}gone" for i in ids[:5]})
    assert sorted(features_of(*stage).unread) == sorted(ids[:5])
    features_of(*stage).write(1, ids[:5], X[:5], {})
    features_of(*stage).write(2, ids[:9], X[:9] + 1, {})  # those that are there stay
    features = features_of(*stage)
    assert not features.unread and len(features.ids) == 50
    np.testing.assert_array_equal(features.take(features.places(ids)), X.astype(np.float32))


def _write(place: Path, stage: str, numbers: list[int], begin: Any) -> None:
    features = features_of(Store.open(place), stage)
    begin.wait()
    for number in numbers:
        features.write(number, *made(number))


def test_two_writers_of_the_same(stage: tuple[Store, str]) -> None:
    of = multiprocessing.get_context("spawn")
    begin = of.Barrier(2)
    writers = [
        of.Process(target=_write, args=(stage[0].folder, stage[1], order, begin))
        for order in ([0, 1, 2, 3], [0, 1, 3, 4])
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    ids = np.concatenate([made(number)[0] for number in range(5)])
    features = features_of(*stage)
    assert sorted(features.ids) == sorted(ids)
    X = np.concatenate([made(number)[1] for number in range(5)])
    np.testing.assert_array_equal(features.take(features.places(ids)), X.astype(np.float32))


def test_another_process_takes_from_the_same_version(stage: tuple[Store, str]) -> None:
    features = features_of(*stage)
    features.write(0, *made(0))
    features = features_of(*stage)
    places = features.places(made(0)[0])
    sent = pickle.dumps(features)
    features_of(*stage).write(1, *made(1))
    again = pickle.loads(sent)
    np.testing.assert_array_equal(again.take(places), made(0)[1].astype(np.float32))
    assert len(again.ids) == 50 and len(features_of(*stage).ids) == 100


def results(project: Project) -> dict[str, bytes]:
    """What is made of the features, byte by byte."""
    store = project.store
    stages = [f"{room}/{stage}" for room in ("reduced", "groups") for stage in store.names(room)]
    return {name: store.read(name) for stage in stages for name in (f"{stage}/{of}" for of in store.names(stage))}


def test_a_project_is_the_same(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_extract, "SHARD", 32)
    kept = {kind: sort(photos, tmp_path / kind, store=kind, **QUICK) for kind in ("npy", "lance")}
    assert results(kept["npy"]) == results(kept["lance"]) and len(results(kept["npy"])) > 8
    place = tmp_path / "lance" / kept["lance"].store.meta()["features"][0]
    assert sorted(p.name for p in place.iterdir()) == ["create.lock", "recipe.json", "shards.lance"]
    data = lance.dataset(str(place / "shards.lance"))
    assert data.count_rows() == 120 and len(data.versions()) == 1 + -(-120 // 32), "each shard is a version"


def test_a_project_grows_and_searches(make_photos: Callable, tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", each=12)
    (folder / "cut.png").write_bytes((folder / "red_001.png").read_bytes()[:300])
    project = sort(folder, tmp_path / "p", store="lance", **QUICK)
    make_photos(folder, each=3, start=50)
    project.sort(threads=1, report=False)
    told = project.show()
    assert told["unique"] == 45 and told["drift"]["added"] == 9
    assert [broken["uri"] for broken in told["unreadable_files"]] == [str(folder / "cut.png")]
    found = project.search(words="red", n=5)
    assert {Path(of["uri"]).name[:3] for of in found} == {"red"}


def test_on_an_object_store(s3: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_extract, "SHARD", 64)
    there, here = (sort(photos, place, store="lance", **QUICK) for place in (f"{s3}/of-lance", tmp_path / "p"))
    assert results(there) == results(here)
    features = features_of(there.store, there.store.meta()["features"][0])
    assert features.place.startswith("s3://") and len(features.ids) == 120  # type: ignore[attr-defined]
    assert not list(there.folder.rglob("*.lance")), "nothing of it is kept here"

    def write(numbers: list[int]) -> None:
        for number in numbers:
            features_of(*stage).write(number, *made(number))

    stage = there.store, there.store.stage(Recipe("features", "x"))
    with ThreadPoolExecutor(2) as writers:
        list(writers.map(write, ([0, 1], [0, 1])))
    assert sorted(features_of(*stage).ids) == sorted(np.concatenate([made(0)[0], made(1)[0]]))


def test_killed_it_goes_on(photos: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys\nsys.path.insert(0, sys.argv[3])\nfrom phyla.backbones import _extract\n_extract.SHARD = 16\n"
        "from phyla.project import sort\nfrom phyla.store import _lance\n"
        "write, left = _lance.LanceFeatures.write, [4]\n"
        "def dying(*args):\n    left[0] -= 1\n    if not left[0]:\n        os.kill(os.getpid(), 9)\n    write(*args)\n"
        "_lance.LanceFeatures.write = dying\n"
        f"sort(sys.argv[1], sys.argv[2], store='lance', **{QUICK!r})\n"
    )
    plugin = str(Path(__file__).parents[1] / "plugin")
    argv = [sys.executable, "-c", code, str(photos), str(tmp_path / "p"), plugin]
    assert subprocess.run(argv, capture_output=True).returncode == -9
    store = Store.open(tmp_path / "p")
    (name,) = store.names("features")
    assert len(features_of(store, f"features/{name}").ids) == 48
    project = sort(photos, tmp_path / "p", **QUICK)  # it stays with what it was begun with
    assert len(features_of(store, f"features/{name}").ids) == 120
    assert results(project) == results(sort(photos, tmp_path / "npy", **QUICK))


def test_it_can_not_be_changed(project: Project, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(PhylaError, match="keeps its features in npy"):
        project.sort(store="lance", **QUICK)
    with pytest.raises(PhylaError, match="There is no store 'zarr'"):
        project.sort(store="zarr", **QUICK)
    shutil.rmtree(tmp_path / "project")
    sort(photos, tmp_path / "project", store="lance", **QUICK)
    with pytest.raises(PhylaError, match="keeps its features in lance"):
        Project(tmp_path / "project").sort(store="npy", **QUICK)


def test_without_the_package(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(PhylaError, match="Lance needs the package pylance"):
        sort(photos, tmp_path / "p", store="lance", **QUICK)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("what", ["a bit", "a file", "a manifest"])
def test_damage_is_found_and_mended(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(_extract, "SHARD", 32)
    project = sort(photos, tmp_path / "p", store="lance", **QUICK)
    before, told = results(project), project.check()
    assert told["whole"] and not told["faults"] and not told["unchecked"]
    place = Path(features_of(project.store, project.store.meta()["features"][0]).place)  # type: ignore[attr-defined]
    if what == "a bit":
        X = features_of(project.store, project.store.meta()["features"][0]).take(np.arange(3))
        told_of = X[1].astype(np.float16).tobytes()
        path = next(p for p in (place / "data").iterdir() if told_of in p.read_bytes())
        data = bytearray(path.read_bytes())
        data[data.index(told_of) + 5] ^= 4
        path.write_bytes(data)
    elif what == "a file":
        path = max((place / "data").iterdir())
        path.write_bytes(path.read_bytes()[:200])
    else:
        for path in (place / "_versions").iterdir():
            path.write_bytes(b"nothing of that kind")
    (fault,) = project.check()["faults"]
    assert fault["file"].endswith("shards.lance")
    why = {"a bit": "1 images are not what", "a file": "1 of its parts", "a manifest": "is damaged"}[what]
    assert why in fault["what"]
    assert project.check(repair=True)["whole"] and not project.check()["faults"]
    again = Project(project.folder)
    assert again.store.read_json("phyla.json")["store"] == "lance" and results(again) == before
    features = features_of(again.store, again.store.meta()["features"][0])
    assert sorted(features.ids) == sorted(project.images.ids)
    kept = sort(photos, tmp_path / "npy", **QUICK)
    npy = features_of(kept.store, kept.store.meta()["features"][0])
    found = [of.take(of.places(project.images.ids)) for of in (features, npy)]
    np.testing.assert_array_equal(*found)
