"""Margin maximisation (TURTLE): groups that linear classifiers tell apart in every space; the best of some starts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._grouper import Grouper, likeliest
from phyla.cluster._lloyd import in_parallel, kmeans, nearest
from phyla.cluster._margin import axes, enough, margin, mean_labelling
from phyla.cluster._spaces import leading

__all__ = ["Turtle"]

_SAMPLE = 20_000  # rows that a start sees: different rows make starts differ


class Turtle(Grouper):
    """TURTLE (Gadetsky, Jiang and Brbić, 2024) from several k-means starts; the one with the least surprise is kept.

    See `_margin` for the objective. A single start ends in the optimum nearest to it, good or not: `vote`, which starts
    from a consensus, does not depend on luck. O(n_init · (n · k · d + steps · batch · d · k)).

    Parameters
    ----------
    n_clusters : int or None, found by stability where None.
    blocks : widths of the spaces that X holds side by side; None for a single one.
    n_init : starts. n_jobs : threads; the answer does not depend on how many.

    Attributes
    ----------
    labels_ : (n,) int32. strength_ : (n,) float32, the labellers' mean probability of the label.
    labellers_ : (width of all spaces + one each, groups). surprise_ : (n_init,), the classifiers', in nats.
    """

    VERSION = 2
    AGREEMENT = 0.5  # strength under which an image is left out: the spaces are about as much against as for

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
        k, narrow = self.n_clusters_, leading(X, self.blocks_)
        self.width_ = enough(len(X))
        spaces = axes(self.blocks_, self.width_)
        equal = np.full(k, 1 / k, np.float32)

        def one(own: np.random.Generator) -> tuple[list[NDArray[np.float32]], float]:
            sample = own.choice(len(X), min(_SAMPLE, max(k, int(0.7 * len(X)))), replace=False)
            start = nearest(narrow, kmeans(narrow[sample], k, own, restarts=1))[1][:, 0]
            return margin(X, spaces, np.eye(k, dtype=np.float32)[start], own, equal)

        found = in_parallel(one, rng.spawn(self.n_init), self.n_jobs)
        self.surprise_ = np.array([surprise for _, surprise in found])
        self.labellers_ = np.concatenate(found[int(self.surprise_.argmin())][0])

    def _assign(self, X: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        return likeliest(mean_labelling(X, self.blocks_, self.width_, self.labellers_[None]))
