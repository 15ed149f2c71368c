"""What people decided, what to ask them next, and how few answers reach all images.

`replay` brings the log of edits to bear on whatever grouping is current. `ask/` holds a function for each way of
choosing questions:

    NAME(n, rng, *, …needs) → [(row, why), …]

at most n rows without an answer, most useful first, each with its reason. Its keyword arguments are its needs: `X (n,
d)` the leading axes, `groups (n,)`, `strength (n,)`, `labels (n,)` (−1 = no answer), `proba (n, c)` of the last spread,
`neighbors` (indices, distances), `classes` by code.

`spread/` holds an estimator for each way of spreading answers: `fit(X, y, groups)`, y (n,) with −1 where nothing is
known, groups (n,) what the grouping found; `predict_proba(X) → (n, c)`. It may have `fits(X, many y, groups)`, which
gives (model, probabilities of the rows as if they were new) for each y, and so shares work. Fitted attributes that are
arrays or numbers are all there is to save; `VERSION` rises whenever a method's numbers change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phyla.types import Edit

__all__ = ["Said", "in_force", "replay"]

_REACHED = 0.25  # of the images that stand for a merged class, as a share of what its best group holds
_SEEN = 0.12  # of the images that stand for a group: the dozen that a person saw of the hundred


@dataclass(frozen=True)
class Said:
    """All that was said and not undone, of n images in groups.

    names : group → class. classes : in the order of their first mention. person, imported, seen, parts : (n,) int32
    codes, −1 = none: what a person said an image is; what a list said; what a group was called when the image stood for
    it; the class that a split made of it.
    rejected : (m, 2) int, rows and codes of the classes they are not of.
    """

    names: dict[int, str]
    classes: tuple[str, ...]
    person: NDArray[np.int32]
    imported: NDArray[np.int32]
    seen: NDArray[np.int32]
    parts: NDArray[np.int32]
    rejected: NDArray[np.int_]


def in_force(edits: Iterable[Edit]) -> list[Edit]:
    """The edits that no later one has undone; an undo can be undone too."""
    undone: set[int | None] = set()
    kept: list[Edit] = []
    for edit in sorted(edits, key=lambda e: -e.seq):
        if edit.seq in undone:
            continue
        if edit.op == "undo":
            undone.add(edit.of)
        else:
            kept.append(edit)
    return kept[::-1]


def replay(edits: Iterable[Edit], ids: NDArray[np.str_], best: NDArray[np.int32]) -> Said:
    """What the edits say of the images `ids` (n,) in the groups `best` (n,).

    Of two things said of one image, or names that reach one group, the later counts. A name was given to images; it
    goes to the group that holds most of them now, and a merged one to each that holds a fair part of them: so names
    survive a new grouping. Two groups of one name are one class.
    """
    order = np.argsort(ids)
    codes: dict[str, int] = {}
    names: dict[int, str] = {}
    person, imported, seen, parts = (np.full(len(ids), -1, np.int32) for _ in range(4))
    rejected: dict[tuple[int, int], None] = {}

    def rows_of(wanted: Sequence[str]) -> NDArray[np.intp]:
        at = order[np.searchsorted(ids, np.array(wanted, dtype=ids.dtype), sorter=order).clip(max=len(ids) - 1)]
        return at[ids[at] == np.array(wanted)]

    for edit in in_force(edits):
        rows = rows_of(edit.ids)
        if not len(rows) or not edit.classes:
            continue
        name = edit.classes[0]
        if edit.op in ("name", "merge"):
            held = np.bincount(best[rows])
            reached = held >= _REACHED * held.max() if edit.op == "merge" else np.arange(len(held)) == held.argmax()
            names |= dict.fromkeys(np.flatnonzero(reached).tolist(), name)
            seen[rows[: max(1, int(_SEEN * len(rows)))]] = codes.setdefault(name, len(codes))
            continue
        code = codes.setdefault(name, len(codes))
        if edit.op == "reject":
            rejected |= dict.fromkeys((row, code) for row in rows.tolist())
            person[rows[person[rows] == code]] = -1
            continue
        {"import": imported, "split": parts}.get(edit.op, person)[rows] = code
        if edit.op != "import":
            for row in rows.tolist():
                rejected.pop((row, code), None)
    return Said(names, tuple(codes), person, imported, seen, parts, np.array(list(rejected), int).reshape(-1, 2))
