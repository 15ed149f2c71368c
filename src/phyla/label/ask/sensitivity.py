"""The centre of each cell of similar images, then images drawn more often the further out; the mean is then bounded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.label.ask._rows import Asked, cells, in_each

__all__ = ["sensitivity"]

_CENTRES = 0.2  # share of the questions spent on centres; the bound falls with the draws


def sensitivity(
    n: int,
    rng: np.random.Generator,
    *,
    X: NDArray[np.float32],
    labels: NDArray[np.int32],
    proba: NDArray[np.float32] | None = None,
) -> Asked:
    """Clustering-based sensitivity sampling (Axiotis et al., 2024): a fifth of n are nearest to centres, others drawn.

    A row is drawn as often as its distance to its centre, and what is expected to be lost there, ask for. The mean loss
    of the drawn, weighted by 1 / (rows · chance), is that of all rows within ε times it and ε · λ · Φ, for 1 / ε² draws
    of a loss that changes by λ a unit of squared distance; Φ is the mean squared distance to the centres.
    The reason states how many images a drawn one stands for. O(rows · n · d).
    """
    open_ = np.where(labels < 0, 0.0, -np.inf)
    n = min(n, int((labels < 0).sum()))
    k = max(1, round(_CENTRES * n))
    cell, centers = cells(X, k, rng)
    squared = np.square(X - centers[cell]).sum(1, dtype=np.float64)
    chance = chances(squared, cell, None if proba is None else 1 - proba.max(1))
    size = np.bincount(cell)
    first = in_each(open_ - squared, cell, np.argsort(-size, kind="stable"))[:n]
    asked = [(row, f"at the centre of {size[cell[row]]} similar images") for row in first]
    # The order of log(chance) + Gumbel noise is that of draws without replacement.
    key = np.log(np.maximum(chance, 1e-300)) + rng.gumbel(size=len(X)) + open_
    key[first] = -np.inf
    drawn = np.argsort(-key, kind="stable")[: n - len(first)]
    return asked + [(int(r), f"drawn to stand for {1 / (len(drawn) * chance[r]):.3g} images") for r in drawn]


def chances(
    squared: NDArray[np.float64], cell: NDArray[np.int32], loss: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """(n,), sum 1: what is lost at a row's centre, plus λ times its squared distance to it, as a share of all.

    `loss` (n,), where known, gives both: its mean in the cell, and for λ its total over that of the distances. Without
    it all centres lose alike, as much as the mean row adds.
    """
    total = squared.sum()
    if loss is None:
        at_centre, rate = np.ones(len(cell)), len(cell) / total if total else 0.0
    else:
        size = np.maximum(np.bincount(cell), 1)
        at_centre = (np.bincount(cell, loss) / size)[cell] + 1e-6
        rate = float(loss.sum()) / total if total else 0.0
    chance = at_centre + rate * squared
    return chance / chance.sum()
