"""A classifier taught, chosen and taken away on the page."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import expect

from phyla.project import Project, sort


@pytest.fixture(scope="module")
def two(make_photos: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A few pictures in three named groups, by two real networks."""
    folder = tmp_path_factory.mktemp("two")
    photos = make_photos(folder / "photos", each=12)
    project = sort(photos, folder / "shapes.phyla", backbone=["lite0-int8", "lite0"], groups=3, report=False)
    for group, name in enumerate(("one", "two", "three")):
        project.name(group, name)
    return project


def test_teach_choose_and_download(two: Project, serve: Any, tab: Any, accessible: Callable[[Any, str], None]) -> None:
    page = tab(serve(two), "take")
    page.get_by_role("button", name="Teach it").click()
    expect(page.get_by_text("3 classes, taught by names of groups.")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("“As taught” is the share that agrees")).to_be_visible()
    points = page.get_by_role("group", name="Share as taught by images a second").get_by_role("button")
    expect(points).to_have_count(3)
    chosen = points.and_(page.locator("[aria-pressed=true]"))
    expect(chosen).to_have_count(1)
    expect(chosen).to_have_accessible_name(re.compile("recommended$"))
    which = page.get_by_label("Which network")
    page.get_by_role("button", name="cascade:").focus()
    page.keyboard.press("Enter")
    expect(which.locator("option:checked")).to_have_text("cascade")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        accessible(page, f"a classifier, {scheme}")
    which.select_option("lite0")
    expect(page.get_by_role("button", name="lite0:")).to_have_attribute("aria-pressed", "true")
    page.get_by_text("As a table").click()
    expect(page.get_by_role("table").get_by_role("rowheader", name="lite0", exact=False).first).to_be_visible()
    page.get_by_label("8-bit integers").check()
    with page.expect_download(timeout=60_000) as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "shapes.zip"
    with zipfile.ZipFile(download.value.path()) as archive:
        assert sorted(archive.namelist()) == ["shapes.md", "shapes.onnx", "shapes.py"]
        assert archive.getinfo("shapes.onnx").file_size < 9e6  # in floats 19 MB


def test_what_was_said_since_is_told(shown: SimpleNamespace) -> None:
    page = shown.page
    page.evaluate("() => void (location.hash = '#/take')")
    page.get_by_role("button", name="Teach it").click()
    expect(page.get_by_text("3 classes, taught by groups without names.")).to_be_visible(timeout=30_000)
    shown.project.name(0, "one")
    shown.project.name(1, "two")
    expect(page.get_by_text("2 edits since.")).to_be_visible()
    page.get_by_role("button", name="Teach it again").click()
    expect(page.get_by_text("2 classes, taught by names of groups.")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("edits since.")).to_have_count(0)


def test_groups_that_no_longer_fit_are_told(shown: SimpleNamespace) -> None:
    page, store = shown.page, shown.project.store
    expect(page.get_by_text("To sort anew")).to_have_count(0)
    told = {"added": 30, "gone": 0, "since": 30, "strange": 21, "moved": 0.1, "anew": True}
    store.write_json(f"{shown.project._current('groups')}/grown.json", told)
    page.reload()
    note = page.get_by_text("30 images added since the groups were made; 21 fit none of them.")
    expect(note).to_be_visible()
    expect(note.locator("code")).to_have_text(f"phyla sort --project {shown.project.folder.name} --anew")
