"""A project: a folder one can reopen, and the only thing with state. Every step of the work is one method."""

from __future__ import annotations

import getpass
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import backbones, plugins, sources
from phyla._progress import Progress
from phyla.cluster import score, typicality
from phyla.label import group_names
from phyla.store import Store, read_array
from phyla.types import UNSORTED, Edit, Grouping, Images, PhylaError, Recipe

__all__ = ["DEFAULT_BACKBONES", "Project", "score_rows", "sort"]

DEFAULT_BACKBONES = ("lite0", "lite1", "lite2")
_COMPONENTS = 64  # narrow axes kept of each network; groupers use the first of them
_SCAN_TASK, _SCAN_SHARD = 64, 8192  # files a task and a shard of the scan
_BLOCK = 4096  # rows of wide features held at a time
_LOG = "edits.jsonl"
_NAMED_BY = 100  # typical images that a group's name is remembered by


def sort(source: str | Path, project: str | Path | None = None, **options: Any) -> Project:
    """Sort the images at `source` into groups; `options` are those of `Project.sort`.

    The project is the folder `project`, by default `NAME.phyla` in the current folder.
    """
    place = sources.open_source(source).path
    if project is None:
        project = f"{Path(place.replace(chr(92), '/').rstrip('/').rpartition('/')[2]).stem or 'images'}.phyla"
    result = Project(project, create=True)
    result.sort(source, **options)
    return result


