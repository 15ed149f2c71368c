"""An explanation as a file: a picture beside where the networks look, or a page with everything on it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import sources
from phyla._export import beside
from phyla._opened import Opened
from phyla.types import PhylaError

_SIDE = 128  # pixels of the page's small pictures
_DIM = 0.75  # of what the networks don't look at
_GAP = 12  # pixels between pictures side by side

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
:root { color-scheme: light dark; --paper: #f7f6f3; --ink: #1c1d20; --soft: #5d6068; --sunk: #e4e2dc; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #131417; --ink: #eceae6; --soft: #a3a6ae; --sunk: #272a2f; }
}
body {
  max-width: 1000px; margin: 0 auto; padding: 40px 32px 64px; background: var(--paper); color: var(--ink);
  font: 16px/1.5 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere;
}
h1 { margin: 0; font-size: 32px; line-height: 1.2; letter-spacing: -.02em; }
h2 { margin: 32px 0 8px; font-size: 17px; }
p { margin: 4px 0 0; color: var(--soft); }
div { display: flex; flex-wrap: wrap; gap: 8px; }
figure { margin: 0; font-size: 13px; color: var(--soft); }
figcaption { max-width: 128px; }
img { display: block; border-radius: 6px; background: var(--sunk); }
.large figcaption { max-width: 300px; }
.large img { width: 300px; height: auto; }
</style>
</head>
<body>
<main>
<h1>$title</h1>
<p>$about</p>
$parts
</main>
</body>
</html>
""")


def write(project: Opened, told: Mapping[str, Any], to: Path) -> None:
    """Write what `Project.explain` told to a .png or .html, aside first and then renamed."""
    if to.suffix.lower() == ".png":
        if told["heat"] is None:
            raise PhylaError(told["heat_why"], "An .html has all the rest.")
        data = _encoded(_beside([_whole(project, told), *(picture for _, picture in _looks(project, told))]), "PNG")
    else:
        parts = _of_picture(project, told) if "prototypes" in told else _of_group(project, told)
        title, about = headline(told)
        data = _PAGE.substitute(title=escape(title), about=escape(about), parts="\n".join(parts)).encode()
    with beside(to) as folder:
        (folder / "whole").write_bytes(data)
        (folder / "whole").replace(to)


def headline(told: Mapping[str, Any]) -> tuple[str, str]:
    """What is explained, in a few words, and in a sentence."""
    if "prototypes" not in told:
        if told["against"]:
            return f"{told['name']} or {told['against']}", "What the one has more of than the other."
        return str(told["name"]), f"{told['images']:,} images."
    if told["rival"] is None:
        return str(told["name"]), str(told["uri"])
    return f"{told['name']} rather than {told['rival']}", str(told["uri"])


def spotlight(picture: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The picture at the heat's size, dark where there is none."""
    import cv2

    size = heat.shape[1], heat.shape[0]
    way = cv2.INTER_AREA if picture.shape[1] > size[0] else cv2.INTER_CUBIC
    pixels = cv2.resize(picture, size, interpolation=way)
    return np.asarray(pixels * (1 - _DIM * (1 - heat[..., None])), np.uint8)


def _whole(project: Opened, told: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The picture itself, as large as its heat."""
    pixels = _pixels(project, told)
    heat = told["heat"]
    return spotlight(pixels, np.ones_like(heat)) if heat is not None else pixels


def _pixels(project: Opened, told: Mapping[str, Any]) -> NDArray[np.uint8]:
    if told["row"] is not None:
        return project.images.open(told["row"], 320)
    return sources.decode(Path(told["uri"]).read_bytes(), 320)


def _looks(project: Opened, told: Mapping[str, Any]) -> list[tuple[str, NDArray[np.uint8]]]:
    """What is said of each heat map there is, and the picture in its light."""
    said = {"heat": "Where the networks look", "heat_of_class": f"What speaks for {told['name']}"}
    pixels = _pixels(project, told)
    return [(text, spotlight(pixels, told[key])) for key, text in said.items() if told.get(key) is not None]


def _beside(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    gap = np.full((pictures[0].shape[0], _GAP, 3), 255, np.uint8)
    return np.hstack([part for picture in pictures for part in (gap, picture)][1:])


def _encoded(pixels: NDArray[np.uint8], kind: str) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"quality": 82} if kind == "WEBP" else {}))
    return buffer.getvalue()


def _figure(pixels: NDArray[np.uint8], text: str, alt: str) -> str:
    data = base64.b64encode(_encoded(pixels, "WEBP")).decode()
    size = f'width="{pixels.shape[1]}" height="{pixels.shape[0]}"'
    caption = f"<figcaption>{escape(text)}</figcaption>" if text else ""
    return f'<figure><img src="data:image/webp;base64,{data}" alt="{escape(alt)}" {size}>{caption}</figure>'


def _strip(project: Opened, title: str, listed: Sequence[tuple[int, str]]) -> list[str]:
    """A heading and small pictures, each a row and what is said of it."""
    from PIL import Image, ImageOps

    figures = []
    for row, text in listed:
        try:
            pixels = project.images.open(row, _SIDE)
        except (OSError, PhylaError):  # gone since it was sorted: one picture must not cost the page
            continue
        fitted = ImageOps.fit(Image.fromarray(pixels), (_SIDE, _SIDE), Image.Resampling.LANCZOS)
        figures.append(_figure(np.asarray(fitted), text, str(project.images.uris[row])))
    return [f"<h2>{escape(title)}</h2><div>{''.join(figures)}</div>"] if figures else []


def _of_picture(project: Opened, told: Mapping[str, Any]) -> list[str]:
    name, rival = told["name"], told["rival"]
    shown = [("", _whole(project, told)), *_looks(project, told)]
    parts = ["<h2></h2>", f'<div class="large">{"".join(_figure(p, text, told["uri"]) for text, p in shown)}</div>']
    parts += _strip(project, f"Most like it, of {name}", [(o["row"], _near(o)) for o in told["prototypes"]])
    if rival is not None:
        if told["lead"] < 0:
            parts.append(f"<p>{escape(f'More speaks for {rival}: {name} may be wrong.')}</p>")
        parts += _strip(project, f"Most like it, of {rival}", [(o["row"], _near(o)) for o in told["counter_examples"]])
        for side, title in (("for", f"Pushed it to {name}"), ("against", f"Pushed it to {rival}")):
            pushed = [(one["row"], f"{one['push']:+.3f} {one['name']}") for one in told["pushes"][side]]
            parts += _strip(project, title, pushed)
    return parts


def _near(one: Mapping[str, Any]) -> str:
    return f"{one['distance']:.1f} away{', confirmed' if one['answered'] else ''}"


def _of_group(project: Opened, told: Mapping[str, Any]) -> list[str]:
    parts = _strip(project, "Most typical", [(one["row"], "") for one in told["typical"]])
    uncertain = [(one["row"], f"agreement {one['strength']:.0%}") for one in told["uncertain"]]
    parts += _strip(project, "Least certain", uncertain)
    parts += _strip(project, "Nearest of others", [(one["row"], one["name"]) for one in told["near"]])
    for side, whose in (("more", told["name"]), ("less", told["against"])):
        for one in told["concepts"][side]:
            title = f"{whose} has more of this: {one['share']:.0%}"
            parts += _strip(project, title, [(row, "") for row in one["rows"]])
    return parts
