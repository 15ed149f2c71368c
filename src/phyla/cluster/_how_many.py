"""How many groups: the number at which independent runs agree best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._lloyd import in_parallel, kmeans, nearest

_RUNS = 8
_SAMPLE, _JUDGED = 5_000, 1_000  # rows a run is fitted to, and rows the runs are compared on
_ITERATIONS = 10  # of each run: the rows that still move after that are too few to change how two runs agree
_MOST = 128
_STEP = 1.35  # from one number of the grid to the next
_ROWS_A_GROUP = 10  # smaller groups than this can't be told from chance by subsamples of the rows


def how_many(X: NDArray[np.float32], rng: np.random.Generator, n_jobs: int = 1) -> tuple[int, NDArray[np.float64]]:
    """The number of groups in X (n, d), and the evidence: rows of (number, stability).

    Stability (Lange et al., 2004): k-means runs on different subsamples label the same held rows; their mean adjusted
    mutual information, which is 0 for agreement by chance whatever the number, is highest where the groups are
    those of the data. A coarse geometric grid first, then its best neighbourhood; a tie goes to the smaller number.
    """
    most = min(_MOST, len(X) // _ROWS_A_GROUP)
    if most < 2:
        return 1, np.array([[1.0, 1.0]])
    judged = X[np.sort(rng.choice(len(X), min(_JUDGED, len(X)), replace=False))]
    found: dict[int, float] = {}

    def judge(numbers: set[int]) -> None:
        for k in sorted(numbers - found.keys()):
            found[k] = _stability(X, judged, k, rng, n_jobs)

    steps = 1 + int(np.ceil(np.log(most / 2) / np.log(_STEP)))
    judge(set(np.geomspace(2, most, steps).round().astype(int).tolist()))
    best = max(found, key=found.__getitem__)
    below, above = max([k for k in found if k < best] or [best]), min([k for k in found if k > best] or [best])
    judge(set(np.linspace(below, above, 9).round().astype(int).tolist()))
    numbers = np.array(sorted(found))
    smooth = _smooth(numbers, np.array([found[k] for k in numbers]))
    return int(numbers[smooth.argmax()]), np.column_stack([numbers, smooth])


def _stability(
    X: NDArray[np.float32], judged: NDArray[np.float32], k: int, rng: np.random.Generator, n_jobs: int
) -> float:
    from sklearn.metrics import adjusted_mutual_info_score

    size = max(k, min(_SAMPLE, int(0.7 * len(X))))

    def labels_of(own: np.random.Generator) -> NDArray[np.int32]:
        sample = np.ascontiguousarray(X[own.choice(len(X), size, replace=False)])
        return nearest(judged, kmeans(sample, k, own, 2, _ITERATIONS))[1][:, 0]

    labels = in_parallel(labels_of, rng.spawn(_RUNS), n_jobs)
    return float(np.mean([adjusted_mutual_info_score(a, b) for i, a in enumerate(labels) for b in labels[:i]]))


def _smooth(numbers: NDArray[np.int_], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each value averaged with its neighbours, nearer ones (in log number) weighing more: one lucky run doesn't win."""
    apart = np.log(numbers)[:, None] - np.log(numbers)[None]
    weights = np.exp(-0.5 * (apart / 0.08) ** 2)
    return (weights * values).sum(1) / weights.sum(1)
