"""Coding-rate reduction: groups that each take few dimensions while all together take many; for subspaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._head import HeadGrouper, Heads, batches, partly, through_softmax
from phyla.cluster._lloyd import in_parallel
from phyla.cluster._spaces import leading

__all__ = ["CodingRate"]


class CodingRate(HeadGrouper):
    """Maximal coding-rate reduction (Yu et al., 2020) over the groups of unit rows, as in MLC (Ding et al., 2023).

    The coding rate of rows is what it takes to store one of them up to an error ε, in nats: little if they lie near a
    subspace through the mean. A linear head on each row's direction is moved by gradient to where the rate of all
    rows exceeds that of the groups by most, plus `entropy_weight` times the entropy of their sizes, which is here in
    place of MLC's doubly stochastic membership and CPP's (Chu et al., 2024). Rates are those of the leading axes; the
    head sees more of them. Of heads that each start from a k-means the one with the most reduction is kept.

    The papers learn the features as well. Here they stay as they are: on CIFAR-10 learning an orthonormal map of 384
    axes to the 96 that rates are of made 0.874 into 0.877, for twice the time.

    O(steps · batch · heads · groups · a²), where a is 32 axes of each space.

    Parameters
    ----------
    n_clusters : int or None, found by stability where None.
    blocks : widths of the spaces that X holds side by side; None for a single one.
    n_heads : heads trained, of which the one with the most rate reduction is kept.
    eps : error of the code, of rows of length one. On CIFAR-10 0.7 and 1.5 are alike (0.887); on its long tail the
        head with the most reduction is the best of eight by 1.5 (0.52), and the worst or nearly by 0.25 and 0.7 (0.41).
    entropy_weight : of even groups. A head on CIFAR-10: 0 0.864, 2 0.871, 5 0.874, 15 0.877; on its long tail 5 costs
        a head one point.
    n_steps : mini-batches.
    n_jobs : threads; the answer does not depend on how many.

    Attributes
    ----------
    labels_ : (n,) int32. strength_ : (n,) float32, the probability of the label.
    losses_ : (heads,), each head's rate reduction, negative. coef_, intercept_, mean_ : the head.
    """

    VERSION = 2
    EFFORT: ClassVar = {"fast": {"n_heads": 4}, "best": {"n_heads": 32}}

    def __init__(
        self,
        n_clusters: int | None = None,
        *,
        blocks: Sequence[int] | None = None,
        n_heads: int = 10,
        eps: float = 1.5,
        entropy_weight: float = 5.0,
        n_steps: int = 100,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.blocks = blocks
        self.n_heads = n_heads
        self.eps = eps
        self.entropy_weight = entropy_weight
        self.n_steps = n_steps
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        self.origin_ = X.mean(0, dtype=np.float64).astype(np.float32)
        U = unit(X - self.origin_)
        V = self._seen(U)
        Z = unit(leading(U, self.blocks_))
        start = self._start(V, rng)

        def train(task: tuple[int, np.random.Generator]) -> Heads:
            h, own = task
            head = Heads(start.coef[h : h + 1].copy(), start.intercept[h : h + 1].copy())
            for left, i in batches(len(V), self.n_steps, own):
                seen = partly(V[i], own)
                p = head.proba(seen)
                gain, slope = reduction(Z[i], p[0], self.eps)
                uneven = np.log(np.maximum(p.mean(2, keepdims=True), 1e-8))
                down = self.entropy_weight / len(i) * uneven - slope
                head.descend(seen, np.array([-gain]), through_softmax(p, down), left)
            return head

        heads = in_parallel(train, list(enumerate(rng.spawn(len(start.coef)))), self.n_jobs)
        coef, intercept, losses = (np.concatenate([getattr(h, a) for h in heads]) for a in _PARTS)
        self._keep(Heads(coef, intercept), losses, X)

    def _assign(self, X: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        return super()._assign(unit(X - self.origin_))


_PARTS = "coef", "intercept", "loss"


def reduction(Z: NDArray[np.floating], p: NDArray[np.floating], eps: float) -> tuple[float, NDArray[np.floating]]:
    """R(Z) − Σⱼ (nⱼ/n) R(Z | j) of rows Z (n, d) and their memberships p (c, n), in nats; its slope (c, n) by p.

    R(Z | j) = ½ log det(I + d / (nⱼ ε²) Zᵀ diag(pⱼ) Z), where nⱼ is the sum of pⱼ; R(Z) has all rows in one group. By
    the membership of a row z, nⱼ R(Z | j) rises by ½ (log det Mⱼ + d/ε² zᵀMⱼ⁻¹z − d + tr Mⱼ⁻¹), Mⱼ the matrix in it.
    O(c·(n·d² + d³)).
    """
    n, d = Z.shape
    sharp = Z.dtype.type(d / eps**2)
    size = np.maximum(p.sum(1), 1e-6)
    moments = np.stack([(Z * own[:, None]).T @ Z for own in p])
    eye = np.eye(d, dtype=Z.dtype)
    M = eye + (sharp / size)[:, None, None] * moments
    inverse = np.linalg.inv(M)
    rate = np.linalg.slogdet(M)[1] / 2
    lengths = np.stack([np.einsum("nd,nd->n", Z @ own, Z) for own in inverse])
    spare = (d - np.trace(inverse, axis1=1, axis2=2)) / 2
    slope = -((rate - spare)[:, None] + sharp / 2 * lengths) / n
    whole = np.linalg.slogdet(eye + sharp / n * (Z.T @ Z))[1] / 2
    return float(whole - (size @ rate) / n), slope


def unit(X: NDArray[np.floating]) -> NDArray[np.floating]:
    """The rows of X, of length one."""
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), X.dtype.type(1e-12))
