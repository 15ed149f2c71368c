"""Cheap networks first: only images near a decision boundary go on to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_TRIED = 25  # windows of each stage that are tried, by the share of images within; all stages' together up to the next
_MOST = 20_000
# Of the share right: what a cascade without a budget may lose against asking all networks, and what is taken for alike.
_LOSS = 0.001


@dataclass(frozen=True)
class Cascade:
    """When to stop asking (window-based early-exit cascades: Xia and Bouganis, 2023).

    windows : (stages − 1,); an image goes on while the two likeliest classes lie within the window of each other.
    cost : mean cost of an image, as a share of that of all stages. right : the share that is right, as the teacher sees
    it; right_of_all : of all stages together. share : (stages,) of the images that each stage is asked about.
    """

    windows: tuple[float, ...]
    cost: float
    right: float
    right_of_all: float
    share: tuple[float, ...]


def together(probabilities: Sequence[Array]) -> Array:
    """(n, c): what several stages say, as the mean of their logarithms."""
    mean = np.mean([np.log(np.maximum(p, 1e-9)) for p in probabilities], axis=0)
    share: Array = np.exp(mean - mean.max(1, keepdims=True)).astype(np.float32)
    return share / share.sum(1, keepdims=True)


def gap(probability: Array) -> Array:
    """(n,): by how much the likeliest class is likelier than the next."""
    if probability.shape[1] < 2:
        return np.ones(len(probability), np.float32)
    two = np.partition(probability, -2, axis=1)[:, -2:]
    away: Array = two[:, 1] - two[:, 0]
    return away


def windows(
    stages: Sequence[Array], worth: Array, costs: Sequence[float], budget: float | None = None
) -> tuple[Cascade, list[tuple[float, float]]]:
    """The best windows for a budget, and what each budget buys: (cost, right), cheapest first.

    EERO (Valade and others, 2024) spreads a budget over exits by weights fitted to it; here all windows of a grid are
    tried on images that nobody has learnt from, which for three networks takes a second.

    Parameters
    ----------
    stages : (m, c) of each network alone, in the order in which they are asked. worth : (m, c), how probably each class
        is right, as the teacher sees it. costs : of each network. budget : a share of what all cost together, or None:
        the least at which no more than a thousandth is lost against asking all.
    """
    share_of = np.asarray(costs, float) / np.sum(costs)
    rows = np.arange(len(worth))
    said = [together(stages[: i + 1]) for i in range(len(stages))]
    right = np.stack([worth[rows, p.argmax(1)] for p in said])
    gaps = np.stack([gap(p) for p in said[:-1]]) if len(stages) > 1 else np.zeros((0, len(worth)))
    tried = min(_TRIED, int(_MOST ** (1 / max(len(gaps), 1))))
    # Of each stage's gaps some quantiles; 0 stops every image, 1 lets every image through but the surest.
    marks = [np.r_[0.0, np.quantile(g, np.linspace(0, 1, tried)[1:-1]), 1.0 + 1e-6] for g in gaps]
    found = []
    for chosen in product(*marks):
        goes_on = np.ones(len(worth), bool)
        cost, gained, shares = share_of[0], right[0].copy(), [1.0]
        for stage, window in enumerate(chosen):
            goes_on = goes_on & (gaps[stage] < window)
            gained[goes_on] = right[stage + 1][goes_on]
            shares.append(float(goes_on.mean()))
            cost += share_of[stage + 1] * shares[-1]
        found.append((float(cost), float(gained.mean()), chosen, shares))
    found.sort(key=lambda one: (one[0], -one[1]))
    of_all = float(right[-1].mean())
    if budget is None:
        best = next(one for one in found if one[1] >= of_all - _LOSS)
    else:
        paid = [one for one in found if one[0] <= max(budget, share_of[0]) + 1e-9]
        # What the images can't tell apart the budget decides: asking more is no worse.
        most = max(one[1] for one in paid)
        best = max((one for one in paid if one[1] >= most - _LOSS), key=lambda one: (one[0], one[1]))
    curve: list[tuple[float, float]] = []
    for cost, gained, _, _ in found:
        if not curve or gained > curve[-1][1]:
            curve.append((cost, gained))
    return Cascade(tuple(map(float, best[2])), best[0], best[1], of_all, tuple(best[3])), curve
