"""From a collection of real pictures to a table of labels, on the page alone; its server is killed on the way."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hands import until
from playwright.sync_api import expect

from phyla._demo import digits
from phyla.project import Project, sort

IMAGES = 1500


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first test images of CIFAR-10 where they are, handwritten digits elsewhere; in ten groups, and audited."""
    folder = tmp_path_factory.mktemp("real")
    table = Path(os.environ.get("PHYLA_DATA", Path(__file__).parents[3] / "shared/data")) / "cifar10-test.parquet"
    if table.exists():
        pq.write_table(pq.read_table(table).slice(0, IMAGES), folder / "images.parquet")
        source = folder / "images.parquet"
    else:
        source = Path(digits(f"{folder}/digits"))
    project = sort(source, folder / "project", groups=10, effort="fast")
    project.audit(checks=["duplicates", "outlier"], report=False)
    return project.folder


@pytest.fixture
def opened(real: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], str]]]:
    """Start `phyla open` → its process and the address that it tells."""
    running = []

    def start() -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "phyla", "open", str(real), "--no-browser"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout
        (address,) = re.findall(r"http://\S+", process.stdout.readline())
        return process, address

    yield start
    for process in running:
        process.kill()
        process.wait()


def card(page: Any, group: int) -> Any:
    return page.locator(f"article[data-of='group:{group}']")


def names(folder: Path) -> dict[int, str]:
    return Project(folder).names


def test_from_groups_to_a_table(real: Path, opened: Any, tab: Any, tmp_path: Path) -> None:
    server, address = opened()
    page = tab(address)
    for group in range(4):
        card(page, group).get_by_role("combobox").fill(f"kind {group}")
        card(page, group).get_by_role("combobox").press("Enter")
        expect(card(page, group).get_by_role("heading")).to_have_text(f"kind {group}")
    until(page, lambda: len(names(real)) == 4)

    server.send_signal(signal.SIGKILL)  # what was said is said
    server.wait()
    page.close()
    _, address = opened()
    page = tab(address)
    for group in range(4):
        expect(card(page, group).get_by_role("heading")).to_have_text(f"kind {group}")

    for group in (4, 5):  # merge
        card(page, group).get_by_role("checkbox").check()
    field = page.get_by_role("combobox", name="One name for the selected groups")
    field.fill("both")
    field.press("Enter")
    until(page, lambda: [names(real).get(group) for group in (4, 5)] == ["both"] * 2)

    card(page, 6).hover()  # split
    card(page, 6).get_by_role("button", name="Split").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="2", exact=True).click()
    expect(dialog.get_by_role("region")).to_have_count(2)
    for part, name in enumerate(("one part", "another")):
        dialog.get_by_role("combobox").nth(part).fill(name)
    dialog.get_by_role("button", name="Split", exact=True).click()
    until(page, lambda: {"one part", "another"} <= {known["name"] for known in Project(real).show()["classes"]})

    page.evaluate("location.hash = '#/group/group%3A0'")  # move, undo
    grid = page.get_by_role("listbox")
    expect(grid.get_by_role("option").first).to_be_visible()
    grid.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("m")
    page.keyboard.type("elsewhere")
    page.keyboard.press("Enter")
    until(page, lambda: int((Project(real).said.person >= 0).sum()) == 2)
    page.keyboard.press("Control+z")
    until(page, lambda: int((Project(real).said.person >= 0).sum()) == 0)

    page.evaluate("location.hash = '#/ask'")  # twenty answers
    for number in range(20):
        picture = page.locator(".sheet img")
        expect(picture).to_be_visible()
        shown = picture.get_attribute("src")
        page.keyboard.press("1")
        if number < 19:
            expect(picture).not_to_have_attribute("src", shown or "")
    until(page, lambda: int((Project(real).said.person >= 0).sum()) == 20)

    check = "duplicates" if any(f.check == "duplicates" for f in Project(real).findings) else "outlier"
    before = sum(f.check == check for f in Project(real).findings)
    page.evaluate("check => void (location.hash = '#/check/' + check)", check)
    if check == "outlier":
        page.get_by_role("listbox").focus()
        page.keyboard.press("Space")
    else:
        expect(page.get_by_text(f"1 of {before}", exact=True)).to_be_visible()
    page.keyboard.press("k")
    until(page, lambda: sum(f.check == check for f in Project(real).findings) == before - 1)

    page.evaluate("location.hash = '#/map'")  # lasso
    box = page.get_by_role("application").bounding_box()
    expect(page.locator(".entry").first).to_be_visible()
    page.keyboard.down("Shift")
    for number, (x, y) in enumerate([(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)]):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=3)
        if not number:
            page.mouse.down()
    page.mouse.up()
    page.keyboard.up("Shift")
    n = len(Project(real).images)
    expect(page.get_by_text(f"{n:,} images", exact=True)).to_be_visible()
    page.keyboard.press("Escape")

    page.evaluate("location.hash = '#/take'")
    with page.expect_download() as download:
        page.get_by_role("button", name="Take away").last.click()
    download.value.save_as(tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == n and {"kind 0", "both", "another"} <= {row["name"] for row in rows}
