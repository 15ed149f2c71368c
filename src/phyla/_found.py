"""What is found in a project: by an audit, and by what images look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import backbones, plugins, sources
from phyla._growing import narrowing
from phyla._progress import Progress
from phyla._shown import Rows, Shown
from phyla._steps import Steps, limited, words_of
from phyla.cluster import leading
from phyla.label import in_force
from phyla.label.zero_shot import TEMPLATES
from phyla.types import UNSORTED, Images, PhylaError

_CONFIRMED_NEAR = 6  # images of the other class shown beside what is perhaps mislabelled
_SEEN = 512  # pixels of the shorter side that a picture is decoded to for the networks
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


class Found(Shown):
    """A project in which something is looked for."""

    # ---- findings

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

    # ---- finding

    def alike(self, rows: Sequence[int], n: int = 200) -> list[int]:
        """The rows most like these, nearest first, these left out. A million images take a quarter of a second."""
        return self._nearest(self._vectors_of(np.array(rows, int)).mean(0), n, rows)

    def _nearest(self, vector: NDArray[np.float32], n: int, but: Sequence[int] = ()) -> list[int]:
        away = np.empty(len(self.images), np.float32)
        for start, X in self._blocks():
            X -= vector
            np.einsum("ij,ij->i", X, X, out=away[start : start + len(X)])
        return self._first(away, n, but)

    def _first(self, away: NDArray[np.float32], n: int, but: Sequence[int] = ()) -> list[int]:
        away[self._now.removed] = np.inf
        away[list(but)] = np.inf
        n = min(n, len(away))
        near = np.argpartition(away, n - 1)[:n]
        near = near[np.lexsort((near, away[near]))]
        return near[away[near] < np.inf].tolist()

    def alike_picture(self, data: bytes, n: int = 200) -> list[int]:
        """The rows most like a picture, given as the bytes of its file."""
        pixels = sources.decode(data, _SEEN)
        h, w = pixels.shape[:2]
        images = Images(np.array(["0"]), np.array(["-"]), np.array([w]), np.array([h]), lambda row, at_least: pixels)
        run = plugins.load("engine", "local")
        with limited(1):
            shards = [next(iter(backbones.extract(images, [0], [network], run, 1))) for network in self._networks]
            narrow = narrowing(
                self.store, self._current("reduced"), self._current("features"), self.store.meta().get("aligned")
            )
            X, _ = narrow([shard.features[0] for shard in shards])
        return self._nearest(leading(X, self.blocks)[0], n)

    @property
    def _networks(self) -> list[backbones.Network]:
        names = self._current("backbones")
        return self._keep("networks", names, lambda: [backbones.load(backbones.card(name), 1) for name in names])

    def alike_words(self, text: str, n: int = 200) -> list[int]:
        """The rows that look most like what words say, where a network reads words."""
        features = self._current("features")
        found = self._keep("words", features, lambda: words_of(self.store.meta(), features, 1))
        if found is None:
            raise PhylaError(
                f"{' and '.join(self._current('backbones'))} can't read words.",
                "Sort with one that can: phyla sort PHOTOS --backbone openclip:ViT-B-32/laion2b_s34b_b79k",
            )
        stage, texts_of = found
        texts = texts_of([template.format(text) for template in TEMPLATES])
        wanted = (texts / np.maximum(np.linalg.norm(texts, axis=1, keepdims=True), 1e-9)).mean(0)
        steps = Steps(self.store, 1, Progress(quiet=True))
        away = [
            -(X @ wanted) / np.maximum(np.linalg.norm(X, axis=1), 1e-9) for X in steps.features(stage, self.images.ids)
        ]
        return self._first(np.concatenate(away), n)
