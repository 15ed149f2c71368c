"""How good a grouping is: against labels where there are some, and how typical each image is of its group."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def score(best: ArrayLike, left_out: ArrayLike, truth: ArrayLike) -> dict[str, float]:
    """Compare groups with known classes.

    Parameters
    ----------
    best : (n,) int, the most likely group of every image, of those left out too. left_out : (n,) bool.
    truth : (n,) classes, of any type.

    Returns
    -------
    dict : `accuracy` (each group is one class, the best one-to-one match: Kuhn, 1955), `accuracy_many_to_one` (each
        group counts as its commonest class), `nmi`, `ari`, `coverage` (share not left out), and `accuracy_sorted`, the
        first of these over the images that were not left out, under the same match.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    _, group = np.unique(np.asarray(best), return_inverse=True)
    _, true = np.unique(np.asarray(truth), return_inverse=True)
    kept = ~np.asarray(left_out, bool)
    together = np.zeros((group.max() + 1, true.max() + 1), np.int64)
    np.add.at(together, (group, true), 1)
    matched = np.full(len(together), -1)
    rows, columns = linear_sum_assignment(together, maximize=True)
    matched[rows] = columns
    right = matched[group] == true
    return {
        "accuracy": float(right.mean()),
        "accuracy_many_to_one": float(together.max(1).sum() / len(true)),
        "nmi": float(normalized_mutual_info_score(true, group)),
        "ari": float(adjusted_rand_score(true, group)),
        "coverage": float(kept.mean()),
        "accuracy_sorted": float(right[kept].mean()) if kept.any() else 0.0,
    }


def typicality(X: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Per row of X (n, d), how near it is to the mean of its group: the negative distance. O(n·d)."""
    order = np.argsort(labels, kind="stable")
    _, starts = np.unique(labels[order], return_index=True)
    near = np.empty(len(X), np.float32)
    for rows in np.split(order, starts[1:]):
        near[rows] = -np.linalg.norm(X[rows] - X[rows].mean(0), axis=1)
    return near
