"""What lies beside a classifier's file: a card for people, and an example of its use without Phyla."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phyla import backbones
from phyla._version import __version__
from phyla.train._write import put
from phyla.types import PhylaError

_SHOWN = 50  # classes that the card names

EXAMPLE = '''\
"""Label a folder of pictures: python THIS.py PICTURES OUT.csv (pip install numpy pillow onnxruntime)."""
# Written by Phyla beside the classifier of the same name; Phyla is not needed to run it.
import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

if len(sys.argv) != 3:
    sys.exit(__doc__)
model = onnxruntime.InferenceSession(str(Path(__file__).with_suffix(".onnx")))
facts = model.get_modelmeta().custom_metadata_map
classes, network = json.loads(facts["classes"]), json.loads(facts["network"])
side = math.ceil(network["size"] / network["crop"])  # pixels that are enough


def pixels(path):
    with Image.open(path) as image:
        image.draft("RGB", (side, side))  # a large JPEG is read at a fraction of its size
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        return np.asarray(image.convert("RGB"))


with open(sys.argv[2], "w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["file", "class", "probability", "defer", "outlier"])
    for path in sorted(p for p in Path(sys.argv[1]).rglob("*") if p.is_file()):
        try:
            picture = pixels(path)
        except Exception:
            print(f"{path} can't be read", file=sys.stderr)
            continue
        label, share, defer, outlier = (out[0] for out in model.run(None, {"pictures": picture[None]}))
        table.writerow([path, classes[label], round(float(share.max()), 4), int(defer), round(float(outlier), 4)])
'''
_OURS = EXAMPLE.splitlines()[1]

CARD = """\
# {name}

A classifier of pictures into {count} classes, written by Phyla {version}. `{name}.onnx` needs nothing beside it but
ONNX Runtime: it resizes, computes the network and decides. `{name}.py` shows how.

## What it tells

| goes in, comes out | |
|---|---|
| `pictures` | uint8 (n, h, w, 3): n pictures of one size, any size, RGB, upright |
| `class` | int64 (n,): the number of the likeliest class, from 0 |
| `probability` | float32 (n, {count}): of each class |
| `defer` | bool (n,): a person should look, as the class may well be wrong |
| `outlier` | float32 (n,) 0..1: the share of the pictures learnt from that are less strange than this one |

It knows these classes only, and gives one of them to any picture: of what it was never shown, the class means nothing.
An `outlier` near 1 says so in many cases, not in all.

## What it is made of

{told}

- Network: {network}, seeing {size} × {size} pixels{integer}. Licence of its weights: {licence}.

## Classes

{classes}
"""


def accompany(path: Path, card: backbones.Card, classes: Sequence[str], told: dict[str, Any]) -> tuple[Path, Path]:
    """Write NAME.md and NAME.py beside the classifier NAME.onnx at `path`; the arguments are those of `write`.

    Raises `PhylaError`, and writes nothing, where another NAME.py or NAME.md lies there.
    """
    text, example = path.with_suffix(".md"), path.with_suffix(".py")
    marks = {text: "written by Phyla", example: _OURS}
    for file, mark in marks.items():
        if file.exists() and mark not in file.read_text(encoding="utf-8", errors="replace"):
            raise PhylaError(f"{file} is there already, and not from Phyla.", "Give the classifier another name.")
    names = [f"{number}. {_plain(name)}" for number, name in enumerate(classes[:_SHOWN])]
    if len(classes) > _SHOWN:
        names.append(f"… and {len(classes) - _SHOWN:,} more, which the file names")
    page = CARD.format(
        name=path.stem, count=len(classes), version=__version__, network=_plain(card.name), size=card.size,
        licence=_plain(card.licence), integer=", in 8-bit integers" if card.integer else "",
        told="\n".join(_lines(told)) or "Nothing is told.", classes="\n".join(names),
    )  # fmt: skip
    put(text, page.encode())
    put(example, EXAMPLE.encode())
    return text, example


def _lines(told: dict[str, Any], depth: int = 0) -> list[str]:
    """A list in Markdown of whatever JSON is told."""
    lines = []
    for key, value in told.items():
        name = str(key) if depth else str(key).replace("_", " ").capitalize()  # within lie names, of classes say
        head = f"{'  ' * depth}- {_plain(name)}:"
        if isinstance(value, dict):
            lines += [head, *_lines(value, depth + 1)]
        elif isinstance(value, list):
            lines += [head, *(f"{'  ' * (depth + 1)}- {_plain(item)}" for item in value)]
        else:
            lines.append(f"{head} {_plain(value)}")
    return lines


def _plain(value: Any) -> str:
    """`value` on one line, with nothing in it that Markdown or HTML would act upon."""
    return re.sub(r"([\\`*_<>\[\]|#])", r"\\\1", " ".join(str(value).split()))
