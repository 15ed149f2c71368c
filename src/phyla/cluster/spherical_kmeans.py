"""Spherical k-means: nearest centre by cosine; where a vector's length says nothing of its class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._grouper import Grouper
from phyla.cluster._lloyd import nearest
from phyla.cluster._sphere import centre_and_poles, directions, spherical_kmeans

__all__ = ["SphericalKMeans"]


class SphericalKMeans(Grouper):
    """K-means on the unit sphere (Dhillon and Modha, 2001, "Concept decompositions for large sparse text data").

    Rows are compared by the cosine, seen from their mean, in the leading axes of each space; with several spaces, by
    the mean of their cosines. O(n·k·d) an iteration; 50,000 × 192 with 10 restarts takes 2 s on two cores.

    Parameters
    ----------
    n_clusters : int or None, found by stability where None.
    blocks : widths of the spaces that X holds side by side; None for a single one.
    n_init : restarts, of which the best is kept. n_jobs : threads; the answer does not depend on how many.

    Attributes
    ----------
    cluster_centers_ : (c, m), unit vectors among `_sphere.directions`. labels_ : (n,) int32. strength_ : (n,), 1 minus
        the ratio of 1 − (cosine of the nearest centre) to 1 − (cosine of the second nearest).
    mean_, poles_ : what rows are seen from.
    """

    VERSION = 2
    AGREEMENT = 0.0  # a cosine is no vote: nothing is left out

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
        self.mean_, self.poles_ = centre_and_poles(X, self.blocks_)
        F = directions(X, self.blocks_, self.mean_, self.poles_)
        self.cluster_centers_ = spherical_kmeans(F, self.n_clusters_, rng, self.n_init, self.n_jobs)

    def _assign(self, X: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        F = directions(X, self.blocks_, self.mean_, self.poles_)
        squared, which = nearest(F, self.cluster_centers_, min(2, len(self.cluster_centers_)))
        if squared.shape[1] == 1:
            return which[:, 0], np.ones(len(X), np.float32)
        near, second = np.maximum(squared, 0).T / 2  # 1 − cosine, of unit vectors
        return which[:, 0], (1 - near / np.maximum(second, 1e-12)).astype(np.float32)
