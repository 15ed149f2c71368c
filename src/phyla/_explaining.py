"""Why an image is what it is taken for, what a group is, and what tells two of them apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import backbones, sources
from phyla._assigning import judge
from phyla._contrasting import SHOWN, Contrasting, evenly
from phyla._shown import Rows
from phyla._steps import usable_threads
from phyla.engine import limited
from phyla.explain import Representers, class_heat, heat, nearest, onto, scaled
from phyla.types import ORIGINS, PhylaError

_LEARNT = 3000  # images that a prediction is explained by, at most: 1 s to learn from, once after an edit
_OF_A_CLASS = 200  # of them, beside the answered ones; see `Representers` for what fewer cost
_ANSWERED = 1500  # answered ones, at most
_LOOKED_AT = 500  # typical images of a class that a prototype is looked for in, beside the confirmed ones
_SIDE = 320  # pixels of a heat map's longer side: there are nine places to a side of what a network sees
_SOFT = 10.0  # pixels, of about 40 a place
_SEEN = 512  # pixels of the shorter side that a picture from elsewhere is decoded to


@dataclass(frozen=True)
class _Learnt:
    """What explains the predictions of a kind ("class" or "group"). codes : (n,); rows : (m,) learnt from."""

    model: Representers
    rows: Rows
    codes: Rows
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Judged:
    """A picture and what it is taken for: its components x (d,), its row if it has one, its code and its rival's."""

    x: NDArray[np.float32]
    row: int | None
    kind: str
    code: int
    rival: int | None


