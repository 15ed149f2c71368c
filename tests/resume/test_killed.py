"""Killed at any moment, a run goes on where it was and ends with the bytes of one that was left in peace."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _killed
import pytest

from phyla.project import sort
from phyla.store import Store

QUICK: dict[str, Any] = {"backbone": ["fake"], "groups": 3, "threads": 1}
KILLS = 7


def content(folder: Path) -> dict[str, bytes]:
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    files.pop("lock", None)
    return files


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


@pytest.fixture(scope="module", autouse=True)
def small_shards() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        _killed.small_shards(patch.setattr)
        yield


@pytest.fixture(scope="module")
def undisturbed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], int]:
    """Bytes of a whole run, and its number of steps."""
    folder = tmp_path_factory.mktemp("undisturbed")
    steps: list[None] = []
    with pytest.MonkeyPatch.context() as patch:
        _killed.watch(patch.setattr, folder / "log", lambda: steps.append(None))
        sort(photos, folder / "project", **QUICK)
    assert len((folder / "log").read_text().splitlines()) == 120
    return content(folder / "project"), len(steps)


def test_the_run_has_shards_to_lose(undisturbed: tuple[dict[str, bytes], int]) -> None:
    files, steps = undisturbed
    assert sum(name.startswith("scan/") for name in files) == 4
    assert sum(name.startswith("features/") and name.endswith(".ids.npy") for name in files) == 8
    assert steps > 150
    assert "report.html" in files and not any(name.startswith("tmp") for name in files)


@pytest.fixture(scope="module")
def killed(photos: Path, undisturbed: tuple, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A folder of projects whose run was killed, and the step each was killed at: one in each part of the way."""
    rng, steps = random.Random(7), undisturbed[1]
    moments = [int(steps * (i + rng.random()) / KILLS) + 1 for i in range(KILLS)]
    folder = tmp_path_factory.mktemp("killed")
    path = os.pathsep.join(p for p in sys.path if p)
    command = [sys.executable, str(Path(_killed.__file__)), str(photos), str(folder), *map(str, moments)]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path})
    return folder, moments


@pytest.mark.parametrize("number", range(KILLS))
def test_the_rest_gives_the_same_bytes(
    number: int, killed: tuple[Path, list[int]], photos: Path, undisturbed: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, moments = killed
    project, log = folder / str(number), folder / f"{number}.log"
    before = content(project)
    assert differing(before, undisturbed[0]), f"step {moments[number]}: it was not killed"
    shards = [name for name in before if name.startswith("features/") and name.endswith(".npy") and ".ids" not in name]
    earlier = Counter(log.read_text().splitlines() if log.exists() else [])
    _killed.watch(monkeypatch.setattr, folder / f"{number}.again", lambda: None)
    sort(photos, project, **QUICK)
    assert not differing(content(project), undisturbed[0]), f"killed at step {moments[number]}"

    later = folder / f"{number}.again"
    again = Counter(later.read_text().splitlines() if later.exists() else [])
    assert max((earlier + again).values()) <= 2
    assert len(again) == sum(again.values()) == 120 - min(120, _killed.SHARD * len(shards))
    assert set(earlier) | set(again) == {str(p) for p in photos.iterdir()}


def test_some_kills_were_in_the_midst_of_extraction(killed: tuple[Path, list[int]]) -> None:
    folder, _ = killed
    counts = [
        len(log.read_text().splitlines()) if (log := folder / f"{number}.log").exists() else 0
        for number in range(KILLS)
    ]
    assert sum(0 < count < 120 for count in counts) >= 2, counts


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_byte(threads: int, photos: Path, undisturbed: tuple, tmp_path: Path) -> None:
    sort(photos, tmp_path / "project", **QUICK | {"threads": threads})
    assert not differing(content(tmp_path / "project"), undisturbed[0])


def test_with_faults_and_copies_too(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    """Stopped by an error of ours after each shard in turn, with pictures that break when they are decoded."""
    folder = make_photos(tmp_path / "some", each=12)
    for number in (0, 20, 33):
        path = sorted(folder.iterdir())[number]
        path.write_bytes(path.read_bytes()[:400])
    whole = content(sort(folder, tmp_path / "whole", **QUICK).folder)
    write, done = Store.write_array, 0

    def stop_after_one(self: Store, name: str, array: Any) -> None:
        nonlocal done
        write(self, name, array)
        if name.startswith("features/") and not name.endswith(".ids.npy"):
            done += 1
            raise KeyboardInterrupt

    while True:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "write_array", stop_after_one)
            try:
                sort(folder, tmp_path / "stopped", **QUICK | {"report": False})
            except KeyboardInterrupt:
                continue
        break
    assert done == 3, "one run a shard"
    sort(folder, tmp_path / "stopped", **QUICK)
    assert not differing(content(tmp_path / "stopped"), whole)