def cores() -> int:
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
        agreement: float | None = None,
        seed: int = 0,
        report: bool = True,
        threads: int | None = None,
        quiet: bool = True,
    ) -> dict[str, Any]:
        """Sort the images at `source` (by default where they came from last time) and write the report.

        Everything that is already there is used again: a killed run goes on where it was, and only new or changed files
        are read. On two cores 60,000 small images take about 15 minutes with the three bundled networks.

        Parameters
        ----------
        backbone : the networks to describe the images by; see `phyla backbones`.
        groups : how many; found out where it is None.
        method : the grouping method; see `phyla methods`.
        agreement : 0..1; an image with less strength is left unsorted. By default what the method says: half the votes.
        seed : two runs with one seed give one result.
        report : draw the map and the report; without it the groups are there sooner.
        threads : at most this many; all of the machine's by default.

        Returns
        -------
        dict : what `show` returns.
        """
        if groups is not None and groups < 1:
            raise PhylaError(f"{groups} groups can't be made.", "Give a whole number from 1, or leave it out.")
        if threads is not None and threads < 1:
            raise PhylaError(f"{threads} threads can't work.", "Give a whole number from 1, or leave it out.")
        grouper = plugins.load("cluster", method)
        agreement = grouper.AGREEMENT if agreement is None else agreement
        if not 0 <= agreement <= 1:
            raise PhylaError(f"An agreement of {agreement} can't be reached.", "Give a number from 0 to 1.")
        cards = [backbones.card(name) for name in dict.fromkeys(backbone)]
        threads = threads or cores()
        meta = self.store.meta()
        place = str(source) if source is not None else meta.get("source")
        if place is None:
            raise PhylaError(f"{self.folder} has no images yet.", f"phyla sort PHOTOS --project {self.folder}")
        opened = sources.open_source(place)
        with self.store.writing(), _limited(threads):
            if meta.get("source", opened.path) != opened.path:
                raise PhylaError(
                    f"{self.folder} holds the images of {meta['source']}.", "Name another folder with --project."
                )
            self.store.update_meta(source=opened.path)
            progress = Progress(quiet)
            table = self._scan(opened, threads, progress)
            images = self._images(table, opened)
            if not len(images):
                first = next((f for f in table["fault"] if f), "")
                raise PhylaError(
                    f"None of the {len(table['uri'])} files at {place} is a readable image (the first: {first}).",
                    "Give a folder, archive or table of images.",
                )
            stages = self._extract(images, cards, threads, progress)
            table, images = self._without_broken(table, images, stages[0])
            reduced = self._reduce(stages, images, threads, progress)
            X = np.hstack([self._array(r, "X") for r in reduced])
            blocks = [self._array(r, "components_").shape[0] for r in reduced]
            recipe = Recipe("groups", method, {"n_clusters": groups}, tuple(reduced), grouper.VERSION, seed)
            stage = self._group(X, blocks, recipe, progress)
            points = self._map(X, reduced, seed, progress) if report else None
            # Everything lies there under its own name before the one file that says what is current is replaced.
            self.store.update_meta(
                images=self._keep(table), backbones=[c.name for c in cards], features=stages, reduced=reduced,
                groups=stage, agreement=agreement, map=points,
            )  # fmt: skip
            for stale in ("_table", "images", "_source"):
                self.__dict__.pop(stale, None)
            self._report(progress)
        return self.show()

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
        with progress("reading", len(missing), len(entries)) as advance:
            for number, start in enumerate(range(0, len(missing), _SCAN_SHARD), len(shards)):
                shard = missing[start : start + _SCAN_SHARD]
                found = _scan(source, shard, threads, advance)
                found |= {"size": [e.size for e in shard], "stamp": [e.stamp for e in shard]}
                self.store.write_table(f"scan/{number:05}.parquet", found)
                known.update({row[:3]: row[3:] for row in zip(*(found[c] for c in columns), strict=True)})
        told = zip(*(known[e.uri, e.size, e.stamp] for e in entries), strict=True)
        return _table([e.uri for e in entries], *told)

    @staticmethod
    def _images(table: dict[str, NDArray[Any]], source: sources.Source) -> Images:
        """The rows of `table` without a fault, the first of each set of exact copies."""
        _, first = np.unique(table["id"], return_index=True)
        first.sort()
        first = first[[table["fault"][i] is None for i in first]]
        uris = table["uri"][first]

        def open_row(row: int, at_least: int) -> NDArray[np.uint8]:
            return _open(source, uris[row], at_least)

        return Images(table["id"][first], uris, table["width"][first], table["height"][first], open_row)

    def _extracted(self, stage: str) -> tuple[list[Path], NDArray[np.str_]]:
        """Finished shards of a network's features, and the ids of their rows."""
        shards = self.store.shards(stage, "npy")
        ids = [read_array(p.with_suffix(".ids.npy")).astype(str) for p in shards]
        return shards, np.concatenate(ids) if ids else np.array([], "<U32")

    def _extract(self, images: Images, cards: Sequence[backbones.Card], threads: int, progress: Progress) -> list[str]:
        """Stages of the features of `images`, one a network; computes only those that are missing."""
        stages = [self.store.stage(backbones.recipe(card, sources.DECODER_VERSION)) for card in cards]
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

    def _without_broken(
        self, table: dict[str, NDArray[Any]], images: Images, stage: str
    ) -> tuple[dict[str, NDArray[Any]], Images]:
        """`table` and `images` after decoding: a broken picture has its reason in the one and no row in the other.

        The column `row` says where in `images` each file is, −1 for one that can't be read.
        """
        faults: dict[str, str] = {}
        for path in self.store.shards(stage, "faults.json"):
            faults |= self.store.read_json(f"{stage}/{path.name}")
        good = ~np.isin(images.ids, list(faults))
        if not good.any():
            raise PhylaError("None of the images can be decoded.", f"The first: {next(iter(faults.values()))}.")
        kept = np.flatnonzero(good)
        decode = images.open

        def open_row(row: int, at_least: int) -> NDArray[np.uint8]:
            return decode(int(kept[row]), at_least)

        images = Images(images.ids[kept], images.uris[kept], images.width[kept], images.height[kept], open_row)
        fault = [why if why is not None else faults.get(i) for i, why in zip(table["id"], table["fault"], strict=True)]
        order = np.argsort(images.ids)
        at = order[np.searchsorted(images.ids, table["id"], sorter=order).clip(max=len(order) - 1)]
        row = np.where([f is None for f in fault], at, -1).astype(np.int32)
        return table | {"fault": np.array(fault, object), "row": row}, images

    def _keep(self, table: dict[str, NDArray[Any]]) -> str:
        """Write the table of images under a name made from what it says."""
        told = hashlib.sha256(repr([c.tolist() for c in table.values()]).encode()).hexdigest()
        name = f"images/{told[:12]}.parquet"
        if not (self.store.folder / name).exists():
            self.store.write_table(name, table)
        return name

    def _reduce(self, features: list[str], images: Images, threads: int, progress: Progress) -> list[str]:
        """Stages of the whitened principal components, one a network; each network is the work of one thread."""
        pca = plugins.load("reduce", "pca")
        digest = hashlib.sha256("".join(images.ids).encode()).hexdigest()
        params = {"n_components": _COMPONENTS}
        recipes = [Recipe("reduced", "pca", params, (stage, digest), version=pca.VERSION) for stage in features]
        stages = [self.store.stage(recipe) for recipe in recipes]
        missing = [pair for pair in zip(features, stages, strict=True) if self.store.arrays(pair[1]) is None]

        def reduce(pair: tuple[str, str]) -> None:
            fitted = pca(_COMPONENTS)
            for X in self._features(pair[0], images.ids):
                fitted.partial_fit(X)
                advance(len(X))
            narrow = np.concatenate([fitted.transform(X) for X in self._features(pair[0], images.ids)])
            self.store.finish(pair[1], {"X": narrow} | _fitted(fitted))

        # One thread of linear algebra in each: its rounding must not depend on how many there are.
        with progress("compressing", len(missing) * len(images), len(missing) * len(images)) as advance, _limited(1):
            for _ in plugins.load("engine", "local")(reduce, missing, threads):
                pass
        return stages

    def _array(self, stage: str, name: str) -> NDArray[Any]:
        return read_array(self.store.folder / stage / f"{name}.npy")

    def _group(self, X: NDArray[np.float32], blocks: list[int], recipe: Recipe, progress: Progress) -> str:
        stage = self.store.stage(recipe)
        if self.store.arrays(stage) is None:
            clusterer = _clusterer(recipe, blocks)
            with progress("grouping", len(X), len(X)) as advance:
                if len(X) == 1:  # nothing to tell apart
                    X = np.repeat(X, 2, axis=0)
                    clusterer.set_params(n_clusters=1)
                clusterer.fit(X)
                advance(len(X))
            self.store.finish(stage, _fitted(clusterer))
        return stage

    def _map(self, X: NDArray[np.float32], reduced: list[str], seed: int, progress: Progress) -> str:
        tsne = plugins.load("reduce", "tsne")
        stage = self.store.stage(Recipe("map", "tsne", {}, tuple(reduced), tsne.VERSION, seed))
        if self.store.arrays(stage) is None:
            with progress("mapping", len(X), len(X)) as advance:
                self.store.finish(stage, {"points": tsne(random_state=seed).fit_transform(X)})
                advance(len(X))
        return stage

    # ---- what is there

    @cached_property
    def _table(self) -> dict[str, NDArray[Any]]:
        return self.store.read_table(self._current("images"))

    def _current(self, what: str) -> Any:
        if what not in (meta := self.store.meta()):
            raise PhylaError(f"{self.folder} is not sorted yet.", f"phyla sort PHOTOS --project {self.folder}")
        return meta[what]

    @cached_property
    def images(self) -> Images:
        """The readable images, a row each; `grouping` and `X` have the same rows."""
        table = self._table
        rows, first = np.unique(table["row"], return_index=True)
        first = first[rows >= 0]
        uris = table["uri"][first]

        def open_row(row: int, at_least: int) -> NDArray[np.uint8]:
            return _open(self._source, uris[row], at_least)

        return Images(table["id"][first].astype(str), uris, table["width"][first], table["height"][first], open_row)

    @cached_property
    def _source(self) -> sources.Source:
        return sources.open_source(self._current("source"))

    @property
    def X(self) -> NDArray[np.float32]:
        """(n, d) the networks' whitened principal components, side by side."""
        return np.hstack([self._array(stage, "X") for stage in self._current("reduced")])

    @property
    def grouping(self) -> Grouping:
        """The current groups; an image with less strength than the asked agreement has the label −1."""
        stage = self._current("groups")
        recipe = self._recipe(stage)
        arrays = self.store.arrays(stage) or {}
        n = len(self.images)
        best, strength = arrays["labels_"][:n].astype(np.int32), arrays["strength_"][:n]
        labels = np.where(strength < self._current("agreement"), UNSORTED, best).astype(np.int32)
        evidence = {"evidence": arrays["evidence_"].tolist()} if "evidence_" in arrays else {}
        return Grouping(labels, best, strength, {"strength": float(strength.mean())} | evidence, recipe)

    def _recipe(self, stage: str) -> Recipe:
        told = self.store.read_json(f"{stage}/recipe.json")
        return Recipe(**told | {"inputs": tuple(told["inputs"])})

    @property
    def edits(self) -> list[Edit]:
        """Everything that people said, in order."""
        listed = [
            line | {"ids": tuple(line["ids"]), "classes": tuple(line["classes"])} for line in self.store.log(_LOG)
        ]
        return [Edit(**line) for line in listed]

    @property
    def names(self) -> dict[int, str]:
        """Group → the name a person gave it."""
        return group_names(self.edits, self.images.ids, self.grouping.best)

    @property
    def report(self) -> Path:
        """The page that shows everything."""
        return self.folder / "report.html"

    def show(self) -> dict[str, Any]:
        """The figures: `images` (files seen), `unique`, `copies`, `unreadable`, `groups`, `unsorted`, and more."""
        table, grouping = self._table, self.grouping
        unreadable = int((table["row"] < 0).sum())
        names = self.names
        sorted_ = grouping.labels >= 0
        sizes = np.bincount(grouping.labels[sorted_], minlength=grouping.n_groups)
        total = np.bincount(grouping.labels[sorted_], grouping.strength[sorted_], grouping.n_groups)
        mean = total / np.maximum(sizes, 1)
        return {
            "images": len(table["uri"]),
            "unique": len(grouping.best),
            "copies": len(table["uri"]) - unreadable - len(grouping.best),
            "unreadable": unreadable,
            "groups": grouping.n_groups,
            "unsorted": int((grouping.labels == UNSORTED).sum()),
            "strength": round(grouping.scores["strength"], 4),
            "sizes": [
                {"group": g, "name": names.get(g), "images": int(size), "strength": round(float(m), 4)}
                for g, (size, m) in enumerate(zip(sizes, mean, strict=True))
            ],
            "unreadable_files": [
                {"uri": str(uri), "reason": str(why)}
                for uri, why in zip(table["uri"], table["fault"], strict=True)
                if why is not None
            ],
            "backbones": self._current("backbones"),
            "method": grouping.recipe.method,
            "source": self._current("source"),
            "project": str(self.folder),
            "report": str(self.report) if self.report.exists() else None,
        }

    def _report(self, progress: Progress) -> None:
        from phyla.report import render

        if (points := self._current("map")) is None:  # sorted without a report: an older one would tell of other groups
            self.report.unlink(missing_ok=True)
            return
        images, grouping = self.images, self.grouping
        told = self.show()
        params, evidence = grouping.recipe.params, grouping.scores.get("evidence")
        why = f"{told['groups']} groups, as asked" if params["n_clusters"] else f"{told['groups']} groups"
        if evidence:
            why += f", the number of {len(evidence)} tried at which independent runs agreed best"
        explanation = (
            f"Each image was described by {_listed(told['backbones'])}, compressed to {_COMPONENTS} whitened axes "
            f"a network, and grouped by the method “{told['method']}” into {why}. Images whose group less than "
            f"{self._current('agreement'):.0%} of the votes agree on are left unsorted."
        )
        with progress("drawing", 1, 1) as advance:
            page = render(
                title=Path(told["source"]).name or "Images", summary=told, images=images, grouping=grouping,
                names=self.names, typicality=typicality(self.X, grouping.best),
                points=self._array(points, "points"), explanation=explanation,
                unreadable=[(u["uri"], u["reason"]) for u in told["unreadable_files"]],
            )  # fmt: skip
            self.store.write(self.report.name, page.encode("utf-8", "replace"))
            advance(1)

    # ---- what a person says

    def name(self, group: int, name: str) -> None:
        """Call a group `name`. The name is remembered of its most typical images, so it survives sorting again."""
        grouping = self.grouping
        if not 0 <= group < grouping.n_groups:
            raise PhylaError(f"There is no group {group}.", f"The groups are 0 to {grouping.n_groups - 1}.")
        if not name.strip():
            raise PhylaError("A name can't be empty.", "Give it at least one letter.")
        members = np.flatnonzero(grouping.best == group)
        near = typicality(self.X[members], np.zeros(len(members), np.int32))
        chosen = members[np.lexsort((-near, -grouping.strength[members]))[:_NAMED_BY]]
        with self.store.writing():
            edit = {"seq": len(self.store.log(_LOG)), "op": "name", "by": getpass.getuser()}
            edit |= {"ids": self.images.ids[chosen].tolist(), "classes": [name.strip()]}
            self.store.append(_LOG, edit | {"at": datetime.now(UTC).isoformat(timespec="seconds")})
            self._report(Progress(quiet=True))

    # ---- what she takes away

    def rows(self) -> dict[str, NDArray[Any]]:
        """A row for each file, copies and unreadable ones too: uri, group, name, strength, left_out, fault."""
        table, grouping, names = self._table, self.grouping, self.names
        row, fine = table["row"], table["row"] >= 0
        best = np.where(fine, grouping.best[row], UNSORTED)
        return {
            "uri": table["uri"],
            "group": best,
            "name": np.array([names.get(g, "") for g in best.tolist()], object),
            "strength": np.where(fine, grouping.strength[row], 0).astype(np.float32),
            "left_out": np.where(fine, grouping.labels[row] == UNSORTED, True),
            "fault": np.array([f or "" for f in table["fault"]], object),
        }

    def export(self, to: str | Path, *, copy: bool = False, force: bool = False) -> int:
        """Write the groups to `to`: a .csv, a .parquet, or a folder with a folder a group; return how many of them.

        `copy` puts copies into the folders instead of links. `force` replaces a file or adds to a folder that is there.
        """
        from phyla._export import write_rows, write_tree

        if Path(to).suffix.lower() in (".csv", ".parquet"):
            return write_rows(self.rows(), Path(to), force)
        return write_tree(self.rows(), self._source.read, Path(to), copy, force)

    # ---- new pictures, and truth

    def predict(
        self,
        source: str | Path,
        to: str | Path | None = None,
        *,
        force: bool = False,
        threads: int | None = None,
        quiet: bool = True,
    ) -> dict[str, NDArray[Any]]:
        """Assign the images at `source`, which the project need not have seen, to its groups.

        Returns the columns of `rows`, in the order of `source`, and writes them to `to` (.csv or .parquet). Runs at the
        speed of extraction; nothing of the project changes.
        """
        from phyla._export import refuse_to_overwrite, write_rows

        if to is not None:
            refuse_to_overwrite(Path(to), force)
        recipe = self._recipe(self._current("groups"))
        names = self.names
        threads = threads or cores()
        cards = [backbones.card(name) for name in self._current("backbones")]
        made = [backbones.recipe(card, sources.DECODER_VERSION) for card in cards]
        if [f"{r.room}/{r.key}" for r in made] != self._current("features"):
            raise PhylaError(
                "This machine would describe images otherwise than the one that sorted them.",
                f"Sort again here: phyla sort --project {self.folder}",
            )
        opened = sources.open_source(source)
        run = plugins.load("engine", "local")
        with _limited(threads):
            progress = Progress(quiet)
            pcas = [_restore(plugins.load("reduce", "pca")(), self.store.arrays(r)) for r in self._current("reduced")]
            blocks = [p.components_.shape[0] for p in pcas]
            clusterer = _restore(_clusterer(recipe, blocks), self.store.arrays(self._current("groups")))
            entries = opened.entries()
            with progress("reading", len(entries), len(entries)) as advance:
                table = _table(**_scan(opened, entries, threads, advance))
            images = self._images(table, opened)
            best = np.full(len(images), UNSORTED, np.int32)
            strength = np.zeros(len(images), np.float32)
            faults: dict[str, str] = {}
            networks = [backbones.load(card, threads) for card in cards]
            with progress("looking", len(images), len(images)) as advance:
                for shard in backbones.extract(images, range(len(images)), networks, run, threads, advance):
                    faults |= {str(images.ids[row]): why for row, why in shard.faults.items()}
                    good = ~np.isnan(shard.features[0][:, 0])
                    if good.any():
                        narrow = [p.transform(X[good]) for p, X in zip(pcas, shard.features, strict=True)]
                        best[shard.rows[good]], strength[shard.rows[good]] = clusterer.assign(np.hstack(narrow))
        place = {i: row for row, i in enumerate(images.ids.tolist())}
        row = np.array(
            [place.get(i, -1) if f is None else -1 for i, f in zip(table["id"], table["fault"], strict=True)]
        )
        found = np.where(row >= 0, np.append(best, UNSORTED)[row], UNSORTED)
        sure = np.where(row >= 0, np.append(strength, 0)[row], 0).astype(np.float32)
        columns = {
            "uri": table["uri"],
            "group": found,
            "name": np.array([names.get(g, "") for g in found.tolist()], object),
            "strength": sure,
            "left_out": (found == UNSORTED) | (sure < self._current("agreement")),
            "fault": np.array(
                [f or faults.get(i, "") for i, f in zip(table["id"], table["fault"], strict=True)], object
            ),
        }
        if to is not None:
            write_rows(columns, Path(to), force)
        return columns

    def score(self, truth: str | Path) -> dict[str, Any]:
        """Compare the groups with known classes; see `score_rows`."""
        return score_rows(self.rows(), truth)


