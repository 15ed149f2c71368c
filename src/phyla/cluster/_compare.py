"""Networks, numbers of axes and methods, ranked without labels by the groups that they lead to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phyla import plugins
from phyla.cluster._spaces import TELLING

FEWEST = 20  # images: neighbours among fewer tell nothing
AXES = (16, 32, 64)  # of each network, beside all that there are
# By default: they need nothing but the images. `coupled`, `sela` and `turtle` together take 1.2 to 2.7 times as long as
# these, on `LABELLED`.
METHODS = ("gmm", "kmeans", "leiden", "p2ot", "spectral", "spherical_kmeans", "vmf", "vote")
RANKED_BY = "consensus"
# Spearman's correlation with accuracy (each class counts alike) over 128 ways, by benchmarks/compare.py: of each
# figure, and of the mean ranks of networks, axes and methods. Over eleven methods no mean of the ranks of two or three
# figures was more than 0.01 better than the consensus alone.
LABELLED = ("CIFAR-10", "CIFAR-10 with a long tail", "grocery photos")
WORTH = {
    "rankme": (0.33, 0.36, 0.55),
    "lidar": (0.24, 0.33, 0.56),
    "dimension": (0.22, 0.27, 0.49),
    "persistence": (-0.21, -0.39, -0.16),
    "svcca": (-0.34, -0.31, -0.49),
    "silhouette": (0.80, 0.33, 0.59),
    "consensus": (0.87, 0.31, 0.73),
}
MATCHED = {
    "ways": (0.87, 0.31, 0.73),
    "networks": (1.0, 0.8, 0.4),
    "axes": (0.8, 1.0, 0.63),
    "methods": (0.86, -0.05, 0.57),
}
# Rows judged. Rankings of two samples of CIFAR-10 correlate by 0.79; by 0.93 with 5,000, at nearly twice the time, and
# with one of 3,000 by 0.6 with 1,500.
_ROWS = 3_000
_PAIRWISE = 2_000  # rows for figures that hold all distances
_NEIGHBOURS = 10

Advance = Callable[[int], object]


class Way(NamedTuple):
    """One way of grouping: these spaces, this many leading axes of each, this method."""

    spaces: tuple[int, ...]
    axes: int
    method: str


def compare(
    X: NDArray[np.float32],
    blocks: Sequence[int],
    names: Sequence[str],
    n_clusters: int,
    scales: NDArray[np.float32],
    methods: Sequence[str] | None = None,
    *,
    random_state: int = 0,
    n_jobs: int = 1,
    progress: Callable[[int], AbstractContextManager[Advance]] = lambda total: nullcontext(lambda done: None),
) -> dict[str, Any]:
    """Rank all ways of grouping: each network and all of them, numbers of axes, methods.

    Each way groups the same rows, 3,000 at most, into as many groups.

    Parameters
    ----------
    X : (n, sum of blocks), the spaces side by side, most telling axis first. names : of the spaces.
    scales : (sum of blocks,), what whitening divided each axis by.
    methods : names of those to compare, by default `METHODS`.
    progress : total → a context that gives what is called with the number of rows just grouped.

    Returns
    -------
    dict : `images` judged, `groups`; `ways`, best first: `networks`, `axes`, `method`, `rank`, and the figures of
        `judge`; in `networks`, `axes` and `methods` a row for each, best first: `name`, `rank`, the mean of its ways',
        and `best`, that of its best way; `ranked_by`, the figure that ranks. How well that matches accuracy where
        labels are known, by Spearman's correlation on each collection of `labelled`: `worth`, of each figure, and
        `matched`, of the ranks of `ways`, `networks`, `axes` and `methods`.
    """
    rows = np.sort(np.random.default_rng(random_state).permutation(len(X))[:_ROWS])
    ways = ways_of(blocks, METHODS if methods is None else methods)
    with progress(len(ways) * len(rows)) as advance:
        figures, _ = judge(
            X[rows], blocks, ways, n_clusters, scales, random_state=random_state, n_jobs=n_jobs, advance=advance
        )
    table: list[dict[str, Any]] = [
        {"networks": [names[s] for s in way.spaces], "axes": way.axes, "method": way.method, "rank": rank} | found
        for way, rank, found in zip(ways, ranks(figures), figures, strict=True)
    ]
    return {
        "images": len(rows),
        "groups": n_clusters,
        "ways": sorted(table, key=lambda row: row["rank"]),
        "networks": means([" + ".join(row["networks"]) for row in table], table),
        "axes": means([str(row["axes"]) for row in table], table),
        "methods": means([row["method"] for row in table], table),
        "ranked_by": RANKED_BY,
        "labelled": list(LABELLED),
        "worth": {figure: list(each) for figure, each in WORTH.items()},
        "matched": {part: list(each) for part, each in MATCHED.items()},
    }


def ways_of(blocks: Sequence[int], methods: Sequence[str]) -> list[Way]:
    """Every network and all of them together, by every number of axes, by every method."""
    every, widest = tuple(range(len(blocks))), max(blocks)
    networks = list(dict.fromkeys([*((space,) for space in every), every]))
    return [Way(*way) for way in product(networks, sorted({min(a, widest) for a in (*AXES, widest)}), methods)]


def ranks(figures: Sequence[dict[str, float]]) -> list[float]:
    """The rank of each way: 1 is the best, and equals share their mean."""
    from scipy.stats import rankdata

    return rankdata([-round(row[RANKED_BY], 6) for row in figures]).tolist()


def means(names: Sequence[str], table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each different name the mean and the best rank of its rows, the best mean first."""
    found = {}
    for name in dict.fromkeys(names):
        own = [row["rank"] for other, row in zip(names, table, strict=True) if other == name]
        found[name] = {"name": name, "rank": round(float(np.mean(own)), 1), "best": min(own)}
    return sorted(found.values(), key=lambda row: row["rank"])


