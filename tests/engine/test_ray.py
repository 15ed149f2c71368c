"""The same bytes by processes of Ray, here and with the project on an object store, whatever is killed meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phyla import Project, _steps, plugins
from phyla.project import sort
from phyla.types import PhylaError

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'phyla[ray]'")
sys.path.insert(0, str(Path(__file__).parent))
import _away  # noqa: E402

QUICK: dict[str, Any] = {"backbone": ["fake"], "groups": 3, "report": False, "threads": 2}
run = plugins.load("engine", "ray")


@pytest.fixture(scope="module", autouse=True)
def cluster(s3: str) -> Iterator[None]:
    """Ray on this machine; its workers know the object store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
        list(run(_away.double, [1], 2))
        yield
        ray.shutdown()


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    _away.small_shards(monkeypatch.setattr)


def content(folder: Path) -> dict[str, bytes]:
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: data for name, data in files.items() if name != "lock"}


@pytest.fixture(scope="module")
def expected(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one thread makes of it."""
    with pytest.MonkeyPatch.context() as patch:
        _away.small_shards(patch.setattr)
        return content(sort(photos, tmp_path_factory.mktemp("local") / "p", **QUICK | {"threads": 1}).folder)


class TestRun:
    def test_results_keep_the_order_of_the_tasks(self) -> None:
        assert list(run(_away.double, range(1000), 2)) == [2 * n for n in range(1000)]

    def test_nothing_to_do(self) -> None:
        assert list(run(_away.double, [], 2)) == []

    def test_both_cores_work(self) -> None:
        assert len({process for _, process in run(_away.slow, range(60), 2)}) == 2

    def test_a_worker_has_one_thread_of_linear_algebra(self) -> None:
        (told,) = run(_away.threads, [0], 2)
        assert set(told) == {1}

    def test_a_fault_of_the_users_comes_home_whole(self) -> None:
        with pytest.raises(PhylaError, match=r"^Seven is bad\.\nLeave it out\.$"):
            list(run(_away.ours, range(20), 2))

    def test_a_fault_of_ours_is_not_hidden(self) -> None:
        with pytest.raises(ZeroDivisionError):
            list(run(_away.theirs, range(20), 2))

    def test_a_killed_worker_is_replaced(self, tmp_path: Path) -> None:
        told = list(run(_away.Fragile(tmp_path / "killed"), range(40), 2))
        assert (tmp_path / "killed").exists()
        assert [task for task, _ in told] == list(range(40))
        assert max(seen for _, seen in told) > 5, "what a worker loads it keeps"

    def test_what_kills_every_worker_ends_the_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("phyla.engine.ray._RETRIES", 1)
        with pytest.raises(PhylaError, match="Ray gave up after 1 tries"):
            list(run(_away.always, range(2), 2))


def test_no_ray_at_the_address(photos: Path, tmp_path: Path) -> None:
    """In another process: Ray runs in this one. There it does not wait for half a minute."""
    code = "import phyla, ray.util.client.worker as w; w.INITIAL_TIMEOUT_SEC = w.MAX_TIMEOUT_SEC = 0.1;"
    code += f"phyla.sort({str(photos)!r}, {str(tmp_path / 'p')!r}, engine='ray://127.0.0.1:9', quiet=True)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "PhylaError: Ray can't be reached at ray://127.0.0.1:9" in told.stderr


def test_sigterm_is_still_ours(photos: Path, tmp_path: Path) -> None:
    """A stopped command says how to go on, and ends as one that was stopped."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PHYLA_FAKE_SECONDS": "1"}
    words = ["sort", str(photos), "-o", str(tmp_path / "p"), "--backbone", "fake", "-k", "3", "--engine", "ray"]
    run = subprocess.Popen([sys.executable, "-m", "phyla", *words, "--threads", "2"], env=env, stderr=subprocess.PIPE)
    until = time.monotonic() + 90
    while not list(tmp_path.glob("p/features/*/recipe.json")) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.5)  # the first pictures are under way
    run.terminate()
    told = run.communicate(timeout=60)[1].decode()
    assert run.returncode == 143 and "The same command goes on where it was." in told, told


def test_nodes_come_and_go() -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    told = subprocess.run([sys.executable, _away.__file__], env=env, capture_output=True, text=True, timeout=180)
    processes, _, node = told.stdout.splitlines()[-1].rpartition(" ")
    done = json.loads(processes)
    assert len(done) == 100 and None not in done, "each task once, in order"
    assert len(set(done)) >= 3, "those that joined worked too"
    assert node == "None", "they were lost before the end"


