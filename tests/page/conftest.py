"""A small project, served in this process, and a browser that looks at it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from phyla.project import Project

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")

TOKEN = "of-the-tests"
_BROWSERS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")


@pytest.fixture(scope="session")
def built() -> None:
    folder = Path(os.environ.get("PHYLA_PAGE") or str(resources.files("phyla") / "app" / "page"))
    if not (folder / "page.js").is_file():
        pytest.skip(f"needs the built page in {folder}: cd web && npm ci && npm run build")


@pytest.fixture(scope="session")
def browser(built: None) -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        own = next((path for path in _BROWSERS if Path(path).exists()), None)
        try:
            chromium = playwright.chromium.launch(executable_path=own, args=["--no-sandbox"])
        except sync_api.Error as fault:
            pytest.skip(f"needs Chromium: {str(fault).splitlines()[0]}")
        yield chromium
        chromium.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Project], str]]:
    """project → the address of its page. The servers stop with the test."""
    uvicorn = pytest.importorskip("uvicorn")
    from phyla.app import application
    from phyla.app._serving import _listen

    running = []

    def start(project: Project) -> str:
        listening = _listen("127.0.0.1", 0)
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        app = application(project, token=TOKEN, hosts=[host])
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        running.append((server, thread))
        until = time.monotonic() + 10
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        return f"http://{host}/?token={TOKEN}"

    yield start
    for server, _ in running:
        server.should_exit = True
    for _, thread in running:
        thread.join(5)


@pytest.fixture
def tab(browser: Any) -> Iterator[Callable[..., Any]]:
    """address → a page there, in one browser with all others of the test. Faults in its console fail the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(8000)
    faults: list[str] = []

    def is_fault(told: Any) -> bool:
        expected = ("status of 409", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION")  # refused; a killed server
        no_picture = "status of 400" in told.text and told.location["url"].endswith("/api/search/picture")
        return told.type == "error" and not no_picture and not any(text in told.text for text in expected)

    def open_tab(address: str, view: str = "groups") -> Any:
        page = context.new_page()
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        page.on("console", lambda told: faults.append(told.text) if is_fault(told) else None)
        page.goto(address)
        page.wait_for_selector("main:not(:has(.wait))")
        if view != "groups":
            page.evaluate("view => void (location.hash = '#/' + view)", view)
        return page

    yield open_tab
    context.close()
    assert not faults


@pytest.fixture
def shown(sorted_project: Project, serve: Any, tab: Any, tmp_path: Path) -> SimpleNamespace:
    """A project of 120 pictures in three groups, its address, and the page that shows its groups."""
    project = Project(shutil.copytree(sorted_project.folder, tmp_path / "project"))
    address = serve(project)
    page = tab(address)
    page.wait_for_selector("article")
    return SimpleNamespace(project=project, address=address, page=page)


@pytest.fixture
def accessible() -> Callable[[Any, str], None]:
    """(page, where): axe finds nothing serious in what the page shows."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()

    def check(page: Any, where: str) -> None:
        found = [
            f"{where}: {one['id']}: {one['nodes'][0]['html'][:200]}"
            for one in axe.run(page).response["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        assert not found

    return check
