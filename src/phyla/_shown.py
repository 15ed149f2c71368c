"""Rows as a page shows them: in which group and class each is now, which are typical, and what a selector selects."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from phyla._near import Near
from phyla._tree import Tree, divide, in_line
from phyla.audit import MEASURE_VERSION
from phyla.types import UNSORTED, PhylaError, Recipe

Rows = NDArray[np.int32]

_CLEAR = 2 / 3  # of the answers, imported labels or folders in a group that suggest its name
_RESTARTS = 10  # of k-means, for the parts of a split
_FOLDERS_SEEN = 60  # typical images of a group whose folders are looked at


@dataclass(frozen=True)
class Ground:
    """What no edit changes: rows by how typical they are, of all groups together; the groups' means and places."""

    ranked: Rows
    centers: NDArray[np.float32]
    place: NDArray[np.float64]
    folders: dict[int, str]  # group → name of the folder that most of it lies in


@dataclass(frozen=True)
class Now:
    """What the edits make of it. group : (n,) where each image is shown, −1 = in none. codes : (n,) its class."""

    group: Rows
    codes: Rows
    classes: tuple[str, ...]
    person: NDArray[np.bool_]
    removed: NDArray[np.bool_]
    accepted: NDArray[np.bool_]
    proba: NDArray[np.float32]
    suggestions: dict[int, str]


