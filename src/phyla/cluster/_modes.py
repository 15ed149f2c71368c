"""Modes of the density: dense regions with thin ones between them, whatever their sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phyla.cluster._spaces import leading
from phyla.neighbors import nearest_neighbors

# Axes of each space that a view has. One view of 32 alone finds seven of the ten classes of CIFAR-10 with a long tail
# at some numbers of neighbours; four views together find the seven at each of them.
_WIDTHS = (24, 32, 40, 48)
_NEIGHBORS = 20  # at most: 12 to 30 find the same classes
_VOTES = 0.375  # share of the views' directed links that makes a link to climb along
_TINY = 1e-12


def modes(X: NDArray[np.float32], blocks: ArrayLike, k: int, n_jobs: int = 1) -> NDArray[np.int32] | None:
    """k groups (n,) of the rows of X (n, d; about zero) around modes of their density; None if there are fewer modes.

    Each row climbs to the densest of its neighbours, and on, until none is denser (mean shift on a graph: Koontz,
    Narendra and Fukunaga, 1976). Of the regions so found, the two between which neighbours cross most easily merge,
    until k are left. How easily is a share of the smaller region's links, so a class of 50 images weighs as much as one
    of 5,000; k-means, which sums over images, divides the large one instead. The neighbours are as many as still leave
    k modes. O(n²·d), and O(m²) for m modes.
    """
    views = [_view(X, np.asarray(blocks), width) for width in _WIDTHS]
    views = [v for i, v in enumerate(views) if not i or v.shape != views[i - 1].shape]
    q = min(_NEIGHBORS, len(X) - 1)
    found = [nearest_neighbors(view, q, n_jobs=n_jobs) for view in views]
    while q:
        links, density = _links([near[:, :q] for near, _ in found], [apart[:, :q] for _, apart in found])
        region = _climb(links, density)
        if region.max() + 1 >= k:
            return _merge(_crossings(links, region, X), k)[region]
        q = 2 * q // 3
    return None


def _view(X: NDArray[np.float32], blocks: NDArray[np.int_], width: int) -> NDArray[np.float32]:
    """The leading axes of each space, its long rows shortened.

    Whitened rows near zero are near to everything, and would be the mode of everything; rows of length one would have
    no centre. Dividing by the root of (mean square + own square) is between the two.
    """
    parts = np.split(leading(X, blocks, width), np.cumsum(np.minimum(blocks, width))[:-1], axis=1)
    squares = [np.einsum("nd,nd->n", part, part)[:, None] for part in parts]
    return np.hstack([part / np.sqrt(max(s.mean(), _TINY) + s) for part, s in zip(parts, squares, strict=True)])


def _links(near: list[NDArray[np.int32]], apart: list[NDArray[np.float32]]) -> tuple[Any, NDArray[np.float32]]:
    """(n, n) sparse: the views in which one is among the other's nearest, both ways; and the log density (n,)."""
    from scipy.sparse import csr_array

    n, q = near[0].shape
    directed = sum(
        csr_array((np.ones(n * q, np.float32), rows.ravel(), np.arange(0, n * q + 1, q)), shape=(n, n)) for rows in near
    )
    return (directed + directed.T).tocoo(), -np.mean([np.log(d.mean(1) + _TINY) for d in apart], axis=0)


def _climb(links: Any, density: NDArray[np.float32]) -> NDArray[np.int32]:
    """(n,): the peak, numbered from 0, that each row ends at."""
    n = len(density)
    # Ranks instead of values: equally dense rows must not all be peaks.
    rank = np.empty(n, np.int64)
    rank[np.argsort(density, kind="stable")] = np.arange(n)
    row, column = links.coords
    strong = links.data >= _VOTES * links.data.max()
    highest = rank.copy()
    np.maximum.at(highest, row[strong], rank[column[strong]])
    up = np.argsort(rank)[highest]
    while not np.array_equal(up, up[up]):
        up = up[up]
    return np.unique(up, return_inverse=True)[1].astype(np.int32)


def _crossings(links: Any, region: NDArray[np.int32], X: NDArray[np.float32]) -> NDArray[np.float64]:
    """(m, m): links between every two regions, and within each."""
    m = int(region.max()) + 1
    row, column = links.coords
    crossings = np.bincount(region[row] * m + region[column], links.data, m * m).reshape(m, m)
    # Regions without any link between them go by how near their centres are.
    sizes = np.bincount(region, minlength=m)
    centres = np.zeros((m, X.shape[1]))
    np.add.at(centres, region, X)
    centres /= sizes[:, None]
    squares = (centres**2).sum(1)
    far = np.maximum(squares[:, None] + squares - 2 * centres @ centres.T, 0)
    return crossings + 1e-6 / (1 + far / max(far.mean(), _TINY))


def _merge(crossings: NDArray[np.float64], k: int) -> NDArray[np.int32]:
    """(m,): which of k groups each region goes to. Symmetric crossings (m, m) are changed."""
    m = len(crossings)
    group, alive = np.arange(m), np.ones(m, bool)
    total = crossings.sum(1)

    def ease(of: NDArray[np.intp]) -> NDArray[np.float64]:
        """(len(of), m): share of the smaller one's links that cross, over the shares that stay at home."""
        stay = np.maximum(np.diag(crossings) / total, _TINY)
        share = crossings[of] / np.minimum(total[of, None], total) / np.sqrt(stay[of, None] * stay)
        share[:, ~alive] = -1
        share[np.arange(len(of)), of] = -1
        return share

    easiest = ease(np.arange(m))
    partner, best = easiest.argmax(1), easiest.max(1)
    for _ in range(m - k):
        one = int(np.where(alive, best, -1).argmax())
        other = int(partner[one])
        alive[other] = False
        group[group == other] = one
        crossings[one] += crossings[other]
        crossings[:, one] += crossings[:, other]
        total[one] += total[other]
        changed = np.flatnonzero(alive & ((partner == one) | (partner == other)))
        changed = np.union1d(changed, [one])
        fresh = ease(changed)
        partner[changed], best[changed] = fresh.argmax(1), fresh.max(1)
        # The others may now find the merged group the easiest.
        towards = ease(np.array([one]))[0]
        better = alive & (towards > best)
        partner[better], best[better] = one, towards[better]
    return np.unique(group, return_inverse=True)[1].astype(np.int32)
