"""What workers do: functions that can be sent to another process, and keep there what they have loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import backbones, plugins, sources
from phyla.audit import MEASURE_SIDE, facts, measure
from phyla.engine import LOCAL, open_engine
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

            def open_row(row: int, at_least: int) -> NDArray[np.uint8]:
                return open_picture(self.source, uris[row], at_least, ids[row])

            none = np.zeros(len(ids), np.int32)
            images = Images(ids, uris, none, none, open_row)
            run = open_engine(LOCAL)
            two = lambda function, tasks, workers: run(function, tasks, _THREADS)  # noqa: E731
            for shard in backbones.extract(images, range(len(ids)), self._networks, two, 1):
                keep_shard(self.features, numbers, ids, shard)
        return len(ids)


def keep_shard(
    features: Sequence[Features], numbers: Sequence[int], ids: NDArray[np.str_], shard: backbones.Shard
) -> None:
    """Write a shard of what each network says; `ids` are those of all rows."""
    faults = {str(ids[row]): reason for row, reason in shard.faults.items()}
    for of, number, X in zip(features, numbers, shard.features, strict=True):
        of.write(number, ids[shard.rows], X, faults)


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
