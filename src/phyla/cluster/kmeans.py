"""K-means: nearest centre, k-means++ seeds; the plain baseline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._grouper import Grouper
from phyla.cluster._lloyd import kmeans, nearest
from phyla.cluster._spaces import leading

__all__ = ["KMeans"]


class KMeans(Grouper):
    """K-means (Lloyd, 1982). O(n·k·d) an iteration; 60,000 × 192 with 10 restarts takes about 10 s on two cores.

    Parameters
    ----------
    n_clusters : int or None, found by stability where None.
    blocks : widths of the spaces that X holds side by side, of which the first 32 axes are seen; None for a single one.
    n_init : restarts, of which the best is kept.
    n_jobs : threads; the answer does not depend on how many.

    Attributes
    ----------
    cluster_centers_ : (c, d). labels_ : (n,) int32. strength_ : (n,), 1 − (distance to the nearest centre) / (distance
        to the second nearest).
    """

    VERSION = 3
    AGREEMENT = 0.0  # a distance is no vote: nothing is left out

    blocks_: NDArray[np.int_]

    def __init__(
        self,
        n_clusters: int | None = None,
        *,
        blocks: Sequence[int] | None = None,
        n_init: int = 10,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.blocks = blocks
        self.n_init = n_init
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        self.cluster_centers_ = kmeans(leading(X, self.blocks_), self.n_clusters_, rng, self.n_init, n_jobs=self.n_jobs)

    def _assign(self, X: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        squared, which = nearest(leading(X, self.blocks_), self.cluster_centers_, min(2, len(self.cluster_centers_)))
        if squared.shape[1] == 1:
            return which[:, 0], np.ones(len(X), np.float32)
        near, second = np.sqrt(np.maximum(squared, 0)).T
        return which[:, 0], (1 - near / np.maximum(second, 1e-12)).astype(np.float32)
