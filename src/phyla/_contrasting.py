"""What a group is, and which concepts tell it from another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import plugins
from phyla._opened import Value
from phyla._people import People
from phyla._progress import Progress
from phyla._shown import Rows
from phyla._steps import fitted_arrays, restore
from phyla.engine import limited
from phyla.explain import apart, strongest_rows
from phyla.store import Busy
from phyla.types import PhylaError, Recipe

SHOWN = 6  # images of each kind
_UNITS, _ACTIVE, _STEPS = 128, 4, 300  # of the concepts; docs/benchmarks.md has others
_LEARNT = 10_000  # images that they are learnt from: 3 s
_FEWEST = 30  # images without which there are no concepts
_COMPARED = 1000  # images of a group that are compared with those of another
_PORTION = 1 << 16  # rows looked at at a time
_CONCEPTS, _STRONGEST, _CLEAR = 4, 8, 0.6  # concepts shown, their images, and how surely they tell groups apart


class Contrasting(People):
    """A project that is asked what its groups are."""

    def __init__(self, folder: str | Path, *, create: bool = False) -> None:
        super().__init__(folder, create=create)
        self._making = RLock()

    def _keep_aside(self, what: str, made_of: Any, make: Callable[[], Value]) -> Value:
        """As `_keep`, of what takes seconds to make: whoever asks for anything else does not wait for it."""
        with self._making:
            if what not in self._held or self._held[what][0] != made_of:
                self._held[what] = made_of, make()
            kept: Value = self._held[what][1]
            return kept

    def about(self, of: str) -> dict[str, Any]:
        """What a group or class is, in rows: its most typical images, its least certain, the nearest of others."""
        rows = self._rows_of(of)
        if not len(rows):
            raise PhylaError(f"There are no images in {of[:40]!r}.", "See group:0, class:NAME.")
        now, by_class = self._now, of.startswith("class:")
        codes = now.codes if by_class else now.group
        names = now.classes if by_class else tuple(self.names.get(g) or f"group {g}" for g in range(codes.max() + 1))
        others = codes >= 0
        others[rows] = False
        near: list[int] = []
        if others.any():
            middle = self._vectors_of(evenly(rows, _COMPARED)).mean(0)
            # By direction: by distance what is near the middle of everything would be near every group.
            unlike = [-(X @ middle) / np.maximum(np.linalg.norm(X, axis=1), 1e-9) for _, X in self._blocks()]
            away = np.where(others, np.concatenate(unlike), np.inf)
            near = [row for row in np.argsort(away, kind="stable")[:SHOWN].tolist() if others[row]]
        uncertain = rows[np.argsort(now.proba[rows], kind="stable")][:SHOWN]
        return {
            "of": of, "name": self._called(of), "images": len(rows),
            "typical": [{"row": r} for r in rows[:SHOWN].tolist()],
            "uncertain": [{"row": r, "strength": round(float(now.proba[r]), 4)} for r in uncertain.tolist()],
            "near": [{"row": r, "name": names[codes[r]]} for r in near],
        }  # fmt: skip

    def apart(self, of: str, against: str | None = None, *, quiet: bool = True) -> dict[str, Any]:
        """Which concepts tell a group or class from another, or from all the rest; each by its strongest images."""
        rows, now = self._rows_of(of), self._now
        if against is None:
            others = ~now.removed
            others[rows] = False
            rest = np.flatnonzero(others).astype(np.int32)
        else:
            rest = self._rows_of(against)
        told: dict[str, Any] = {"of": of, "name": self._called(of), "against": against}
        told |= {"against_name": None if against is None else self._called(against), "more": [], "less": []}
        units = self._units(quiet)
        if units is None or not len(rows) or not len(rest):
            return told
        share = apart(*(_activity(units, self._vectors_of(evenly(r, _COMPARED))) for r in (rows, rest)))
        most, least = np.argsort(-share, kind="stable"), np.argsort(share, kind="stable")
        wanted = [*most[: 2 * _CONCEPTS], *least[: 2 * _CONCEPTS]]
        among = np.concatenate([rows, rest])
        strongest = dict(zip(wanted, self._strongest(units, wanted, among), strict=True))
        told["more"] = _distinct(most, share, strongest)
        if against is not None:
            told["less"] = _distinct(least, 1 - share, strongest)
        return told

    def _called(self, of: str) -> str:
        kind, _, what = of.partition(":")
        return (self.names.get(int(what)) or f"group {what}") if kind == "group" else what or kind

    def _units(self, quiet: bool) -> Any:
        """The concepts of the project's images, learnt once; None where they are too few."""
        n = len(self.images)
        if n < _FEWEST:
            return None
        codes = plugins.load("reduce", "sparse_codes")
        params = {"n_components": min(_UNITS, n), "n_active": _ACTIVE, "n_steps": _STEPS}
        made_of = tuple(self._current("reduced"))
        recipe = Recipe("concepts", "sparse_codes", params | {"rows": _LEARNT}, made_of, codes.VERSION)

        def make() -> Any:
            if (arrays := self.store.arrays(f"{recipe.room}/{recipe.key}")) is not None:
                return restore(codes(**params), arrays)
            rows = np.sort(np.random.default_rng(recipe.seed).permutation(n)[:_LEARNT])
            with limited(1), Progress(quiet)("concepts", len(rows), len(rows)) as advance:
                units = codes(**params).fit(self._vectors_of(rows))
                advance(len(rows))
            try:
                with self.store.writing():
                    self.store.finish(self.store.stage(recipe), fitted_arrays(units))
            except Busy:
                pass  # another works on the project: they are made again another time
            return units

        return self._keep_aside("units", recipe.key, make)

    def _strongest(self, units: Any, wanted: Sequence[int], among: Rows) -> list[Rows]:
        """Of each of the units the images, of these, that activate it most. A million images take 1.5 s."""
        among = np.sort(among)  # as they lie on the disk
        parts = np.array_split(among, range(_PORTION, len(among), _PORTION))
        active = np.concatenate([_activity(units, self._vectors_of(part), wanted) for part in parts])
        return [among[strongest_rows(column, _STRONGEST)] for column in active.T]

    def _selector(self, group: int | str) -> str:
        """How the page calls a group, given by its number, or a class, given by its name."""
        is_number = isinstance(group, int) or group.isdecimal()
        of = f"group:{group}" if is_number and group not in self._now.classes else f"class:{group}"
        self._rows_of(of)  # there is one
        return of


