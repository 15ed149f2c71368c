"""From groups to labels by what a person does on the page alone: how many actions, and how right.

Result: 11 actions 0.8995 named right, 60 actions 0.8885 (another run 0.901); 2 cores, AMD EPYC, Chromium 156, one
trial, 2026-11-21.

    python benchmarks/person.py PROJECT TRUTH [--actions 60] [--see]

PROJECT is a sorted project that nobody has said anything of (a copy of it is used), TRUTH a CSV of uri and label or a
Parquet file with a label column. The scripted person knows the class of every picture that she sees, and nothing else.
She names each group whose card shows one class, all but one picture at most (an action: type, Enter), and leaves mixed
ones; has the names spread; answers what "Ask me" asks (an action each), has the answers spread again, and takes the
table away (an action each). A pause is no action.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import perf_counter
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright

from phyla import sources
from phyla._export import read_rows
from phyla.project import Project, score_rows


class Person:
    """Somebody who knows the classes, at a page."""

    def __init__(self, page: Page, classes: dict[int, str]) -> None:
        self.page, self.classes, self.actions = page, classes, 0

    def sees(self, picture: str | None) -> str:
        """The class of the picture at an address that ends in its row."""
        found = re.search(r"(?:thumb|picture)/(\d+)", picture or "")
        assert found, picture
        return self.classes[int(found[1])]

    def types(self, field: Any, name: str) -> None:
        field.fill(name)
        field.press("Enter")
        self.actions += 1

    def name_groups(self) -> int:
        """Name every group that shows one class; return how many."""
        named = 0
        self.page.wait_for_selector("article img")
        for of in self.page.locator("article[data-of^='group:']").evaluate_all(
            "all => all.map(card => card.dataset.of)"
        ):
            card = self.page.locator(f"article[data-of='{of}']")
            card.scroll_into_view_if_needed()
            pictures = [self.sees(picture.get_attribute("src")) for picture in card.locator("img").all()]
            ((name, shown),) = Counter(pictures).most_common(1)
            if shown >= len(pictures) - 1:
                self.types(card.get_by_role("combobox"), name)
                expect(card.locator("h2")).to_have_text(name)
                named += 1
        return named

    def answer(self) -> None:
        """Answer what is asked, by its number where the class is offered."""
        picture = self.page.locator(".sheet img")
        shown = picture.get_attribute("src")
        name = self.sees(shown)
        offered = self.page.locator(".option .name").all_inner_texts()
        if name in offered:
            self.page.keyboard.press(str(offered.index(name) + 1))
            self.actions += 1
        else:
            self.types(self.page.get_by_role("combobox", name="Another name"), name)
        expect(picture).not_to_have_attribute("src", shown or "")

    def spread(self) -> None:
        """Have the answers spread, and wait for it."""
        button = self.page.get_by_role("button", name="Spread now")
        expect(button).to_be_enabled(timeout=600_000)  # one that began by itself
        button.click()
        self.actions += 1
        expect(self.page.get_by_role("button", name="Spreading")).to_be_visible()
        expect(button).to_be_enabled(timeout=600_000)

    def takes_away(self, to: Path) -> None:
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name="Take away").last.click()
        self.actions += 1
        download.value.save_as(to)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("project", type=Path)
    arguments.add_argument("truth", type=Path)
    arguments.add_argument("--actions", type=int, default=60)
    arguments.add_argument("--see", action="store_true", help="show the browser")
    args = arguments.parse_args()
    project = Project(args.project)
    truth = sources.open_source(str(args.truth)).labels()  # type: ignore[attr-defined]
    known = sources.match(project.images.uris.tolist(), truth)
    classes = {row: str(label) for row, label in enumerate(known)}
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(shutil.copytree(args.project, Path(temporary) / "p.phyla"))
        server = subprocess.Popen(
            [sys.executable, "-m", "phyla", "open", str(folder), "--no-browser"], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout
        (address,) = re.findall(r"http://\S+", server.stdout.readline())
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"], headless=not args.see
        )
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        started = perf_counter()
        page.goto(address)
        person = Person(page, classes)
        groups = person.name_groups()

        def told() -> str:
            rows = Project(folder).rows()
            figures = score_rows(rows, args.truth)
            return f"{figures['accuracy_named']:.4f} named right"

        print(f"{groups} groups named, {person.actions} actions: {told()}", flush=True)
        page.evaluate("location.hash = '#/ask'")
        page.wait_for_selector(".sheet img")
        person.spread()
        print(f"{person.actions} actions, names spread: {told()}", flush=True)
        while person.actions < args.actions - 2:
            person.answer()
        person.spread()
        page.evaluate("location.hash = '#/take'")
        table = Path(temporary) / "labels.csv"
        person.takes_away(table)
        figures = score_rows(read_rows(table), args.truth)
        took = perf_counter() - started
        print(f"{person.actions} actions, {took:.0f} s: {figures['accuracy_named']:.4f} named right")
        chromium.close()
        server.terminate()


if __name__ == "__main__":
    main()