class Explaining(Contrasting):
    """A project that is asked why."""

    def explain(
        self,
        picture: str | Path | int | None = None,
        *,
        group: int | str | None = None,
        against: int | str | None = None,
        to: str | Path | None = None,
        force: bool = False,
        threads: int | None = None,
        quiet: bool = True,
    ) -> dict[str, Any]:
        """Tell why an image is taken for what it is; or what a group is; or what tells it from another.

        The first time takes 3 s for the networks, or for the concepts, which are kept in the project; then 0.1 s.

        Parameters
        ----------
        picture : an image's uri, id or row, or a picture file that the project need not have seen.
        group : a group's number or a class. against : another, instead of all the rest.
        to : a .png (the picture, and where the networks look) or .html (all of it as one page) to write.
        force : replace what lies there.

        Returns
        -------
        dict : of an image `name`, `rival` (what it would be else), `lead` over it and what it is made of: `pushes` of
            images, for and against; `prototypes` and `counter_examples`, the nearest images of both, with distances;
            `heat` and `heat_of_class`, (h, w) in 0..1, where the picture differs from itself and what speaks for
            `name` rather than `rival`. Of a group `typical`, `uncertain` and `near` (of others) images, and
            `concepts`: what it has `more` of, and less, with how often an image of it has (0.5 by chance).
        """
        from phyla._explained import write

        if (picture is None) == (group is None):
            raise PhylaError("Explain a picture, or a group?", "Give the one or the other.")
        if against is not None and group is None:
            raise PhylaError("A picture is not explained against a group.", "Its rival is found by itself.")
        if to is not None:
            suffix = Path(to).suffix.lower()
            if suffix not in (".png", ".html") or (suffix == ".png" and picture is None):
                raise PhylaError(f"{to} can't be written.", "A picture's heat is a .png, and all else an .html.")
            if Path(to).exists() and not force:
                raise PhylaError(f"{to} is there already.", "Give another name, or --force to replace it.")
        with limited(usable_threads(threads)):
            told = self._told_of_picture(picture) if group is None else self._told_of_group(group, against, quiet)
        if to is not None:
            write(self, told, Path(to))
        return told

    # ---- a picture

    def why(self, row: int) -> dict[str, Any]:
        """What `explain` tells of an image, in rows, without the heat maps."""
        looks = any(backbones.has_maps(card) for card in self._network_cards)
        return self._why(self._judged(row)) | {"looks": looks}

    def heat(self, row: int, by: str = "class") -> NDArray[np.float32]:
        """(h, w), 0..1: by "picture", where it differs from its other places; by "class", what speaks for its class."""
        if by not in ("class", "picture"):
            raise PhylaError(f"There is no heat by {by[:40]!r}.", 'There is: "class", "picture".')
        return self._heat(self.images.open(row, self._side_wanted()), self._judged(row), by)

    def _told_of_picture(self, picture: str | Path | int | None) -> dict[str, Any]:
        row, pixels = self._find(picture)
        judged = self._judged_anew(pixels) if pixels is not None else self._judged(row or 0)
        told = self._why(judged)
        told["uri"] = str(self.images.uris[row]) if row is not None else str(picture)
        try:
            if row is not None:
                pixels = self.images.open(row, self._side_wanted())
            told["heat"] = self._heat(pixels, judged, "picture")
            told["heat_of_class"] = self._heat(pixels, judged, "class") if judged.rival is not None else None
        except PhylaError as fault:  # no network has maps to show, or the picture is gone: all else can be told
            told |= {"heat": None, "heat_of_class": None, "heat_why": fault.message}
        return self._in_uris(told)

    def _find(self, picture: Any) -> tuple[int | None, Any]:
        """The row of a picture of the project, or the pixels of one from elsewhere."""
        images = self.images
        if isinstance(picture, int):
            if not 0 <= picture < len(images):
                raise PhylaError(f"There is no row {picture}.", f"The rows are 0 to {len(images) - 1}.")
            return picture, None
        text = str(picture)
        found = sources.match([text], self._id_of)[0] or text
        row = int(self.rows_with([found])[0])
        if row >= 0:
            return row, None
        if Path(text).is_file():
            return None, sources.decode(Path(text).read_bytes(), _SEEN)
        raise PhylaError(f"{text} is neither an image of the project nor a picture file.", "Check the spelling.")

    def _judged(self, row: int) -> _Judged:
        spaces = (self.store.array(f"{stage}/X.npy", mmap=True) for stage in self._current("reduced"))
        x = np.concatenate([X[row] for X in spaces]).astype(np.float32)
        code = int(self._now.codes[row])
        kind = "class" if code >= 0 and self._has_classes else "group"
        return self._against(x, row, kind, code if kind == "class" else int(self.grouping.best[row]))

    def _judged_anew(self, pixels: NDArray[np.uint8]) -> _Judged:
        """A picture that the project has not seen, and what `predict` would say of it."""
        x, _ = self._described(pixels)
        told = judge(self)(x)
        classes = self._now.classes
        name = str(told["name"][0])
        kind = "class" if name in classes and self._has_classes else "group"
        code = classes.index(name) if kind == "class" else int(told["group"][0])
        return self._against(x[0], None, kind, code)

    @property
    def _has_classes(self) -> bool:
        return sum(code >= 0 for code in self._by_class) > 1

    def _against(self, x: NDArray[np.float32], row: int | None, kind: str, code: int) -> _Judged:
        learnt = self._learnt(kind)
        scores = learnt.model.scores(x[None])[0]
        there = np.bincount(learnt.codes[learnt.rows], minlength=len(scores)) > 0
        there[code] = False
        rival = int(np.where(there, scores, -np.inf).argmax()) if there.any() else None
        return _Judged(x, row, kind, code, rival)

    def _learnt(self, kind: str) -> _Learnt:
        return self._keep_aside(f"learnt {kind}", (self.view, self._spread, self.seq), lambda: self._learn(kind))

    def _learn(self, kind: str) -> _Learnt:
        """Explains the project's word by the answered images, and as many of each class that it is sure of."""
        now, said = self._now, self.said
        if kind == "class":
            codes, names, by_code = now.codes, now.classes, self._by_class
        else:
            codes, by_code = now.group, self._by_group
            names = tuple(self.names.get(g) or f"group {g}" for g in range(self.grouping.n_groups))
        listed = {code: rows for code, rows in by_code.items() if code >= 0}
        if not listed:
            raise PhylaError("All images are unsorted: there is nothing to explain by.", "Name some, and spread them.")
        answered = np.flatnonzero((said.person >= 0) & (codes >= 0) & (kind == "class"))
        sure = evenly(answered.astype(np.int32), _ANSWERED)
        each = int(np.clip((_LEARNT - len(sure)) // max(len(listed), 1), 1, _OF_A_CLASS))
        drawn = [evenly(rows[now.accepted[rows]], each) for rows in listed.values()]
        # A class of which nothing is accepted is told of by what there is.
        drawn += [rows[:each] for rows in listed.values() if not now.accepted[rows].any()]
        rows = np.unique(np.concatenate([sure, *drawn])).astype(np.int32)
        spaces = (self.store.array(f"{stage}/X.npy", mmap=True) for stage in self._current("reduced"))
        with limited(1):
            X = np.hstack([np.asarray(X[rows], np.float32) for X in spaces])
            model = Representers(blocks=self.blocks).fit(X, codes[rows], len(names))
        return _Learnt(model, rows, codes, names)

    def _why(self, judged: _Judged) -> dict[str, Any]:
        learnt, row, code, rival = self._learnt(judged.kind), judged.row, judged.code, judged.rival
        now, person = self._now, self.said.person >= 0
        told: dict[str, Any] = {
            "row": row, "kind": judged.kind, "name": learnt.names[code],
            "origin": ORIGINS[self.labels.origin[row]] if row is not None and judged.kind == "class" else "",
            "rival": None if rival is None else learnt.names[rival],
            "lead": None, "pushes": {"for": [], "against": []},
            "prototypes": self._nearest_of(judged, code), "counter_examples": [],
        }  # fmt: skip
        if rival is None:
            return told
        told["counter_examples"] = self._nearest_of(judged, rival)
        pushes = learnt.model.pushes(judged.x, code, rival)
        own = pushes[learnt.rows == row] if row is not None else pushes[:0]
        others = learnt.rows != (-1 if row is None else row)
        order = np.argsort(-pushes * others, kind="stable")

        def listed(of: NDArray[np.intp], pushed: NDArray[np.bool_]) -> list[dict[str, Any]]:
            numbers = of[(pushed & others)[of]]
            return [
                {"row": int(r), "push": round(float(push), 6), "name": learnt.names[learnt.codes[r]],
                 "answered": bool(person[r]), "accepted": bool(now.accepted[r])}
                for r, push in zip(learnt.rows[numbers], pushes[numbers], strict=True)
            ]  # fmt: skip

        told["lead"] = float(pushes.sum())
        told["own"] = float(own.sum())
        told["pushes"] = {
            "for": listed(order[:SHOWN], pushes > 0),
            "against": listed(order[::-1][:SHOWN], pushes < 0),
        }
        told["learnt_from"] = len(learnt.rows)
        return told

    def _nearest_of(self, judged: _Judged, code: int) -> list[dict[str, Any]]:
        """The images of a class or group that the picture is most like: confirmed ones, and typical ones."""
        learnt = self._learnt(judged.kind)
        rows = (self._by_class if judged.kind == "class" else self._by_group).get(code, np.zeros(0, np.int32))
        person = self._now.person
        sure = evenly(rows[person[rows]], _LOOKED_AT)
        rows = np.unique(np.concatenate([sure, rows[:_LOOKED_AT]]))
        rows = rows[rows != (-1 if judged.row is None else judged.row)]
        at, away = nearest(self._leading(judged.x), self._vectors_of(rows), SHOWN)
        return [
            {
                "row": int(rows[i]),
                "distance": round(float(d), 4),
                "name": learnt.names[code],
                "answered": bool(person[rows[i]]),
            }
            for i, d in zip(at, away, strict=True)
        ]

    def _leading(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        from phyla.cluster import leading

        return leading(x[None], self.blocks)[0]

    # ---- heat

    @property
    def _mapped(self) -> list[tuple[int, backbones.Network]]:
        """The networks that can show where they look, with their numbers."""
        cards = self._network_cards
        able = [number for number, card in enumerate(cards) if backbones.has_maps(card)]
        # Of networks that all can't, the first says so.
        return self._keep_aside("mapped", cards, lambda: [(i, backbones.maps(cards[i], 1)) for i in able or [0]])

    @property
    def _network_cards(self) -> list[backbones.Card]:
        names = self._current("backbones")
        return self._keep_aside("network cards", names, lambda: [backbones.card(name) for name in names])

    def _side_wanted(self) -> int:
        return max(card.shorter_side for card in self._network_cards)

    def _heat(self, pixels: NDArray[np.uint8], judged: _Judged, by: str) -> NDArray[np.float32]:
        """(h, w), 0..1, its longer side `_SIDE`."""
        import cv2

        h, w = pixels.shape[:2]
        scale = _SIDE / max(h, w)
        shape = max(round(h * scale), 1), max(round(w * scale), 1)
        whole = np.zeros(shape, np.float32)
        with limited(1):
            for number, network in self._mapped:
                maps = network(backbones.fit(pixels, network.card)[None])[0]
                part = class_heat(maps, self._weights(judged, number)) if by == "class" else heat(maps)
                top, left, side = (round(v * scale) for v in backbones.seen(h, w, network.card))
                side = max(min(side, shape[0] - top, shape[1] - left), 1)
                whole += onto(part, shape, (top, left, side))
        # Softened by less than a place, so that neither the places nor the squares that were seen have edges.
        return scaled(np.asarray(cv2.GaussianBlur(whole, (0, 0), _SOFT), np.float32))

    def _weights(self, judged: _Judged, number: int) -> NDArray[np.float64]:
        """(dim,) the gradient of the picture's lead by the features of one of the networks."""
        if judged.rival is None:
            raise PhylaError("There is nothing else that the image could be.", 'There is its heat by "picture".')
        slope = self._learnt(judged.kind).model.gradient(judged.x, judged.code, judged.rival)
        dims = [card.dim for card in self._network_cards]
        # The axes are affine in the features, however these are brought to them: a step along each tells the slope.
        here = [np.zeros((1, dim), np.float32) for dim in dims]
        there = [np.eye(dim, dtype=np.float32) if i == number else np.zeros((dims[number], dim), np.float32)
                 for i, dim in enumerate(dims)]  # fmt: skip
        weights: NDArray[np.float64] = (self._narrow(there)[0] - self._narrow(here)[0]).astype(np.float64) @ slope
        return weights

    # ---- as a dict

    def _told_of_group(self, group: int | str, against: int | str | None, quiet: bool) -> dict[str, Any]:
        of, other = (None if g is None else self._selector(g) for g in (group, against))
        assert of is not None
        told = self.about(of) | {"against": None if other is None else self._called(other)}
        concepts = self.apart(of, other, quiet=quiet)
        return self._in_uris(told | {"concepts": {"more": concepts["more"], "less": concepts["less"]}})

    def _in_uris(self, told: Any) -> Any:
        """The same with the uri beside each row, and lists of rows as uris."""
        uris = self.images.uris
        if isinstance(told, dict):
            more = {"uri": str(uris[told["row"]])} if told.get("row") is not None else {}
            rows = {"uris": [str(uris[row]) for row in told["rows"]]} if "rows" in told else {}
            return more | {k: self._in_uris(v) for k, v in told.items()} | rows
        return [self._in_uris(one) for one in told] if isinstance(told, list) else told
