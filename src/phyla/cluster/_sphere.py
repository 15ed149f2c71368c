"""Rows as directions: what the methods that compare by cosine share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._lloyd import in_parallel, lloyd, seeds

_WIDTH = 32  # axes of each space that are looked at: more blur the groups
# Length of the pole in that of a usual row. CIFAR-10 is grouped as well with 0.05 (0.84) to 0.5 (0.84) as with this.
_POLE = 0.25


def centre_and_poles(X: NDArray[np.float32], blocks: NDArray[np.int_]) -> tuple[NDArray, NDArray]:
    """What `directions` sees rows from: the mean (d,) of X (n, d), and the length of each block's pole (blocks,)."""
    mean = X.mean(0, dtype=np.float64).astype(np.float32)
    spread = X.var(0, dtype=np.float64)
    usual = [np.sqrt(spread[s : s + min(b, _WIDTH)].sum()) for s, b in _spans(blocks)]
    return mean, np.array([_POLE * u if u > 0 else 1 for u in usual], np.float32)


def directions(
    X: NDArray[np.float32], blocks: NDArray[np.int_], mean: NDArray[np.float32], poles: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Rows (n, m) of length one whose inner products are the means, over the spaces, of cosines about the mean.

    Each space gets one axis more, the pole, that is the same for all rows: a row too near to the mean to have a
    direction points there, instead of anywhere.
    """
    parts = []
    for (start, wide), pole in zip(_spans(blocks), poles, strict=True):
        columns = slice(start, start + min(wide, _WIDTH))
        part = np.empty((len(X), columns.stop - start + 1), np.float32)
        np.subtract(X[:, columns], mean[columns], out=part[:, :-1])
        part[:, -1] = pole
        part /= np.sqrt(len(poles) * np.einsum("nd,nd->n", part, part))[:, None]
        parts.append(part)
    return np.hstack(parts)


def spherical_kmeans(
    F: NDArray[np.float32], k: int, rng: np.random.Generator, restarts: int, n_jobs: int = 1
) -> NDArray[np.float32]:
    """The k unit centres (k, m) with the greatest sum of cosines of `restarts` runs on unit rows F (n, m).

    Among unit vectors the nearest has the largest cosine: this is `_lloyd.kmeans` on the sphere.
    """

    def one(own: np.random.Generator) -> tuple[float, NDArray[np.float32]]:
        return lloyd(F, seeds(F, k, own), spherical=True)

    return min(in_parallel(one, rng.spawn(restarts), n_jobs), key=lambda found: found[0])[1]


def widths(blocks: NDArray[np.int_]) -> list[int]:
    """Columns of `directions` that each block has: its leading axes and the pole."""
    return [min(b, _WIDTH) + 1 for b in blocks.tolist()]


def _spans(blocks: NDArray[np.int_]) -> list[tuple[int, int]]:
    """(first column, width) of every block."""
    return list(zip((np.cumsum(blocks) - blocks).tolist(), blocks.tolist(), strict=True))
