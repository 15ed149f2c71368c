from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tab import HOST, TOKEN, Page

from phyla.app import application
from phyla.project import Project


@pytest.fixture
def page(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Page]:
    """A tab on a copy of the small project, which is its `project`; its page is three short files."""
    built = tmp_path / "built"
    built.mkdir()
    (built / "index.html").write_text('<!doctype html>\n<script defer src="page.js"></script>\n')
    (built / "page.js").write_text("'use strict'\n")
    (built / "secret.key").write_text("not of the page")
    monkeypatch.setenv("PHYLA_PAGE", str(built))
    with TestClient(
        application(project, token=TOKEN, hosts=[HOST]), base_url=f"http://{HOST}", headers={"Origin": f"http://{HOST}"}
    ) as client:
        assert client.get("/", params={"token": TOKEN}).status_code == 200
        yield Page(client, project)
        client.app.state.server.jobs.wait(30)
