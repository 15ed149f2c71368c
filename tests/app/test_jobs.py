"""Long work beside the page, news of it, and what is said meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from tab import Page

from phyla.app import _jobs
from phyla.project import Project

SRC = Path(_jobs.__file__).parents[2]
SERVER = """
import sys
from phyla.app import serve
from phyla.project import Project
serve(Project(sys.argv[1]), token="live", open_browser=False)
"""


def until(true: Callable[[], Any], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (told := true()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
    return told


def done(page: Page) -> dict[str, Any]:
    return until(lambda: (job := page.get("summary")["job"]) and job["finished"] and job)


@pytest.mark.parametrize("apart", [0, 10**9], ids=["a process", "a thread"])
def test_a_spread(page: Page, monkeypatch: pytest.MonkeyPatch, apart: int) -> None:
    monkeypatch.setattr(_jobs, "_APART", apart)
    page.say("confirm", rows=[0, 1], name="blue")
    page.say("confirm", rows=[60, 61], name="green")
    assert page.post("jobs", {"what": "spread"})["what"] == "spread"
    job = done(page)
    assert job["error"] is None and job["done"] == job["total"]
    told = page.get("summary")
    assert told["spread"]["answers"] == 4 and told["spread"]["edits_since"] == 0 and told["labelled"] == 120
    assert [point["answers"] for point in page.get("bought")] == [4]
    assert {option["name"] for option in page.get("ask", n=1)[0]["options"]} == {"blue", "green"}


def test_five_answers_spread_by_themselves(page: Page) -> None:
    page.say("confirm", rows=[0, 1], name="blue")
    page.say("confirm", rows=[60, 61], name="green")
    assert page.get("summary")["job"] is None
    page.say("confirm", rows=[100], name="red")
    assert done(page)["what"] == "spread"
    assert page.get("summary")["spread"]["answers"] == 5
    page.say("name", group=0, name="blue")  # no answer
    page.say("confirm", rows=[2, 3, 4, 5], name="blue")
    page.client.app.state.server.jobs.wait(30)
    assert page.get("summary")["spread"]["answers"] == 5
    page.say("undo")
    page.say("confirm", rows=[2, 3, 4, 5, 6], name="blue")
    until(lambda: page.get("summary")["spread"]["edits_since"] == 0)
    assert len(page.get("bought")) == 2
    page.client.app.state.server.jobs.wait(30)
    assert len(list(page.project.folder.glob("spread/*/proba.npy"))) == 1  # of the last; what the others told is kept


def test_an_audit_and_its_findings(page: Page) -> None:
    page.post("jobs", {"what": "audit"})
    assert done(page)["error"] is None
    told = page.get("summary")
    assert told["audited"]
    for check, count in told["findings"].items():
        found = page.get("findings", check=check)
        assert len(found) == count and all(of["check"] == check and of["why"] for of in found)
    assert page.get("findings", check="no such check") == []


def test_what_goes_wrong_is_told_by_the_job(page: Page) -> None:
    page.post("jobs", {"what": "spread"})
    assert "Nothing is labelled yet" in done(page)["error"]["error"]
    page.refused("jobs", {"what": "format the disk"}, 404)
    page.refused("jobs", {"what": ["spread"]}, 400)


def test_a_fault_of_our_own_ends_the_job(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Project, "audit", lambda self, **options: 1 / 0)
    page.post("jobs", {"what": "audit"})
    assert "ZeroDivisionError" in done(page)["error"]["error"]


def test_edits_during_a_job(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    held, work = threading.Event(), Project.audit

    def slow(self: Project, **options: Any) -> Any:
        with self.store.writing():
            held.wait(30)
        return work(self, **options)

    monkeypatch.setattr(Project, "audit", slow)
    page.post("jobs", {"what": "audit"})
    try:
        page.refused("jobs", {"what": "spread"}, 409)
        for row in range(4):
            page.say("move", rows=[row], name="said meanwhile")
        assert page.get("summary")["answers"] == 4 and not page.get("summary")["job"]["finished"]
        page.say("undo")
    finally:
        held.set()
    assert done(page)["error"] is None
    assert page.get("summary")["seq"] == 5


def test_the_map_is_drawn_where_there_is_none(page: Page) -> None:
    with page.project.store.writing():
        page.project.store.update_meta(map=None)
    assert not page.get("summary")["mapped"]
    assert page.client.get("/api/array/points").status_code == 404
    page.post("jobs", {"what": "map"})
    assert done(page)["error"] is None and page.get("summary")["mapped"]
    assert len(page.array("array/points", "<f4")) == 240


class Live:
    """A server in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVER, str(folder)],
            stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join([str(SRC), *sys.path])},
        )  # fmt: skip
        assert self.process.stdout
        address = self.process.stdout.readline()
        self.port = int(address.split(":")[2].partition("/")[0])

    def ask(self, path: str, told: Any = None) -> HTTPResponse:
        asking = HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Cookie": f"phyla_{self.port}=live", "Origin": f"http://127.0.0.1:{self.port}"}
        headers |= {"Content-Type": "application/json"}
        asking.request("GET" if told is None else "POST", path, told and json.dumps(told), headers)
        return asking.getresponse()

    def news(self) -> Iterator[dict[str, Any]]:
        stream = self.ask("/api/events")
        assert stream.headers["content-type"].startswith("text/event-stream")
        while line := stream.readline():
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


@contextmanager
def live(folder: Path) -> Iterator[Live]:
    server = Live(folder)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()
        server.process.stdout.close()  # type: ignore[union-attr]


def test_every_tab_hears_of_every_edit(project: Project) -> None:
    with live(project.folder) as server:
        first, second = server.news(), server.news()
        assert next(first)["seq"] == next(second)["seq"] == 0
        assert server.ask("/api/edits", {"op": "name", "group": 0, "name": "said in a tab"}).status == 200
        assert next(first)["seq"] == next(second)["seq"] == 1
        project.name(1, "said by another process")
        assert next(first)["seq"] == next(second)["seq"] == 2
        assert json.loads(server.ask("/api/summary").read())["seq"] == 2
        server.process.send_signal(signal.SIGINT)  # open tabs don't hold it up
        assert server.process.wait(10) == 0


def test_a_killed_server_has_lost_nothing(project: Project) -> None:
    said = 0
    with live(project.folder) as server, pytest.raises((OSError, HTTPException)):
        while True:
            if said == 4:
                threading.Timer(0.5, server.process.kill).start()
            answer = server.ask("/api/edits", {"op": "move", "rows": [said % 120], "name": f"class {said % 7}"})
            assert answer.status == 200 and answer.read()
            said += 1
    edits = Project(project.folder).edits
    assert said > 3 and len(edits) in (said, said + 1)  # the last may have been written, but not answered for
    with live(project.folder) as server:
        assert json.loads(server.ask("/api/summary").read())["seq"] == len(edits)
        assert server.ask("/api/edits", {"op": "undo"}).status == 200
    assert len(Project(project.folder).edits) == len(edits) + 1