class TestSort:
    def test_bytes_are_the_same(self, photos: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
        assert content(sort(photos, tmp_path / "p", **QUICK, engine="ray").folder) == expected

    def test_shards_that_are_there_are_kept(
        self, photos: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those of a killed run, also behind one that is missing: workers end in any order."""
        project = sort(photos, tmp_path / "p", **QUICK, engine="ray").folder
        shards = sorted(project.glob("features/*/?????.npy"))
        assert len(shards) == 8
        for path in (shards[2], shards[5]):
            path.unlink()
        for room in ("reduced", "groups"):
            shutil.rmtree(project / room)
        before = {path: path.stat().st_mtime_ns for path in shards if path.exists()}
        assert content(sort(photos, project, **QUICK, engine="ray").folder) == expected
        assert {path: path.stat().st_mtime_ns for path in before} == before

    def test_sums_are_merged_in_order(self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Many parts of the sums, whoever makes them: one thread, four, or Ray."""
        monkeypatch.setattr(_steps, "_SUMMED", 24)
        told = [
            content(sort(photos, tmp_path / f"{engine}{threads}", **QUICK | {"threads": threads}, engine=engine).folder)
            for engine, threads in (("local", 1), ("local", 4), ("ray", 2))
        ]
        axes = [next(v for k, v in files.items() if k.endswith("components_.npy")) for files in told]
        assert axes[0] == axes[1] == axes[2]
        assert told[0] == told[1] == told[2]

    def test_rows_are_assigned_by_workers(self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those that are no landmarks."""
        monkeypatch.setattr("phyla.cluster._landmarks.LANDMARKS", 60)
        monkeypatch.setattr("phyla.cluster._landmarks._BLOCK", 16)
        told = [content(sort(photos, tmp_path / engine, **QUICK, engine=engine).folder) for engine in ("local", "ray")]
        assert told[0] == told[1]

    def test_the_index_is_made_by_workers(self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("phyla.project.INDEXED", 100)
        monkeypatch.setattr("phyla._searching._SHARD", 50)
        told = [content(sort(photos, tmp_path / engine, **QUICK, engine=engine).folder) for engine in ("local", "ray")]
        assert told[0] == told[1]
        assert sum(name.endswith("vectors.npy") and name.startswith("index/") for name in told[0]) == 3

    def test_an_audit_is_made_by_workers(self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """They measure the pictures, and find the neighbours."""
        told = []
        monkeypatch.setattr("phyla.neighbors._EXACT", 100)
        monkeypatch.setattr("phyla.neighbors.cells._LEAST", 50)
        for engine in ("local", "ray"):
            project = sort(photos, tmp_path / engine, **QUICK)
            told.append([project.audit(engine=engine, threads=1), content(project.folder)])
        assert told[0] == told[1]
        assert {"measured", "neighbors"} <= {name.partition("/")[0] for name in told[0][1]}

    def test_labels_are_spread_by_workers(self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for room in ("_people", "_spreading"):
            monkeypatch.setattr(f"phyla.{room}.LANDMARKS", 60)
        monkeypatch.setattr("phyla._spreading._BLOCK", 16)
        told = []
        for engine in ("local", "ray"):
            project = sort(photos, tmp_path / engine, **QUICK)
            project.name(0, "one")
            project.name(1, "two")
            told.append([project.spread(engine=engine, report=False), content(project.folder / "spread")])
        assert told[0] == told[1] and told[0][0]["images"] == 120 and told[0][1]

    def test_new_pictures_are_assigned_by_workers(self, photos: Path, make_photos: Any, tmp_path: Path) -> None:
        project = sort(photos, tmp_path / "p", **QUICK)
        project.name(0, "one")
        new = make_photos(tmp_path / "new", 9, start=100)
        (new / "broken.png").write_bytes(b"no picture")
        told = [project.predict(new, tmp_path / f"{way}.csv", engine=way, threads=2) for way in ("local", "ray")]
        for name, values in told[0].items():
            np.testing.assert_array_equal(values, told[1][name], err_msg=name)
        assert len(told[0]["uri"]) == 28 and (told[0]["fault"] != "").sum() == 1
        assert (tmp_path / "local.csv").read_bytes() == (tmp_path / "ray.csv").read_bytes()

    def test_the_driver_is_killed(self, photos: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
        project = tmp_path / "p"
        command = [sys.executable, _away.__file__, str(photos), str(project)]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PHYLA_FAKE_SECONDS": "0.3"}
        driver = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 90
        while not list(project.glob("features/*/00000.npy")) and time.monotonic() < until:
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        assert not list(project.glob("groups/*/done"))
        assert content(sort(photos, project, **QUICK, engine="ray").folder) == expected


def test_on_an_object_store(photos: Path, expected: dict[str, bytes], s3: str, tmp_path: Path) -> None:
    """Workers write there; another machine, which has nothing yet, sees the same."""
    place = f"{s3}/by-ray.phyla"
    told = sort(photos, place, **QUICK, engine="ray").show()
    assert told["images"] == 120 and told["groups"] == 3 and told["project"] == place
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHYLA_CACHE", str(tmp_path / "elsewhere"))
        other = Project(place)
        assert other.show() == told
        for name, data in expected.items():
            if name.endswith(".npy"):
                assert other.store.read(name) == data, name
        assert np.array_equal(other.X, Project(place).X)
