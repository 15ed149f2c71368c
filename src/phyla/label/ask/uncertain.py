"""The images whose two likeliest classes are close, one of each kind; for when every group has an answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phyla.label.ask._rows import Asked, between, cells, directions, highest, in_each, margins

__all__ = ["uncertain"]

# Share of the images that are unsure enough, and at least so many for each question: twenty for each are as good on
# CIFAR-10 for 250 questions, and too narrow for 40.
_SHARE, _POOL = 0.1, 5


def uncertain(
    n: int,
    rng: np.random.Generator,
    *,
    X: NDArray[np.float32],
    labels: NDArray[np.int32],
    proba: NDArray[np.float32],
    classes: Sequence[str],
) -> Asked:
    """Of the tenth of the rows with the smallest margin, grouped into n cells, the middle of each (Zhdanov, 2019).

    Those of smallest margin alone lie side by side on one border. O(rows · c + n² · d).
    """
    doubt = np.where(labels < 0, -margins(proba), -np.inf)
    return [(row, between(proba, row, classes)) for row in one_of_each_kind(doubt, n, X, rng)]


def one_of_each_kind(
    doubt: NDArray[np.floating], n: int, X: NDArray[np.float32], rng: np.random.Generator
) -> list[int]:
    """Up to n rows of high doubt (−inf: not to be asked) that lie in different cells of X, most doubtful first."""
    pool = np.array(highest(doubt, max(_POOL * n, int(_SHARE * len(X)))), int)
    if len(pool) <= n or not n:
        return pool[:n].tolist()
    view = directions(X[pool])
    cell, centers = cells(view, n, rng)
    chosen = pool[in_each(-np.square(view - centers[cell]).sum(1), cell, np.arange(len(centers)))]
    left = doubt.copy()
    left[chosen] = -np.inf  # cells of equal images may be empty
    chosen = np.append(chosen, np.array(highest(left, n - len(chosen)), int))
    return [int(row) for row in chosen[np.argsort(-doubt[chosen], kind="stable")]]
