"""What the page shows of a project: the whole, cards, the tree, one image, the past. Nothing here says anything."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla._found import Found
from phyla._progress import Progress
from phyla._seeing import for_browser, thumbnail
from phyla._shown import Rows
from phyla._steps import Steps, usable_threads
from phyla._taking import FORMATS, take_away
from phyla._telling import spread_told
from phyla._tree import in_line
from phyla.engine import limited
from phyla.label import in_force
from phyla.types import ORIGINS, UNSORTED, PhylaError

_TYPICAL = 12  # rows that a card shows
_SHOWN_OF_AN_EDIT = 12
_OPTIONS = 8


class Looking(Found):
    """A project that somebody looks at."""

    # ---- the whole

    def summary(self) -> dict[str, Any]:
        """What the page's frame shows; see `Summary` of web/src/api.ts."""
        meta = self.store.meta()
        made_of = (self.view, self._spread, self.seq, meta.get("audit"), meta.get("map"), self.reads_words)
        return self._keep("summary", made_of, self._make_summary)

    def _make_summary(self) -> dict[str, Any]:
        table, now = self._table, self._now
        n, meta, edits = len(now.group), self.store.meta(), self.edits
        unreadable = int((table["row"] < 0).sum())
        spread = spread_told(self)
        return {
            "project": self.store.name,
            "source": self._current("source"),
            "view": self.view,
            "seq": len(edits),
            "images": n,
            "files": len(table["row"]),
            "copies": len(table["row"]) - unreadable - n,
            "unreadable": unreadable,
            "removed": int(now.removed.sum()),
            "groups": sum(group >= 0 for group in self._by_group),
            "unsorted": len(self.rows_of("unsorted")),
            "labelled": int((now.codes >= 0).sum()),
            "waiting": int((~now.accepted & ~now.removed).sum()) if spread else 0,
            "answers": int((now.person & ~now.removed).sum()),
            "can_undo": bool(in_force(edits)),
            "can_redo": self.redoable is not None,
            "classes": self._classes(),
            "spread": spread
            and {k: spread[k] for k in ("method", "answers", "accepted", "stated_error", "edits_since")},
            "findings": self._findings_open(),
            "audited": bool(meta.get("audit")),
            "audit_of_other_groups": meta.get("audit_of_other_groups", False),
            "mapped": bool(meta.get("map")),
            "reads_words": self.reads_words,
            "read_only": False,
            "job": None,
        }

    def _classes(self) -> list[dict[str, Any]]:
        now, said = self._now, self.said
        c = len(now.classes)
        images = np.bincount(now.codes[now.codes >= 0], minlength=c).tolist()
        confirmed = np.bincount(said.person[now.person & ~now.removed], minlength=c).tolist()
        listed = zip(now.classes, images, confirmed, strict=True)
        return [{"name": name, "images": i, "confirmed": sure} for name, i, sure in listed if i]

    @property
    def reads_words(self) -> bool:
        """Whether one of the networks reads words, as far as can be told without loading it."""
        held = self._held.get("words")
        return bool(held and held[1]) or any(name.startswith("openclip:") for name in self._current("backbones"))

    def cards(self, by: str) -> list[dict[str, Any]]:
        """A card for each group, and for what people made a class of its own; or a card for each class."""
        if by not in ("group", "class"):
            raise PhylaError(f"There are no cards by {by!r}.", 'There are: "group", "class".')
        made_of = (self.view, self._spread, self.seq)
        return self._keep(f"cards by {by}", made_of, lambda: self._class_cards() if by == "class" else self._cards())

    def _cards(self) -> list[dict[str, Any]]:
        now, names, ground = self._now, self.names, self._ground
        strength = self.grouping.strength
        cards = [
            self._card(f"group:{g}", rows, strength, float(ground.place[g]))
            | {"group": g, "name": names.get(g), "suggestion": now.suggestions.get(g)}
            for g, rows in self._by_group.items()
            if g >= 0
        ]
        for card in self._class_cards():
            if card["name"] not in names.values() and len(rows := self.rows_of(of := f"apart:{card['name']}")):
                cards.append(self._card(of, rows, now.proba, card["place"]) | {"name": card["name"]})
        return cards

    def _class_cards(self) -> list[dict[str, Any]]:
        now, ground, grouping = self._now, self._ground, self.grouping
        c, groups = len(now.classes), grouping.n_groups
        if not c:
            return []
        known = now.codes >= 0
        held = np.bincount(now.codes[known].astype(np.int64) * groups + grouping.best[known], minlength=c * groups)
        held = held.reshape(c, groups)
        full = held.sum(1) > 0
        place = np.zeros(c)
        place[full] = in_line(held[full] / held[full].sum(1, keepdims=True) @ ground.centers)
        return [
            self._card(f"class:{now.classes[code]}", rows, now.proba, float(place[code])) | {"name": now.classes[code]}
            for code, rows in self._by_class.items()
            if code >= 0
        ]

    def _card(self, of: str, rows: Rows, strength: NDArray[np.float32], place: float = 0.0) -> dict[str, Any]:
        mean = round(float(strength[rows].mean()), 4) if len(rows) else 0.0
        return {
            "of": of, "group": None, "name": None, "suggestion": None, "size": len(rows), "strength": mean,
            "confirmed": int(self._now.person[rows].sum()), "typical": rows[:_TYPICAL].tolist(),
            "place": round(place, 4),
        }  # fmt: skip

    # ---- one image, and all

    def image(self, row: int) -> dict[str, Any]:
        """All that is known of one image."""
        images, now, labels = self.images, self._now, self.labels
        of = np.flatnonzero(self._table["row"] == row)
        code, uri = int(now.codes[row]), str(images.uris[row])
        return {
            "row": row,
            "uri": uri,
            "copies": [str(other) for other in self._uris[of] if other != uri],
            "width": int(images.width[row]),
            "height": int(images.height[row]),
            "group": int(self.grouping.labels[row]),
            "name": now.classes[code] if code >= 0 else None,
            "origin": ORIGINS[labels.origin[row]],
            "strength": round(float(now.proba[row]), 4),
            "accepted": bool(now.accepted[row]) and not now.removed[row],
        }

    def array(self, what: str) -> NDArray[Any]:
        """A number, or two, of each row: `points`, `groups`, `labels`, `strength`, `severity`."""
        now = self._now
        match what:
            case "points":
                return self._points()
            case "groups":
                return now.group.astype("<i4")
            case "labels":
                shown = {of["name"]: i for i, of in enumerate(self._classes())}
                index = np.array([shown.get(name, UNSORTED) for name in now.classes] + [UNSORTED], "<i4")
                return index[now.codes]
            case "strength":
                return np.rint(now.proba.clip(0, 1) * 255).astype(np.uint8)
            case "severity":
                worst = np.zeros(len(now.group), np.float32)
                found = self._found()
                open_ = self._open(found)
                np.maximum.at(worst, found.rows[open_[found.of]], found.severity[found.of][open_[found.of]])
                return np.rint(worst.clip(0, 1) * 255).astype(np.uint8)
        raise PhylaError(f"There is no array {what[:40]!r}.", "There is: points, groups, labels, strength, severity.")

    def _points(self) -> NDArray[np.float32]:
        if (stage := self.store.meta().get("map")) is None:
            raise PhylaError("There is no map yet.", "Start the job that draws it.")
        points = self._array(stage, "points")[: len(self.images)]
        low, high = points.min(0), points.max(0)
        return ((points - (low + high) / 2) / max(float((high - low).max()) / 2, 1e-9)).astype("<f4")

    # ---- the tree

    def tree(self, key: str = "", deep: bool = False) -> dict[str, Any]:
        """A node with its children: of what lies above groups all down to these, of what lies below one level."""
        with self._reading:
            self._of_node(key)  # there is one
            return self._node(key, True, deep)

    def _node(self, key: str, is_asked: bool, deep: bool) -> dict[str, Any]:
        tree = self._tree
        if not tree.is_above(key):
            return self._part(key, is_asked or deep, deep)
        nodes = sorted((self._node(child, False, deep) for child in tree.children(key)), key=lambda node: -node["size"])
        size = sum(node["size"] for node in nodes)
        turns = zip_longest(*(node["typical"] for node in nodes))
        typical = [row for turn in turns for row in turn if row is not None][:_TYPICAL]
        strength = round(sum(node["strength"] * node["size"] for node in nodes) / max(size, 1), 4)
        return {
            "of": None if key else "all", "key": key, "name": None, "size": size, "strength": strength,
            "typical": typical, "rows": None, "children": nodes,
        }  # fmt: skip

    def _part(self, key: str, opened: bool, deep: bool) -> dict[str, Any]:
        """The node of a group, of what is unsorted, or of a part of these."""
        rows, is_whole = self._of_node(key), "." not in key
        strength = self.grouping.strength[rows]
        is_last = not self._tree.is_divided(key)
        children = self._tree.children(key) if opened and not is_last else []
        return {
            "of": f"tree:{key}" if not is_whole else "unsorted" if key == "u" else f"group:{key[1:]}",
            "key": key,
            "name": self.names.get(int(key[1:])) if is_whole and key != "u" else None,
            "size": len(rows),
            "strength": round(float(strength.mean()), 4) if len(rows) else 0.0,
            "typical": rows[:_TYPICAL].tolist(),
            "rows": rows.tolist() if is_last else None,
            "children": [self._part(child, deep, deep) for child in children] or None,
        }

    def preview(self, group: int, parts: int) -> list[dict[str, Any]]:
        """A card for each part of a split, in the order in which names are given to them."""
        strength, removed = self.grouping.strength, self._now.removed
        found = [rows[~removed[rows]] for rows in self.parts(group, parts)]
        return [self._card(f"part:{group}:{parts}:{i}", rows, strength) for i, rows in enumerate(found)]

    # ---- pictures

    def thumbnail(self, row: int, side: int) -> bytes:
        """The picture as WebP that fits into a square of `side` pixels."""
        return thumbnail(self.images, row, side)

    def picture(self, row: int) -> tuple[bytes, str]:
        """The picture as a browser can show it, and its type."""
        return for_browser(self._source, str(self.images.uris[row]))

    # ---- what was said, asked and bought

    def history(self, n: int = 200) -> list[dict[str, Any]]:
        """The last n edits, the newest first."""
        undone: set[int | None] = set()
        told: list[dict[str, Any]] = []
        for edit in reversed(self.edits):
            is_undone = edit.seq in undone
            if edit.op == "undo" and not is_undone:
                undone.add(edit.of)
            if len(told) < n:
                rows = self.rows_with(edit.ids[:_SHOWN_OF_AN_EDIT])
                told.append(
                    {"seq": edit.seq, "op": edit.op, "name": ", ".join(dict.fromkeys(edit.classes)) or None,
                     "images": len(edit.ids), "rows": rows[rows >= 0].tolist(), "by": edit.by, "at": edit.at,
                     "undone": is_undone, "of": edit.of}
                )  # fmt: skip
        return told

    def options(self, row: int) -> list[dict[str, Any]]:
        """The classes that an image may be of, likeliest first, as the last spread sees it."""
        if not (stage := self._spread):
            return []
        share = self.store.array(f"{stage}/proba.npy", mmap=True)[row].astype(np.float32)
        names = self.store.read_json(f"{stage}/classes.json")
        order = np.argsort(-share, kind="stable")[:_OPTIONS].tolist()
        return [{"name": names[c], "proba": round(float(share[c]), 4)} for c in order]

    def bought(self) -> list[dict[str, Any]]:
        """What each spread over the current groups made of the answers that there were, the oldest first."""
        told = []
        for stage in (f"spread/{name}" for name in self.store.names("spread")):
            if not self.store.has(f"{stage}/told.json"):
                continue
            if self._current("groups") in self.store.recipe(stage).inputs:
                changed = self.store.path(f"{stage}/told.json").stat().st_mtime
                at = datetime.fromtimestamp(changed, UTC).isoformat(timespec="milliseconds")
                point = self.store.read_json(f"{stage}/told.json")
                told.append({k: point[k] for k in ("answers", "accepted", "images", "stated_error")} | {"at": at})
        return sorted(told, key=lambda point: str(point["at"]))

    def answers_since_spread(self) -> int:
        """How many images were answered for since the labels were last spread."""
        meta = self.store.meta()
        since = meta.get("spread_edits", 0) if self._spread else 0
        if self.seq == since:
            return 0
        said = [e for e in in_force(self.edits) if e.seq >= since and e.op in ("confirm", "move", "reject")]
        return len({i for edit in said for i in edit.ids})

    def tidy(self) -> None:
        """Forget what former spreads made of each image, which can be made again; what they told stays.

        The page spreads after every few answers: of a million images each would keep a hundred megabytes.
        """
        with self.store.writing():
            for name in self.store.names("spread"):
                if f"spread/{name}" != self.store.meta().get("spread"):
                    self.store.forget(f"spread/{name}")

    def map(self, *, threads: int | None = None, quiet: bool = True) -> None:
        """Lay the images out on a plane, where sorting has left that out. 60,000 take some minutes."""
        threads = usable_threads(threads)
        with self.store.writing(), limited(threads):
            seed = self.store.recipe(self._current("groups")).seed
            stage = Steps(self.store, threads, Progress(quiet)).map(self.near, self._current("reduced"), seed)
            self.store.update_meta(map=stage)

    def take(self, rows: NDArray[np.integer], format: str) -> Iterator[bytes]:
        """The bytes of a file of these rows, and of the copies of them.

        "csv" and "parquet" are tables, "zip" has a folder a class, "tar" is a shard of a WebDataset.
        """
        if format not in FORMATS:
            raise PhylaError(f"There is no format {format!r}.", f"There is: {', '.join(FORMATS)}.")
        wanted = np.zeros(len(self.images) + 1, bool)  # the last stands for what can't be read
        wanted[rows] = True
        return take_away(self, wanted[self._table["row"]], format)
