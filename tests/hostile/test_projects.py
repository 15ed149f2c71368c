"""A whole project with one forged file, its checksum made to fit: every command ends in a sentence, if not well."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from _forged import QUICK, SLOW, files_of, forged, put, saved, whole

from phyla.cli import main
from phyla.project import Project
from phyla.types import PhylaError

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, make_photos: Callable[..., Path]) -> Path:
    return whole(tmp_path_factory.mktemp("model"), make_photos)


@pytest.fixture
def place(model: Path, tmp_path: Path) -> Path:
    """A copy of the project to forge, where `run` runs."""
    return shutil.copytree(model, tmp_path / "here", dirs_exist_ok=True) / "p"


def test_nothing_is_wrong_with_the_model(run: Run, place: Path) -> None:
    assert run("check", "p", "-q") == (0, "")
    for argv in (*QUICK, *SLOW[2:6]):
        assert run(*argv)[0] == 0, argv


def test_forged_files(run: Run, model: Path, place: Path, examples: int) -> None:
    rng = random.Random(0)
    files = files_of(model / "p")
    made = cache(lambda name: [*forged(name, (model / "p" / name).read_bytes())])
    ends = [0, 0, 0]
    for number in range(6 * examples):
        name = rng.choice(files)
        label, data = rng.choice(made(name))
        shutil.rmtree(place)
        shutil.copytree(model / "p", place)
        put(place, name, data)
        for argv in (*rng.sample(QUICK, 1), *(rng.sample(SLOW, 1) if number % 20 == 0 else ())):
            try:
                status, error = run(*argv)
            except Exception as fault:
                raise AssertionError(f"{name}, {label}: {' '.join(argv)}") from fault
            assert status < 2 or "phyla: " in error, (name, label, argv)
            ends[status] += 1
    print(f"{sum(ends)} commands on {6 * examples} forged projects: {ends[0]} done, {sum(ends[1:])} told what is wrong")
    assert ends[1] + ends[2] > ends[0] / 10


MENDED = {
    "groups/*/labels_.npy": np.full(32, -5, np.int32),
    "groups/*/centers_.npy": np.zeros((2, 3), np.float32),
    "spread/*/proba.npy": np.zeros((32, 99), np.float16),
    "map/*/points.npy": np.zeros((32, 3), np.float32),
    "neighbors/*/indices.npy": np.full((32, 20), 2**31 - 1, np.int32),
    "measured/*/00000.thumb.npy": np.zeros((32, 5), np.uint8),
    "near/ground-*/ranked.npy": np.full(32, 99, np.int32),
}


@pytest.mark.parametrize("name", list(MENDED))
def test_check_finds_what_checksums_can_t_tell_and_repair_mends_it(
    run: Run, sorted_whole: Path, tmp_path: Path, name: str
) -> None:
    place = shutil.copytree(sorted_whole, tmp_path / "here", dirs_exist_ok=True) / "p"
    (path,) = place.glob(name)
    put(place, path.relative_to(place).as_posix(), saved(MENDED[name]))
    status, error = run("check", "p", "-q")
    assert status == 1, error
    assert run("check", "p", "--repair", "--threads", "1", "-q")[0] == 0
    assert run("check", "p", "-q")[0] == 0 and run("show", "p")[0] == 0


@pytest.fixture(scope="module")
def sorted_whole(tmp_path_factory: pytest.TempPathFactory, make_photos: Callable[..., Path]) -> Path:
    """One that has not grown: of what grew there is not all that it was made of."""
    return whole(tmp_path_factory.mktemp("sorted"), make_photos, grown=False)


def test_a_fault_of_our_own_is_not_laid_at_a_project_s_door(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(project: Project) -> None:
        raise ValueError("ours")

    monkeypatch.setattr(Project, "show", broken)
    with pytest.raises(ValueError, match="ours"):
        main(["show", str(model / "p")])


@pytest.mark.parametrize("part", ["groups/evil", "sums/groups/evil", "features/x/shards.lance", "damaged/groups/evil"])
def test_a_link_at_any_depth_is_refused(run: Run, place: Path, tmp_path: Path, part: str) -> None:
    (tmp_path / "victim").mkdir()
    (place / part).parent.mkdir(parents=True, exist_ok=True)
    (place / part).symlink_to(tmp_path / "victim")
    for argv in (("show", "p"), ("name", "p", "0", "x"), ("check", "p", "--repair", "-q")):
        status, error = run(*argv)
        assert status == 2 and "leads out of the project" in error
    assert not list((tmp_path / "victim").iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_before_anybody_waits_for_it(run: Run, place: Path) -> None:
    name = next(name for name in files_of(place) if name.endswith("labels_.npy"))
    (place / name).unlink()
    os.mkfifo(place / name)
    for argv in (("show", "p"), ("check", "p", "-q")):
        status, error = run(*argv)
        assert status == 2 and "neither a file nor a folder" in error


@pytest.mark.parametrize("name", ["assign", "__class__", "predict_proba", "fit_"])
def test_an_array_called_as_a_method_is_no_method(run: Run, place: Path, name: str) -> None:
    for stage in (*place.glob("groups/*"), *place.glob("spread/*"), *place.glob("reduced/*")):
        (stage / f"{name}.npy").write_bytes(saved(np.zeros(3)))
    assert run("predict", "p", "photos", "-o", "out.csv", "-q", "--threads", "1")[0] == 0


@pytest.mark.parametrize(
    "name", ["phyla.json", "edits.jsonl", "lock", "images", "groups", "report.html", "sums", "near"]
)
def test_a_file_for_a_folder_and_a_folder_for_a_file(run: Run, place: Path, name: str) -> None:
    path = place / name
    if path.is_dir():
        shutil.rmtree(path)
        path.write_bytes(b"x")
    else:
        path.unlink(missing_ok=True)
        path.mkdir()
    for argv in (("show", "p"), ("name", "p", "0", "x"), ("search", "p", "photos/red_001.png"), ("check", "p", "-q")):
        run(*argv)


ASKED = (
    "summary", "cards?by=group", "cards?by=class", "rows?of=all", "rows?of=unsorted", "rows?of=all&order=time",
    "image/0", "tree", "history", "findings?check=near_duplicates", "ask?n=3", "bought", "array/points",
    "array/labels", "array/severity", "why/0", "about?of=group:1", "apart?of=group:1",
)  # fmt: skip


def test_the_page_of_a_forged_project(model: Path, tmp_path: Path, examples: int) -> None:
    from starlette.testclient import TestClient

    from phyla.app import application

    rng, files = random.Random(1), files_of(model / "p")
    files = [name for name in files if not name.endswith((".parquet", ".jsonl"))]  # of which to make all takes long
    ends = {200: 0, 400: 0, 404: 0, 410: 0}
    for number in range(max(examples // 2, 1)):
        place = shutil.copytree(model / "p", tmp_path / str(number))
        name = rng.choice(files)
        label, data = rng.choice([*forged(name, (place / name).read_bytes())])
        put(place, name, data)
        try:
            app = application(Project(place), token="t", hosts=["h:1"])
        except PhylaError:
            continue
        client = TestClient(app, base_url="http://h:1", headers={"Origin": "http://h:1"}, cookies={"phyla_1": "t"})
        for asked in ASKED:
            try:
                ends[client.get(f"/api/{asked}").status_code] += 1
            except Exception as fault:
                raise AssertionError(f"{name}, {label}: {asked}") from fault
    print(ends)
    assert ends[200] > 3 * (examples // 2)
