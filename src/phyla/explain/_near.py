"""The images that a picture is most like."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_PORTION = 1 << 16  # rows compared at a time


def nearest(x: NDArray[np.floating], X: NDArray[np.floating], n: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Numbers and distances of the n rows of X (m, d) nearest to x (d,), nearest first; of all if m is less. O(m·d).

    Shown as pictures with their distances, images of the class are its prototypes (Li and others, 2018, learn theirs;
    a person's confirmed ones need no decoder), and those of other classes counter-examples.
    """
    x = np.asarray(x, np.float32)
    away = [
        np.linalg.norm(X[start : start + _PORTION].astype(np.float32) - x, axis=1)
        for start in range(0, len(X), _PORTION)
    ]
    distance = np.concatenate([np.zeros(0, np.float32), *away]).astype(np.float32)
    order = np.argsort(distance, kind="stable")[:n]
    return order, distance[order]
