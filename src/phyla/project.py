"""A project: a folder one can reopen, and the only thing with state. Every step of the work is one method."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import backbones, plugins, sources
from phyla._progress import Progress
from phyla.label import group_names
from phyla.store import Store, read_array
from phyla.types import UNSORTED, Edit, Grouping, Images, PhylaError, Recipe

__all__ = ["DEFAULT_BACKBONES", "Project", "sort"]

DEFAULT_BACKBONES = ("lite0", "lite1", "lite2")
_COMPONENTS = 64  # narrow axes kept of each network; groupers use the first of them
_SCAN_TASK, _SCAN_SHARD = 64, 8192  # files a task and a shard of the scan
_BLOCK = 4096  # rows of wide features held at a time
_NAMED_BY = 100  # typical images that a group's name is remembered by


def sort(source: str | Path, project: str | Path | None = None, **options: Any) -> Project:
    """Sort the images at `source` into groups; `options` are those of `Project.sort`.

    The project is the folder `project`, by default `NAME.phyla` in the current folder.
    """
    if project is None:
        name = str(source).rstrip("/\\").replace("\\", "/").rpartition("/")[2]
        project = f"{Path(name).stem or 'images'}.phyla"
    result = Project(project, create=True)
    result.sort(source, **options)
    return result


def _cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Project:
    """The project in `folder`.

    Raises `PhylaError` where there is none, unless `create` is true.
    """

    def __init__(self, folder: str | Path, *, create: bool = False) -> None:
        path = Path(folder)
        self.store = Store.create(path) if create else Store.open(path)
        self.folder = path

    # ---- the main job

    def sort(
        self,
        source: str | Path | None = None,
        *,
        backbone: Sequence[str] = DEFAULT_BACKBONES,
        groups: int | None = None,
        method: str = "vote",
        agreement: float = 0.5,
        seed: int = 0,
        threads: int | None = None,
        quiet: bool = True,
    ) -> dict[str, Any]:
        """Sort the images at `source` (by default where they came from last time) and write the report.

        Everything that is already there is used again: a killed run goes on where it was, and only new or changed files are
        read. On two cores 60,000 small images take about 15 minutes with the three bundled networks.

        Parameters
        ----------
        backbone : the networks to describe the images by; see `phyla backbones`.
        groups : how many; found out where it is None.
        method : the grouping method; see `phyla methods`.
        agreement : 0..1; an image with less strength is left unsorted.
        seed : two runs with one seed give one result.
        threads : at most this many; all of the machine's by default.

        Returns
        -------
        dict : what `show` returns.
        """
        if groups is not None and groups < 1:
            raise PhylaError(f"{groups} groups can't be made.", "Give a whole number from 1, or leave it out.")
        if not 0 <= agreement <= 1:
            raise PhylaError(f"An agreement of {agreement} can't be reached.", "Give a number from 0 to 1.")
        plugins.load("cluster", method)
        cards = [backbones.card(name) for name in dict.fromkeys(backbone)]
        threads = threads or _cores()
        meta = self.store.meta()
        place = str(source) if source is not None else meta.get("source")
        if place is None:
            raise PhylaError(f"{self.folder} has no images yet.", f"phyla sort PHOTOS --project {self.folder}")
        opened = sources.open_source(place)
        with self.store.writing(), _limited(threads):
            progress = Progress(quiet)
            table = self._scan(opened, threads, progress)
            images = self._images(table, opened)
            if not len(images):
                first = next((f for f in table["fault"] if f), "")
                raise PhylaError(
                    f"None of the {len(table['uri'])} files at {place} is a readable image (the first: {first}).",
                    "Give a folder, archive or table of images.",
                )
            names = self._extract(images, cards, threads, progress)
            return self._finish(
                place, opened, table, images, names, progress,
                Recipe("groups", method, {"n_clusters": groups, "agreement": agreement}, seed=seed),
            )  # fmt: skip

    def _scan(self, source: sources.Source, threads: int, progress: Progress) -> dict[str, NDArray[Any]]:
        """The table of everything listed; reads only files that are new or changed since the last time."""
        entries = source.entries()
        known = {}
        shards = self.store.shards("scan", "parquet")
        columns = ("uri", "size", "stamp", "id", "width", "height", "fault")
        for path in shards:
            part = self.store.read_table(f"scan/{path.name}")
            rows = zip(*(part[c].tolist() for c in columns), strict=True)
            known.update({row[:3]: row[3:] for row in rows})
        missing = [e for e in entries if (e.uri, e.size, e.stamp) not in known]
        run = plugins.load("engine", "local")
        with progress("reading", len(missing), len(entries)) as advance:
            for number, start in enumerate(range(0, len(missing), _SCAN_SHARD), len(shards)):
                shard = missing[start : start + _SCAN_SHARD]
                tasks = [shard[i : i + _SCAN_TASK] for i in range(0, len(shard), _SCAN_TASK)]
                found: dict[str, list[Any]] = {c: [] for c in columns}
                for task, part in zip(tasks, run(partial(sources.scan, source), tasks, threads), strict=True):
                    found["size"] += [e.size for e in task]
                    found["stamp"] += [e.stamp for e in task]
                    for column, values in part.items():
                        found[column] += values
                    advance(len(task))
                self.store.write_table(f"scan/{number:05}.parquet", found)
                known.update({row[:3]: row[3:] for row in zip(*found.values(), strict=True)})
        told = [known[e.uri, e.size, e.stamp] for e in entries]
        ids, width, height, fault = zip(*told, strict=True)
        return {
            "uri": np.array([e.uri for e in entries], object),
            "id": np.array(ids),
            "width": np.array(width, np.int32),
            "height": np.array(height, np.int32),
            "fault": np.array(fault, object),
        }

    @staticmethod
    def _images(table: dict[str, NDArray[Any]], source: sources.Source) -> Images:
        """The rows of `table` without a fault, the first of each set of exact copies."""
        _, first = np.unique(table["id"], return_index=True)
        first.sort()
        first = first[[table["fault"][i] is None for i in first]]
        uris = table["uri"][first]

        def open_row(row: int, at_least: int) -> NDArray[np.uint8]:
            try:
                return sources.decode(source.read(uris[row]), at_least)
            except OSError as fault:
                raise PhylaError(fault.strerror or str(fault)) from fault

        return Images(table["id"][first], uris, table["width"][first], table["height"][first], open_row)

    def _features_stage(self, card: backbones.Card) -> str:
        params = {"weights": card.weights, "sha256": card.sha256, "precision": card.precision, "size": card.size}
        return self.store.stage(
            Recipe("features", card.name, params | {"decoder": sources.DECODER_VERSION}, version=backbones.VERSION)
        )

    def _extracted(self, stage: str) -> tuple[list[Path], NDArray[np.str_]]:
        """Finished shards of a network's features, and the ids of their rows."""
        shards = self.store.shards(stage, "npy")
        ids = [read_array(p.with_suffix(".ids.npy")).astype(str) for p in shards]
        return shards, np.concatenate(ids) if ids else np.array([], "<U32")

    def _extract(
        self, images: Images, cards: Sequence[backbones.Card], threads: int, progress: Progress
    ) -> list[str]:
        """Stages of the features of `images`, one a network; computes only those that are missing."""
        stages = [self._features_stage(card) for card in cards]
        # Which networks lack which image: after a kill, or with a network added, not the same ones everywhere.
        lacks = np.array([~np.isin(images.ids, self._extracted(stage)[1]) for stage in stages])
        patterns, first, of = np.unique(lacks, axis=1, return_index=True, return_inverse=True)
        run = plugins.load("engine", "local")
        networks: dict[int, backbones.Network] = {}
        with progress("looking", int(lacks.any(0).sum()), len(images)) as advance:
            for pattern in np.argsort(first):
                ask = np.flatnonzero(patterns[:, pattern]).tolist()
                if not ask:
                    continue
                networks.update({i: backbones.load(cards[i], threads) for i in ask if i not in networks})
                rows = np.flatnonzero(of == pattern).tolist()
                starts = [len(self.store.shards(stages[i], "npy")) for i in ask]
                shards = backbones.extract(images, rows, [networks[i] for i in ask], run, threads, advance)
                for step, shard in enumerate(shards):
                    faults = {str(images.ids[row]): reason for row, reason in shard.faults.items()}
                    for i, start, X in zip(ask, starts, shard.features, strict=True):
                        name = f"{stages[i]}/{start + step:05}"
                        self.store.write_json(f"{name}.faults.json", faults)
                        self.store.write_array(f"{name}.ids.npy", images.ids[shard.rows].astype("S"))
                        self.store.write_array(f"{name}.npy", X)
        return stages

    def _features(self, stage: str, ids: NDArray[np.str_]) -> Iterator[NDArray[np.float32]]:
        """Blocks of the (n, d) features of `ids`, in order, read shard by shard; NaN where a picture is broken."""
        shards, held = self._extracted(stage)
        ends = np.cumsum([len(read_array(p, mmap=True)) for p in shards])
        order = np.argsort(held, kind="stable")
        at = order[np.searchsorted(held, ids, sorter=order)]
        for start in range(0, len(ids), _BLOCK):
            block = at[start : start + _BLOCK]
            of = np.searchsorted(ends, block, side="right")
            X: NDArray[np.float32] | None = None
            for shard in np.unique(of):
                part = read_array(shards[shard], mmap=True)
                rows = part[block[of == shard] - (ends[shard] - len(part))]
                if X is None:
                    X = np.empty((len(block), part.shape[1]), np.float32)
                X[of == shard] = rows
            assert X is not None
            yield X
