"""Searching a project: by pictures, by pictures to avoid, and by words where a network reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import backbones, plugins, sources
from phyla._growing import Narrow, narrowing
from phyla._progress import Progress
from phyla._shown import Shown
from phyla._steps import Steps, words_of
from phyla.cluster import leading
from phyla.engine import limited
from phyla.label.zero_shot import TEMPLATES
from phyla.neighbors import Index, Shard, calibrate, centers_of, n_cells, nearest_rows, sample_of, shard_of
from phyla.store import Store
from phyla.types import Images, PhylaError, Recipe

INDEXED = 500_000  # images from which on `sort` makes an index: reading them all would take a cold disk a second
# Axes of each network that are searched, as directions. Of the first 20 found by one, three and ten pictures, 0.70,
# 0.87 and 0.92 show their class (mean of CIFAR-10, its long tail, photos: benchmarks/examples.py); with 32 axes 0.68,
# 0.84 and 0.88, though on CIFAR-10 three find 0.95 with 32 and 0.92 with 64; with all 256 0.66, 0.82 and 0.91.
_WIDTH = 64
_SHARD = 1 << 18  # rows of the index a file
_PARTS = ("vectors", "rows", "ends")  # files of a shard
_PIECE = 1 << 14  # rows in single precision at a time
_SEEN = 512  # pixels of the shorter side that a picture is decoded to for the networks
# How much what shall be avoided counts against what is wanted (Rocchio, 1971). Three wrong finds of a search given back
# raise the share of right ones on CIFAR-10 from 0.69 to 0.75, on photos from 0.65 to 0.68; 0.5 gains less, 1 does harm.
_AVOID = 0.25
_AVOID_WORDS = 0.5  # not measured: it takes a network that reads words
_SPREAD_SEEN = 4096  # images whose likeness to a picture or a text tells how much it varies

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Seen:
    """A picture from elsewhere as the networks see it: its direction in the searched space, and its features."""

    direction: Vector
    features: tuple[Vector, ...]


Example = int | str | Path | Seen  # a row; a uri, an id or a file; or a picture that was looked at


class Searching(Shown):
    """A project that is searched."""

    def search(
        self,
        like: Sequence[Example] = (),
        words: str = "",
        without: Sequence[Example] = (),
        minus: str = "",
        n: int = 20,
    ) -> list[dict[str, Any]]:
        """Find the n images most like some pictures, or words, or both.

        Several pictures are averaged, as directions. Of the first 20 found by three, 0.87 show their class (mean of
        CIFAR-10, its long tail and photos); where the nearest example counts 0.82, by reciprocal ranks 0.83, by a
        linear probe against the rest, the "tag by example" of Zoobot (Walmsley et al., 2022), 0.87. Words and pictures
        are added up in the network that reads words, each first scaled by how much the images differ in their likeness
        to it (after WeiMoCIR, Wu et al., 2024; nothing is trained).

        A million images with three networks are compared in 20 ms of CPU time; from 500,000 on `sort` keeps an index,
        and then it takes 2. With words the features of all images are read.

        Parameters
        ----------
        like : images of the project (uris, ids or rows), or picture files. They are not found themselves.
        words : what the images shall show, where a network of the project reads words.
        without : pictures that they shall not be like.
        minus : words for what they shall not show.

        Returns
        -------
        list of dict : `uri`, `similarity` (−1..1, a cosine), `group`, `name` (of its class, "" where it has none).
        """
        if n < 1:
            raise PhylaError(f"{n} images can't be found.", "Give a whole number from 1.")
        rows, similarity = self.find(like, words, without, minus, n)
        names = [*self._now.classes, ""]
        return [
            {"uri": str(self.images.uris[row]), "similarity": round(float(alike), 4),
             "group": int(self.grouping.best[row]), "name": names[self._now.codes[row]]}
            for row, alike in zip(rows.tolist(), similarity.tolist(), strict=True)
        ]  # fmt: skip

    def find(
        self,
        like: Sequence[Example] = (),
        words: str = "",
        without: Sequence[Example] = (),
        minus: str = "",
        n: int = 200,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The rows that `search` tells of, most alike first, and how alike they are."""
        wanted, avoided = ([self._seen(one) for one in given] for given in (like, without))
        if not wanted and not words.strip():
            raise PhylaError("Search for what?", "Give a picture, or words.")
        but = np.array([one for one in (*wanted, *avoided) if isinstance(one, int)], np.int64)
        if words.strip() or minus.strip():
            return self._by_words(wanted, words.strip(), avoided, minus.strip(), n, but)
        query = _mean([self._direction(one) for one in wanted])
        if avoided:
            query = query - _AVOID * _mean([self._direction(one) for one in avoided])
        return self._nearest(_unit(query), n, but)

    # ---- what is given

    def _seen(self, one: Example) -> int | Seen:
        """A row of the project where it is one, else the picture as the networks see it."""
        if isinstance(one, Seen):
            return one
        n = len(self.images)
        if isinstance(one, int | np.integer):
            if not 0 <= one < n:
                raise PhylaError(f"There is no row {one}.", f"They are 0 to {n - 1}.")
            return int(one)
        uri = str(one)
        of = self._table["row"][self._uris == uri]
        if not len(of) and not Path(uri).is_file():
            named = dict(zip(self._uris.tolist(), map(str, self._table["row"].tolist()), strict=True))
            of = np.array([row for row in sources.match([uri], named) if row is not None], int)
            of = of if len(of) else self.rows_with([uri])
            if of[0] < 0:
                raise PhylaError(
                    f"{uri} is neither a file nor an image of the project.",
                    f"The project's uris look like {self.images.uris[0]}.",
                )
        if len(of):
            if of[0] < 0:
                raise PhylaError(f"{uri} is no picture that can be read.", "Give another.")
            return int(of[0])
        try:
            return self.look(Path(uri).read_bytes())
        except (OSError, PhylaError) as fault:
            why = getattr(fault, "message", None) or getattr(fault, "strerror", None) or fault
            raise PhylaError(f"{uri} can't be searched by: {why}.", "Give a picture.") from fault

    def look(self, data: bytes) -> int | Seen:
        """The bytes of a picture's file as something to search by: its row, where the project has the same file."""
        row = int(self.rows_with([sources.id_of(data)])[0])
        if row >= 0:
            return row
        X, wide = self._described(sources.decode(data, _SEEN))
        spaces = np.split(X, np.cumsum(self.blocks)[:-1], axis=1)
        return Seen(_directions(spaces)[0], tuple(of[0].astype(np.float32) for of in wide))

    def _described(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], list[NDArray[Any]]]:
        """The axes (1, d) of a picture, and each network's features (1, dim) of it."""
        h, w = pixels.shape[:2]
        images = Images(np.array(["0"]), np.array(["-"]), np.array([w]), np.array([h]), lambda row, at_least: pixels)
        run = plugins.load("engine", "local")
        with limited(1):
            wide = list(next(iter(backbones.extract(images, [0], self._networks, run, 1))).features)
            return self._narrow(wide)[0], wide

    @property
    def _narrow(self) -> Narrow:
        """What gives the axes of pictures, and what these leave of them, from each network's features."""
        reduced, features, aligned = *map(self._current, ("reduced", "features")), self.store.meta().get("aligned")
        return self._keep(
            "narrow", (reduced, features, aligned), lambda: narrowing(self.store, reduced, features, aligned)
        )

    @property
    def _networks(self) -> list[backbones.Network]:
        names = self._current("backbones")
        return self._keep("networks", names, lambda: [backbones.load(backbones.card(name), 1) for name in names])

    def _direction(self, one: int | Seen) -> Vector:
        if isinstance(one, Seen):
            return one.direction
        return _halves(self.store, self._current("reduced"), np.array([one]))[0].astype(np.float32)

    # ---- by pictures

    def _nearest(self, query: Vector, n: int, but: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The n rows of the directions nearest to `query`, but for some and for those that were removed."""
        reduced, removed, every = tuple(self._current("reduced")), self._now.removed, len(self.images)
        is_there = self.store.is_done(f"index/{_recipe(reduced, every).key}")
        index = self._keep("index", (reduced, every, is_there), lambda: open_index(self.store, reduced, every))
        asked = min(n + len(but), every)
        while True:
            if index:
                rows, squared = index.search(query, asked)
            else:
                rows, squared = nearest_rows(self._file_of_directions(reduced), query, asked)
            fine = ~removed[rows] & ~np.isin(rows, but)
            if fine.sum() >= n or asked == every:
                return rows[fine][:n], np.float32(1) - squared[fine][:n] / np.float32(2)
            asked = min(2 * asked, every)

    def _file_of_directions(self, reduced: Sequence[str]) -> NDArray[np.float16]:
        """(n, d) every image's direction, on the disk."""
        key, n = sha256(repr((reduced, _WIDTH)).encode()).hexdigest()[:12], len(self.images)

        def blocks() -> Iterator[NDArray[np.floating]]:
            for start in range(0, n, _PIECE):
                yield _halves(self.store, reduced, np.arange(start, min(start + _PIECE, n)))

        return self._on_disk(f"directions-{key}", blocks)

    # ---- by words

    def _by_words(
        self,
        wanted: Sequence[int | Seen],
        words: str,
        avoided: Sequence[int | Seen],
        minus: str,
        n: int,
        but: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """In the space of the first network that reads words."""
        features = self._current("features")
        found = self._keep("words", features, lambda: words_of(self.store.meta(), features, 1))
        if found is None:
            raise PhylaError(
                f"{' and '.join(self._current('backbones'))} can't read words.",
                "Sort with one that can: phyla sort PHOTOS --backbone openclip:ViT-B-32/laion2b_s34b_b79k",
            )
        stage, texts_of = found
        which, ids = features.index(stage), self.images.ids
        steps = Steps(self.store, 1, Progress(quiet=True))

        def of_pictures(given: Sequence[int | Seen]) -> Vector:
            of_rows = [one for one in given if isinstance(one, int)]
            held = [row for X in steps.features(stage, ids[of_rows]) for row in X] if of_rows else []
            return _mean([*held, *(one.features[which] for one in given if isinstance(one, Seen))])

        def of_words(text: str) -> Vector:
            return _mean(list(texts_of([template.format(text) for template in TEMPLATES])))

        parts = [(weight, of_pictures(given)) for weight, given in ((1.0, wanted), (-_AVOID, avoided)) if given]
        parts += [(weight, of_words(text)) for weight, text in ((1.0, words), (-_AVOID_WORDS, minus)) if text]
        # Pictures are more alike to a picture than to any text, and differ more in that: unscaled, words count little.
        some = np.linspace(0, len(ids) - 1, min(len(ids), _SPREAD_SEEN)).astype(int)
        sample = np.concatenate([_unit(X) for X in steps.features(stage, ids[some])])
        scaled = [weight * part / max(float((sample @ part).std()), 1e-6) for weight, part in parts]
        query = _unit(np.sum(scaled, axis=0))
        alike = np.concatenate([_unit(X) @ query for X in steps.features(stage, ids)])
        alike[self._now.removed] = -np.inf
        alike[but] = -np.inf
        n = min(n, len(alike))
        near = np.argpartition(-alike, n - 1)[:n]
        near = near[np.lexsort((near, -alike[near]))]
        near = near[alike[near] > -np.inf]
        return near, alike[near]


# ---- directions


def _unit(X: Vector) -> Vector:
    """Vectors of length one; of no length where they had none."""
    return np.asarray(X / np.maximum(np.linalg.norm(X, axis=-1, keepdims=True), 1e-9), np.float32)


def _mean(vectors: Sequence[Vector]) -> Vector:
    return _unit(_unit(np.stack(vectors)).mean(0))


def _directions(spaces: Sequence[NDArray[np.float32]]) -> Vector:
    """(n, d) rows of length one of the leading axes of each network's whitened components."""
    return _unit(np.hstack([leading(X, (X.shape[1],), _WIDTH) for X in spaces]))


def _halves(store: Store, reduced: Sequence[str], rows: NDArray[np.integer]) -> NDArray[np.float16]:
    """The directions of some rows, in order. Mapped anew for each piece: what was read does not pile up."""
    pieces = []
    for start in range(0, len(rows), _PIECE):
        piece = rows[start : start + _PIECE]
        together = int(piece[-1] - piece[0]) == len(piece) - 1
        at = slice(int(piece[0]), int(piece[-1]) + 1) if together else piece
        spaces = (store.array(f"{stage}/X.npy", mmap=True) for stage in reduced)
        pieces.append(_directions([X[at] for X in spaces]).astype(np.float16))
    return np.concatenate(pieces)


# ---- the index


def _recipe(reduced: Sequence[str], n: int) -> Recipe:
    """By the vectors' own key: of other vectors there is another index, or none yet."""
    params = {"cells": n_cells(n), "axes": _WIDTH, "shard": _SHARD}
    return Recipe("index", "cells", params, tuple(reduced), Index.VERSION)


def open_index(store: Store, reduced: Sequence[str], n: int) -> Index | None:
    """The index over n images that lies in the store, mapped; None where there is none, or a damaged one."""
    stage = f"index/{_recipe(reduced, n).key}"
    if not store.is_done(stage):
        return None
    with suppress(PhylaError, ValueError, OSError):
        index = _mapped(store, stage, n, store.array(f"{stage}/measured.npy"))
        return index if index.n == n else None
    return None


def _mapped(store: Store, stage: str, n: int, measured: NDArray[np.float64] | None = None) -> Index:
    shards = [_shard(store, stage, number) for number in range(-(-n // _SHARD))]
    return Index(store.array(f"{stage}/centers.npy"), shards, measured)


def _shard(store: Store, stage: str, number: int) -> Shard:
    return Shard(*(store.array(f"{stage}/{number:05}.{part}.npy", mmap=True) for part in _PARTS))


@dataclass(frozen=True)
class _Write:
    """Writes a shard of an index, in this process or another: its number, its first row, and the first of the next."""

    store: Store
    stage: str
    reduced: Sequence[str]
    centers: NDArray[np.float32]

    def __call__(self, task: tuple[int, int, int]) -> int:
        number, first, last = task
        shard = shard_of(_halves(self.store, self.reduced, np.arange(first, last)), first, self.centers)
        for part in _PARTS:
            self.store.write_array(f"{self.stage}/{number:05}.{part}.npy", getattr(shard, part))
        return last - first


def build_index(
    store: Store, reduced: Sequence[str], n: int, run: Callable[..., Iterator[int]], progress: Progress
) -> None:
    """Make the index over n images where it is missing or damaged; shards that are whole stay.

    `run(function, tasks)` makes them, a shard a task: an engine's.
    """
    if open_index(store, reduced, n):
        return
    stage = store.stage(_recipe(reduced, n))
    store.remove([f"{stage}/done"])
    with limited(1):
        learnt = centers_of(_halves(store, reduced, sample_of(n)), n_cells(n))
    if not _holds(store, f"{stage}/centers.npy", learnt):
        store.write_array(f"{stage}/centers.npy", learnt)
    shards = [(number, first, min(first + _SHARD, n)) for number, first in enumerate(range(0, n, _SHARD))]
    lacking = [shard for shard in shards if not _is_whole(store, stage, *shard, learnt.shape)]
    with progress("indexing", sum(last - first for _, first, last in lacking), n) as advance, limited(1):
        for rows in run(_Write(store, stage, reduced, learnt), lacking):
            advance(rows)
    store.write_array(f"{stage}/measured.npy", calibrate(_mapped(store, stage, n)))
    store.write(f"{stage}/done", b"")
    for other in store.names("index"):  # of former vectors, and quickly made again
        if f"index/{other}" != stage:
            store.drop(f"index/{other}")


def _holds(store: Store, name: str, array: NDArray[Any]) -> bool:
    with suppress(PhylaError, OSError):
        return np.array_equal(store.array(name), array)
    return False


def _is_whole(store: Store, stage: str, number: int, first: int, last: int, shape: tuple[int, ...]) -> bool:
    with suppress(PhylaError, OSError):
        shard = _shard(store, stage, number)
        return len(shard.rows) == last - first and shard.is_whole(first, *shape)
    return False
