"""A project as it lies there: everything that can be asked of it without changing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from phyla import sources
from phyla._tasks import open_picture
from phyla.cluster import leading
from phyla.label import Replay, Said, rows_among
from phyla.store import Store
from phyla.types import ORIGINS, UNSORTED, Edit, Finding, Grouping, Images, Labels, PhylaError, Recipe

LOG = "edits.jsonl"

Value = TypeVar("Value")


def current_spread(store: Store, meta: Mapping[str, Any]) -> str | None:
    """Stage of the last spread of the labels, if it was of the groups that there are now."""
    stage: str | None = meta.get("spread")
    return stage if stage and meta.get("groups") in store.recipe(stage).inputs else None


def stages_of(store: Store, meta: Mapping[str, Any]) -> list[str]:
    """The stages that phyla.json names, but for a spread of other groups: it still names that after grouping anew."""
    try:
        spread = current_spread(store, meta)
    except (PhylaError, OSError):  # of what groups it is is not known
        spread = meta["spread"]
    named = [*meta.get("features", ()), *meta.get("reduced", ())]
    return named + [stage for stage in (*(meta.get(room) for room in ("aligned", "groups", "map")), spread) if stage]


class Opened:
    """The project in `folder`.

    Raises `PhylaError` where there is none, unless `create` is true. What is read is kept until it changes on the disk,
    whoever changes it. Many threads may ask.
    """

    def __init__(self, folder: str | Path, *, create: bool = False) -> None:
        self.store = Store.create(folder) if create else Store.open(folder)
        self.folder = self.store.folder
        self._reading = RLock()
        self._held: dict[str, tuple[Any, Any]] = {}
        self._edits: tuple[list[Edit], int] = [], 0  # of the log up to that byte

    def _keep(self, what: str, made_of: Any, make: Callable[[], Value]) -> Value:
        """What `make` gives; made again when `made_of` is no longer what it was."""
        with self._reading:
            if what not in self._held or self._held[what][0] != made_of:
                self._held[what] = made_of, make()
            kept: Value = self._held[what][1]
            return kept

    def _array(self, stage: str, name: str) -> NDArray[Any]:
        return self.store.array(f"{stage}/{name}.npy")

    def _by_row(self, stage: str, name: str, width: int | None = None) -> NDArray[Any]:
        """An array with a row for each image, of `width` if told: a stranger's may have others."""
        n = int(self._table["row"].max()) + 1  # not `len(self.images)`: a million ids and names take a second to read
        array = self._array(stage, name)
        if len(array) < n or width not in (None, *array.shape[1:]):
            raise self.store.damaged(f"{stage}/{name}.npy", f"it holds {array.dtype} {array.shape}")
        return array[:n]

    @property
    def _table(self) -> dict[str, NDArray[Any]]:
        """Of each file its row in `images`, −1 if it can't be read, and the fault; what takes room is read apart."""
        name = self._current("images")
        return self._keep("table", name, lambda: self._read_rows(name))

    def _read_rows(self, name: str) -> dict[str, NDArray[Any]]:
        table = self.store.read_table(name, ("fault", "row"))
        row = table["row"]
        n = int(row.max(initial=UNSORTED)) + 1
        if not 0 < n <= len(row) or row.min() < UNSORTED or not np.bincount(row + 1, minlength=n + 1)[1:].all():
            raise self.store.damaged(name, "its rows don't count the images")
        return table

    @property
    def _uris(self) -> NDArray[Any]:
        """Where each file lies."""
        name = self._current("images")
        return self._keep("uris", name, lambda: self.store.read_table(name, ("uri",))["uri"])

    def _current(self, what: str) -> Any:
        if what not in (meta := self.store.meta()):
            raise PhylaError(
                f"{self.store.place} is not sorted yet.", f"phyla sort PHOTOS --project {self.store.place}"
            )
        return meta[what]

    @property
    def images(self) -> Images:
        """The readable images, a row each; `grouping` and `X` have the same rows."""
        return self._keep("images", (self._current("images"), self._current("source")), self._read_images)

    def _read_images(self) -> Images:
        rows, first = np.unique(self._table["row"], return_index=True)
        first = first[rows >= 0]
        uris = self._uris[first]

        def open_row(row: int, at_least: int) -> NDArray[np.uint8]:
            return open_picture(self._source, uris[row], at_least)

        rest = self.store.read_table(name := self._current("images"), ("id", "width", "height"))
        if not (ids := "".join(rest["id"].tolist())).isalnum() or not ids.isascii():
            raise self.store.damaged(name, "its ids are none")
        return Images(rest["id"][first].astype(str), uris, rest["width"][first], rest["height"][first], open_row)

    def rows_with(self, ids: Sequence[str]) -> NDArray[np.int32]:
        """The row of each image id; −1 where it is no image of the project any more."""
        return rows_among(*self._ordered, ids) if len(ids) else np.array([], np.int32)

    @property
    def _stage_of_ids(self) -> str:
        recipe = Recipe("near", "ids", {}, (self._current("images"),))
        return f"{recipe.room}/{recipe.key}"

    @property
    def _ordered(self) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """(n,) the images' ids, and (n,) the rows in the order of these; of many as `prepare` kept them, mapped."""
        return self._keep("ordered", self._current("images"), self._read_ordered)

    def _read_ordered(self) -> tuple[NDArray[Any], NDArray[np.int32]]:
        stage = self._stage_of_ids
        with suppress(PhylaError, OSError):  # what lies in near/ may be deleted
            ids, order = (self.store.array(f"{stage}/{of}.npy", mmap=True) for of in ("ids", "order"))
            if len(ids) == len(order) == int(self._table["row"].max()) + 1:
                return ids, order
        ids = self.images.ids
        return ids, np.argsort(ids).astype(np.int32)

    @property
    def _source(self) -> sources.Source:
        place = self._current("source")
        return self._keep("source", (place, self._current("images")), lambda: sources.open_source(place))

    def _fetch(self, uri: str) -> bytes:
        return sources.fetch(self._source, uri)

    @property
    def X(self) -> NDArray[np.float32]:
        """(n, d) the networks' whitened principal components, side by side."""
        return np.hstack([self._array(stage, "X") for stage in self._current("reduced")])

    @property
    def blocks(self) -> list[int]:
        """How many axes of X belong to each network."""
        return [self._array(stage, "components_").shape[0] for stage in self._current("reduced")]

    @property
    def residual(self) -> NDArray[np.float32] | None:
        """(n, networks) what the components leave of each image; None in a project from before it was kept."""
        stages = [self.store.arrays(stage) or {} for stage in self._current("reduced")]
        return np.column_stack([s["residual"] for s in stages]) if all("residual" in s for s in stages) else None

    @property
    def near(self) -> NDArray[np.float32]:
        """(n, d) the leading axes of each network, in which near images are alike."""
        return self._near_of(self._current("reduced"))

    def _near_of(self, reduced: Sequence[str]) -> NDArray[np.float32]:
        spaces = (self.store.array(f"{stage}/X.npy", mmap=True) for stage in reduced)
        return np.hstack([leading(X, (X.shape[1],)) for X in spaces])

    @property
    def grouping(self) -> Grouping:
        """The current groups; an image with less strength than the asked agreement has the label −1."""
        stage, agreement = self._current("groups"), self._current("agreement")
        return self._keep("grouping", (stage, agreement), lambda: self._read_grouping(stage, agreement))

    def _read_grouping(self, stage: str, agreement: float) -> Grouping:
        arrays = self.store.arrays(stage) or {}
        best, strength = self._by_row(stage, "labels_").astype(np.int32), self._by_row(stage, "strength_")
        labels = np.where(strength < agreement, UNSORTED, best).astype(np.int32)
        evidence = {"evidence": arrays["evidence_"].tolist()} if "evidence_" in arrays else {}
        return Grouping(
            labels, best, strength, {"strength": float(strength.mean())} | evidence, self.store.recipe(stage)
        )

    @property
    def edits(self) -> list[Edit]:
        """Everything that people said, in order."""
        with self._reading:
            edits, end = self._edits
            if (size := self.store.log_size(LOG)) != end:
                if size < end:  # another log lies there now
                    edits, end = [], 0
                    for stale in ("replay", "said", "labels"):
                        self._held.pop(stale, None)
                lines, end = self.store.log(LOG, end)
                self._edits = [*edits, *map(self._edit, lines)], end
            return self._edits[0]

    def _edit(self, line: dict[str, Any]) -> Edit:
        """The edit that a line of the log tells."""
        try:
            edit = Edit(**line | {"ids": tuple(line.get("ids", ())), "classes": tuple(line.get("classes", ()))})
            texts = {*map(type, (edit.op, edit.by, edit.at, *edit.ids, *edit.classes))}
            if texts != {str} or type(edit.seq) is not int or not isinstance(edit.of, int | None):
                raise TypeError("values of other types")
        except TypeError as fault:
            raise PhylaError(
                f"A line of {self.store.place}/{LOG} is no edit: {fault}.", f"phyla check {self.store.place}"
            ) from fault
        return edit

    @property
    def seq(self) -> int:
        """How many edits there are."""
        return len(self.edits)

    @property
    def redoable(self) -> int | None:
        """The undo that `redo` would take back: the last, of those after which only undos were said and not redone."""
        taken_back: set[int | None] = set()
        undos = {edit.seq: edit.of for edit in self.edits if edit.op == "undo"}
        for edit in reversed(self.edits):
            if edit.op != "undo":
                return None
            if edit.of in undos:  # a redo
                taken_back.add(edit.of)
            elif edit.seq not in taken_back:
                return edit.seq
        return None

    @property
    def said(self) -> Said:
        """What is in force of it, brought to bear on the current groups."""
        with self._reading:
            edits, view = self.edits, (self._current("images"), self._current("groups"))
            replay = self._keep("replay", view, lambda: Replay(self.rows_with, self.grouping.best))
            # Not `self.seq`: by now the log may have grown, and this is not yet in what is replayed.
            return self._keep("said", (view, len(edits)), lambda: replay.take(edits))

    @property
    def names(self) -> dict[int, str]:
        """Group → the name a person gave it."""
        return self.said.names

    @property
    def _spread(self) -> str | None:
        """Stage of the last spread of the labels, if it was of these groups."""
        return current_spread(self.store, self.store.meta())

    @property
    def labels(self) -> Labels:
        """What each image is: a person's word, else that of an imported list, of the spread, of its group's name."""
        with self._reading:
            made_of = (self._current("images"), self._current("groups"), self._current("agreement"), self._spread)
            return self._keep("labels", (*made_of, self.seq), self._make_labels)

    def _make_labels(self) -> Labels:
        grouping, said = self.grouping, self.said
        n, classes = len(grouping.best), list(said.classes)
        codes, origin = np.full(n, UNSORTED, np.int32), np.zeros(n, np.uint8)
        proba, accepted = grouping.strength.copy(), grouping.labels != UNSORTED

        def put(new: NDArray[np.int32], by: str) -> None:
            known = new >= 0
            codes[known], origin[known] = new[known], ORIGINS.index(by)
            if by in ("person", "import"):
                proba[known], accepted[known] = 1, True

        of_group = np.full(grouping.n_groups, UNSORTED, np.int32)
        for group, name in said.names.items():
            of_group[group] = classes.index(name)
        of_group = np.where(said.parts >= 0, said.parts, of_group[grouping.best])
        put(of_group, "group")
        if stage := self._spread:
            taught = self.store.read_json(f"{stage}/classes.json")
            classes += [name for name in taught if name not in classes]
            column = np.array([classes.index(name) for name in taught], np.int32)
            share, best = self._by_row(stage, "proba", len(taught)), self._by_row(stage, "codes")
            accepted[:] = self._by_row(stage, "accepted")
            for row, code in said.rejected:
                share[row, column == code] = 0
                if column[best[row]] == code:  # the next best was not what was accepted
                    best[row], accepted[row] = share[row].argmax(), False
            proba[:] = share[np.arange(n), best]
            put(column[best], "spread")
            # A group that was named or split since is what it was called, until the next spread.
            put(np.where(said.since >= self._current("spread_edits"), of_group, UNSORTED), "group")
        put(said.imported, "import")
        put(said.person, "person")
        for row, code in said.rejected:
            if codes[row] == code:  # of all that was said of the image, only what it is not remains
                codes[row], origin[row], accepted[row] = UNSORTED, 0, False
        gone = said.removed
        codes[gone], origin[gone], accepted[gone] = UNSORTED, ORIGINS.index("removed"), False
        return Labels(codes, tuple(classes), origin, proba, accepted)

    @property
    def report(self) -> Path:
        """The page that shows everything."""
        return self.folder / "report.html"

    def show(self) -> dict[str, Any]:
        """The figures: `images` (files seen), `unique`, `copies`, `unreadable`, `changed` (files, at the last sort),
        `groups`, `unsorted`, and more."""
        from phyla._telling import figures

        return figures(self)

    @property
    def drift(self) -> dict[str, Any] | None:
        """What became of the groups since they were made; None where no image was added or removed.

        `added`, `gone` : images, the last time. `since` : images that were added since the groups were made, `strange`
        of them belonging to nothing that was there then. `anew` : whether it is time to group anew.
        """
        stage = self._current("groups")
        if not self.store.has(f"{stage}/grown.json"):
            return None
        told: dict[str, Any] = self._keep("drift", stage, lambda: self.store.read_json(f"{stage}/grown.json"))
        return told

    @property
    def findings(self) -> list[Finding]:
        """What the last audit found and nobody has dealt with, most severe first."""
        if not (name := self.store.meta().get("audit")):
            return []
        found = self._keep("audit", name, lambda: self.store.read_json(name)["findings"])
        said = self.said
        gone = set(self._ordered[0][said.removed].astype(str).tolist()) if said.removed.any() else set()

        def is_open(check: str, ids: Sequence[str]) -> bool:
            if ids and all((check, i) in said.kept for i in ids):
                return False
            return not gone or len(set(ids) - gone) >= min(len(ids), 2)  # of two copies one is left: nothing to do

        return [Finding(**of | {"ids": tuple(of["ids"])}) for of in found if is_open(of["check"], of["ids"])]

    def rows(self) -> dict[str, NDArray[Any]]:
        """A row for each file, copies and unreadable ones too.

        uri, group, name (of its class, "" if it has none), strength, left_out, fault, and origin: whose word the name
        is ("person", "import", "spread", "group").
        """
        table, grouping, labels = self._table, self.grouping, self.labels
        row, fine = table["row"], table["row"] >= 0
        names = np.array([*labels.classes, ""], object)  # the last is that of UNSORTED
        return {
            "uri": self._uris,
            "group": np.where(fine, grouping.best[row], UNSORTED),
            "name": np.where(fine, names[labels.codes[row]], ""),
            "strength": np.where(fine, labels.proba[row], 0).astype(np.float32),
            "left_out": np.where(fine, ~labels.accepted[row], True),
            "fault": np.array([f or "" for f in table["fault"]], object),
            "origin": np.array(ORIGINS, object)[np.where(fine, labels.origin[row], 0)],
        }