def judge(
    X: NDArray[np.float32],
    blocks: Sequence[int],
    ways: Sequence[Way],
    n_clusters: int,
    scales: NDArray[np.float32],
    *,
    random_state: int = 0,
    n_jobs: int = 1,
    advance: Advance = lambda done: None,
) -> tuple[list[dict[str, float]], list[NDArray[np.int32]]]:
    """The figures of each way of grouping X (n, sum of blocks), and its groups.

    Of the space: `rankme`, `lidar` (a class is an image with its nearest neighbours), `dimension`, `persistence`,
    `svcca`, how alike its networks are to the others. Of the groups: `silhouette`, in the leading axes of all networks,
    so that ways can be compared; `consensus`, with the groups of all other ways.
    """
    from threadpoolctl import threadpool_limits

    from phyla.cluster import _quality as quality
    from phyla.cluster._spaces import leading

    starts = np.cumsum(blocks) - blocks
    common = leading(X, blocks, TELLING)

    def columns(way: Way) -> NDArray[np.intp]:
        return np.concatenate([np.arange(starts[s], starts[s] + min(blocks[s], way.axes)) for s in way.spaces])

    spaces: dict[Any, dict[str, float]] = {}
    judged, groups = [], []
    with threadpool_limits(1):  # rounding must not depend on how many threads there are
        for way in ways:
            Z = np.ascontiguousarray(X[:, columns(way)])
            if way[:2] not in spaces:
                pairs = [(a, b) for a in way.spaces for b in range(len(blocks)) if a != b]
                alone = [X[:, columns(way._replace(spaces=(s,)))] for s in range(len(blocks))]
                alike = [quality.svcca(alone[a], alone[b]) for a, b in pairs]
                spaces[way[:2]] = _of_space(Z, scales[columns(way)], random_state, n_jobs)
                spaces[way[:2]] |= {"svcca": float(np.mean(alike)) if alike else 1.0}
            kind = plugins.load("cluster", way.method)
            method = kind(n_clusters, random_state=random_state, **kind.EFFORT.get("fast", {}))
            offered = {"blocks": tuple(min(blocks[s], way.axes) for s in way.spaces), "n_jobs": n_jobs}
            method.set_params(**{p: v for p, v in offered.items() if p in method.get_params()})
            labels = method.fit(Z).labels_
            judged.append(spaces[way[:2]] | {"silhouette": quality.silhouette(common, labels)})
            groups.append(labels)
            advance(len(X))
        for figures, agreed in zip(judged, quality.consensus(groups), strict=True):
            figures["consensus"] = agreed
    return judged, groups


def _of_space(Z: NDArray[np.float32], scales: NDArray[np.float32], random_state: int, n_jobs: int) -> dict[str, float]:
    """The figures of a space alone, whose axes whitening divided by `scales`."""
    from phyla.cluster import _quality as quality
    from phyla.neighbors import nearest_neighbors

    few = np.sort(np.random.default_rng(random_state).permutation(len(Z))[:_PAIRWISE])
    near = nearest_neighbors(Z, min(_NEIGHBOURS, len(Z) - 1), n_jobs=n_jobs)[0]
    classes = np.column_stack([np.arange(len(Z), dtype=np.int32), near])[few]
    return {
        "rankme": quality.rankme(Z * scales),
        "lidar": quality.lidar(Z[classes.ravel()], np.repeat(np.arange(len(few)), classes.shape[1])),
        "dimension": quality.intrinsic_dimension(Z, n_jobs=n_jobs),
        "persistence": quality.persistence(Z[few]),
    }
