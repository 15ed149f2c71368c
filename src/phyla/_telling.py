"""What is told of a project: its report, and how its classes compare with known ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import sources
from phyla._opened import Opened
from phyla._progress import Progress
from phyla._steps import COMPONENTS
from phyla.cluster import EVIDENCE, score, typicality
from phyla.types import UNSORTED, Images, PhylaError


def figures(project: Opened) -> dict[str, Any]:
    """See `Project.show`."""
    table, grouping, said, labels = project._table, project.grouping, project.said, project.labels
    faulty = np.flatnonzero(table["fault"] != None)  # noqa: E711, element by element
    uris = project._uris[faulty] if len(faulty) else faulty
    unreadable = int((table["row"] < 0).sum())
    sorted_ = (grouping.labels >= 0) & ~said.removed
    sizes = np.bincount(grouping.labels[sorted_], minlength=grouping.n_groups)
    total = np.bincount(grouping.labels[sorted_], grouping.strength[sorted_], grouping.n_groups)
    mean = total / np.maximum(sizes, 1)
    known = labels.codes >= 0
    answered = (said.person >= 0) & ~said.removed
    of_class, confirmed = (
        np.bincount(codes, minlength=len(labels.classes)) for codes in (labels.codes[known], said.person[answered])
    )
    return {
        "images": len(table["row"]),
        "unique": len(grouping.best),
        "copies": len(table["row"]) - unreadable - len(grouping.best),
        "unreadable": unreadable,
        "changed": project.store.meta().get("changed", 0),
        "groups": int((sizes > 0).sum()),
        "unsorted": int(((grouping.labels == UNSORTED) & ~said.removed).sum()),
        "strength": round(grouping.scores["strength"], 4),
        "sizes": [
            {"group": g, "name": said.names.get(g), "images": int(size), "strength": round(float(m), 4)}
            for g, (size, m) in enumerate(zip(sizes, mean, strict=True))
            if size  # a group of which no image is sure is none yet
        ],
        "classes": [
            {"name": name, "images": int(images), "confirmed": int(sure)}
            for name, images, sure in zip(labels.classes, of_class, confirmed, strict=True)
            if images
        ],
        "labelled": int(known.sum()),
        "removed": int(said.removed.sum()),
        "answers": int(answered.sum()),
        "spread": spread_told(project),
        "to_spread_again": bool(project.store.meta().get("spread")) and not project._spread,
        "drift": project.drift,
        "regrouped": project.store.meta().get("regrouped"),
        "findings": len(project.findings),
        "audit_of_other_groups": project.store.meta().get("audit_of_other_groups", False),
        "unreadable_files": [
            {"uri": str(uri), "reason": str(why)} for uri, why in zip(uris, table["fault"][faulty], strict=True)
        ],
        "backbones": project._current("backbones"),
        "method": grouping.recipe.method,
        "source": project._current("source"),
        "project": project.store.place,
        "report": str(project.report) if project.report.exists() else None,
    }


def spread_told(project: Opened) -> dict[str, Any] | None:
    """Of the last spread of labels: its method, what it went by, and what it accepted at what expected error."""
    if not (stage := project._spread):
        return None
    told = project.store.read_json(f"{stage}/told.json")
    since = len(project.edits) - project._current("spread_edits")
    return {"method": project.store.recipe(stage).method} | told | {"edits_since": since}


def draw(project: Opened, progress: Progress) -> None:
    """Write the report: of the groups or, once labels are spread, of the classes."""
    from phyla.report import render

    # Sorted without a report: an older one would tell of other groups.
    if (points := project._current("map")) is None:
        project.store.remove([project.report.name])
        return
    images, grouping, names = project.images, project.grouping, project.names
    told, tried = project.show(), _curve(project)
    if project._spread:
        labels = project.labels
        sure = np.where(labels.accepted, labels.codes, UNSORTED).astype(np.int32)
        grouping = replace(grouping, labels=sure, best=labels.codes, strength=labels.proba)
        names = dict(enumerate(labels.classes))
    typical, kept = typicality(project.near, grouping.best), np.flatnonzero(~project.said.removed)
    part = {name: getattr(grouping, name)[kept] for name in ("labels", "best", "strength")}
    with progress("drawing", 1, 1) as advance:
        page = render(
            title=Path(told["source"]).name or "Images", summary=told, images=_some(images, kept),
            grouping=replace(grouping, **part), names=names, typicality=typical[kept],
            points=project._array(points, "points")[kept], explanation=_explanation(project, told, len(tried)),
            evidence=tried, n_groups=project.grouping.n_groups, findings=project.findings, spread=bool(project._spread),
            unreadable=[(u["uri"], u["reason"]) for u in told["unreadable_files"]],
        )  # fmt: skip
        project.store.write(project.report.name, page.encode("utf-8", "replace"))
        advance(1)


def _some(images: Images, rows: NDArray[np.intp]) -> Images:
    def open_row(row: int, at_least: int) -> NDArray[np.uint8]:
        return images.open(int(rows[row]), at_least)

    return Images(images.ids[rows], images.uris[rows], images.width[rows], images.height[rows], open_row)


def _curve(project: Opened) -> list[list[float]]:
    """The numbers of groups that were tried. A method that finds it by itself has evidence of another kind."""
    columns = (len(EVIDENCE) - 1, len(EVIDENCE))  # without the last in groupings from before there was one
    return [row for row in project.grouping.scores.get("evidence", []) if len(row) in columns]


def _explanation(project: Opened, told: Mapping[str, Any], tried: int) -> str:
    meta = project.store.meta()
    seen = _listed(told["backbones"]) + (", which err differently" if len(told["backbones"]) > 1 else "")
    effort, agreement = meta.get("effort", "default"), meta["agreement"]
    why = "a number that the method found itself" if project.grouping.scores.get("evidence") else "as asked"
    if tried > 1:
        why = f"the number of {tried} tried at which independent runs agreed best"
    text = (
        f"Each image was described by {seen}, compressed to {COMPONENTS} whitened axes a network, and grouped by "
        f"the method “{told['method']}”{', with effort ' + effort + ',' if effort != 'default' else ''} into "
        f"{told['groups']} groups, {why}. "
    )
    if spread := told["spread"]:
        return text + (
            f"{spread['answers']:,} answers were spread to all by the method “{spread['method']}”: "
            f"{spread['accepted']:,} images are accepted, {expected(spread)}; the others wait for a person."
        )
    if not agreement:
        return text + "No image is left unsorted, however unsure its group."
    return text + f"Images with a strength under {agreement:.0%}, whose group is in doubt, are left unsorted."


def expected(spread: Mapping[str, Any]) -> str:
    """What is known of the error among the accepted."""
    if spread["stated_error"] is None:
        return "though how many of them are wrong can't be told from so few answers"
    return f"of which {spread['stated_error']:.1%} are expected to be wrong"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def score_rows(rows: Mapping[str, NDArray[Any]], truth: str | Path) -> dict[str, Any]:
    """Compare `rows` (of a project, or of what `predict` wrote) with the labels at `truth`.

    truth : a CSV, JSONL or Parquet file of uri and label, or a table of pictures with a `label` column. A uri matches
    by its whole, else by the longest end that only one uri has, so paths may be relative. Unreadable images are not
    scored.
    Returns `accuracy`, `accuracy_many_to_one`, `nmi`, `ari`, `coverage` (see `phyla.cluster.score`), `scored` and
    `groups`; images of one name are one group. Where there are names, also `accuracy_named`, the share whose name is
    the label, letter for letter, and `accuracy_named_sorted`, of those that are not left out.
    """
    if not len(rows["uri"]):
        raise PhylaError(f"There are no images to compare with {truth}.", "Give a table that has a row.")
    opened = sources.open_source(truth)
    labels = getattr(opened, "labels", lambda: None)()
    if not labels:
        raise PhylaError(f"{truth} has no labels.", "Give a CSV with the columns uri and label, or a Parquet file.")
    readable = np.flatnonzero(rows["group"] >= 0)
    known = sources.match(rows["uri"][readable].tolist(), labels)
    at = np.array([i for i, label in zip(readable, known, strict=True) if label is not None], int)
    if not len(at):
        raise PhylaError(
            f"None of the images is in {truth}.",
            f"Its uris look like {next(iter(labels))}, theirs like {rows['uri'][0]}.",
        )
    true = [label for label in known if label is not None]
    names, kept = rows["name"][at], ~rows["left_out"][at]
    of = [name or f"\0{group}" for name, group in zip(names, rows["group"][at], strict=True)]  # no name begins so
    found: dict[str, Any] = score(of, ~kept, true)
    if any(names):
        right = names == np.array(true, object)
        found["accuracy_named"] = float(right.mean())
        found["accuracy_named_sorted"] = float(right[kept].mean()) if kept.any() else 0.0
    return found | {"scored": len(at), "groups": len(set(of))}
