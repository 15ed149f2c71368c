"""What workers do: functions that can be sent to another process, and keep there what they have loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import backbones, plugins, sources
from phyla.audit import MEASURE_SIDE, facts, measure
from phyla.engine import LOCAL, Run, open_engine
from phyla.store import Features
from phyla.types import UNREAD, Images, PhylaError

BLOCK = 4096  # rows of wide features held at a time
# Threads of a worker that has a core: while one waits for the network's own thread another decodes; see `extract`.
_THREADS = 2


def blocks_of(rows: NDArray[Any], size: int = BLOCK) -> Iterator[NDArray[Any]]:
    """`rows`, `size` at a time."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def open_picture(source: sources.Source, uri: str, at_least: int, id: str | None = None) -> NDArray[np.uint8]:
    """The picture at `uri`, if its bytes are still those of `id`."""
    try:
        data = sources.fetch(source, uri)
    except OSError as fault:
        raise PhylaError(f"{UNREAD}{fault.strerror or fault}") from fault
    if id is not None and sources.id_of(data) != id:
        raise PhylaError(f"{UNREAD}it changed meanwhile")
    return sources.decode(data, at_least)


@dataclass(frozen=True)
class Describe:
    """Has networks look at the images of a shard, and writes what they say: ids and uris (r,) and a number for each."""

    source: sources.Source
    cards: Sequence[backbones.Card]
    features: Sequence[Features]

    @cached_property
    def _networks(self) -> list[backbones.Network]:
        return [backbones.load(card, 1) for card in self.cards]

    def __call__(self, task: tuple[NDArray[np.str_], NDArray[Any], Sequence[int]]) -> int:
        """How many images there were. A shard that is there already, from a run that was killed, is kept."""
        ids, uris, numbers = task
        if not all(f.is_written(number, ids) for f, number in zip(self.features, numbers, strict=True)):
            images = _pictures(self.source, uris, ids)
            for shard in backbones.extract(images, range(len(ids)), self._networks, _in_two_threads, 1):
                keep_shard(self.features, numbers, ids, shard)
        return len(ids)


def _pictures(source: sources.Source, uris: NDArray[Any], ids: NDArray[np.str_] | None) -> Images:
    """Pictures to be looked at: nobody asks for their sizes."""

    def open_row(row: int, at_least: int) -> NDArray[np.uint8]:
        return open_picture(source, uris[row], at_least, None if ids is None else ids[row])

    unknown = np.broadcast_to(np.int32(0), len(uris))
    return Images(uris if ids is None else ids, uris, unknown, unknown, open_row)


def _in_two_threads(function: Callable[[Any], Any], tasks: Iterable[Any], workers: int) -> Iterator[Any]:
    return open_engine(LOCAL)(function, tasks, _THREADS)


def keep_shard(
    features: Sequence[Features], numbers: Sequence[int], ids: NDArray[np.str_], shard: backbones.Shard
) -> None:
    """Write a shard of what each network says; `ids` are those of all rows."""
    faults = {str(ids[row]): reason for row, reason in shard.faults.items()}
    for of, number, X in zip(features, numbers, shard.features, strict=True):
        of.write(number, ids[shard.rows], X, faults)


@dataclass(frozen=True)
class Look:
    """Has networks look at the pictures of a shard, and gives what is made of what they say: of uris and ids (r,).

    load : threads → networks. make : the (r, dim) features of each and the faults (r,), "" for a good picture → what is
    given. dtype, in_doubt : as for `backbones.extract`.
    """

    source: sources.Source
    load: Callable[[int], Sequence[backbones.Network]]
    make: Callable[[list[NDArray[Any]], NDArray[Any]], Any]
    dtype: type[np.floating] = np.float16
    in_doubt: Callable[[Sequence[NDArray[np.floating]]], NDArray[np.bool_]] | None = None

    @cached_property
    def _networks(self) -> Sequence[backbones.Network]:
        return self.load(1)

    def over(
        self, uris: NDArray[Any], ids: NDArray[np.str_] | None, engine: str, threads: int,
        advance: Callable[[int], object],
    ) -> Iterator[Any]:  # fmt: skip
        """Of shard after shard of pictures (n,), by an engine; `ids` of the bytes they shall still have, or None."""
        run = open_engine(engine)
        if engine == LOCAL:  # all threads share one network
            shards = self._shards(uris, ids, self.load(threads), run, threads, advance) if len(uris) else ()
            yield from map(self._made, shards)
            return
        of = [slice(start, start + backbones.SHARD) for start in range(0, len(uris), backbones.SHARD)]
        tasks = ((uris[shard], None if ids is None else ids[shard]) for shard in of)
        for shard, made in zip(of, run(self, tasks, threads), strict=True):
            advance(len(uris[shard]))
            yield made

    def __call__(self, task: tuple[NDArray[Any], NDArray[np.str_] | None]) -> Any:
        (shard,) = self._shards(*task, self._networks, _in_two_threads, 1, lambda n: None)
        return self._made(shard)

    def _shards(
        self, uris: NDArray[Any], ids: NDArray[np.str_] | None, networks: Sequence[backbones.Network],
        run: Run, threads: int, advance: Callable[[int], object],
    ) -> Iterator[backbones.Shard]:  # fmt: skip
        images = _pictures(self.source, uris, ids)
        return backbones.extract(
            images, range(len(uris)), networks, run, threads, advance, self.dtype, self.in_doubt
        )  # fmt: skip

    def _made(self, shard: backbones.Shard) -> Any:
        faults = np.array([shard.faults.get(row, "") for row in shard.rows.tolist()], object)
        return self.make(shard.features, faults)


@dataclass(frozen=True)
class Sums:
    """Of some rows of one network, the sums that principal components are made of."""

    features: Sequence[Features]
    n_components: int

    def __call__(self, task: tuple[int, NDArray[np.int64]]) -> Any:
        which, places = task
        model = plugins.load("reduce", "pca")(self.n_components)
        for block in blocks_of(places):
            model.partial_fit(self.features[which].take(block))
        return model


@dataclass(frozen=True)
class Narrow:
    """Some rows of one network on its axes, and what these leave of each."""

    features: Sequence[Features]
    models: Sequence[Any]

    def __call__(self, task: tuple[int, NDArray[np.int64]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        which, places = task
        X, model = self.features[which].take(places), self.models[which]
        return model.transform(X), model.residual(X)


@dataclass(frozen=True)
class Measure:
    """What is told of some pictures without a network."""

    source: sources.Source
    place: str  # of the project, for what is to be done about a fault

    def __call__(self, task: tuple[NDArray[Any], NDArray[np.str_]]) -> list[dict[str, Any]]:
        told = []
        for uri, id in zip(*task, strict=True):
            try:
                data = sources.fetch(self.source, uri)
                if sources.id_of(data) != id:
                    raise PhylaError("it changed")
                told.append(facts(data) | measure(sources.decode(data, MEASURE_SIDE)))
            except (OSError, PhylaError) as fault:
                why = getattr(fault, "message", str(fault))
                raise PhylaError(
                    f"{uri} can't be read any more: {why}.", f"Sort again: phyla sort --project {self.place}"
                ) from fault
        return told
