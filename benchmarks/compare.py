"""How far `phyla compare` can be trusted: its ranking, made without labels, against accuracy.

    python benchmarks/compare.py PROJECTS [--methods kmeans,vote]

Three collections with labels: CIFAR-10, the same with a long tail (100 : 1), and the grocery photos, each told its
number of classes. Every way of grouping that `phyla compare` tries is judged as it does, and has its accuracy, in which
each class counts alike. Told is Spearman's correlation of each figure with accuracy over all ways (those of a space are
the same for all its methods), and of the mean ranks of networks, axes and methods with their mean accuracies: what
`WORTH` and `MATCHED` in cluster/_compare.py hold.
Features are kept in the folder PROJECTS (`benchmarks/accuracy.py` uses the same), so a second run only groups.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
from _data import need
from scipy.optimize import linear_sum_assignment
from scipy.stats import spearmanr

from phyla._steps import limited
from phyla.cluster._compare import METHODS, RANKED_BY, judge, ranks, ways_of
from phyla.engine import cores
from phyla.project import Project
from phyla.reduce.pca import PCA

ROWS = 3_000


def long_tail(truth: np.ndarray) -> np.ndarray:
    """Rows with 1, …, 1/100 of the classes' images, falling evenly in the logarithm."""
    rng = np.random.default_rng(0)
    classes, sizes = np.unique(truth, return_counts=True)
    kept = [rng.permutation(np.flatnonzero(truth == c))[: int(size * 100 ** (-i / (len(classes) - 1)))]
            for i, (c, size) in enumerate(zip(classes, sizes, strict=True))]  # fmt: skip
    return np.sort(np.concatenate(kept))


def features(project: Project) -> list[np.ndarray]:
    """Of each network, the leading axes of the project, as long as they were."""
    found = [[project._array(stage, name) for name in ("X", "explained_variance_")]
             for stage in project._current("reduced")]  # fmt: skip
    return [X * np.sqrt(variance) for X, variance in found]


def collections(folder: Path) -> Iterator[tuple[str, list[np.ndarray], np.ndarray]]:
    """Name, each network's features, and labels."""
    cifar = Project(folder / "cifar.phyla", create=True)
    cifar.sort(need("cifar10-train.parquet"), groups=10, method="kmeans", report=False, quiet=False)
    known = cifar._source.labels()
    truth = np.array([known[uri] for uri in cifar.images.uris])
    yield "CIFAR-10", features(cifar), truth
    tail = long_tail(truth)
    yield "CIFAR-10 with a long tail", [X[tail] for X in features(cifar)], truth[tail]
    photos = Project(folder / "grocery.phyla", create=True)
    photos.sort(need("grocery-photos.zip"), groups=43, method="kmeans", report=False, quiet=False)
    yield "grocery photos", features(photos), np.array([uri.rsplit("/", 2)[-2] for uri in photos.images.uris])


def balanced_accuracy(labels: np.ndarray, truth: np.ndarray) -> float:
    """The mean over classes of the share in the class's group, by the best one-to-one match."""
    _, group = np.unique(labels, return_inverse=True)
    _, true, sizes = np.unique(truth, return_inverse=True, return_counts=True)
    share = np.zeros((group.max() + 1, len(sizes)))
    np.add.at(share, (group, true), 1 / sizes[true])
    return float(share[linear_sum_assignment(share, maximize=True)].sum() / len(sizes))


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--methods", help="with commas; by default those of phyla compare")
    args = arguments.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    methods = args.methods.split(",") if args.methods else list(METHODS)
    worth: dict[str, list[float]] = {}
    matched: dict[str, list[float]] = {}
    for name, spaces, truth in collections(args.folder):
        rows = np.sort(np.random.default_rng(0).permutation(len(truth))[:ROWS])
        models = [PCA(X.shape[1]).fit(X) for X in spaces]  # of this collection alone: the tail is a part of another
        X = np.hstack([model.transform(X[rows]) for model, X in zip(models, spaces, strict=True)])
        scales = np.sqrt(np.concatenate([model.explained_variance_ for model in models]))
        blocks = [X.shape[1] for X in spaces]
        ways, started = ways_of(blocks, methods), perf_counter()
        with limited(cores()):
            figures, groups = judge(X, blocks, ways, len(np.unique(truth)), scales, n_jobs=cores())
        seconds = perf_counter() - started
        accuracy = np.array([balanced_accuracy(labels, truth[rows]) for labels in groups])
        rank = np.array(ranks(figures))
        first = accuracy[rank == rank.min()].mean()
        print(
            f"{name}: {len(ways)} ways judged in {seconds:.0f} s; accuracy {accuracy.min():.3f} to "
            f"{accuracy.max():.3f}, mean {accuracy.mean():.3f}, first in rank {first:.3f}",
            flush=True,
        )
        for figure in figures[0]:
            worth.setdefault(figure, []).append(spearmanr([row[figure] for row in figures], accuracy)[0])
        matched.setdefault("ways", []).append(spearmanr(-rank, accuracy)[0])
        for part, of in (("networks", 0), ("axes", 1), ("methods", 2)):
            names = list(dict.fromkeys(way[of] for way in ways))
            own = [np.array([way[of] == name for way in ways]) for name in names]
            means = [(-rank[mask].mean(), accuracy[mask].mean()) for mask in own]
            matched.setdefault(part, []).append(spearmanr(*zip(*means, strict=True))[0])
            for name, (minus, right) in sorted(zip(names, means, strict=True), key=lambda row: -row[1][0]):
                print(f"  {part:10}{name!s:20} mean rank {-minus:6.1f}, mean accuracy {right:.3f}")
    for what, table in (("WORTH", worth), ("MATCHED", matched)):
        print(what, {name: tuple(np.round(each, 2).tolist()) for name, each in table.items()})
    print(f"ranked by {RANKED_BY}")


if __name__ == "__main__":
    main()
