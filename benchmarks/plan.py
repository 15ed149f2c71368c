"""The plan for a billion images, simulated: how long W workers take, and what merging their sums takes of the driver.

    python benchmarks/plan.py [--images 1000000000]

As the engines work: shards are handed out in order, to whoever is free, but none before all up to the `window`-th
before it are done, for results are taken in order. A shard takes its images' CPU time, more or less (pictures differ),
over the speed of its worker; a lost worker's shard is begun anew by the next, and a new worker comes some minutes
later. On one core this takes 16 s. Seeds are fixed. `tests/engine/test_plan.py` compares it with the engines.
"""

from __future__ import annotations

import argparse
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

SHARD = 2048  # images, as `backbones.extract` cuts them
SECONDS = 0.029  # of CPU an image of one megapixel: read and decoded 2.6 ms, resized 2.0, three networks 23.7
UNLIKE = 0.15  # standard deviation of log(seconds) between shards
WINDOW = 4  # shards in flight for each worker, as in engine/local.py and engine/ray.py
RETURN = 300.0  # seconds until a lost worker is replaced
DOUBLE, WIDE = 8, 1280  # bytes; features of a network
SUMMED, MERGE, SENT = 1 << 16, 0.016, 1e9  # rows a sum is of; seconds to merge two sums; bytes a second to the driver


def makespan(
    work: NDArray[np.float64],
    speed: NDArray[np.float64],
    window: int,
    begins: NDArray[np.float64] | None = None,
    losses: float = 0.0,
    seed: int = 0,
) -> float:
    """Seconds until all of `work` (shards,), in seconds, is done by workers of `speed` (w,).

    window : shards in flight in all. begins : when each worker joins. losses : of each worker, a second.
    """
    rng = np.random.default_rng(seed)
    starts = np.zeros(len(speed)) if begins is None else begins
    free = [(float(at), worker) for worker, at in enumerate(starts)]
    heapify(free)
    lost = starts + (rng.exponential(1 / losses, len(speed)) if losses else np.inf)
    taken = np.zeros(len(work))  # when each and all before it are done
    for number, seconds in enumerate(work.tolist()):
        ready = taken[number - window] if number >= window else 0.0
        while True:
            at, worker = heappop(free)
            begun = max(at, ready)
            done = begun + seconds / speed[worker]
            if done <= lost[worker]:
                heappush(free, (done, worker))
                break
            ready = max(begun, lost[worker])  # what was in hand is to be done anew
            heappush(free, (ready + RETURN, worker))
            lost[worker] = ready + RETURN + rng.exponential(1 / losses)
        taken[number] = max(done, taken[number - 1] if number else 0.0)
    return float(taken[-1])


def reducing(images: int, workers: int, fan: int) -> tuple[float, float]:
    """Seconds of the driver, and bytes in its memory, to merge one network's sums; `fan` of them by a worker first.

    fan = 1 : all sums come to the driver. Whatever the fan, sums are merged in an order that depends on nothing else.
    """
    size = DOUBLE * WIDE**2
    sums = -(-images // (SUMMED * fan))
    return sums * (MERGE + size / SENT), size * (WINDOW * workers + 1 if fan == 1 else min(sums, WINDOW * workers) + 1)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--images", type=int, default=10**9)
    images = arguments.parse_args().images
    rng = np.random.default_rng(0)
    shards = -(-images // SHARD)
    work = SHARD * SECONDS * np.exp(rng.normal(-(UNLIKE**2) / 2, UNLIKE, shards))
    print(f"{images:,} images, {shards:,} shards, {work.sum() / 3600:,.0f} core hours")
    for workers in (100, 1_000, 10_000):
        even = np.ones(workers)
        uneven = np.exp(rng.normal(0, 0.1, workers))
        slow, stuck = uneven.copy(), uneven.copy()
        slow[::20] /= 2  # one in twenty
        stuck[0] /= 20  # one of all
        late = np.where(np.arange(workers) % 2, rng.uniform(0, 3600, workers), 0)
        day = 1 / 86_400
        cases = {
            "all alike": (even, WINDOW, None, 0),
            "uneven by a tenth": (uneven, WINDOW, None, 0),
            "one in twenty at half speed": (slow, WINDOW, None, 0),
            "one worker 20 times slower": (stuck, WINDOW, None, 0),
            "the same, 32 shards in flight a worker": (stuck, 32, None, 0),
            "each lost once a day": (uneven, WINDOW, None, day),
            "each lost once in two hours": (uneven, WINDOW, None, 12 * day),
            "half of them join within an hour": (uneven, WINDOW, late, 0),
        }
        for what, (speed, window, begins, losses) in cases.items():
            took = makespan(work, speed, window * workers, begins, losses) / 3600
            ideal = work.sum() / speed.sum() / 3600
            print(f"{workers:6,} workers, {what:40} {took:8.2f} h, ideal {ideal:8.2f} h, {took / ideal:.3f}")
        for fan in (1, 64):
            seconds, held = reducing(images, workers, fan)
            print(f"{workers:6,} workers, sums merged by {fan:2}: {seconds:6.0f} s a network, {held / 1e9:6.2f} GB")


if __name__ == "__main__":
    main()
