"""Why an image is taken for what it is, and what a group is, as a person asks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from phyla.project import Project


@pytest.fixture
def group(shown: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A named group, open; its network shows where it looks: at the upper half."""
    warm = np.zeros((32, 32), np.float32)
    warm[:16] = 1
    why = Project.why
    monkeypatch.setattr(Project, "heat", lambda self, row, by: warm)
    monkeypatch.setattr(Project, "why", lambda self, row: why(self, row) | {"looks": True})
    for number, name in enumerate(("one", "two", "three")):
        shown.project.name(number, name)
    shown.page.reload()
    expect(shown.page.locator("article").get_by_role("heading", name="one")).to_be_visible()
    shown.page.evaluate("() => void (location.hash = '#/group/group%3A0')")
    expect(shown.page.get_by_role("listbox").get_by_role("option").first).to_be_visible()
    return shown


def test_an_image_tells_why(group: SimpleNamespace, accessible: Callable[[Any, str], None]) -> None:
    page = group.page
    page.get_by_role("listbox").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Why?")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("y")
    rival = group.project.why(int(group.project.rows_of("group:0")[0]))["rival"]
    for heading in ("Most like it: one", f"Most like it: {rival}", "Speak for one", f"Speak for {rival}"):
        expect(dialog.get_by_role("region", name=heading).get_by_role("button")).not_to_have_count(0)
    shade = dialog.locator("img.shade")
    expect(shade).to_have_css("opacity", "0.75")
    dialog.get_by_role("slider", name="Darken the rest").fill("20")
    expect(shade).to_have_css("opacity", "0.2")
    picture = dialog.locator(".picture img").first
    assert shade.bounding_box() == picture.bounding_box()
    accessible(page, "why")
    dialog.get_by_label("The plain picture").check()
    expect(shade).to_have_count(0)


def test_what_explains_is_looked_at_and_corrected(group: SimpleNamespace) -> None:
    page, project = group.page, group.project
    page.get_by_role("listbox").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("y")
    dialog = page.get_by_role("dialog")
    before = dialog.locator("dd").first.inner_text()
    first = project.why(int(project.rows_of("group:0")[0]))["prototypes"][0]["row"]
    dialog.get_by_role("region", name="Most like it: one").get_by_role("button").first.click()
    expect(page.get_by_role("heading", name="Explains the one before")).to_be_visible()
    expect(dialog.locator("dd").first).to_have_text(str(project.images.uris[first]))
    dialog.get_by_role("combobox", name="Name of this image").fill("two")
    dialog.get_by_role("combobox", name="Name of this image").press("Enter")
    expect(dialog.get_by_text("a person said so")).to_be_visible()
    assert first in project.rows_of("class:two")
    dialog.get_by_role("button", name="Back").click()
    expect(dialog.locator("dd").first).to_have_text(before)


def test_a_group_tells_what_it_is(group: SimpleNamespace, accessible: Callable[[Any, str], None]) -> None:
    page = group.page
    page.get_by_role("button", name="What is it?").click()
    dialog = page.get_by_role("dialog", name="What is one?")
    for heading in ("Most typical", "Least certain", "Nearest of others"):
        expect(dialog.get_by_role("region", name=heading).locator("img")).to_have_count(6)
    expect(dialog.get_by_role("heading", name="one has more of")).to_be_visible()
    dialog.get_by_label("Compare with").select_option(label="two")
    expect(dialog.get_by_role("heading", name="two has more of")).to_be_visible()
    expect(dialog.locator(".concept")).not_to_have_count(0)
    accessible(page, "what a group is")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_an_exported_page_is_not_asked(sorted_project: Project, tab: Any, tmp_path: Path) -> None:
    from phyla.app import export_page

    export_page(sorted_project, tmp_path / "look")
    page = tab((tmp_path / "look" / "index.html").as_uri())
    page.evaluate("() => void (location.hash = '#/group/group%3A0')")
    grid = page.get_by_role("listbox")
    expect(grid.get_by_role("option").first).to_be_visible()
    expect(page.get_by_role("button", name="What is it?")).to_have_count(0)
    grid.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("y")
    expect(page.get_by_role("dialog").locator("dd").first).to_be_visible()
    expect(page.get_by_role("button", name="Why?")).to_have_count(0)
    expect(page.get_by_text("Most like it")).to_have_count(0)
