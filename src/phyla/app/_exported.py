"""The page as a folder that needs no server: what would be asked lies there as files, and nothing can be said."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from phyla._export import spare, whole_folder
from phyla.app._page import page
from phyla.project import Project
from phyla.types import PhylaError

_SIDE = 192  # pixels of its pictures
_TOGETHER = 256  # images told of in one file, as web/src/api.ts asks for them
_ORDERS = ("typical", "uncertain", "name", "time")


def export_page(
    project: Project, folder: str | Path, *, force: bool = False, advance: Callable[[int], object] = lambda n: None
) -> int:
    """Write a page of `project` to `folder` that opens from the disk; return how many images it shows.

    It shows what there is now, and changes nothing. 10,000 images take half a minute and 40 MB. `advance` is told of
    pictures made.
    """
    folder, built = Path(folder), page()
    if not {"index.html", "page.js"} <= built.keys():
        raise PhylaError("The page is not built.", "In a checkout of Phyla: cd web; npm ci; npm run build")
    spare(folder, project.folder, project._current("source"), None)
    with whole_folder(folder, force) as whole:
        return _fill(project, whole, built, advance)


def _fill(project: Project, folder: Path, built: Mapping[str, Any], advance: Callable[[int], object]) -> int:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "thumbs").mkdir(exist_ok=True)
    paths: dict[str, int] = {}
    for number, (path, told) in enumerate(_answers(project)):
        paths[path] = number
        script = f"(window.PHYLA_ANSWERS ??= {{}})[{number}] = {json.dumps(told)}\n"
        (folder / "data" / f"{number}.js").write_text(script, encoding="ascii")
    (folder / "data" / "paths.js").write_text(f"window.PHYLA_PATHS = {json.dumps(paths)}\n", encoding="ascii")
    for name, file in built.items():
        data = file.read_bytes()
        if name == "index.html":  # whoever answers from files must know of them first
            data = data.replace(b"<script", b'<script defer src="data/paths.js"></script>\n    <script', 1)
        (folder / name).write_bytes(data)

    def draw(row: int) -> None:
        with suppress(PhylaError):  # gone since it was sorted: one picture must not cost the page
            picture = project.thumbnail(row, _SIDE)
            (folder / "thumbs" / f"{row}.webp").write_bytes(picture)
        advance(1)

    rows = range(len(project.images))
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        for _ in workers.map(draw, rows):
            pass
    return len(rows)


def _answers(project: Project) -> Iterator[tuple[str, Any]]:
    """Each path that the page asks, and what the server would answer."""
    summary = project.summary() | {"read_only": True, "can_undo": False, "can_redo": False}
    yield "summary", summary
    selectors = ["all", "unsorted", "unlabelled", "waiting", "accepted", "removed"]
    for by in ("group", "class"):
        yield f"cards?by={by}", (cards := project.cards(by))
        selectors += [card["of"] for card in cards if card["of"] not in selectors]
    tree = project.tree("", deep=True)
    yield "tree?key=", tree
    selectors += _selectors(tree)
    for of in dict.fromkeys(selectors):
        for order in _ORDERS if not of.startswith("tree:") else _ORDERS[:1]:
            yield f"rows?of={_quoted(of)}&order={order}", _base64(project.rows_of(of, order).astype("<i4"))
    for start in range(0, summary["images"], _TOGETHER):
        rows = range(start, min(start + _TOGETHER, summary["images"]))
        yield f"images/{start // _TOGETHER}", [project.image(row) for row in rows]
    yield "history?n=200", project.history(200)
    yield "bought", project.bought()
    for check in summary["findings"]:
        yield f"findings?check={_quoted(check)}", project.findings_of(check)
    for what in ("groups", "labels", "strength", "severity", *["points"] * summary["mapped"]):
        yield f"array/{what}", _base64(project.array(what))


def _selectors(node: dict[str, Any]) -> list[str]:
    """Of the nodes of a tree that are more than a handful of pictures."""
    own = [node["of"]] if node["of"] and not node["rows"] else []
    return own + [of for child in node["children"] or () for of in _selectors(child)]


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _quoted(text: str) -> str:
    """As encodeURIComponent does."""
    return quote(text, safe="-_.!~*'()")
