"""How good a space or a grouping is, judged without labels.

Of a space X (n, d): `rankme`, `lidar`, `intrinsic_dimension`, `persistence`. Of two spaces: `svcca`. Of a grouping in a
space: `silhouette`. Of groupings: `consensus`. Sample first where a cost says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._lloyd import nearest
from phyla.neighbors import nearest_neighbors

_TINY = 1e-12


# ---- of a space


def rankme(X: NDArray[np.floating]) -> float:
    """How many axes X (n, d) really uses: exp of the entropy of its singular values (RankMe, Garrido et al., 2023).

    1 to min(n, d). Of whitened axes it only counts them: give it the axes as they were. O(n·d²).
    """
    X = np.asarray(X, np.float64)
    gram = X.T @ X if len(X) > X.shape[1] else X @ X.T
    return _effective(np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0)))


def lidar(X: NDArray[np.floating], groups: NDArray[np.int_]) -> float:
    """How many axes of X (n, d) tell surrogate classes (n,) apart (LiDAR, Thilak et al., 2023).

    The effective rank of W^−½ B W^−½, the matrix of linear discriminant analysis: W is the covariance within the
    classes, B that of their means. The paper's classes are the augmented views of one image. Here images are described
    once, so a class is an image with its nearest neighbours (`X[near.ravel()]`, each class a number in `groups`), or a
    group that several methods agree on. O(n·d²).
    """
    X = np.asarray(X, np.float64)
    _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    means = np.zeros((len(sizes), X.shape[1]))
    np.add.at(means, codes, X)
    means /= sizes[:, None]
    inner, outer = X - means[codes], means - means.mean(0)
    within = inner.T @ inner / len(X)
    within += 1e-4 * max(np.trace(within) / len(within), _TINY) * np.eye(len(within))  # so that it can be inverted
    values, axes = np.linalg.eigh(within)
    outer = outer @ (axes / np.sqrt(values))
    return _effective(np.maximum(np.linalg.eigvalsh(outer.T @ outer), 0))


def _effective(values: NDArray[np.float64]) -> float:
    """Exp of the entropy of non-negative values made to sum to one; 1 where all are zero."""
    share = values[values > 1e-9 * values.max()] if len(values) and values.max() > 0 else np.ones(1)
    share = share / share.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def intrinsic_dimension(X: NDArray[np.float32], k: int = 2, n_jobs: int = 1) -> float:
    """How many axes a small patch of X (n, d) would need, from the distances to its k nearest neighbours.

    The maximum-likelihood estimate of Levina and Bickel (2004), its inverse averaged over rows (MacKay and Ghahramani,
    2005); with k = 2 it is TwoNN's (Facco et al., 2017). Of rows that have an exact copy only one is asked. d at most:
    rows about as far from each other, as those of whitened axes are where there are no more of them, would need more.
    O(n²·d).
    """
    X = np.unique(X, axis=0)
    if len(X) < 3:
        return 0.0
    k = min(k, len(X) - 1)
    near = np.maximum(nearest_neighbors(X, k, n_jobs=n_jobs)[1], _TINY).astype(np.float64)
    growth = np.log(near[:, -1:] / near[:, :-1]).mean()
    return float(min(1 / growth, X.shape[1])) if growth > 0 else float(X.shape[1])


def persistence(X: NDArray[np.floating]) -> float:
    """How much X (n, d) falls into pieces: 0 (evenly spread) to 1, from its persistent homology in dimension 0.

    Balls grow about all rows, and where two components meet, one ends; these times are the edges of the minimum
    spanning tree, or the heights of single linkage. Few long ones among many short mean separate classes (Gourgoulias
    et al., 2024, who divide by the longest); told is 1 − mean / longest. O(n²·d): for a few thousand rows.
    """
    from scipy.cluster.hierarchy import linkage

    if len(X) < 2:
        return 0.0
    heights = linkage(np.asarray(X, np.float64), "single")[:, 2]
    return float(1 - heights.mean() / heights.max()) if heights.max() > 0 else 0.0


# ---- of two spaces


def svcca(X: NDArray[np.floating], Y: NDArray[np.floating], keep: float = 0.99) -> float:
    """How alike two spaces (n, d) and (n, e) of the same rows are: their mean canonical correlation, 0..1.

    SVCCA (Raghu et al., 2017): of each space the leading singular axes that hold the share `keep` of the variance, then
    the correlations of the best matched axes. O(n·(d + e)²).
    """

    def axes(Z: NDArray[np.floating]) -> NDArray[np.float64]:
        Z = np.asarray(Z, np.float64)
        left, values, _ = np.linalg.svd(Z - Z.mean(0), full_matrices=False)
        held = np.cumsum(values**2)
        real = values > 1e-9 * max(values[0], _TINY)
        return left[:, real & (held - values**2 < keep * held[-1])]

    a, b = axes(X), axes(Y)
    if not (a.shape[1] and b.shape[1]):
        return 0.0
    return float(np.linalg.svd(a.T @ b, compute_uv=False).clip(0, 1).mean())


# ---- of a grouping in a space


def silhouette(X: NDArray[np.float32], labels: NDArray[np.int32]) -> float:
    """Mean of (b − a) / max(a, b), a the distance to the mean of one's group, b to the nearest other mean: −1..1.

    The simplified silhouette (Hruschka et al., 2004) in place of Rousseeuw's (1987), which compares all rows with all.
    O(n·d·groups). 0 for a single group.
    """
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        return 0.0
    centres = np.zeros((len(sizes), X.shape[1]))
    np.add.at(centres, codes, X)
    squared, which = nearest(X, (centres / sizes[:, None]).astype(np.float32), len(sizes))
    distances = np.sqrt(np.maximum(squared, 0))
    own = which == codes[:, None]
    a = distances[own]
    first = own[:, 0].astype(int)
    b = distances[np.arange(len(X)), first]
    return float(((b - a) / np.maximum(np.maximum(a, b), _TINY)).mean())


# ---- of groupings


def consensus(groupings: Sequence[NDArray[np.int32]]) -> list[float]:
    """For each grouping (n,), its mean agreement with the others: adjusted Rand index, 0 by chance, 1 the same.

    What many ways of grouping agree on is seldom an accident of one (Strehl and Ghosh, 2002). The index is Hubert and
    Arabie's (1985). O(n·(sum of groups)²).
    """

    def pairs(count: Any) -> Any:
        return count * (count - 1) / 2

    codes = [np.unique(labels, return_inverse=True)[1] for labels in groupings]
    member = np.hstack([np.eye(code.max() + 1, dtype=np.float32)[code] for code in codes])
    ends = np.cumsum([code.max() + 1 for code in codes])
    starts = np.r_[0, ends[:-1]]
    own = np.add.reduceat(pairs(member.sum(0, dtype=np.float64)), starts)  # pairs of rows in one group
    both = np.array([  # and in one group of the other too
        np.add.reduceat(pairs((member[:, s:e].T @ member).astype(np.float64)).sum(0), starts)
        for s, e in zip(starts, ends, strict=True)
    ])  # fmt: skip
    by_chance = np.outer(own, own) / max(pairs(len(member)), 1)
    most = (own[:, None] + own) / 2
    agreed = np.where(most > by_chance, (both - by_chance) / np.maximum(most - by_chance, _TINY), 1)
    np.fill_diagonal(agreed, 0)
    return (agreed.sum(1) / max(len(codes) - 1, 1)).tolist()
