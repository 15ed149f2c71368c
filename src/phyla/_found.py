"""What an audit found in a project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla._searching import Searching
from phyla._shown import Rows
from phyla.label import in_force
from phyla.types import UNSORTED

_CONFIRMED_NEAR = 6  # images of the other class shown beside what is perhaps mislabelled
# Checks of labels: what they found is dealt with once a person has said what the first image is.
_OF_LABELS = {"mislabelled", "ambiguous", "margin_area", "small_loss", "sub_centres", "unknown_class"}


@dataclass(frozen=True)
class _Found:
    """An audit's findings, n of them: `rows` (m,) of all, the finding `of` (m,) each; sorted by finding."""

    checks: NDArray[Any]
    severity: NDArray[np.float32]
    whys: list[str]
    rows: Rows
    of: Rows
    n: int


class Found(Searching):
    """A project in which an audit found something."""

    def _found(self) -> _Found:
        name = self.store.meta().get("audit")
        return self._keep("found", (self.view, name), lambda: self._read_found(name))

    def _read_found(self, name: str | None) -> _Found:
        listed = self.store.read_json(name)["findings"] if name else []
        ids = [i for found in listed for i in found["ids"]]
        rows = self.rows_with(ids)
        of = np.repeat(np.arange(len(listed)), [len(found["ids"]) for found in listed])
        there = rows >= 0
        severity = np.array([found["severity"] for found in listed], np.float32)
        checks = np.array([found["check"] for found in listed], object)
        whys = [found["why"] for found in listed]
        return _Found(checks, severity, whys, rows[there], of[there].astype(np.int32), len(listed))

    def _open(self, found: _Found) -> NDArray[np.bool_]:
        """Which findings nobody has dealt with."""
        name = self.store.meta().get("audit")
        return self._keep("open", (self.view, name, self.seq), lambda: self._make_open(found))

    def _make_open(self, found: _Found) -> NDArray[np.bool_]:
        said, removed = self.said, self._now.removed
        size = np.bincount(found.of, minlength=found.n)
        left = np.bincount(found.of, ~removed[found.rows], minlength=found.n)
        is_open = left >= np.minimum(size, 2)  # of two copies one is left: nothing to do
        if said.kept:
            by_check: dict[str, list[str]] = {}
            for check, i in said.kept:
                by_check.setdefault(check, []).append(i)
            kept = np.zeros(len(found.rows), bool)
            for check, ids in by_check.items():
                mine = found.checks[found.of] == check
                kept |= mine & np.isin(found.rows, self.rows_with(ids))
            is_open &= ~((np.bincount(found.of, kept, minlength=found.n) == size) & (size > 0))
        since = self.store.meta().get("audit_edits", self.seq)
        if since < self.seq and len(found.rows):
            told = {i for e in in_force(self.edits) if e.seq >= since and e.op in ("confirm", "move") for i in e.ids}
            rows = self.rows_with(sorted(told))
            first = found.rows[np.searchsorted(found.of, np.arange(found.n)).clip(max=max(len(found.rows) - 1, 0))]
            is_open &= ~(np.isin(found.checks, list(_OF_LABELS)) & np.isin(first, rows))
        return is_open

    def _findings_open(self) -> dict[str, int]:
        found = self._found()
        checks, counts = np.unique(found.checks[self._open(found)].astype(str), return_counts=True)
        listed = zip(checks.tolist(), counts.tolist(), strict=True)
        return dict(sorted(listed, key=lambda pair: -pair[1]))

    def findings_of(self, check: str) -> list[dict[str, Any]]:
        """What a check found and nobody has dealt with, most severe first."""
        found, now = self._found(), self._now
        wanted = np.flatnonzero(self._open(found) & (found.checks == check))
        starts = np.searchsorted(found.of, np.arange(found.n + 1))
        told = []
        for number in wanted.tolist():
            rows = found.rows[starts[number] : starts[number + 1]]
            rows = rows[~now.removed[rows]]
            code = int(now.codes[rows[0]]) if len(rows) else UNSORTED
            label = now.classes[code] if code >= 0 else None
            why, instead = found.whys[number], None
            if check == "mislabelled":
                instead = why.rpartition(", but looks like ")[2].removesuffix(".") or None
            told.append(
                {"number": number, "check": check, "severity": float(found.severity[number]), "why": why,
                 "rows": rows.tolist(), "label": label, "instead": instead, "near": []}
            )  # fmt: skip
        if check == "mislabelled":
            self._add_near(told)
        return told

    def _add_near(self, told: list[dict[str, Any]]) -> None:
        """To each finding the confirmed images of the other class that its image resembles most."""
        now, said = self._now, self.said
        for name in {of["instead"] for of in told} & set(now.classes):
            mine = [of for of in told if of["instead"] == name and of["rows"]]
            sure = np.flatnonzero((said.person == now.classes.index(name)) & ~now.removed)
            if not len(sure) or not mine:
                continue
            X, Y = self._vectors_of(np.array([of["rows"][0] for of in mine])), self._vectors_of(sure)
            away = (Y**2).sum(1) - 2 * X @ Y.T
            for of, order in zip(mine, np.argsort(away, axis=1, kind="stable"), strict=True):
                of["near"] = [row for row in sure[order].tolist() if row != of["rows"][0]][:_CONFIRMED_NEAR]
