"""All checks of a project, each given what it needs, and what they found in one order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import plugins, sources
from phyla._needs import needs
from phyla._opened import Opened
from phyla._progress import Progress
from phyla._steps import Spaces, Steps, folders_of, usable_threads
from phyla._telling import draw
from phyla.audit import background
from phyla.engine import check_engine, limited, open_engine
from phyla.types import UNSORTED, Finding, PhylaError

# Not run unless asked for: what the others find better, or too often wrongly (see docs/benchmarks.md).
_ON_REQUEST = {"ambiguous", "margin_area", "small_loss", "sub_centres", "unknown_class"}
# What stands for a need in the sentence that a check was skipped.
_MISSING = {
    "labels": "no image has a label",
    "classes": "no image has a label",
    "proba": "no labels are spread, or others since",
}


def audit(
    project: Opened, offered: dict[str, Callable[[], Any]], labels: str | Path | None, checks: Sequence[str] | None,
    engine: str, threads: int | None, report: bool, quiet: bool, lost: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """See `Project.audit`; `offered` gives what a check can need of what `project` holds.

    lost : the file of an audit that is to be made again; nothing is written where this one finds other things.
    """
    wanted = list(checks) if checks else [check for check in plugins.names("audit") if check not in _ON_REQUEST]
    for check in wanted:
        plugins.check("audit", check)
    check_engine(engine)
    threads, progress, seen = usable_threads(threads), Progress(quiet), project.seq
    images = project.images
    listed = None if labels is None else sources.open_source(labels)
    codes, classes = _labels(project, listed)
    folders = folders_of(images)
    found: list[Finding] = []
    skipped: dict[str, str] = {}
    with limited(threads):
        offered |= {
            "near": offered["X"],
            "X": lambda: Spaces(project.store, tuple(project._current("reduced"))),
            "run": lambda: open_engine(engine),
            "residual": lambda: project.residual,
            "blocks": lambda: tuple(project.blocks),
            "labels": lambda: codes if (codes >= 0).any() else None,
            "classes": lambda: classes or None,
            "width": lambda: images.width,
            "height": lambda: images.height,
            "folder": lambda: folders,
        }
        loaded = {check: plugins.load("audit", check) for check in wanted}
        # What two checks need is made once; what no check needs, the pass over all pictures say, is not made.
        at_hand: dict[str, Any] = {}

        def measured() -> Mapping[str, NDArray[Any]]:
            with project.store.writing():
                return Steps(project.store, threads, progress, engine).measure(images, project._source)

        def facts() -> dict[str, NDArray[Any]]:
            told = cached["measured"]()
            pixels = images.width.astype(np.int64) * images.height
            return {
                "folder": folders,
                **{name: told[name] for name in ("camera", "date", "format")},
                "JPEG quality": np.where(told["quality"] > 0, told["quality"], np.nan),
                "width": images.width,
                "height": images.height,
                "size in bytes a pixel": told["size"] / np.maximum(pixels, 1),
                "background": background(told["border"]),
            }

        names = project.names
        offered |= {
            "measured": measured,
            "facts": facts,
            "names": lambda: [names.get(group, f"group {group}") for group in range(project.grouping.n_groups)],
        }
        cached = {name: _once(name, give, at_hand) for name, give in offered.items()}
        with progress("checking", len(wanted), len(wanted), "checks") as advance:
            for check, function in loaded.items():
                given, lacking = needs(function, cached)
                if lacking:
                    skipped[check] = _MISSING.get(lacking[0], f"there is no {lacking[0]}")
                else:
                    found += [
                        Finding(check, tuple(images.ids[list(rows)].tolist()), round(float(severity), 4), why)
                        for rows, severity, why in function(**given)
                    ]
                advance(1)
    found.sort(key=lambda f: -f.severity)
    told = {"findings": [asdict(f) for f in found], "skipped": skipped}
    name = f"audit/{sha256(repr(told).encode()).hexdigest()[:12]}.json"
    if lost not in (None, name):
        raise PhylaError("an audit finds other things by now")
    with project.store.writing():
        project.store.write_json(name, told)
        if lost is None:
            asked = {"labels": listed and listed.path, "checks": list(checks) if checks else None}
            project.store.update_meta(audit=name, audit_edits=seen, audit_asked=asked, audit_of_other_groups=False)
        if report:
            draw(project, progress)
    left = ~project.said.removed
    uri = dict(zip(images.ids[left].tolist(), images.uris[left].tolist(), strict=True))
    still_open = [(f, [uri[i] for i in f.ids if i in uri]) for f in project.findings]
    return {
        "findings": [
            {"check": f.check, "uri": uris[0] if uris else "", "severity": f.severity, "why": f.why, "uris": uris}
            for f, uris in still_open
        ],
        "skipped": skipped,
    }  # fmt: skip


def _once(name: str, give: Callable[[], Any], at_hand: dict[str, Any]) -> Callable[[], Any]:
    def given() -> Any:
        if name not in at_hand:
            at_hand[name] = give()
        return at_hand[name]

    return given


def _labels(project: Opened, source: sources.Source | None) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """The class of each image, by a list or by what the project knows."""
    if source is None:
        labels = project.labels
        return labels.codes, labels.classes
    given = getattr(source, "labels", lambda: None)()
    if not given:
        raise PhylaError(
            f"{source.path} has no labels.", "Give a CSV with the columns uri and label, or a Parquet file."
        )
    uris = project.images.uris
    known = sources.match(uris.tolist(), given)
    classes = tuple(sorted({name for name in known if name is not None}))
    if not classes:
        raise PhylaError(
            f"No image of the project is in {source.path}.",
            f"Its uris look like {next(iter(given))}, the project's like {uris[0]}.",
        )
    code = {name: i for i, name in enumerate(classes)} | {None: UNSORTED}
    return np.array([code[name] for name in known], np.int32), classes
