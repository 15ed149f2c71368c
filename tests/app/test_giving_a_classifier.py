"""A classifier through the page: taught as a job, chosen, and taken away."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tab import HOST, TOKEN, Page

import phyla
from phyla.app import _jobs, application
from phyla.project import Project, sort


def taught(page: Page) -> dict[str, Any]:
    assert page.post("jobs", {"what": "train"})["what"] == "train"
    page.client.app.state.server.jobs.wait(60)
    job = page.get("summary")["job"]
    assert job["finished"] and job["error"] is None
    return page.get("classifier")


@pytest.mark.parametrize("apart", [0, 10**9], ids=["a process", "a thread"])
def test_what_there_is_to_choose_from(page: Page, monkeypatch: pytest.MonkeyPatch, apart: int) -> None:
    monkeypatch.setattr(_jobs, "_APART", apart)
    assert page.get("classifier") is None
    page.say("name", group=0, name="first")
    page.say("name", group=1, name="second")
    told = taught(page)
    (student,) = told["students"]
    assert student["backbone"] == "fake" and student["recommended"] and told["classes"] == ["first", "second"]
    assert told["edits_since"] == 0 and not told["checked"]
    page.say("name", group=2, name="third")
    assert page.get("classifier")["edits_since"] == 1
    assert taught(page)["classes"] == ["first", "second", "third"]


def test_of_other_groups_nothing_is_told(page: Page) -> None:
    taught(page)
    with page.project.store.writing():
        page.project.store.update_meta(agreement=0.9)
    assert page.get("classifier") is None


def test_what_cannot_be_written_is_told_by_the_answer(page: Page) -> None:
    taught(page)
    assert page.refused("classifier", {}, 400) == "fake can't be written into a file of its own."
    assert "several networks" in page.refused("classifier", {"cascade": True}, 400)
    assert "was not sorted by" in page.refused("classifier", {"backbone": "lite9"}, 400)
    page.refused("classifier", {"backbone": ["fake"]}, 400)
    page.refused("classifier", {"integer": "yes"}, 400)
    assert page.get("classifier")["students"]  # what was there stays


def test_a_summary_tells_what_became_of_the_groups(page: Page) -> None:
    assert page.get("summary")["drift"] is None
    told = {"added": 9, "gone": 0, "since": 9, "strange": 8, "moved": 0.1, "anew": True}
    page.project.store.write_json(f"{page.project._current('groups')}/grown.json", told)
    assert page.get("summary")["drift"] == told


def test_one_job_at_a_time(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()
    monkeypatch.setattr(Project, "train", lambda self, **options: {"waited": held.wait(30)})
    page.post("jobs", {"what": "train"})
    try:
        assert "still runs" in page.refused("classifier", {}, 409)
        page.refused("jobs", {"what": "train"}, 409)
    finally:
        held.set()


def test_only_by_asking_for_it_is_it_written(page: Page) -> None:
    page.refused("jobs", {"what": "write"}, 404)


@pytest.fixture(scope="module")
def two(make_photos: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A tab on a few pictures that two real networks looked at."""
    folder = tmp_path_factory.mktemp("two")
    photos = make_photos(folder / "photos", each=12)
    project = sort(photos, folder / "my project", backbone=["lite0-int8", "lite0"], groups=3, report=False)
    client = TestClient(
        application(project, token=TOKEN, hosts=[HOST]), base_url=f"http://{HOST}", headers={"Origin": f"http://{HOST}"}
    )
    client.get("/", params={"token": TOKEN})
    return Page(client, project)


def unzipped(page: Page, to: Path, **asked: Any) -> list[str]:
    answer = page.client.post("/api/classifier", json=asked)
    assert answer.status_code == 200, answer.text
    assert 'filename="my project.zip"' in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        archive.extractall(to)
        return sorted(archive.namelist())


def test_a_network_is_taken_away(two: Page, tmp_path: Path) -> None:
    names = unzipped(two, tmp_path, backbone="lite0")
    assert names == [f"my project.{kind}" for kind in ("md", "onnx", "py")]
    rows = phyla.predict(tmp_path / "my project.onnx", two.project._current("source"), threads=1)["rows"]
    shown = two.project.rows()
    groups = {uri: f"group {group}" for uri, group in zip(shown["uri"], shown["group"], strict=True) if group >= 0}
    same = [groups[uri] == name for uri, name in zip(rows["uri"], rows["class"], strict=True) if uri in groups]
    assert len(same) > 20 and sum(same) / len(same) > 0.8


def test_a_cascade_is_taken_away(two: Page, tmp_path: Path) -> None:
    names = unzipped(two, tmp_path, cascade=True)
    assert "my project/cascade.json" in names and sum(name.endswith(".onnx") for name in names) == 2
    rows = phyla.predict(tmp_path / "my project", two.project._current("source"), threads=1)["rows"]
    assert len(rows["uri"]) == 36 and not any(rows["fault"])


def test_in_integers_it_is_smaller(two: Page, tmp_path: Path) -> None:
    unzipped(two, tmp_path / "float", backbone="lite0")
    unzipped(two, tmp_path / "integer", backbone="lite0", integer=True)
    large, small = ((tmp_path / kind / "my project.onnx").stat().st_size for kind in ("float", "integer"))
    assert small < large / 2
