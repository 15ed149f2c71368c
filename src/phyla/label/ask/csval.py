"""As many images of each group, those that are hardest to tell from their neighbours; a cold start without answers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.label.ask._rows import Asked, Neighbors, apart

__all__ = ["csval"]


def csval(
    n: int,
    rng: np.random.Generator,
    *,
    groups: NDArray[np.int32],
    labels: NDArray[np.int32],
    neighbors: Neighbors,
) -> Asked:
    """CSVAL (Chen et al., 2022): the groups stand for classes, and each gets the same number of questions.

    Within a group those come first that contrastive learning would tell apart worst: typical ones. Instead of training
    one, the chance that such a network takes a row for itself rather than for one of its neighbours is computed from
    their distances, in units of the collection's usual one. O(rows · k).
    """
    indices, distances = neighbors
    near = distances[np.isfinite(distances)]
    unit = max(float(np.median(near)), 1e-12) if near.size else 1.0
    like = np.exp(-np.square(distances / unit, dtype=np.float64)) * (groups[indices] == groups[:, None])
    hard = np.where(labels < 0, 1 - 1 / (1 + like.sum(1)), -np.inf)
    present = np.unique(groups)
    known = np.bincount(groups[labels >= 0], minlength=present.max() + 1)
    queues = [apart(np.where(groups == g, hard, -np.inf), n, neighbors) for g in present]
    # The k-th question of a group comes after its answers and the k − 1 before it; of equal ones that of few answers.
    turns = [(known[g] + k, g, row) for g, queue in zip(present, queues, strict=True) for k, row in enumerate(queue)]
    return [
        (row, f"hard to tell from others in group {g}, which has {turn} answers") for turn, g, row in sorted(turns)[:n]
    ]
