"""Searching by examples: the share of the first 20 found that show their class, by way of combining 1, 3 or 10 of them.

    python benchmarks/examples.py PROJECTS [--trials 100]

PROJECTS is the folder of `accuracy.py`, in which `methods.py` has left cifar.npz, tail.npz and photos.npz: three
networks, 256 whitened axes each, and the classes. Each trial draws a class and its examples; classes with too few
images are drawn again. Of the two long sets 12,000 rows are searched. Second table: one or three wrong finds are given
back as what to avoid, and do not count any more.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from phyla._searching import _unit as unit
from phyla.cluster import leading

ROWS, FIRST, OTHERS = 12_000, 20, 1000
AVOID = (0, 0.15, 0.25, 0.5, 1)


def ways(X: np.ndarray, some: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Way → how much each row is like the examples `some`."""
    from sklearn.linear_model import LogisticRegression

    told = {}
    for width in (32, 64, 256):
        U = unit(leading(X, (256,) * 3, width))
        told[f"mean direction, {width} axes a network"] = U @ U[some].mean(0)
        if width == 32:
            near = leading(X, (256,) * 3, 32)
            told["mean, by distance, 32 axes"] = -((near - near[some].mean(0)) ** 2).sum(1)
        if width != 64:
            continue
        each = U @ U[some].T
        told["the nearest example counts"] = each.max(1)
        told["sum of exp(4 cos)"] = np.exp(4 * each).sum(1)
        places = np.argsort(np.argsort(-each, axis=0), axis=0)
        told["reciprocal ranks"] = (1 / (60 + places)).sum(1)
        others = rng.choice(len(X), min(OTHERS, len(X) // 2), replace=False)
        rows, is_one = np.r_[some, others], np.r_[np.ones(len(some)), np.zeros(len(others))]
        for strength in (0.1, 1):
            probe = LogisticRegression(C=strength, class_weight="balanced", max_iter=200).fit(U[rows], is_one)
            told[f"probe against {OTHERS:,} others, C = {strength}"] = probe.decision_function(U)
    return told


def first(alike: np.ndarray, but: np.ndarray, n: int) -> np.ndarray:
    alike = alike.copy()
    alike[but] = -np.inf
    return np.argsort(-alike, kind="stable")[:n]


def draw(y: np.ndarray, m: int, rng: np.random.Generator) -> tuple[int, np.ndarray, int]:
    """A class, m of its images, and how many are asked for."""
    while True:
        code = rng.choice(np.unique(y))
        if len(members := np.flatnonzero(y == code)) >= m + 5:
            return code, rng.choice(members, m, replace=False), min(FIRST, len(members) - m)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("projects", type=Path)
    arguments.add_argument("--trials", type=int, default=100)
    args = arguments.parse_args()
    for name in ("cifar", "tail", "photos"):
        held = np.load(args.projects / f"{name}.npz")
        rng = np.random.default_rng(0)
        some = np.sort(rng.permutation(len(held["y"]))[:ROWS])
        X, y = held["X"][some].astype(np.float32), held["y"][some]
        shares: dict[str, list[float]] = {}
        for m in (1, 3, 10):
            of: dict[str, list[float]] = {}
            for _ in range(args.trials):
                code, examples, n = draw(y, m, rng)
                for way, alike in ways(X, examples, rng).items():
                    of.setdefault(way, []).append(float((y[first(alike, examples, n)] == code).mean()))
            for way, each in of.items():
                shares.setdefault(way, []).append(float(np.mean(each)))
        print(f"\n{name}: 1, 3, 10 examples")
        for way, each in shares.items():
            print(f"  {way:42}", *(f"{share:.3f}" for share in each), flush=True)
        U = unit(leading(X, (256,) * 3, 64))
        for m, wrong in ((1, 1), (1, 3), (3, 1), (3, 3)):
            found: list[list[float]] = []
            for _ in range(3 * args.trials):
                code, examples, n = draw(y, m, rng)
                query = unit(U[examples].mean(0))
                seen = first(U @ query, examples, 30)
                if len(avoided := seen[y[seen] != code][:wrong]) < wrong:
                    continue
                away = unit(U[avoided].mean(0))
                but = np.r_[examples, avoided]
                found.append([float((y[first(U @ (query - a * away), but, n)] == code).mean()) for a in AVOID])
            means = ", ".join(f"{a}: {share:.3f}" for a, share in zip(AVOID, np.mean(found, axis=0), strict=True))
            print(f"  {m} like, {wrong} wrong given back ({len(found)} trials): {means}", flush=True)


if __name__ == "__main__":
    main()
