"""Coupled heads: one for each network's space, trained until they agree; strength is their consensus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._head import HeadGrouper, batches, consistency, partly

__all__ = ["Coupled"]


class Coupled(HeadGrouper):
    """Arms that reach a consensus on discrete groups, as in cpl-mixVAE (Marghi et al., 2021), without autoencoders.

    Each space (block of columns) is an arm: a linear head that sees this space alone. Of every two arms, the chance
    that they give a row the same group is made large, and groups are kept even: the loss of SCAN (Van Gansbeke et al.,
    2020), where the same image seen by another network stands for its neighbour. The product of the arms labels a row.
    A single space is made two, of every other column each. No neighbours are searched.

    O(steps · heads · arms · groups · d).

    Parameters
    ----------
    n_clusters : int or None, found by stability where None.
    blocks : widths of the spaces that X holds side by side; None for a single one.
    n_heads : heads trained for each space, of which those with the least loss are kept.
    entropy_weight : of even groups against agreement (SCAN's). n_steps : mini-batches.
    n_jobs : threads; the answer does not depend on how many.

    Attributes
    ----------
    labels_ : (n,) int32. strength_ : (n,) float32, the mean of the arms' probabilities of the label.
    losses_ : (heads,). coef_, intercept_, mean_ : the arms.
    """

    VERSION = 3

    def __init__(
        self,
        n_clusters: int | None = None,
        *,
        blocks: Sequence[int] | None = None,
        n_heads: int = 8,
        entropy_weight: float = 5.0,
        n_steps: int = 500,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.blocks = blocks
        self.n_heads = n_heads
        self.entropy_weight = entropy_weight
        self.n_steps = n_steps
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        V = self._seen(X)
        space = np.repeat(np.arange(len(self.widths_)), self.widths_)
        if len(self.widths_) == 1:
            space = np.arange(V.shape[1]) % 2
        arms = space == np.unique(space)[:, None]
        heads = self._start(V, rng, arms)
        one, two = np.triu_indices(len(arms), min(1, len(arms) - 1))  # an arm alone agrees with itself
        for left, i in batches(len(V), self.n_steps, rng):
            Z = partly(V[i], rng)
            p = heads.proba(Z).reshape(-1, len(arms), self.n_clusters_, len(i))
            loss, slope = agreement(p, one, two, self.entropy_weight)
            heads.descend(Z, np.repeat(loss, len(arms)), slope.reshape(-1, *p.shape[2:]), left)
        self._keep(heads, heads.loss[:: len(arms)], X)


def agreement(
    p: NDArray[np.float32], one: NDArray[np.intp], two: NDArray[np.intp], weight: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean loss (h,) of pairs of arms, `one` and `two`, of p (h, arms, c, n); its slope by the logits of p."""
    h, _, c, n = p.shape
    loss, *slopes = consistency(p[:, one].reshape(-1, c, n), p[:, two].reshape(-1, c, n), weight)
    slope = np.zeros_like(p)
    for arms, of_pair in zip((one, two), slopes, strict=True):
        for pair, arm in enumerate(arms):
            slope[:, arm] += of_pair.reshape(h, -1, c, n)[:, pair] / len(one)
    return loss.reshape(h, -1).mean(1), slope
