"""A classifier through the page: what there is to choose from, and the file that was chosen, as a .zip."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from phyla._taking import packed
from phyla.app import _asked as asked
from phyla.app._jobs import Jobs
from phyla.project import Project


def choice(project: Project, jobs: Jobs) -> dict[str, Any] | None:
    """What `Project.train` told, with how many edits were made since; None where it was not asked in this view."""
    taught = jobs.taught
    if not taught or taught["view"] != project.view:
        return None
    told = {key: value for key, value in taught.items() if key not in ("view", "seq", "written")}
    return told | {"edits_since": project.seq - taught["seq"]}


def write(jobs: Jobs, name: str, told: dict[str, Any]) -> Iterator[bytes]:
    """The bytes of a .zip of the network, or of the cascade, that is asked for; `name` is that of its files."""
    cascade, integer, backbone = (told.get(what) for what in ("cascade", "integer", "backbone"))
    if not all(flag in (None, True, False) for flag in (cascade, integer)):
        raise asked.Refused("cascade and integer are true or false.")
    options: dict[str, Any] = {"cascade": bool(cascade), "integer": bool(integer)}
    if backbone is not None:
        options["backbone"] = asked.text(backbone, "backbone")
    folder = tempfile.TemporaryDirectory(prefix="phyla-")
    try:
        to = Path(folder.name) / (name if cascade else f"{name}.onnx")
        jobs.write(to, options)
    except BaseException:
        folder.cleanup()
        raise
    return _given(folder)


def _given(folder: tempfile.TemporaryDirectory[str]) -> Iterator[bytes]:
    with folder:
        yield from packed(Path(folder.name))
