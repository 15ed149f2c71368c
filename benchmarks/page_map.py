"""The page's map of a million points: 60 frames/s dragged, 58 zoomed, 60 pointed at; a lasso of 32,000 0.2 s.

Chromium 156, headless, no graphics card, 1280 x 800, two cores that others used too, one trial, 2026-11-21. Drawn by
WebGL 2 (gl.POINTS, one buffer) in the same browser: 0.7 frames/s; by deck.gl 9.4: 0.1; regl-scatterplot 1.16 does not
start under the page's rules (it makes code from text), embedding-atlas 0.26 wants WebGPU.

python benchmarks/page_map.py [IMAGES] shows the built page a made-up project of that many images in 60 classes, moves
and zooms its map for five seconds each, and counts frames; then draws a lasso.
"""

from __future__ import annotations

import json
import sys
from importlib import resources
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from playwright.sync_api import Route, sync_playwright

CLASSES = 60
ADDRESS = "http://map.test/"
RULES = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'"
MOVE = """async kind => {
  const box = document.querySelector('.stage'), { left, top, width, height } = box.getBoundingClientRect()
  const x = left + width / 2, y = top + height / 2, frames = []
  const send = (what, dx, dy) => box.dispatchEvent(new PointerEvent(what,
    { bubbles: true, pointerId: 1, clientX: x + dx, clientY: y + dy }))
  box.setPointerCapture = () => {} // no pointer is real here
  if (kind === 'drag') send('pointerdown', 0, 0)
  const begin = performance.now()
  await new Promise(done => {
    const next = now => {
      frames.push(now)
      const s = (performance.now() - begin) / 1000
      if (s > 5) return done()
      if (kind === 'zoom') box.dispatchEvent(new WheelEvent('wheel',
        { bubbles: true, cancelable: true, clientX: x + 100, clientY: y, deltaY: Math.sin(2 * s) > 0 ? -12 : 12 }))
      else send('pointermove', 120 * Math.sin(3 * s), 100 * Math.sin(2 * s))
      requestAnimationFrame(next)
    }
    requestAnimationFrame(next)
  })
  if (kind === 'drag') send('pointerup', 0, 0)
  return frames
}"""


def answers(n: int) -> dict[str, Any]:
    """What the server would answer, by path."""
    rng = np.random.default_rng(0)
    middle, wide = rng.uniform(-0.85, 0.85, (CLASSES, 2)), rng.uniform(0.02, 0.09, CLASSES)
    code = rng.integers(0, CLASSES, n).astype("<i4")
    points = (middle[code] + rng.normal(0, 1, (n, 2)) * wide[code][:, None]).clip(-1, 1).astype("<f4")
    named = [{"name": f"class {c}", "images": int((code == c).sum()), "confirmed": 0} for c in range(CLASSES)]
    summary = {
        "project": "made up", "source": "", "view": "1", "seq": 0, "images": n, "files": n, "copies": 0,
        "unreadable": 0, "removed": 0, "groups": CLASSES, "unsorted": 0, "labelled": n, "answers": 0,
        "can_undo": False, "can_redo": False, "classes": named, "spread": None, "findings": {}, "audited": True,
        "mapped": True, "reads_words": False, "read_only": False, "job": None,
    }  # fmt: skip
    return {
        "summary": summary,
        "cards": [{"group": c, "name": f"class {c}"} for c in range(CLASSES)],
        "array/points": points.tobytes(),
        "array/groups": code.tobytes(),
        "array/labels": code.tobytes(),
        "array/strength": rng.integers(0, 256, n).astype("u1").tobytes(),
        "array/severity": bytes(n),
    }


def main(n: int) -> None:
    told = answers(n)
    built = Path(str(resources.files("phyla") / "app" / "page"))

    def answer(route: Route) -> None:
        path = route.request.url.removeprefix(ADDRESS).split("?")[0] or "index.html"
        if (file := built / path).is_file():
            route.fulfill(path=file, headers={"Content-Security-Policy": RULES})
        elif (known := told.get(path.removeprefix("api/"))) is None:
            route.abort()
        else:
            route.fulfill(body=known if isinstance(known, bytes) else json.dumps(known))

    with sync_playwright() as playwright:
        own = next((path for path in ("/usr/bin/chromium", "/usr/bin/google-chrome") if Path(path).exists()), None)
        page = playwright.chromium.launch(executable_path=own, args=["--no-sandbox"]).new_page(
            viewport={"width": 1280, "height": 800}
        )
        page.route("**/*", answer)
        begin = perf_counter()
        page.goto(f"{ADDRESS}#/map")
        page.locator(".entry").first.wait_for()
        print(f"{n:,} points, shown after {perf_counter() - begin:.1f} s (of which Playwright hands over the arrays)")
        for kind in ("drag", "zoom", "point"):
            frames = np.diff(page.evaluate(MOVE, kind))
            print(f"{kind}: {1000 / frames.mean():.0f} frames/s, 95% of them within {np.quantile(frames, 0.95):.0f} ms")
        box = page.locator(".stage").bounding_box() or {}
        page.keyboard.down("Shift")
        for number, (x, y) in enumerate(((0.3, 0.2), (0.7, 0.2), (0.7, 0.8), (0.3, 0.8))):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
            if not number:
                page.mouse.down()
        begin = perf_counter()
        page.mouse.up()
        page.get_by_role("toolbar").wait_for()
        chosen = page.get_by_role("toolbar").locator("strong").inner_text()
        print(f"lasso: {chosen} after {1000 * (perf_counter() - begin):.0f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
