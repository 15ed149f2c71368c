"""Make a project as one version of Phyla writes it, and what that version says of it: `_make.py NAME.zip`.

Run it with that version's code (`git archive COMMIT src`, PYTHONPATH) whenever the format changes. The pictures lie in
an archive in memory, so that the project finds them wherever it is unpacked. The zip holds it, `photos.zip`, and
`new/` (pictures to grow by), `project/` and `told.json`.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import zipfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fsspec
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "plugin"))

URL = "memory://phyla-formats/photos.zip"
COLOURS = {"red": (200, 50, 50), "green": (50, 190, 60), "blue": (50, 60, 200)}
THEN = (2026, 11, 22, 0, 0, 0)
MAY_GO = ("index", "near", "thumbs", "tmp", "report.html")  # made again when it is missing


def picture(colour: str, number: int) -> bytes:
    rng = np.random.default_rng([number, *colour.encode()])
    pixels = np.array(COLOURS[colour]) + rng.uniform(-35, 35) + 8 * rng.normal(size=(4, 4, 3)).round()
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8).repeat(5, 0).repeat(5, 1)).save(file, "PNG")
    return file.getvalue()


def put(files: dict[str, bytes]) -> bytes:
    """Have the archive hold these pictures; what it is made of."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, THEN), data)
    fsspec.filesystem("memory").pipe("/phyla-formats/photos.zip", packed.getvalue())
    return packed.getvalue()


def uri(name: str) -> str:
    return f"{URL}#{name}.png"


def told(project: Any) -> dict[str, Any]:
    """What a version says of a project, as plain values."""
    labels, X = project.labels, project.X
    return {
        "show": project.show() | {"project": "", "report": None},
        "rows": {name: column.tolist() for name, column in project.rows().items()},
        "labels": {
            name: np.asarray(getattr(labels, name)).tolist() for name in ("codes", "origin", "proba", "accepted")
        },
        "classes": list(labels.classes),
        "edits": [[e.seq, e.op, list(e.ids), list(e.classes), e.by, e.at, e.of] for e in project.edits],
        "findings": [[f.check, list(f.ids), f.why] for f in project.findings],
        "X": [list(X.shape), float(np.abs(X).sum())],
    }


def main(out: str) -> None:
    from phyla import _people
    from phyla.project import Project
    from phyla.sources import _files

    first = {f"{colour}_{n:02}.png": picture(colour, n) for colour in COLOURS for n in range(14)}
    first |= {'deep/é ü/red, "one".png': picture("red", 90), "copy of red.png": first["red_03.png"]}
    first |= {"empty.png": b"", "flat.png": _plain(COLOURS["blue"])}
    later = {f"{colour}_{n:02}.png": picture(colour, n) for colour in COLOURS for n in range(50, 53)}
    new = {f"{colour}_{n:02}.png": picture(colour, n) for colour in COLOURS for n in range(70, 72)}
    put(first)
    with ExitStack() as held:  # nothing tells of the moment it was made
        folder = held.enter_context(tempfile.TemporaryDirectory())
        clock = held.enter_context(patch.object(_people, "datetime"))
        held.enter_context(patch.object(_files, "stamp", lambda path: "then"))
        clock.now.return_value = datetime(2026, 11, 22, tzinfo=UTC)
        project = Project(f"{folder}/project", create=True)
        project.draws = False
        project.sort(URL, backbone=["fake"], groups=3, threads=1)
        group = {c: int(project.rows()["group"][project.rows()["uri"].tolist().index(uri(f"{c}_01"))]) for c in COLOURS}
        project.name(group["red"], 'Äpfel / "rot"')
        project.name(group["green"], "leaves")
        project.name(group["blue"], "wrong")
        project.undo()
        project.merge([group["blue"]], "sky 🙂")
        project.label({uri(f"green_{n:02}"): "leaves" for n in (2, 5)} | {uri("blue_06"): "sky 🙂"}, by="ana")
        project.label({uri("red_07"): "leaves", uri("red_08"): "berries"}, unchecked=True, by="a list")
        project.reject([uri("red_09")], 'Äpfel / "rot"')
        project.move([uri("red_10")], "berries")
        project.remove([uri("blue_11")])
        project.audit(threads=1, report=False)
        project.spread(threads=1, report=False)
        photos = put(first | later)
        project.sort(threads=1)
        project.confirm([uri("blue_51")], "sky 🙂")
        files = {"photos.zip": photos}
        files |= {f"new/{name}": data for name, data in new.items()}
        files["told.json"] = json.dumps(told(Project(f"{folder}/project")), ensure_ascii=False, sort_keys=True).encode()
        for path in Path(folder, "project").rglob("*"):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and name.split("/")[1] not in MAY_GO and not name.endswith("lock"):
                files[name] = path.read_bytes()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, THEN), files[name], zipfile.ZIP_DEFLATED)
    print(f"{os.path.getsize(out):,} bytes, {len(files)} files")


def _plain(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), colour).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    main(sys.argv[1])
