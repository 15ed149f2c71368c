"""What a project teaches a classifier: how probably each of its images is of each class, by the best word there is."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phyla.label.defer import Defer
from phyla.types import UNSORTED, PhylaError

if TYPE_CHECKING:
    from phyla.project import Project

Array = NDArray[np.float32]

_SAMPLE = 60_000  # rows learnt from: in half precision 150 MB of a network's features
_FEWEST = 20  # images that there is something to learn from


@dataclass(frozen=True)
class Lesson:
    """What the ensemble says of the m rows that students learn from.

    proba : (m, c) of each class; of an answered row what a person said. worth : (m, c), the same as far as it has
    turned out right where it was checked. stated : whether it was checked at all.
    """

    rows: NDArray[np.intp]
    classes: tuple[str, ...]
    proba: Array
    worth: Array
    stated: bool
    taught_by: str

    @property
    def key(self) -> str:
        digest = sha256(self.rows.tobytes() + self.proba.tobytes())
        return digest.hexdigest()


def lesson_of(project: Project, seed: int) -> Lesson:
    """The spread of the labels, else the groups' names, else the groups themselves."""
    removed = project.said.removed
    known = np.flatnonzero(~removed)
    if len(known) < _FEWEST:
        raise PhylaError(
            f"{len(known)} images are too few to learn from.",
            f"At least {_FEWEST} are needed; add some and sort again.",
        )
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(known)[:_SAMPLE])
    if stage := project._spread:
        classes = tuple(project.store.read_json(f"{stage}/classes.json"))
        proba = project._array(stage, "proba")[rows].astype(np.float32)
        proba /= np.maximum(proba.sum(1, keepdims=True), 1e-6)
        worth, stated = _checked(project, stage, proba)
        taught_by = f"spread labels ({project.store.recipe(stage).method})"
    else:
        labels, grouping = project.labels, project.grouping
        named = [labels.classes[c] for c in np.unique(labels.codes[rows]) if c >= 0]
        names = np.array([*labels.classes, ""], object)[labels.codes[rows]]
        if named:
            rows, names = rows[names != ""], names[names != ""]
            taught_by = "names of groups"
        else:
            names = np.array([f"group {g}" for g in grouping.best[rows].tolist()], object)
            taught_by = "groups without names"
        classes = tuple(dict.fromkeys(sorted(names.tolist(), key=_by_number)))
        column = {name: c for c, name in enumerate(classes)}
        codes = np.array([column[name] for name in names.tolist()])
        # Votes that an image's group did not get are for any other.
        share = grouping.strength[rows].clip(1 / len(classes), 1)
        proba = np.repeat(((1 - share) / max(len(classes) - 1, 1))[:, None], len(classes), 1).astype(np.float32)
        proba[np.arange(len(rows)), codes] = share
        worth, stated = proba.copy(), False
    if len(classes) < 2:
        raise PhylaError(
            "There is one class only, and nothing to tell apart.", f"phyla name {project.store.place} 0 NAME"
        )
    said = project.said
    column = {name: c for c, name in enumerate(classes)}
    codes = np.array([column.get(name, UNSORTED) for name in said.classes] + [UNSORTED])[said.person[rows]]
    answered = np.flatnonzero(codes >= 0)
    for array in (proba, worth):
        array[answered] = 0
        array[answered, codes[answered]] = 1
    return Lesson(rows, classes, proba, worth, stated, taught_by)


def _by_number(name: str) -> tuple[str, int]:
    head, _, number = name.rpartition(" ")
    return (head, int(number)) if number.isdecimal() else (name, 0)


def _checked(project: Project, stage: str, proba: Array) -> tuple[Array, bool]:
    """`proba` (m, c) with the likeliest class as probable as it turned out to be, the others in proportion."""
    arrays = project.store.arrays(stage) or {}
    if not np.isfinite(arrays.get("defer_error_", np.nan)):
        return proba.copy(), False
    defer = Defer()
    defer.calibration_ = arrays["defer_calibration_"]
    right = (1 - defer.error(proba)).astype(np.float32)
    rows, best = np.arange(len(proba)), proba.argmax(1)
    rest = np.maximum(1 - proba[rows, best], 1e-6)
    worth = proba * ((1 - right) / rest)[:, None]
    worth[rows, best] = right
    return worth, True
