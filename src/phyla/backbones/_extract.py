"""Pictures in, one feature matrix a network out: every picture is read and decoded once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.backbones._card import Network, fit
from phyla.engine import cores
from phyla.types import Images, PhylaError

# Pictures a task: a network's batch, so that a task stays in its core's cache and the last ones end together.
TASK = 4
# Pictures a shard: at a hundred a second a killed run loses twenty seconds; a million pictures make 500 files.
SHARD = 512 * TASK


@dataclass(frozen=True)
class Shard:
    """`features[i]` is network i's (r, dim) of the r `rows`; NaN for a broken one, its reason in `faults`."""

    rows: NDArray[np.intp]
    features: list[NDArray[np.floating]]
    faults: dict[int, str]


def extract(
    images: Images,
    rows: Sequence[int],
    networks: Sequence[Network],
    run: Callable[..., Iterator[Shard]],
    workers: int,
    advance: Callable[[int], object] = lambda n: None,
    dtype: type[np.floating] = np.float16,
    in_doubt: Callable[[Sequence[NDArray[np.floating]]], NDArray[np.bool_]] | None = None,
) -> Iterator[Shard]:
    """Yield the features of `rows` shard by shard, in order.

    `run` is an engine. Each worker decodes, resizes and infers a task by itself: all cores are busy from the first
    picture to the last without a queue between stages. `advance` is told of pictures done. `dtype` is the features'.
    `in_doubt` tells from the features of the networks so far which pictures the next one is asked about; of the others
    it has NaN.

    OpenVINO computes in threads of its own, one a worker, and while the system wakes one up its core would idle: 5 % of
    the time with a small network. Where all cores are ours, others decode meanwhile: two workers a core, not one.
    """
    if workers >= cores():
        workers *= 2
    largest = float(np.finfo(dtype).max)
    needed = max(network.card.shorter_side for network in networks)

    def work(task: Sequence[int]) -> Shard:
        faults: dict[int, str] = {}
        pictures: list[Any] = []
        for row in task:
            try:
                picture = images.open(row, needed)
            except PhylaError as fault:
                faults[row] = fault.message
                continue
            # A giant picture takes a GB, its views a few hundred KB; but a cascade does not ask for all.
            pictures.append(picture if in_doubt else [fit(picture, network.card) for network in networks])
        asked = np.flatnonzero([row not in faults for row in task])
        features: list[NDArray[np.floating]] = []
        for i, network in enumerate(networks):
            X = np.full((len(task), network.card.dim), np.nan, dtype)
            if len(asked):
                views = [fit(picture, network.card) if in_doubt else picture[i] for picture in pictures]
                X[asked] = network(np.stack(views)).clip(-largest, largest)
                for row in asked[np.isnan(X[asked]).any(1)].tolist():
                    faults[task[row]] = f"no numbers come of it from {network.card.name}"
            features.append(X)
            if in_doubt and len(features) < len(networks) and len(asked):
                goes_on = in_doubt([X[asked] for X in features])
                asked, pictures = asked[goes_on], [p for p, g in zip(pictures, goes_on, strict=True) if g]
        return Shard(np.array(task, np.intp), features, faults)

    tasks = (rows[i : i + TASK] for i in range(0, len(rows), TASK))
    done: list[Shard] = []
    for result in run(work, tasks, workers):
        advance(len(result.rows))
        done.append(result)
        if sum(len(d.rows) for d in done) == SHARD:
            yield _join(done)
            done = []
    if done:
        yield _join(done)


def _join(parts: list[Shard]) -> Shard:
    return Shard(
        np.concatenate([p.rows for p in parts]),
        [np.concatenate(columns) for columns in zip(*(p.features for p in parts), strict=True)],
        {row: reason for p in parts for row, reason in p.faults.items()},
    )