def score_rows(rows: Mapping[str, NDArray[Any]], truth: str | Path) -> dict[str, Any]:
    """Compare `rows` (of a project, or of what `predict` wrote) with the labels at `truth`.

    truth : a CSV or JSONL of uri and label, or a Parquet file with a `label` column. A uri matches by its whole, else
    by the longest end that only one uri has, so paths may be relative. Unreadable images are not scored.
    Returns `accuracy`, `accuracy_many_to_one`, `nmi`, `ari`, `coverage` (see `phyla.cluster.score`), and `scored`.
    """
    opened = sources.open_source(truth)
    labels = getattr(opened, "labels", lambda: None)()
    if not labels:
        raise PhylaError(f"{truth} has no labels.", "Give a CSV with the columns uri and label, or a Parquet file.")
    readable = np.flatnonzero(rows["group"] >= 0)
    known = sources.match(rows["uri"][readable].tolist(), labels)
    at = np.array([i for i, label in zip(readable, known, strict=True) if label is not None], int)
    if not len(at):
        raise PhylaError(
            f"No image of the project is in {truth}.",
            f"Its uris look like {next(iter(labels))}, the project's like {rows['uri'][0]}.",
        )
    found = score(rows["group"][at], rows["left_out"][at], [label for label in known if label is not None])
    return found | {"scored": len(at), "groups": len(np.unique(rows["group"][at]))}


