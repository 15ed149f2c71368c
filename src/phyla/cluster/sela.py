"""SeLa: labels shared out evenly by optimal transport, a head trained on them, in turn; or without the evenness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._head import HeadGrouper, Heads, batches, cross_entropy, partly

__all__ = ["SeLa"]

_TURNS = 20  # of labelling and training. CIFAR-10: 5 0.868, 10 0.873, 20 0.877
_SHARPNESS = 10.0  # of the transport's entropy; 2 and 30 are a little worse
_SCALINGS = 10  # of the transport in a turn, which goes on from where the turn before ended
_WEIGHED = 20_000  # rows that they look at


class SeLa(HeadGrouper):
    """Self-labelling (Asano, Rupprecht and Vedaldi, 2020) on features that stay as they are.

    In turns, rows are labelled and heads trained on the labels. Labelling gives each row its likeliest group, under the
    condition that groups are of one size: optimal transport by the Sinkhorn-Knopp algorithm (Cuturi, 2013). For the
    paper's augmented pictures, a row with some columns hidden has to tell the label of one of its nearest neighbours
    (cosine). Each head starts from a k-means.

    With balanced=False rows have their likeliest group as it is: the plain alternation of clustering and training, as
    in DeepCluster (Caron et al., 2018), for classes of unlike sizes.

    O(n²·d) for the neighbours, and O((steps · batch + turns · n) · heads · groups · d) for the rest.

    Parameters
    ----------
    n_clusters : int or None, found by stability where None.
    blocks : widths of the spaces that X holds side by side; None for a single one.
    n_heads : heads trained, of which the one with the least loss is kept. n_neighbors : neighbours of a row.
    balanced : whether groups are of one size. n_steps : mini-batches in all.
    n_jobs : threads; the answer does not depend on how many.

    Attributes
    ----------
    labels_ : (n,) int32. strength_ : (n,) float32, the probability of the label. losses_ : (heads,).
    coef_, intercept_, mean_ : the head.
    """

    VERSION = 3

    def __init__(
        self,
        n_clusters: int | None = None,
        *,
        blocks: Sequence[int] | None = None,
        n_heads: int = 8,
        n_neighbors: int = 10,
        balanced: bool = True,
        n_steps: int = 500,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.blocks = blocks
        self.n_heads = n_heads
        self.n_neighbors = n_neighbors
        self.balanced = balanced
        self.n_steps = n_steps
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        V = self._seen(X)
        near = self._near(V, self.n_neighbors)
        heads = self._start(V, rng)
        weighed = V[rng.choice(len(V), min(_WEIGHED, len(V)), replace=False)]
        levels = np.zeros(heads.intercept.shape, np.float32)
        each = -(-self.n_steps // _TURNS)
        for left, i in batches(len(V), self.n_steps, rng):
            if heads.taken % each == 0:
                labels = np.empty((len(levels), len(V)), np.int32)
                for h, level in enumerate(levels):
                    head = Heads(heads.coef[h : h + 1], heads.intercept[h : h + 1])
                    if self.balanced:
                        level[:] = sinkhorn(_SHARPNESS * head.logits(weighed)[0], level, _SCALINGS)
                    labels[h] = (head.logits(V)[0] + level[:, None] / _SHARPNESS).argmax(0)
            of_neighbour = labels[:, near[i, rng.integers(near.shape[1], size=len(i))]]
            Z = partly(V[i], rng)
            heads.descend(Z, *cross_entropy(heads.proba(Z), of_neighbour), left)
        self._keep(heads, heads.loss, X)


def sinkhorn(logits: NDArray[np.float32], levels: NDArray[np.float32], scalings: int) -> NDArray[np.float32]:
    """Levels (c,) of the groups under which the softmax of logits (c, n) + levels gives each group the same in all.

    The softmax scales the rows, each new level its group: Sinkhorn's alternation, on logarithms.
    """
    for _ in range(scalings):
        p = logits + levels[:, None]
        np.exp(p - p.max(0), out=p)
        p /= p.sum(0)
        levels = levels - np.log(np.maximum(len(p) * p.mean(1), 1e-12))
    return levels
