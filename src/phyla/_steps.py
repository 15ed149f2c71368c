"""The steps of the main job: each looks up what its recipe has already made in the store, and makes what is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import backbones, plugins, sources
from phyla._progress import Progress
from phyla._tasks import BLOCK, Describe, Measure, Narrow, Sums, blocks_of, keep_shard, open_picture
from phyla.audit import MEASURE_VERSION, gather
from phyla.cluster import fit, leading
from phyla.engine import LOCAL, cores, limited, open_engine
from phyla.store import Features, Store, features_of
from phyla.types import Images, PhylaError, Recipe, Rows

COMPONENTS = 256  # axes kept of each network: groups are found in the first and told apart in all of them
_SCAN_TASK, _SCAN_SHARD = 8, 8192  # files a task and a shard of the scan
# Rows whose sums are one task's: those of 1,280 columns take 13 MB, a thirteenth of what they are made of.
_SUMMED = 16 * BLOCK


@dataclass(frozen=True)
class Steps:
    """From a source to groups, in the order below; each step returns its table, or the names of its stages."""

    store: Store
    threads: int
    progress: Progress
    engine: str = LOCAL

    def run(self, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        """`function` of every task, in order, by the engine that was asked for."""
        return open_engine(self.engine)(function, tasks, self.threads)

    def scan(self, source: sources.Source) -> dict[str, NDArray[Any]]:
        """The table of everything listed; reads only files that are new or changed since the last time."""
        entries = sources.listed(source)
        known = {}
        shards = self.store.shards("scan", "parquet")
        columns = ("uri", "size", "stamp", "id", "width", "height", "fault")
        for name in shards:
            part = self.store.read_table(name)
            for row in zip(*(part[c].tolist() for c in columns), strict=True):
                known[row[:3]] = row[3:]
        # What could not even be read is tried again: a permission or a mount may be mended without a trace in the file.
        missing = [e for e in entries if not known.get((e.uri, e.size, e.stamp), [""])[0]]
        with self.progress("reading", len(missing), len(entries)) as advance:
            number = len(shards)
            for start in range(0, len(missing), _SCAN_SHARD):
                shard = missing[start : start + _SCAN_SHARD]
                found = scan_all(source, shard, self.run, advance)
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

    def _features(self, card: backbones.Card) -> str:
        return self.store.stage(backbones.recipe(card, sources.DECODER_VERSION))

    def begin(self, card: backbones.Card) -> backbones.Network | None:
        """The network of `card`, unless it may not be needed: some images have its features already."""
        if self.engine != LOCAL or len(features_of(self.store, self._features(card))):
            return None
        return backbones.load(card, self.threads)

    def extract(
        self,
        source: sources.Source,
        images: Images,
        cards: Sequence[backbones.Card],
        begun: Sequence[Future[backbones.Network | None]] = (),
    ) -> list[str]:
        """Stages of the features of `images`, one a network; computes only those that are missing.

        `begun` : what `begin` gives for each card, where it was called beforehand.
        """
        networks = {i: network for i, early in enumerate(begun) if (network := early.result())}
        stages = [self._features(card) for card in cards]
        held = [features_of(self.store, stage) for stage in stages]
        # Which networks lack which image: after a kill, or with a network added, not the same ones everywhere.
        lacks = np.array(
            [~np.isin(images.ids, features.ids) | np.isin(images.ids, features.unread) for features in held]
        )
        patterns, first, of = np.unique(lacks, axis=1, return_index=True, return_inverse=True)
        starts = [len(features) for features in held]
        with self.progress("looking", int(lacks.any(0).sum()), len(images)) as advance:
            for pattern in np.argsort(first):
                ask = np.flatnonzero(patterns[:, pattern]).tolist()
                if not ask:
                    continue
                rows = np.flatnonzero(of == pattern)
                asked = [held[i] for i in ask]
                at = [starts[i] for i in ask]
                if self.engine == LOCAL:
                    networks.update({i: backbones.load(cards[i], self.threads) for i in ask if i not in networks})
                    looking = [networks[i] for i in ask]
                    made = self._look(images, rows, looking, asked, at, advance)
                else:
                    tasks = (
                        (images.ids[shard], images.uris[shard], [start + step for start in at])
                        for step, shard in enumerate(blocks_of(rows, backbones.SHARD))
                    )
                    for done in self.run(Describe(source, [cards[i] for i in ask], asked), tasks):
                        advance(done)
                    made = -(-len(rows) // backbones.SHARD)
                for i in ask:
                    starts[i] += made
        return stages

    def _look(
        self, images: Images, rows: NDArray[np.intp], networks: Sequence[backbones.Network],
        features: Sequence[Features], at: Sequence[int], advance: Callable[[int], object],
    ) -> int:  # fmt: skip
        """Have the networks see some rows in threads of this process; how many shards that makes."""
        shards = backbones.extract(images, rows.tolist(), networks, open_engine(LOCAL), self.threads, advance)
        for made, shard in enumerate(shards):
            keep_shard(features, [start + made for start in at], images.ids, shard)
        return made + 1

    def features(self, stage: str, ids: NDArray[np.str_]) -> Iterator[NDArray[np.float32]]:
        """Blocks of the (n, d) features of `ids`, in order, read shard by shard; NaN where a picture is broken."""
        features = features_of(self.store, stage)
        for places in blocks_of(features.places(ids)):
            yield features.take(places)

    def without_broken(
        self, table: dict[str, NDArray[Any]], images: Images, stage: str
    ) -> tuple[dict[str, NDArray[Any]], Images]:
        """`table` and `images` after decoding: a broken picture has its reason in the one and no row in the other.

        The column `row` says where in `images` each file is, −1 for one that can't be read.
        """
        faults = features_of(self.store, stage).faults
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
        name = name_of(table)
        if not self.store.has(name):
            self.store.write_table(name, table)
        return name

    def reduce(self, features: list[str], images: Images) -> list[str]:
        """Stages of the whitened principal components, one a network; each network is the work of one thread."""
        pca, told = plugins.load("reduce", "pca"), digest(images.ids)
        stages = [self.store.stage(recipe_of_axes(stage, told)) for stage in features]
        missing = [pair for pair in zip(features, stages, strict=True) if self.store.arrays(pair[1]) is None]

        held = [features_of(self.store, stage) for stage, _ in missing]
        places = [of.places(images.ids) for of in held]

        def tasks(size: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
            return ((i, block) for i, every in enumerate(places) for block in blocks_of(every, size))

        # One thread of linear algebra in each: its rounding must not depend on how many there are.
        todo = len(missing) * len(images)
        with self.progress("compressing", todo, todo) as advance, limited(1):
            # Sums are merged in the order of the rows, whoever has made them first.
            models = [pca(COMPONENTS) for _ in missing]
            parts = self.run(Sums(held, COMPONENTS), tasks(_SUMMED))
            for (i, block), part in zip(tasks(_SUMMED), parts, strict=True):
                models[i].merge(part)
                advance(len(block) // 2)
            # Half of the work is done: now the axes are known.
            fitted = [fitted_arrays(model.solve()) for model in models]
            narrowed = self.run(Narrow(held, [restore(pca(), arrays) for arrays in fitted]), tasks(BLOCK))
            for (_, stage), arrays in zip(missing, fitted, strict=True):
                shape = len(images), len(arrays["components_"])
                left = []
                with self.store.streaming_array(f"{stage}/X.npy", shape, np.float32) as put:
                    for _ in blocks_of(images.ids):
                        X, residual = next(narrowed)
                        put(X)
                        left.append(residual)
                        advance(len(X) - len(X) // 2)
                self.store.finish(stage, {"residual": np.concatenate(left)} | arrays)
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
                fit(clusterer, X, told, recipe.seed, self.run, advance)
            self.store.finish(stage, fitted_arrays(clusterer))
        return stage

    def measure(self, images: Images, source: sources.Source) -> dict[str, NDArray[Any]]:
        """What `audit.measure` and `audit.facts` tell, (n, …) each; only images not yet measured are decoded."""
        stage = self.store.stage(Recipe("measured", "pictures", {}, (), MEASURE_VERSION))
        held = [self.store.ids(name) for name in self.store.shards(stage, "id.npy")]
        rows = np.flatnonzero(~np.isin(images.ids, np.concatenate(held) if held else []))

        with self.progress("measuring", len(rows), len(images)) as advance:
            for start in range(0, len(rows), _SCAN_SHARD):
                shard = rows[start : start + _SCAN_SHARD]
                told: list[dict[str, Any]] = []
                tasks = ((images.uris[rows], images.ids[rows]) for rows in blocks_of(shard, _SCAN_TASK))
                for part in self.run(Measure(source, self.store.place), tasks):
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
        columns = [name.split(".")[1] for name in self.store.names(stage) if fnmatch(name, "00000.*.npy")]
        return {
            column: np.concatenate(
                [self.store.array(name) for name in self.store.shards(stage, f"{column}.npy")[: len(held)]]
            )[at]
            for column in columns
            if column != "id"
        }

    def map(self, X: NDArray[np.float32], reduced: list[str], seed: int) -> str:
        tsne = plugins.load("reduce", "tsne")
        stage = self.store.stage(recipe_of_map(reduced, seed))
        if self.store.arrays(stage) is None:
            with self.progress("mapping", len(X), len(X)) as advance:
                self.store.finish(stage, {"points": tsne(random_state=seed).fit_transform(X)})
                advance(len(X))
        return stage


def recipe_of_axes(features: str, told: str) -> Recipe:
    """How the axes of a network's features are made; `told` is the digest of the images' ids."""
    version = plugins.load("reduce", "pca").VERSION
    return Recipe("reduced", "pca", {"n_components": COMPONENTS}, (features, told), version)


def recipe_of_map(reduced: Sequence[str], seed: int) -> Recipe:
    return Recipe("map", "tsne", {}, tuple(reduced), plugins.load("reduce", "tsne").VERSION, seed)


def name_of(table: Mapping[str, NDArray[Any]]) -> str:
    """Where a table of images lies."""
    return f"images/{hashlib.sha256(repr([c.tolist() for c in table.values()]).encode()).hexdigest()[:12]}.parquet"


def images_of(table: dict[str, NDArray[Any]], source: sources.Source) -> Images:
    """The rows of `table` without a fault, the first of each set of exact copies."""
    _, first = np.unique(table["id"], return_index=True)
    first.sort()
    first = first[[table["fault"][i] is None for i in first]]
    uris, ids = table["uri"][first], table["id"][first]

    def open_row(row: int, at_least: int) -> NDArray[np.uint8]:
        return open_picture(source, uris[row], at_least, ids[row])

    return Images(ids, uris, table["width"][first], table["height"][first], open_row)


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
    source: sources.Source, entries: Sequence[sources.Entry], run: Callable[..., Iterator[Any]],
    advance: Callable[[int], object],
) -> dict[str, list[Any]]:  # fmt: skip
    """The columns of `sources.scan` for `entries`; `run(function, tasks)` does it."""
    tasks = [entries[i : i + _SCAN_TASK] for i in range(0, len(entries), _SCAN_TASK)]
    found: dict[str, list[Any]] = {}
    for part in run(partial(sources.scan, source), tasks):
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
        if not hasattr(type(estimator), name):  # a stranger's files may be called as its methods are
            setattr(estimator, name, array)
    return estimator


def clusterer_of(recipe: Recipe, blocks: list[int], threads: int = 1) -> Any:
    """The grouping method of `recipe`; `blocks` and `threads` go to those that take them."""
    clusterer = plugins.load("cluster", recipe.method)(**recipe.params, random_state=recipe.seed)
    offered = {"blocks": tuple(blocks), "n_jobs": threads}
    return clusterer.set_params(**{k: v for k, v in offered.items() if k in clusterer.get_params()})


def words_of(
    meta: Mapping[str, Any], stages: Sequence[str], threads: int
) -> tuple[str, Callable[[Sequence[str]], NDArray[np.float32]]] | None:
    """The stage of the features of a project's first network that reads words, and what gives texts their vectors."""
    for name, stage in zip(meta["backbones"], stages, strict=True):
        network = backbones.load(backbones.card(name), threads)
        if texts := getattr(network, "texts", None):
            return stage, texts
    return None


def check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise PhylaError(f"{seed} can't be a seed.", "Give a whole number from 0 to 4294967295.")


def usable_threads(asked: int | None) -> int:
    if asked is not None and asked < 1:
        raise PhylaError(f"{asked} threads can't work.", "Give a whole number from 1, or leave it out.")
    return asked or cores()


@dataclass(frozen=True)
class Spaces:
    """X (n, d) of stages side by side, as it lies on the disk: rows of it are read when they are asked for.

    near : only the leading axes of each, in which near images are alike.
    """

    store: Store
    stages: tuple[str, ...]
    near: bool = False

    def __len__(self) -> int:
        return len(self.store.array(f"{self.stages[0]}/X.npy", mmap=True))

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        # Mapped anew each time: what was read does not pile up.
        spaces = (self.store.array(f"{stage}/X.npy", mmap=True) for stage in self.stages)
        return np.hstack([leading(X[rows], (X.shape[1],)) if self.near else X[rows] for X in spaces])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:] if dtype is None else self[:].astype(dtype)