def evenly(rows: Rows, n: int) -> Rows:
    """n of the rows, from the first to the last."""
    return rows if len(rows) <= n else rows[np.linspace(0, len(rows) - 1, n).astype(int)]


def _activity(units: Any, X: NDArray[np.float32], which: Sequence[int] | slice = slice(None)) -> NDArray[np.float32]:
    """(m, h) how strongly each unit answers to rows X (m, d), before all but the strongest few are silenced.

    So an image that three units share tells of all three: the best unit tells two classes of CIFAR-10 apart with an
    AUROC of 0.90, silenced with 0.71.
    """
    active: NDArray[np.float32] = (X - units.mean_) @ units.encoder_[which].T + units.bias_[which]
    return active


def _distinct(order: NDArray[np.intp], share: NDArray[np.float64], strongest: dict[int, Rows]) -> list[dict[str, Any]]:
    """The first units that clearly tell apart and show other images than those before."""
    shown: set[int] = set()
    told: list[dict[str, Any]] = []
    for unit in order[: 2 * _CONCEPTS].tolist():
        rows = strongest[unit].tolist()
        if share[unit] < _CLEAR or len(told) == _CONCEPTS or not rows or len(shown & set(rows)) > len(rows) // 2:
            continue
        shown |= set(rows)
        told.append({"unit": unit, "share": round(float(share[unit]), 4), "rows": rows})
    return told
