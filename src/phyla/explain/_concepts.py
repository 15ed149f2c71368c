"""Which learned features (sparse codes) tell two sets of images apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def apart(A: NDArray[np.floating], B: NDArray[np.floating]) -> NDArray[np.float64]:
    """(h,): of codes A (a, h) and B (b, h), how surely each unit is more active in A: the AUROC, 0..1, ½ by chance.

    The share of pairs of an image of each set of which that of A has the higher activation, half of those that are
    alike. One sort a unit: O((a + b) log (a + b) · h).
    """
    from scipy.stats import rankdata

    if not len(A) or not len(B):
        return np.full(A.shape[1], 0.5)
    ranks = rankdata(np.concatenate([A, B]), axis=0)[: len(A)]
    share: NDArray[np.float64] = (ranks.sum(0) - len(A) * (len(A) + 1) / 2) / (len(A) * len(B))
    return share


def strongest_rows(activation: NDArray[np.floating], n: int) -> NDArray[np.intp]:
    """Rows of the n highest of activation (m,), highest first, of those above 0. O(m)."""
    rows = np.flatnonzero(activation > 0)
    if len(rows) > n > 0:
        rows = rows[activation[rows] >= np.partition(activation[rows], -n)[-n]]
    return rows[np.argsort(-activation[rows], kind="stable")][: max(n, 0)]
