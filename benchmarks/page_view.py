"""60,000 pictures: cards 0.36 s after the address is asked for (0.29 warm), their pictures 1.2 s; 56 to 60 frames/s.

Milliseconds, medians of 5 (before: of 3), load 5 (before: 3.5) of other work beside it; least and most in brackets:

                                        before                    now
    cold: paint, cards, pictures        340, 994, 2826            296 (220-380), 356 (299-462), 1160 (1038-1345)
    warm: paint, cards, pictures        268, 402, 1856            188 (172-284), 291 (245-365),  884 (752-1184)
    from the command to its address     510                       720, the first view being made before it is told

    frames/s at 40, 400, 3000 px a frame (load 4)
    cells of 48 px                      40.8, 37.7, 44.1          59.5, 60.0, 60.0 (57.0 at least)
    cells of 112 px                     59.0, 60.0, 60.0          59.5, 60.0, 60.0 (57.0 at least)
    cells of 240 px                     60.0, 55.6, 60.0          60.0, 56.5, 60.0 (50.1 at least)

Before is commit 66cdbfe. Two cores (AMD EPYC), Python 3.11, Chromium 156.0.8078, headless, no graphics card; scrolled
for 2 s each in 1280 x 800; 2026-11-21. At load 6.6: cold 392, 511, 1655; warm 248, 337, 1145.

python benchmarks/page_view.py FOLDER [--trials 5] [--only open|scroll] [--seconds 3]

makes in FOLDER, unless it is there, a project of CIFAR-10's 60,000 pictures (sorted with the tests' network `fake`,
which takes no time), starts `phyla open` and looks at its page with a fresh browser each time. Cold: the first start
after the sort, so no thumbnail was ever made; warm: another browser at the same server. Then scrolls the grid of all
images. PHYLA_PAGE names another build of the page.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from _data import need
from playwright.sync_api import Browser, Page, sync_playwright

PLUGIN = Path(__file__).parents[1] / "tests" / "plugin"
CELLS, STEPS = (48, 112, 240), (40, 400, 3000)  # pixels; a frame
WATCH = """
window.seen = { cards: 0, loads: new Map() }
document.addEventListener('load', event => {
  if (event.target instanceof HTMLImageElement) seen.loads.set(event.target, performance.now())
}, true)
new MutationObserver((_, observer) => {
  if (!document.querySelector('article[data-of]')) return
  seen.cards = performance.now()
  observer.disconnect()
}).observe(document, { childList: true, subtree: true })
"""
LOADED = """() => {
  const inSight = [...document.querySelectorAll('article img')].filter(img => {
    const at = img.getBoundingClientRect()
    return at.bottom > 0 && at.top < innerHeight
  })
  return inSight.length > 8 && inSight.every(img => img.complete && img.naturalWidth) && {
    paint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime,
    cards: seen.cards,
    pictures: Math.max(...inSight.map(img => seen.loads.get(img) ?? 0)),
  }
}"""
SCROLL = """async ([step, seconds]) => {
  const box = document.querySelector('[role=listbox]'), frames = []
  box.scrollTop = 0
  await new Promise(done => setTimeout(done, 300))
  let by = step
  await new Promise(done => {
    const next = now => {
      frames.push(now)
      if (now - frames[0] > 1000 * seconds) return done()
      if (box.scrollTop + by < 0 || box.scrollTop + by > box.scrollHeight - box.clientHeight) by = -by
      box.scrollTop += by
      requestAnimationFrame(next)
    }
    requestAnimationFrame(next)
  })
  return frames
}"""


def make(folder: Path) -> Path:
    """CIFAR-10 as a project that was never opened."""
    project = folder / "sorted.phyla"
    if not (project / "made").exists():
        shutil.rmtree(project, ignore_errors=True)
        (folder / "photos").mkdir(parents=True, exist_ok=True)
        for part in ("train", "test"):
            link = folder / "photos" / f"{part}.parquet"
            link.unlink(missing_ok=True)
            link.symlink_to(need(f"cifar10-{part}.parquet").absolute())
        sys.path.insert(0, str(PLUGIN))
        from phyla.project import Project

        begin = perf_counter()
        Project(project, create=True).sort(str(folder / "photos"), backbone=["fake"], groups=40, report=False)
        print(f"sorted in {perf_counter() - begin:.0f} s", flush=True)
        (project / "made").touch()
    return project


@contextmanager
def opened(project: Path) -> Iterator[tuple[str, float]]:
    """The address of its page, and the seconds until it was told."""
    path = os.pathsep.join([str(PLUGIN), *filter(None, [os.environ.get("PYTHONPATH")])])
    begin = perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "phyla", "open", str(project), "--no-browser"],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    try:
        assert server.stdout
        (address,) = re.findall(r"http://\S+", server.stdout.readline())
        yield address, perf_counter() - begin
    finally:
        server.terminate()
        server.wait()


@contextmanager
def shown(chromium: Browser, address: str) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.add_init_script(WATCH)
    page.goto(address)
    yield page
    context.close()


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


def opening(chromium: Browser, project: Path, trials: int) -> None:
    """Milliseconds from asking for the address until there is something to see, the cards, their pictures."""
    cold, warm, links = [], [], []
    copy = project.with_name("opened.phyla")
    for _ in range(trials):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(project, copy)
        with opened(copy) as (address, link):
            links.append(link)
            for told in (cold, warm):
                with shown(chromium, address) as page:
                    told.append(page.wait_for_function(LOADED, timeout=60_000).json_value())
    print(f"link told after {np.median(links):.2f} s ({trials} trials, {load()})")
    for name, told in (("cold", cold), ("warm", warm)):
        for what in ("paint", "cards", "pictures"):
            times = [one[what] for one in told]
            print(f"{name} {what:9} {np.median(times):6.0f} ms  (least {min(times):.0f}, most {max(times):.0f})")


def scrolling(chromium: Browser, project: Path, trials: int, seconds: float) -> None:
    """Frames a second of the grid of all images."""
    copy = project.with_name("opened.phyla")
    if not copy.exists():
        shutil.copytree(project, copy)
    told: dict[tuple[int, int], list[Any]] = {(cell, step): [] for cell in CELLS for step in STEPS}
    with opened(copy) as (address, _):
        for _ in range(trials):
            with shown(chromium, address) as page:
                page.wait_for_selector("article")
                page.evaluate("location.hash = '#/group/all'")
                page.wait_for_selector("[role=listbox][aria-label*='60,000']")
                for cell, step in told:
                    page.get_by_role("slider").fill(str(cell))
                    page.wait_for_timeout(500)
                    told[cell, step].append(np.diff(page.evaluate(SCROLL, [step, seconds])))
    print(f"frames/s ({trials} trials of {seconds:g} s, {load()})")
    for (cell, step), each in told.items():
        rates = [1000 / frames.mean() for frames in each]
        slow = np.quantile(np.concatenate(each), 0.95)
        print(
            f"cells {cell:3}, {step:4} px a frame: {np.median(rates):5.1f}  "
            f"(least {min(rates):.1f}, most {max(rates):.1f}; 95 % of frames within {slow:.0f} ms)"
        )


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--trials", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=3)
    arguments.add_argument("--only", choices=("open", "scroll"))
    args = arguments.parse_args()
    project = make(args.folder)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        if args.only != "scroll":
            opening(chromium, project, args.trials)
        if args.only != "open":
            scrolling(chromium, project, args.trials, args.seconds)
        chromium.close()


if __name__ == "__main__":
    main()
