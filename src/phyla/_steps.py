"""The steps of the main job: each looks up what its recipe has already made in the store, and makes what is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import backbones, plugins, sources
from phyla._progress import Progress
from phyla.audit import MEASURE_SIDE, MEASURE_VERSION, facts, gather, measure
from phyla.cluster import Rows, fit
from phyla.engine import cores
from phyla.store import Store, read_array
from phyla.types import Images, PhylaError, Recipe

COMPONENTS = 256  # axes kept of each network: groups are found in the first and told apart in all of them
_SCAN_TASK, _SCAN_SHARD = 8, 8192  # files a task and a shard of the scan
_BLOCK = 4096  # rows of wide features held at a time


@dataclass(frozen=True)
class Steps:
    """From a source to groups, in the order below; each step returns its table, or the names of its stages."""

    store: Store
    threads: int
    progress: Progress

    def scan(self, source: sources.Source) -> dict[str, NDArray[Any]]:
        """The table of everything listed; reads only files that are new or changed since the last time."""
        entries = source.entries()
        known = {}
        shards = self.store.shards("scan", "parquet")
        columns = ("uri", "size", "stamp", "id", "width", "height", "fault")
        for path in shards:
            part = self.store.read_table(f"scan/{path.name}")
            for row in zip(*(part[c].tolist() for c in columns), strict=True):
                known[row[:3]] = row[3:]
        # What could not even be read is tried again: a permission or a mount may be mended without a trace in the file.
        missing = [e for e in entries if not known.get((e.uri, e.size, e.stamp), [""])[0]]
        with self.progress("reading", len(missing), len(entries)) as advance:
            number = len(shards)
            for start in range(0, len(missing), _SCAN_SHARD):
                shard = missing[start : start + _SCAN_SHARD]
                found = scan_all(source, shard, self.threads, advance)
                found |= {"size": [e.size for e in shard], "stamp": [e.stamp for e in shard]}
                rows = list(zip(*(found[c] for c in columns), strict=True))
                news = [row for row in rows if row[3] or row[:3] not in known]
                known.update({row[:3]: row[3:] for row in rows})
                if news:
                    columns_of_news = dict(zip(columns, zip(*news, strict=True), strict=True))
                    self.store.write_table(f"scan/{number:05}.parquet", columns_of_news)
                    number += 1
        told = zip(*(known[e.uri, e.size, e.stamp] for e in entries), strict=True)
        return as_table([e.uri for e in entries], *told)

    def _extracted(self, stage: str) -> tuple[list[Path], NDArray[np.str_]]:
        """Finished shards of a network's features, and the ids of their rows."""
        shards = self.store.shards(stage, "npy")
        ids = [read_array(p.with_suffix(".ids.npy")).astype(str) for p in shards]
        return shards, np.concatenate(ids) if ids else np.array([], "<U32")

    def _features(self, card: backbones.Card) -> str:
        return self.store.stage(backbones.recipe(card, sources.DECODER_VERSION))

    def begin(self, card: backbones.Card) -> backbones.Network | None:
        """The network of `card`, unless it may not be needed: some images have its features already."""
        return None if self.store.shards(self._features(card), "npy") else backbones.load(card, self.threads)

    def extract(
        self,
        images: Images,
        cards: Sequence[backbones.Card],
        begun: Sequence[Future[backbones.Network | None]] = (),
    ) -> list[str]:
        """Stages of the features of `images`, one a network; computes only those that are missing.

        `begun` : what `begin` gives for each card, where it was called beforehand.
        """
        networks = {i: network for i, early in enumerate(begun) if (network := early.result())}
        stages = [self._features(card) for card in cards]
        # Which networks lack which image: after a kill, or with a network added, not the same ones everywhere.
        lacks = np.array([~np.isin(images.ids, self._extracted(stage)[1]) for stage in stages])
        patterns, first, of = np.unique(lacks, axis=1, return_index=True, return_inverse=True)
        run = plugins.load("engine", "local")
        with self.progress("looking", int(lacks.any(0).sum()), len(images)) as advance:
            for pattern in np.argsort(first):
                ask = np.flatnonzero(patterns[:, pattern]).tolist()
                if not ask:
                    continue
                networks.update({i: backbones.load(cards[i], self.threads) for i in ask if i not in networks})
                rows = np.flatnonzero(of == pattern).tolist()
                starts = [len(self.store.shards(stages[i], "npy")) for i in ask]
                shards = backbones.extract(images, rows, [networks[i] for i in ask], run, self.threads, advance)
                for step, shard in enumerate(shards):
                    faults = {str(images.ids[row]): reason for row, reason in shard.faults.items()}
                    for i, start, X in zip(ask, starts, shard.features, strict=True):
                        name = f"{stages[i]}/{start + step:05}"
                        self.store.write_json(f"{name}.faults.json", faults)
                        self.store.write_array(f"{name}.ids.npy", images.ids[shard.rows].astype("S"))
                        self.store.write_array(f"{name}.npy", X)
        return stages

    def features(self, stage: str, ids: NDArray[np.str_]) -> Iterator[NDArray[np.float32]]:
        """Blocks of the (n, d) features of `ids`, in order, read shard by shard; NaN where a picture is broken."""
        shards, held = self._extracted(stage)
        ends = np.cumsum([len(read_array(p, mmap=True)) for p in shards])
        order = np.argsort(held, kind="stable")
        at = order[np.searchsorted(held, ids, sorter=order).clip(max=len(order) - 1)] if len(held) else order
        if lack := len(ids) if not len(held) else int((held[at] != ids).sum()):
            raise PhylaError(
                f"{lack:,} of {len(ids):,} images are not described by {self.store.recipe(stage).method}.",
                f"Have it describe all: phyla sort --project {self.store.folder} --anew",
            )
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

    def without_broken(
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
        images = some(images, np.flatnonzero(good))
        fault = [why if why is not None else faults.get(i) for i, why in zip(table["id"], table["fault"], strict=True)]
        order = np.argsort(images.ids)
        at = order[np.searchsorted(images.ids, table["id"], sorter=order).clip(max=len(order) - 1)]
        row = np.where([f is None for f in fault], at, -1).astype(np.int32)
        return table | {"fault": np.array(fault, object), "row": row}, images

    def keep(self, table: dict[str, NDArray[Any]]) -> str:
        """Write the table of images under a name made from what it says."""
        told = hashlib.sha256(repr([c.tolist() for c in table.values()]).encode()).hexdigest()
        name = f"images/{told[:12]}.parquet"
        if not (self.store.folder / name).exists():
            self.store.write_table(name, table)
        return name

    def reduce(self, features: list[str], images: Images) -> list[str]:
        """Stages of the whitened principal components, one a network; each network is the work of one thread."""
        pca = plugins.load("reduce", "pca")
        params, told = {"n_components": COMPONENTS}, digest(images.ids)
        recipes = [Recipe("reduced", "pca", params, (stage, told), version=pca.VERSION) for stage in features]
        stages = [self.store.stage(recipe) for recipe in recipes]
        missing = [pair for pair in zip(features, stages, strict=True) if self.store.arrays(pair[1]) is None]

        def reduce(pair: tuple[str, str]) -> None:
            model = pca(COMPONENTS)
            for X in self.features(pair[0], images.ids):
                model.partial_fit(X)
                advance(len(X))
            kept = [(model.transform(X), model.residual(X)) for X in self.features(pair[0], images.ids)]
            narrow, left = (np.concatenate(part) for part in zip(*kept, strict=True))
            self.store.finish(pair[1], {"X": narrow, "residual": left} | fitted_arrays(model))

        # One thread of linear algebra in each: its rounding must not depend on how many there are.
        todo = len(missing) * len(images)
        with self.progress("compressing", todo, todo) as advance, limited(1):
            for _ in plugins.load("engine", "local")(reduce, missing, self.threads):
                pass
        return stages

    def group(self, X: Rows, blocks: list[int], recipe: Recipe, told: Mapping[str, NDArray[Any]] | None = None) -> str:
        """Stage of the groups; `told` is what else the method gets to know of each image."""
        told = told or {}
        stage = self.store.stage(recipe)
        if self.store.arrays(stage) is None:
            clusterer = clusterer_of(recipe, blocks, self.threads)
            with self.progress("grouping", len(X), len(X)) as advance:
                if len(X) == 1:  # nothing to tell apart
                    X, told = np.repeat(X[:], 2, axis=0), {name: np.repeat(v, 2) for name, v in told.items()}
                    clusterer.set_params(n_clusters=1)
                run = plugins.load("engine", "local")
                fit(clusterer, X, told, recipe.seed, run, self.threads, advance)
            self.store.finish(stage, fitted_arrays(clusterer))
        return stage

    def measure(self, images: Images, read: Callable[[str], bytes]) -> dict[str, NDArray[Any]]:
        """What `audit.measure` and `audit.facts` tell, (n, …) each; only images not yet measured are decoded."""
        stage = self.store.stage(Recipe("measured", "pictures", {}, (), MEASURE_VERSION))
        held = [read_array(p).astype(str) for p in self.store.shards(stage, "id.npy")]
        rows = np.flatnonzero(~np.isin(images.ids, np.concatenate(held) if held else []))

        def work(task: NDArray[np.intp]) -> list[dict[str, Any]]:
            told = []
            for row in task:
                try:
                    data = read(images.uris[row])
                    told.append(facts(data) | measure(sources.decode(data, MEASURE_SIDE)))
                except (OSError, PhylaError) as fault:
                    why = getattr(fault, "message", str(fault))
                    raise PhylaError(
                        f"{images.uris[row]} can't be read any more: {why}.",
                        f"Sort again: phyla sort --project {self.store.folder}",
                    ) from fault
            return told

        run = plugins.load("engine", "local")
        with self.progress("measuring", len(rows), len(images)) as advance:
            for start in range(0, len(rows), _SCAN_SHARD):
                shard = rows[start : start + _SCAN_SHARD]
                told: list[dict[str, Any]] = []
                for part in run(
                    work, [shard[i : i + _SCAN_TASK] for i in range(0, len(shard), _SCAN_TASK)], self.threads
                ):
                    told += part
                    advance(len(part))
                name = f"{stage}/{len(held):05}"
                for column, values in gather(told).items():
                    self.store.write_array(f"{name}.{column}.npy", values)
                self.store.write_array(f"{name}.id.npy", images.ids[shard].astype("S"))
                held.append(images.ids[shard])
        ids = np.concatenate(held)
        order = np.argsort(ids)
        at = order[np.searchsorted(ids, images.ids, sorter=order)]
        columns = [p.name.split(".")[1] for p in sorted((self.store.folder / stage).glob("00000.*.npy"))]
        return {
            column: np.concatenate([read_array(p) for p in self.store.shards(stage, f"{column}.npy")[: len(held)]])[at]
            for column in columns
            if column != "id"
        }

    def map(self, X: NDArray[np.float32], reduced: list[str], seed: int) -> str:
        tsne = plugins.load("reduce", "tsne")
        stage = self.store.stage(Recipe("map", "tsne", {}, tuple(reduced), tsne.VERSION, seed))
        if self.store.arrays(stage) is None:
            with self.progress("mapping", len(X), len(X)) as advance:
                self.store.finish(stage, {"points": tsne(random_state=seed).fit_transform(X)})
                advance(len(X))
        return stage


def images_of(table: dict[str, NDArray[Any]], source: sources.Source) -> Images:
    """The rows of `table` without a fault, the first of each set of exact copies."""
    _, first = np.unique(table["id"], return_index=True)
    first.sort()
    first = first[[table["fault"][i] is None for i in first]]
    uris = table["uri"][first]

    def open_row(row: int, at_least: int) -> NDArray[np.uint8]:
        return open_picture(source, uris[row], at_least)

    return Images(table["id"][first], uris, table["width"][first], table["height"][first], open_row)


def some(images: Images, rows: NDArray[np.integer]) -> Images:
    """These rows of `images`."""

    def open_row(row: int, at_least: int) -> NDArray[np.uint8]:
        return images.open(int(rows[row]), at_least)

    return Images(images.ids[rows], images.uris[rows], images.width[rows], images.height[rows], open_row)


def digest(ids: NDArray[np.str_]) -> str:
    return hashlib.sha256("".join(ids).encode()).hexdigest()


def folders_of(images: Images) -> NDArray[np.str_]:
    """(n,) the folder of each image, on the disk or in its archive."""
    return np.array([uri.replace("\\", "/").rpartition("/")[0] for uri in images.uris.tolist()], str)


def scan_all(
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


def as_table(uri: Any, id: Any, width: Any, height: Any, fault: Any) -> dict[str, NDArray[Any]]:
    return {
        "uri": np.array(uri, object),
        "id": np.array(id, str),
        "width": np.array(width, np.int32),
        "height": np.array(height, np.int32),
        "fault": np.array(fault, object),
    }


def fitted_arrays(estimator: Any) -> dict[str, NDArray[Any]]:
    """The fitted attributes of an estimator that are arrays or numbers, by name."""
    found = {k: np.asarray(v) for k, v in vars(estimator).items() if k.endswith("_") and not k.startswith("_")}
    return {k: v for k, v in found.items() if v.dtype.kind in "bif"}


def restore(estimator: Any, arrays: Mapping[str, NDArray[Any]] | None) -> Any:
    for name, array in (arrays or {}).items():
        setattr(estimator, name, array)
    return estimator


def clusterer_of(recipe: Recipe, blocks: list[int], threads: int = 1) -> Any:
    """The grouping method of `recipe`; `blocks` and `threads` go to those that take them."""
    clusterer = plugins.load("cluster", recipe.method)(**recipe.params, random_state=recipe.seed)
    offered = {"blocks": tuple(blocks), "n_jobs": threads}
    return clusterer.set_params(**{k: v for k, v in offered.items() if k in clusterer.get_params()})


def open_picture(source: sources.Source, uri: str, at_least: int) -> NDArray[np.uint8]:
    try:
        return sources.decode(source.read(uri), at_least)
    except OSError as fault:
        raise PhylaError(fault.strerror or str(fault)) from fault


def words_of(
    meta: Mapping[str, Any], stages: Sequence[str], threads: int
) -> tuple[str, Callable[[Sequence[str]], NDArray[np.float32]]] | None:
    """The stage of the features of a project's first network that reads words, and what gives texts their vectors."""
    for name, stage in zip(meta["backbones"], stages, strict=True):
        network = backbones.load(backbones.card(name), threads)
        if texts := getattr(network, "texts", None):
            return stage, texts
    return None


def usable_threads(asked: int | None) -> int:
    if asked is not None and asked < 1:
        raise PhylaError(f"{asked} threads can't work.", "Give a whole number from 1, or leave it out.")
    return asked or cores()


@dataclass(frozen=True)
class Spaces:
    """X (n, d) of stages side by side, as it lies on the disk: rows of it are read when they are asked for."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(read_array(self.paths[0], mmap=True))

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        # Mapped anew each time: what was read does not pile up.
        return np.hstack([read_array(path, mmap=True)[rows] for path in self.paths])


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """At most `threads` threads in the linear algebra and in OpenMP, faiss included."""
    import cv2
    import faiss
    from threadpoolctl import threadpool_limits

    cv2.setNumThreads(1)  # resizing happens in threads of our own
    faiss.omp_set_num_threads(threads)
    with threadpool_limits(threads):
        yield
