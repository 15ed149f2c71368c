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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.types import UNSORTED, Edit

__all__ = ["Replay", "Said", "in_force", "replay", "rows_among"]

_REACHED = 0.25  # of the images that stand for a merged class, as a share of what its best group holds
# Images that a person saw of a group that was named: a dozen of it, and of several merged ones 12 of each hundred.
_SEEN, _SHARE_SEEN = 12, 0.12


@dataclass(frozen=True)
class Said:
    """All that was said and not undone, of n images in groups.

    names : group → class. classes : in the order of their first mention. person, imported, seen, parts : (n,) int32
    codes, −1 = none: what a person said an image is; what a list said; what a group was called when the image stood for
    it; the class that a split made of it. since : (n,) int32, the number of the last edit that named or split the group
    of the image, −1 = none.
    rejected : (m, 2) int, rows and codes of the classes they are not of.
    removed : (n,) bool, images that shall not count. kept : (check, image id) of findings that a person found fine.
    """

    names: dict[int, str]
    classes: tuple[str, ...]
    person: NDArray[np.int32]
    imported: NDArray[np.int32]
    seen: NDArray[np.int32]
    parts: NDArray[np.int32]
    since: NDArray[np.int32]
    rejected: NDArray[np.int_]
    removed: NDArray[np.bool_]
    kept: frozenset[tuple[str, str]]


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


class Replay:
    """Brings a growing log of edits to bear on images in the groups `best` (n,).

    rows_with : ids → the row of each, −1 for one that is not here (`rows_among`).

    Of two things said of one image, or names that reach one group, the later counts. A name was given to images; it
    goes to the group that holds most of them now, and a merged one to each that holds a fair part of them: so names
    survive a new grouping. Two groups of one name are one class.

    A new edit costs what it says, O(m log n) of m images; an undo as much for each edit of the log, and O(n).
    """

    def __init__(self, rows_with: Callable[[Sequence[str]], NDArray[np.int32]], best: NDArray[np.int32]) -> None:
        self._rows_with, self._best = rows_with, best
        self._rows: dict[int, list[tuple[str, NDArray[np.int32]]]] = {}  # what `_rows_of` gave
        self._begin()

    def _begin(self) -> None:
        self._taken = 0
        self._codes: dict[str, int] = {}
        self._names: dict[int, str] = {}
        n = len(self._best)
        self._person, self._imported, self._seen, self._parts, self._since = np.full((5, n), UNSORTED, np.int32)
        self._removed = np.zeros(n, bool)
        self._rejected: dict[tuple[int, int], None] = {}
        self._kept: dict[tuple[str, str], None] = {}

    def take(self, edits: Sequence[Edit]) -> Said:
        """What all of `edits` say, which begin with those taken before. The arrays of what it gave before change."""
        new = edits[self._taken :]
        if any(edit.op == "undo" for edit in new):
            self._begin()
            new = in_force(edits)
        for edit in new:
            self._say(edit)
        self._taken = len(edits)
        rejected = np.array(list(self._rejected), int).reshape(-1, 2)
        return Said(
            dict(self._names), tuple(self._codes), self._person, self._imported, self._seen, self._parts, self._since,
            rejected, self._removed, frozenset(self._kept),
        )  # fmt: skip

    def _rows_of(self, edit: Edit) -> list[tuple[str, NDArray[np.int32]]]:
        """Each class of the edit with the rows it is said of; those that are not here are passed over."""
        if edit.seq not in self._rows:
            at, m = self._rows_with(edit.ids), len(edit.ids)
            each = np.array(edit.classes if len(edit.classes) == m else edit.classes[:1] * m, object)
            names = dict.fromkeys(edit.classes) or {"": None}
            self._rows[edit.seq] = [(n, at[(at >= 0) & (each == n)] if n else at[at >= 0]) for n in names]
        return self._rows[edit.seq]

    def _say(self, edit: Edit) -> None:
        for name, rows in self._rows_of(edit):
            if len(rows):
                self._say_of(edit, name, rows)

    def _say_of(self, edit: Edit, name: str, rows: NDArray[np.int32]) -> None:
        if edit.op == "remove":
            self._removed[rows] = True
            return
        if not name:
            return
        if edit.op == "keep":
            self._kept |= dict.fromkeys((name, i) for i in edit.ids)
            return
        code = self._codes.setdefault(name, len(self._codes))
        if edit.op in ("name", "merge"):
            seen = rows[: max(_SEEN, int(_SHARE_SEEN * len(rows)))]
            # What was seen decides where the name belongs now; of as many of it, all that stand for the group.
            every, groups = np.append(seen, rows), int(self._best.max()) + 1
            weight = np.repeat([1, 0.5 / len(rows)], [len(seen), len(rows)])
            held = np.bincount(self._best[every], weight, groups)
            reached = held >= _REACHED * held.max() if edit.op == "merge" else np.arange(len(held)) == held.argmax()
            self._names |= dict.fromkeys(np.flatnonzero(reached).tolist(), name)
            self._seen[seen] = code
            self._since[reached[self._best]] = edit.seq
        elif edit.op == "reject":
            self._rejected |= dict.fromkeys((row, code) for row in rows.tolist())
            self._person[rows[self._person[rows] == code]] = UNSORTED
        else:
            {"import": self._imported, "split": self._parts}.get(edit.op, self._person)[rows] = code
            if edit.op == "split":
                self._since[rows] = edit.seq
            if edit.op != "import" and self._rejected:
                for row in rows.tolist():
                    self._rejected.pop((row, code), None)


def replay(edits: Iterable[Edit], ids: NDArray[np.str_], best: NDArray[np.int32]) -> Said:
    """What `edits` say of the images `ids` (n,) in the groups `best` (n,); see `Replay`."""
    return Replay(partial(rows_among, ids, np.argsort(ids)), best).take(list(edits))


def rows_among(ids: NDArray[Any], order: NDArray[np.integer], wanted: Sequence[str]) -> NDArray[np.int32]:
    """The row in `ids` (n,), of text or bytes, of each of `wanted`, −1 if there is none. `order` : rows by their id."""
    asked = np.array(wanted, str)
    if not len(asked):
        return np.array([], np.int32)
    if ids.dtype.kind == "S":
        asked = np.char.encode(asked, "utf-8", "replace")
    at = order[np.searchsorted(ids, asked.astype(ids.dtype), sorter=order).clip(max=len(order) - 1)]
    return np.where(ids[at] == asked, at, -1).astype(np.int32)
