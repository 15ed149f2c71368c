"""Take the pictures of the page that docs/page.md shows: each view, light and dark, as WebP into docs/page/.

And one of the report, that of the README: docs/report.png.

    pip install '.[test]'             # and Chromium, the system's or by: playwright install chromium
    python docs/screenshots.py        # sorts the digits of phyla demo first; some minutes in all
    python docs/screenshots.py --project DIGITS.phyla --labels labels.csv

A project that is given is copied, and stays as it is. If nothing was said of it yet, something is said of the copy.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from phyla import sources
from phyla.project import Project

OUT = Path(__file__).parent / "page"
SIZE = {"width": 1280, "height": 800}
REPORT = Path(__file__).parent / "report.png"
PATIENCE = 300_000  # milliseconds, for what is computed when it is asked for
TOGETHER = 1_500_000  # bytes of all pictures
ANSWERS = 40
WHO = ("anna", "ben")  # work on it together
UNNAMED = 2  # groups that are left without a name: the smallest
BY_HAND = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BROWSERS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")


def talked_of(project: Project, labels: Path) -> None:
    """Say a few things of a project, so that every view has something to show."""
    truth = getattr(sources.open_source(labels), "labels", dict)()
    uris = [str(uri) for uri in project.images.uris]
    found = sources.match(list(truth), {uri: uri for uri in uris})
    known = {uri: str(name) for uri, name in zip(found, truth.values(), strict=True) if uri is not None}

    def called(name: str) -> str:
        return BY_HAND[int(name)] if name.isdigit() and int(name) < len(BY_HAND) else name

    def answer(n: int, by: str) -> None:
        asked = [told["uri"] for told in project.suggest(n)]
        project.label({uri: called(known[uri]) for uri in asked if uri in known}, by=by)

    cards = sorted(project.cards("group"), key=lambda card: -card["size"])
    for card in cards[: max(1, len(cards) - UNNAMED)]:
        commonest = Counter(known.get(uris[row], "") for row in card["typical"]).most_common(1)[0][0]
        if card["group"] is not None and commonest:
            project.name(card["group"], called(commonest))
    project.spread(report=False)
    for turn in range(4):  # in turns, so that there is a curve of what the answers bought
        answer(ANSWERS // 4, WHO[turn % 2])
        project.spread(report=False)
    project.audit(report=False)
    project.name(cards[0]["group"], "a slip")
    project.undo()


@contextmanager
def served(project: Project) -> Iterator[str]:
    """The address of the page of a project, while it is shown."""
    import uvicorn

    from phyla.app import application

    listening = socket.create_server(("127.0.0.1", 0))
    host, token = f"127.0.0.1:{listening.getsockname()[1]}", "of-the-screenshots"
    app = application(project, token=token, hosts=[host])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    yield f"http://{host}/?token={token}"
    server.should_exit = True
    thread.join(5)


def go(page: Any, view: str) -> None:
    page.evaluate("view => void (location.hash = '#/' + view)", view)


def settled(page: Any) -> None:
    """Wait until every picture in sight is there; the pointer points at nothing meanwhile."""
    page.mouse.move(1, SIZE["height"] - 1)
    for _ in range(100):
        page.wait_for_timeout(300)
        if page.evaluate(
            """[...document.images].every(image =>
                image.complete || !image.checkVisibility() || image.getBoundingClientRect().top > innerHeight)"""
        ):
            return
    raise TimeoutError("a picture does not come")


def views(page: Any, project: Project) -> Iterator[str]:
    """Bring up each view in turn, and tell its name once it can be photographed."""
    cards = sorted(project.cards("group"), key=lambda card: -card["size"])
    doubles = project.findings_of("duplicates") if "duplicates" in project.summary()["findings"] else []
    yield "groups"
    go(page, f"group/{cards[1]['of'].replace(':', '%3A')}")
    page.get_by_role("listbox").get_by_role("option").nth(20).wait_for()
    for number in (2, 3, 4):
        page.get_by_role("listbox").get_by_role("option").nth(number).click(modifiers=["Control"])
    yield "group"
    page.keyboard.press("Escape")
    page.get_by_role("listbox").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("y")
    page.locator("dialog img.shade").wait_for(timeout=PATIENCE)
    page.get_by_role("region", name="Speak for").first.wait_for(timeout=PATIENCE)
    page.locator("dialog dd").first.evaluate("file => void (file.textContent = file.textContent.split('/').at(-1))")
    yield "why"
    page.keyboard.press("Escape")
    page.get_by_role("button", name="What is it?").click()
    page.locator("dialog .concept").first.wait_for(timeout=PATIENCE)
    yield "what"
    page.keyboard.press("Escape")
    go(page, "map")
    page.locator(".entry").first.wait_for()
    yield "map"
    go(page, "tree")
    page.locator("[data-tile]").first.wait_for()
    yield "treemap"
    go(page, "ask")
    page.locator(".option").first.wait_for()
    yield "ask"
    go(page, "check")
    page.get_by_role("navigation", name="Checks").wait_for()
    if doubles:
        page.get_by_role("button", name="Next", exact=True).wait_for()
    for _ in range(next((n for n, finding in enumerate(doubles) if len(finding["rows"]) == 2), 0)):
        page.keyboard.press("ArrowRight")
    yield "check"
    go(page, f"find/{cards[2]['typical'][0]},{cards[2]['typical'][1]}")
    page.get_by_role("listbox", name="Found images").get_by_role("option").nth(20).wait_for()
    yield "find"
    go(page, "take")
    page.get_by_role("button", name="Take away").wait_for()
    yield "take"
    page.wait_for_timeout(1000)  # what was taught for the light picture is there, for the dark one
    if (teach := page.get_by_role("button", name="Teach it", exact=True)).is_visible():
        teach.click()
    page.get_by_label("Which network").wait_for(timeout=PATIENCE)
    page.locator(".take").evaluate("view => void (view.scrollTop = view.scrollHeight)")
    yield "classifier"
    go(page, "history")
    page.locator(".past li").first.wait_for()
    yield "history"


def photograph_report(chromium: Any, project: Project) -> None:
    """Take the picture of how the report begins."""
    page = chromium.new_page(viewport={"width": SIZE["width"], "height": 2 * SIZE["height"]})
    page.goto(project.report.resolve().as_uri())
    page.locator("dd").first.evaluate("file => void (file.textContent = file.textContent.split('/').at(-1))")
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").quantize(256).save(REPORT, optimize=True)
    print(f"{REPORT.stat().st_size:>9,}  {REPORT}")
    page.close()


def photograph(address: str, project: Project) -> int:
    """Take the picture of the report, and of each view; return how many bytes those are together."""
    OUT.mkdir(exist_ok=True)
    together = 0
    with sync_playwright() as playwright:
        own = next((path for path in BROWSERS if Path(path).exists()), None)
        chromium = playwright.chromium.launch(executable_path=own, args=["--no-sandbox"])
        photograph_report(chromium, project)
        for scheme in ("light", "dark"):
            context = chromium.new_context(viewport=SIZE, color_scheme=scheme, locale="en-GB", reduced_motion="reduce")
            context.set_default_timeout(15_000)
            page = context.new_page()
            page.on("pageerror", lambda fault: print(f"fault on the page: {fault}", file=sys.stderr))
            page.on("console", lambda told: told.type == "error" and print(f"console: {told.text}", file=sys.stderr))
            page.goto(address)
            page.wait_for_selector("article")
            for view in views(page, project):
                settled(page)
                file = OUT / f"{view}-{scheme}.webp"
                with Image.open(io.BytesIO(page.screenshot())) as picture:
                    picture.convert("RGB").save(file, "WEBP", quality=75, method=6)
                together += file.stat().st_size
                print(f"{file.stat().st_size:>9,}  {file}")
            context.close()
        chromium.close()
    return together


def main() -> None:
    about, _, how = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=how, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--project", type=Path, help="a sorted project, made anew by phyla demo if none is given")
    add("--labels", type=Path, help="a CSV of uri and label; by default the labels.csv beside the project")
    args = parser.parse_args()
    os.environ["LOGNAME"] = WHO[0]
    with tempfile.TemporaryDirectory() as scratch:
        folder, labels = args.project, args.labels
        if folder is None:
            subprocess.run([sys.executable, "-m", "phyla", "demo", "-o", scratch + "/phyla-demo"], check=True)
            folder = Path(scratch, "phyla-demo", "digits.phyla")
        labels = labels or folder.parent / "labels.csv"
        project = Project(shutil.copytree(folder, Path(scratch, "shown", folder.name)))
        project.draws = False
        if not project.seq:
            talked_of(project, labels)
        with served(project) as address:
            together = photograph(address, project)
    print(f"{together:>9,}  together")
    if together > TOGETHER:
        sys.exit(f"That is more than {TOGETHER:,} bytes.")


if __name__ == "__main__":
    main()
