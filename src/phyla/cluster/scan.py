"""SCAN: a linear head that puts neighbours together and groups apart; for classes of about one size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._head import HeadGrouper, Heads, batches, consistency

__all__ = ["SCAN"]

_SURE = 0.9  # probability from which a row teaches (the paper's 0.99: decay keeps few rows as sure as that)
_TAUGHT = 0.4  # steps of self-labelling, to one of the clustering before


class SCAN(HeadGrouper):
    """Semantic clustering by adopting nearest neighbours (Van Gansbeke et al., 2020) on features that stay as they are.

    Step one trains heads to give a row and one of its nearest neighbours (cosine) the same group, and all groups about
    as many rows. Step two, self-labelling, teaches the best head with the rows that it is sure of, as they are: there
    are no augmented pictures. Each head starts from a k-means whose groups it has learnt.

    O(n²·d) for the neighbours, and O(steps · batch · heads · groups · d) for the training: 50,000 × 768 takes 20 s on
    two cores.

    Parameters
    ----------
    n_clusters : int or None, found by stability where None.
    blocks : widths of the spaces that X holds side by side; None for a single one.
    n_heads : heads trained, of which the one with the least loss is kept. n_neighbors : neighbours of a row.
    entropy_weight : of even groups against neighbours together. The paper's 5 is for classes of one size: 43 of
        photographs 0.69, not 0.64, but a long tail of CIFAR-10 0.44, not 0.50. n_steps : mini-batches of step one.
    n_jobs : threads; the answer does not depend on how many.

    Attributes
    ----------
    labels_ : (n,) int32. strength_ : (n,) float32, the probability of the label. losses_ : (heads,).
    coef_, intercept_, mean_ : the head.
    """

    VERSION = 2

    def __init__(
        self,
        n_clusters: int | None = None,
        *,
        blocks: Sequence[int] | None = None,
        n_heads: int = 8,
        n_neighbors: int = 10,
        entropy_weight: float = 1.0,
        n_steps: int = 200,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.blocks = blocks
        self.n_heads = n_heads
        self.n_neighbors = n_neighbors
        self.entropy_weight = entropy_weight
        self.n_steps = n_steps
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        V = self._seen(X)
        near = self._near(V, self.n_neighbors)
        heads = self._start(V, rng)
        for left, i in batches(len(V), self.n_steps, rng):
            Z = V[np.concatenate([i, near[i, rng.integers(near.shape[1], size=len(i))]])]
            p = heads.proba(Z)
            loss, *slopes = consistency(p[..., : len(i)], p[..., len(i) :], self.entropy_weight)
            heads.descend(Z, loss, np.concatenate(slopes, 2), left)
        best = slice(int(heads.loss.argmin()), int(heads.loss.argmin()) + 1)
        taught = Heads(heads.coef[best], heads.intercept[best])
        for left, i in batches(len(V), round(_TAUGHT * self.n_steps), rng):
            taught.descend(V[i], *self_labelling(taught.proba(V[i])), left)
        self._keep(taught, taught.loss, X)
        self.losses_ = heads.loss


def self_labelling(p: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The cross-entropy (h,) of p (h, c, n) with the labels of those rows that the head is sure of, and its slope.

    At least half of the rows teach: of none, heads would but decay. Each label counts the same, however many it has.
    """
    top = p.max(1, keepdims=True)
    sure = top >= np.minimum(_SURE, np.median(top, 2, keepdims=True))
    target = (p == top) & sure
    size = target.sum(2, keepdims=True)
    weight = target / np.maximum(size, 1) / (size > 0).sum(1, keepdims=True)
    loss = -(weight * np.log(np.maximum(p, 1e-12))).sum((1, 2))
    return loss, (p * weight.sum(1, keepdims=True) - weight).astype(np.float32)