def _scan(
    source: sources.Source, entries: Sequence[sources.Entry], threads: int, advance: Callable[[int], object]
) -> dict[str, list[Any]]:
    """The columns of `sources.scan` for `entries`."""
    tasks = [entries[i : i + _SCAN_TASK] for i in range(0, len(entries), _SCAN_TASK)]
    found: dict[str, list[Any]] = {}
    for part in plugins.load("engine", "local")(partial(sources.scan, source), tasks, threads):
        for column, values in part.items():
            found.setdefault(column, []).extend(values)
        advance(len(part["uri"]))
    return found


def _table(uri: Any, id: Any, width: Any, height: Any, fault: Any) -> dict[str, NDArray[Any]]:
    return {
        "uri": np.array(uri, object),
        "id": np.array(id, str),
        "width": np.array(width, np.int32),
        "height": np.array(height, np.int32),
        "fault": np.array(fault, object),
    }


def _fitted(estimator: Any) -> dict[str, NDArray[Any]]:
    """The fitted attributes of an estimator that are arrays or numbers, by name."""
    found = {k: np.asarray(v) for k, v in vars(estimator).items() if k.endswith("_") and not k.startswith("_")}
    return {k: v for k, v in found.items() if v.dtype.kind in "bif"}


def _restore(estimator: Any, arrays: Mapping[str, NDArray[Any]] | None) -> Any:
    for name, array in (arrays or {}).items():
        setattr(estimator, name, array)
    return estimator


def _clusterer(recipe: Recipe, blocks: list[int]) -> Any:
    """The grouping method of `recipe`; `blocks` go to those that take them."""
    clusterer = plugins.load("cluster", recipe.method)(recipe.params["n_clusters"], random_state=recipe.seed)
    return clusterer.set_params(blocks=tuple(blocks)) if "blocks" in clusterer.get_params() else clusterer


def _open(source: sources.Source, uri: str, at_least: int) -> NDArray[np.uint8]:
    try:
        return sources.decode(source.read(uri), at_least)
    except OSError as fault:
        raise PhylaError(fault.strerror or str(fault)) from fault


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


@contextmanager
def _limited(threads: int) -> Iterator[None]:
    """At most `threads` threads in the linear algebra and in OpenMP, faiss included."""
    import cv2
    import faiss
    from threadpoolctl import threadpool_limits

    cv2.setNumThreads(1)  # resizing happens in threads of our own
    faiss.omp_set_num_threads(threads)
    with threadpool_limits(threads):
        yield
