"""Pictures in, one feature matrix a network out: every picture is read and decoded once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

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
) -> Iterator[Shard]:
    """Yield the features of `rows` shard by shard, in order.

    `run` is an engine. Each worker decodes, resizes and infers a task by itself: all cores are busy from the first
    picture to the last without a queue between stages. `advance` is told of pictures done. `dtype` is the features'.

    OpenVINO computes in threads of its own, one a worker, and while the system wakes one up its core would idle: 5 % of
    the time with a small network. Where all cores are ours, others decode meanwhile: two workers a core, not one.
    """
    if workers >= cores():
        workers *= 2
    largest = float(np.finfo(dtype).max)
    needed = max(network.card.shorter_side for network in networks)

    def work(task: Sequence[int]) -> Shard:
        inputs = [np.empty((len(task), n.card.size, n.card.size, 3), np.uint8) for n in networks]
        faults: dict[int, str] = {}
        good = 0
        for row in task:
            try:
                picture = images.open(row, needed)
            except PhylaError as fault:
                faults[row] = fault.message
                continue
            for network, pictures in zip(networks, inputs, strict=True):
                fit(picture, network.card, pictures[good])
            good += 1
        is_good = np.array([row not in faults for row in task])
        features = []
        for network, pictures in zip(networks, inputs, strict=True):
            X = np.full((len(task), network.card.dim), np.nan, dtype)
            if good:
                X[is_good] = network(pictures[:good]).clip(-largest, largest)
            features.append(X)
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
