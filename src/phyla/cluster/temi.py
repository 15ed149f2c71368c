"""TEMI: heads that learn what neighbours share from slow copies of themselves; groups may differ in size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._head import HeadGrouper, batches

__all__ = ["TEMI"]

_TEACHER = 0.2  # of the way to the student that the teacher goes in a step. 10,000 of CIFAR-10: 0.87, with 0.05 0.84
_SHARES = 0.1  # weight of the latest batch in the groups' shares


class TEMI(HeadGrouper):
    """Teacher ensemble-weighted pointwise mutual information (Adaloglou et al., 2023).

    Heads are trained so that the groups of a row and of one of its nearest neighbours (cosine) tell much of each other:
    the student's group of one, and that of the other by the teacher, which follows the student slowly. A pair counts
    by the chance that the two have one group, the mean of all teachers' opinions: false neighbours count little. Each
    head starts from a k-means whose groups it has learnt.

    O(n²·d) for the neighbours, and O(steps · batch · heads · groups · d) for the training: 50,000 × 768 takes 15 s on
    two cores.

    Parameters
    ----------
    n_clusters : int or None, found by stability where None.
    blocks : widths of the spaces that X holds side by side; None for a single one.
    n_heads : heads trained, of which the one with the least loss is kept. n_neighbors : neighbours of a row.
    beta : exponent of the probabilities, up to 1: the less, the surer heads are (the paper's). n_steps : mini-batches.
    n_jobs : threads; the answer does not depend on how many.

    Attributes
    ----------
    labels_ : (n,) int32. strength_ : (n,) float32, the probability of the label. losses_ : (heads,).
    coef_, intercept_, mean_ : the teacher of the best head.
    """

    VERSION = 2

    def __init__(
        self,
        n_clusters: int | None = None,
        *,
        blocks: Sequence[int] | None = None,
        n_heads: int = 8,
        n_neighbors: int = 10,
        beta: float = 0.6,
        n_steps: int = 200,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.blocks = blocks
        self.n_heads = n_heads
        self.n_neighbors = n_neighbors
        self.beta = beta
        self.n_steps = n_steps
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        V = self._seen(X)
        near = self._near(V, self.n_neighbors)
        student = self._start(V, rng)
        teacher = student.copy()
        shares = np.full(student.intercept.shape, 1 / self.n_clusters_, np.float32)
        for left, i in batches(len(V), self.n_steps, rng):
            j = near[i, rng.integers(near.shape[1], size=len(i))]
            Z = V[np.concatenate([i, j])]
            t = teacher.proba(Z)
            shares += _SHARES * (t.mean(2) - shares)
            student.descend(Z, *information(student.proba(Z), np.roll(t, len(i), 2), t, shares, self.beta), left)
            teacher.coef += _TEACHER * (student.coef - teacher.coef)
            teacher.intercept += _TEACHER * (student.intercept - teacher.intercept)
        self._keep(teacher, student.loss, X)


def information(
    p: NDArray[np.float32],
    other: NDArray[np.float32],
    own: NDArray[np.float32],
    shares: NDArray[np.float32],
    beta: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Minus the information (h,) that the students' p (h, c, n) share with the teachers' opinion of the `other` row.

    Of a pair x, x' it is w · log Σ_c (p_c(x) t_c(x'))^β / share_c, w being the mean over heads of Σ_c t_c(x) t_c(x').
    And its slope by the logits of p.
    """
    weight = (own * other).sum(1).mean(0)
    weight = weight / np.maximum(weight.sum(), 1e-12)  # unlike the paper's: else decay wins where groups are many
    joint = np.maximum(p * other, 1e-20) ** beta / np.maximum(shares, 1e-8)[..., None]
    total = joint.sum(1, keepdims=True)
    loss = -(weight * np.log(total)).sum((1, 2))
    joint /= total
    return loss, beta * weight * (p - joint)