class Shown(Near):
    """A project whose rows are shown.

    Rows are those of `images`. A set of rows is told by a selector: `all`, `group:3`, `class:cat`, `apart:cat` (what a
    person called so, and no group shows), `unsorted`, `unlabelled`, `waiting` (not accepted by the last spread),
    `accepted`, `removed`, `tree:g3.0` (a node of the tree) or `part:3:2:0` (the first of two parts that group 3 would
    be split into).
    """

    @property
    def view(self) -> str:
        """Changes whenever rows or groups mean others than before."""
        told = [self._current(what) for what in ("images", "groups", "agreement", "reduced")]
        return sha256(repr(told).encode()).hexdigest()[:12]

    # ---- the ground

    @property
    def _ground(self) -> Ground:
        return self._keep("ground", self.view, self._make_ground)

    @property
    def _stage_of_ground(self) -> str:
        recipe = Recipe("near", "ground", {}, (self._current("images"), self._current("groups")))
        return f"{recipe.room}/{recipe.key}"

    def prepare(self) -> None:
        """Keep on the disk what a look at many images begins with: of a million it would wait 3 s of CPU time for it.

        What was kept for other images or groups goes. Needs `store.writing`.
        """
        ground, stage, ids = self._ground, self._stage_of_ground, self._stage_of_ids
        kept = stage, ids, f"near/{self._name_of_vectors}.npy"
        self.store.finish(ids, {"ids": self.images.ids.astype("S"), "order": self._ordered[1]})
        self.store.write_json(f"{stage}/folders.json", ground.folders)
        self.store.finish(stage, {"ranked": ground.ranked, "centers": ground.centers, "place": ground.place})
        for other in {f"near/{name}" for name in self.store.names("near")} - set(kept):
            if other.endswith(".npy"):
                self.store.remove([other])
            elif other.startswith(("near/ground-", "near/ids-")):
                self.store.drop(other)

    def _make_ground(self) -> Ground:
        with suppress(PhylaError, OSError):  # what lies in near/ may be deleted
            folders = self.store.read_json(f"{self._stage_of_ground}/folders.json")
            ranked, centers, place = (self._array(self._stage_of_ground, of) for of in ("ranked", "centers", "place"))
            return Ground(ranked, centers, place, {int(group): name for group, name in folders.items()})
        from scipy.sparse import csr_array

        grouping = self.grouping
        best, n, groups = grouping.best, len(grouping.best), grouping.n_groups
        size = np.bincount(best, minlength=groups)
        sums = np.zeros((groups, self._vectors.shape[1]), np.float64)
        for start, X in self._blocks():
            of = best[start : start + len(X)]
            ones = np.ones(len(X), np.float32)
            sums += csr_array((ones, of, np.arange(len(X) + 1)), shape=(len(X), groups)).T @ X
        centers = (sums / np.maximum(size, 1)[:, None]).astype(np.float32)
        away = np.empty(n, np.float32)
        for start, X in self._blocks():
            away[start : start + len(X)] = np.linalg.norm(X - centers[best[start : start + len(X)]], axis=1)
        ranked = np.lexsort((away, -grouping.strength)).astype(np.int32)
        place = np.zeros(groups)
        place[size > 0] = in_line(centers[size > 0])
        return Ground(ranked, centers, place, self._folders(_by_code(best, ranked)))

    def _folders(self, of_group: dict[int, Rows]) -> dict[int, str]:
        images = self.images
        found = {}
        for group, rows in of_group.items():
            rows = rows[np.unique(np.linspace(0, len(rows) - 1, _FOLDERS_SEEN).astype(int))]
            uris = images.uris[rows].tolist()
            names = [uri.replace("\\", "/").rpartition("/")[0].rpartition("/")[2].rpartition("#")[2] for uri in uris]
            found[group] = names
        if len({name for names in found.values() for name in names}) < 2:  # all lie in one, which says nothing
            return {}
        clear = {group: _clearest(names) for group, names in found.items()}
        return {group: name for group, name in clear.items() if name}

    # ---- what is in force

    @property
    def _now(self) -> Now:
        return self._keep("now", (self.view, self._spread, self.seq), self._make_now)

    def _make_now(self) -> Now:
        labels, said, grouping = self.labels, self.said, self.grouping
        classes, groups = labels.classes, grouping.n_groups
        removed = said.removed.copy()
        group = np.where(removed, np.int32(UNSORTED), grouping.labels)
        word = np.where(said.person >= 0, said.person, said.parts)
        suggestions = self._suggest_names(group)
        # An image that a person called otherwise than its group is called, or seems to be, is not shown in it.
        called = {**suggestions, **said.names}
        code = {name: c for c, name in enumerate(classes)}
        of_group = np.full(groups + 1, -2, np.int32)
        for g, name in called.items():
            of_group[g] = code.get(name, -2)
        group[(word >= 0) & (word != of_group[group])] = UNSORTED
        rows, wrong = said.rejected.T
        group[rows[of_group[group[rows]] == wrong]] = UNSORTED
        suggestions = {g: name for g, name in suggestions.items() if g not in said.names}
        return Now(
            group,
            labels.codes,
            classes,
            said.person >= 0,
            removed,
            labels.accepted,
            labels.proba,
            suggestions,
        )

    def _suggest_names(self, group: Rows) -> dict[int, str]:
        """Group → the name that answers, else an imported list, else a folder speak for clearly.

        Not the spread: it gives a group of which nothing is known the name of another.
        """
        said, groups, found = self.said, self.grouping.n_groups, dict(self._ground.folders)
        # What is far from typical of a group was perhaps answered for because it does not belong there.
        typical = np.zeros(len(group), bool)
        for rows in _by_code(group, self._ground.ranked).values():
            typical[rows[: len(rows) // 2 + 1]] = True
        for codes in (said.imported, np.where(typical, said.person, UNSORTED)):
            if not (known := (codes >= 0) & (group >= 0)).any():
                continue
            count = np.zeros((groups, len(said.classes)), int)
            np.add.at(count, (group[known], codes[known]), 1)
            clear = (count.max(1) > 0) & (count.max(1) >= _CLEAR * count.sum(1))
            found |= {int(g): said.classes[count[g].argmax()] for g in np.flatnonzero(clear)}
        return found

    @property
    def _by_group(self) -> dict[int, Rows]:
        key = (self.view, self._spread, self.seq)
        return self._keep("by_group", key, lambda: _by_code(self._now.group, self._ground.ranked))

    @property
    def _by_class(self) -> dict[int, Rows]:
        key = (self.view, self._spread, self.seq)
        return self._keep("by_class", key, lambda: _by_code(self._now.codes, self._ground.ranked))

    # ---- rows

    def rows_of(self, of: str, order: str = "typical") -> Rows:
        """The rows that a selector tells of, in an order: "typical", "uncertain", "name" (as in the source), "time"."""
        rows = self._rows_of(of)
        match order:
            case "typical":
                return rows
            case "uncertain":
                return rows[np.argsort(self._now.proba[rows], kind="stable")]
            case "name":
                return np.sort(rows)
            case "time":
                return rows[np.argsort(self._times[rows], kind="stable")]
        raise PhylaError(f"There is no order {order!r}.", "There is: typical, uncertain, name, time.")

    def _rows_of(self, of: str) -> Rows:
        kind, _, what = of.partition(":")
        now, ranked = self._now, self._ground.ranked
        none = np.array([], np.int32)
        match kind:
            case "all":
                return ranked[~now.removed[ranked]]
            case "group":
                if not (what.isdecimal() and int(what) < self.grouping.n_groups):
                    raise PhylaError(f"There is no group {what[:40]}.", f"They are 0 to {self.grouping.n_groups - 1}.")
                return self._by_group.get(int(what), none)
            case "class":
                if what not in now.classes:
                    raise PhylaError(f"There is no class {what[:40]!r}.", "Somebody may have renamed it.")
                return self._by_class.get(now.classes.index(what), none)
            case "apart":
                if what in now.classes:
                    code = now.classes.index(what)
                    rows = self._by_class.get(code, none)
                    return rows[
                        (now.group[rows] < 0) & ((self.said.person[rows] == code) | (self.said.parts[rows] == code))
                    ]
            case "unsorted":
                rows = self._by_group.get(UNSORTED, none)
                told = now.person | (self.said.parts >= 0) | now.removed
                return rows[~told[rows]]
            case "unlabelled":
                rows = self._by_class.get(UNSORTED, none)
                return rows[~now.removed[rows]]
            case "waiting":
                return ranked[(~now.accepted & ~now.removed)[ranked]]
            case "accepted":
                return ranked[(now.accepted & ~now.removed)[ranked]]
            case "removed":
                return ranked[now.removed[ranked]]
            case "tree":
                return self._of_node(what)
            case "part":
                numbers = what.split(":")
                if len(numbers) == 3 and all(number.isdecimal() for number in numbers):
                    group, parts, part = map(int, numbers)
                    if 1 < parts <= 20 and part < len(found := self.parts(group, parts)):
                        return found[part]
        raise PhylaError(f"There are no images {of[:40]!r}.", "See all, group:0, class:NAME, unsorted, waiting.")

    @property
    def _times(self) -> NDArray[np.int64]:
        """(n,) where each image comes in time: by the date in it, else that of its file, else its place."""
        return self._keep("times", (self.view, self.store.meta().get("audit")), self._make_times)

    def _make_times(self) -> NDArray[np.int64]:
        images, store = self.images, self.store
        dates = np.full(len(images), "", "<U19")
        measured = Recipe("measured", "pictures", {}, (), MEASURE_VERSION)
        order = np.argsort(images.ids)
        for name in store.shards(f"{measured.room}/{measured.key}", "id.npy"):
            found, told = store.array(name).astype(str), store.array(name.replace(".id.", ".date."))
            at = order[np.searchsorted(images.ids, found, sorter=order).clip(max=len(order) - 1)]
            fits = images.ids[at] == found
            dates[at[fits]] = told.astype(str)[fits]
        if (dates == "").all():
            changed: dict[str, str] = {}
            for name in store.shards("scan", "parquet"):
                part = store.read_table(name, ("uri", "stamp"))
                changed |= dict(zip(part["uri"].tolist(), part["stamp"].tolist(), strict=True))
            stamps = [changed.get(uri, "") for uri in images.uris.tolist()]
            if all(stamp.isdecimal() for stamp in stamps):
                return np.array(stamps, np.int64)
            return np.arange(len(images))
        dates[dates == ""] = "9"  # those of which nothing is known come last
        return np.unique(dates, return_inverse=True)[1].astype(np.int64)

    # ---- the tree

    @property
    def _tree(self) -> Tree:
        def make() -> Tree:
            return Tree(_by_code(self.grouping.labels, self._ground.ranked), self._ground.centers, self._vectors_of)

        return self._keep("tree", self.view, make)

    def _of_node(self, key: str) -> Rows:
        tree, removed = self._tree, self._now.removed
        try:
            parts = [tree.rows(leaf) for leaf in tree.leaves(key)]
        except KeyError:
            raise PhylaError(f"There is no node {key[:40]!r} in the tree.", "The groups may have changed.") from None
        rows = np.concatenate(parts) if parts else np.array([], np.int32)
        return rows[~removed[rows]]

    def foremost(self, group: int, n: int) -> Rows:
        """The n most typical rows of a group, most typical first, whatever was said of them."""
        if not 0 <= group < self.grouping.n_groups:
            raise PhylaError(f"There is no group {group}.", f"The groups are 0 to {self.grouping.n_groups - 1}.")
        ranked = self._ground.ranked
        return ranked[self.grouping.best[ranked] == group][:n]

    def parts(self, group: int, parts: int) -> list[Rows]:
        """What a group would be split into, the largest part first, the rows of each from typical to not."""
        if parts < 2:
            raise PhylaError("A group is split into two parts or more.", "Give a name for each.")

        def make() -> list[Rows]:
            rows = self.foremost(group, len(self.images))
            members = np.sort(rows)
            if len(members) < parts:
                raise PhylaError(f"{len(members)} images can't be split into {parts}.", "Give fewer names.")
            of = np.empty(len(self.images), np.int32)
            of[members] = divide(self._vectors_of, members, parts, restarts=_RESTARTS)
            order = np.argsort(-np.bincount(of[members], minlength=parts), kind="stable")
            return [rows[of[rows] == part] for part in order]

        return self._keep("parts", (self.view, group, parts), make)


def _by_code(codes: NDArray[np.int32], ranked: Rows) -> dict[int, Rows]:
    """Code → the rows that have it, in the order of `ranked`. Codes of 16 bits are sorted by their digits: O(n)."""
    small = len(codes) == 0 or codes.max() < 2**15
    of = codes[ranked].astype(np.int16 if small else np.int32)
    order = np.argsort(of, kind="stable")
    rows, of = ranked[order], of[order]
    cuts = np.flatnonzero(np.diff(of)) + 1
    return {int(codes[part[0]]): part for part in np.split(rows, cuts) if len(part)}


def _clearest(names: Sequence[str]) -> str | None:
    """The name that most are, if they are many."""
    found, counts = np.unique(np.array(names, str), return_counts=True)
    return str(found[counts.argmax()]) if counts.max() >= _CLEAR * len(names) else None
