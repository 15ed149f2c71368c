"""The most typical image of each kind of which nothing is known; for the first answers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.label.ask._rows import Asked, Neighbors, cells, in_each, typicality

__all__ = ["typical"]

_MOST = 500  # cells: more hold too few images to tell which is typical (the paper's)
_LATER = 1e-6  # of its score, for an image beside one that is asked about: only when there is no other


def typical(
    n: int,
    rng: np.random.Generator,
    *,
    X: NDArray[np.float32],
    groups: NDArray[np.int32],
    labels: NDArray[np.int32],
    neighbors: Neighbors,
) -> Asked:
    """TypiClust (Hacohen, Dekel and Weinshall, 2022): as many cells as answers there will be, and of each one image.

    The cells are the groups while these suffice, k-means of X beyond. Cells of fewest answers come first, the largest
    first among them; where that does not suffice, further typical images of the same cells. O(rows · cells · d).
    """
    answered = labels >= 0
    budget = min(n + int(answered.sum()), len(labels))
    whole = budget <= np.unique(groups).size
    cell = groups if whole else cells(X, min(budget, _MOST), rng)[0]
    score = np.where(answered, -np.inf, typicality(neighbors, cell))
    size, known = np.bincount(cell), np.bincount(cell[answered], minlength=cell.max() + 1)
    asked: Asked = []
    while len(asked) < n and (size > known).any():
        least = np.flatnonzero((size > known) & (known == known[size > known].min()))
        rows = in_each(score, cell, least[np.argsort(-size[least], kind="stable")])[: n - len(asked)]
        for row in rows:
            kind = f"group {cell[row]}" if whole else f"{size[cell[row]]} similar images"
            so_far = f"{known[cell[row]]} answered" if known[cell[row]] else "nothing is known"
            asked.append((row, f"the most typical of {kind}, of which {so_far}"))
        score[neighbors[0][rows]] *= _LATER
        score[rows] = -np.inf
        known[cell[rows]] += 1
    return asked
