"""Should groups be split further? Whether two halves of each are more real than those of a Gaussian of its shape."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._lloyd import in_parallel, kmeans, lloyd, nearest, seeds

# Of the labels (runs, judged rows) of runs into so many groups: how well they agree.
Agreement = Callable[[NDArray[np.int32], int], float]

_ROWS, _SHARE, _JUDGED = 2_857, 0.7, 1_000  # rows looked at, the share of them a run is fitted to, rows compared on
# Controls for a number, and runs on each. At 38 groups of 1,164 photos one differs from the next by 0.011 with 4 runs
# and by 0.013 with 8, so more controls tell more than more runs.
_TIMES, _RUNS, _ITERATIONS = 3, 4, 10
_RESTARTS = 3  # of the k-means whose groups are tested
_SURE = 1.0  # standard errors


def excess(
    X: NDArray[np.float32], numbers: list[int], agreement: Agreement, rng: np.random.Generator, n_jobs: int = 1
) -> NDArray[np.float64]:
    """For each of `numbers`, how much better runs into twice as many groups agree than if each group were a Gaussian.

    Rows of X (n, d) are put into k groups, and every group is replaced by as many rows from a Gaussian of its mean and
    covariance (the parametric bootstrap of McLachlan, 1987). Into 2·k groups the runs must cut such groups somewhere,
    and they agree as far as its longest axes tell them where. If the real groups are mixtures of two the runs agree
    better there: above 0, split; below 0, of two such halves merge. A single group of 28 images in 96 axes tells too
    little by itself: two halves of one class looked no less separate than two classes. Together they do.
    """
    size = min(len(X), _ROWS)
    rows = np.ascontiguousarray(X[np.sort(rng.choice(len(X), size, replace=False))])
    judged = np.sort(rng.choice(size, min(_JUDGED, size), replace=False))

    def agreed(Z: NDArray[np.float32], k: int, own: np.random.Generator) -> float:
        labels = []
        for _ in range(_RUNS):
            sample = Z[own.choice(size, max(k, int(_SHARE * size)), replace=False)]
            labels.append(nearest(Z[judged], lloyd(sample, seeds(sample, k, own), _ITERATIONS)[1])[1][:, 0])
        return agreement(np.stack(labels), k)

    def one(task: tuple[int, np.random.Generator]) -> float:
        k, own = task
        labels = nearest(rows, kmeans(rows, k, own, _RESTARTS, _ITERATIONS))[1][:, 0]
        luck = int(own.integers(2**32))  # the same rows and draws for both: much of it cancels
        alike = gaussians(rows, labels, own)
        return agreed(rows, 2 * k, np.random.default_rng(luck)) - agreed(alike, 2 * k, np.random.default_rng(luck))

    tasks = list(zip(numbers * _TIMES, rng.spawn(len(numbers) * _TIMES), strict=True))
    return np.array(in_parallel(one, tasks, n_jobs)).reshape(_TIMES, -1).mean(0)


def gaussians(X: NDArray[np.float32], labels: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Rows (n, d) drawn from a Gaussian for each group, with its mean and covariance. O(n²/groups · d)."""
    drawn = np.empty_like(X)
    for group in np.unique(labels):
        of = np.flatnonzero(labels == group)
        centre = X[of].mean(0)
        # Sums of the group's deviations with normal weights have their covariance; it need not be formed.
        weights = rng.standard_normal((len(of), len(of)), np.float32) / np.float32(np.sqrt(len(of)))
        drawn[of] = centre + weights @ (X[of] - centre)
    return drawn


def crossing(numbers: NDArray[np.float64], excesses: NDArray[np.float64]) -> int:
    """The first of the increasing `numbers`; or if its groups must surely be split, the number where that ends.

    A straight line over log number: single numbers differ too much by luck. Never more than the last.
    """
    first, last = int(numbers[0]), int(numbers[-1])
    if len(numbers) < 4:
        return first
    growth = np.column_stack([np.ones(len(numbers)), np.log(numbers / first)])
    line, *_ = np.linalg.lstsq(growth, excesses)
    left = excesses - growth @ line
    error = np.sqrt(left @ left / (len(numbers) - 2) * np.linalg.inv(growth.T @ growth)[0, 0])
    if line[0] <= _SURE * error:
        return first
    return min(round(first * float(np.exp(-line[0] / line[1]))), last) if line[1] < 0 else last
