"""Linear softmax heads, trained side by side: what the methods that learn a head have in common."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._grouper import Grouper
from phyla.cluster._lloyd import in_parallel, kmeans, nearest
from phyla.cluster._margin import Adam, axes, enough
from phyla.cluster._spaces import leading
from phyla.neighbors import nearest_neighbors

_NEAR = 64  # axes of each space that neighbours are found in
_SAMPLE = 10_000  # rows that this k-means sees, more if that is under ten a group: different rows make heads differ
_RESTARTS = 3  # of it
_LEARNT = 150  # steps in which heads learn its groups, as in `_margin`: heads less sure of them forget where they were
_GROUPS = 2_000  # of all heads together: where groups are many, fewer heads are trained
_BATCH = 1024  # rows; all where there are fewer than twice as many
_RATE, _RATE_LEARNING = 0.01, 0.02
_DECAY = 0.01  # of coefficients. SCAN's heads without: 10,000 of CIFAR-10 0.82, not 0.83, 1,164 photos 0.65, not 0.68
_HIDDEN = 30  # percent of a row's columns that `partly` hides


class Heads:
    """h linear heads, from d columns to c groups each, and Adam (Kingma and Ba, 2015), which trains them.

    coef (h, c, d), intercept (h, c); seen (h, d), the columns that each head sees, where not all; loss (h,), the mean
    of the latest steps'. A step on n rows costs O(n·d·h·c). Probabilities and slopes are (h, c, n): sums over a few
    groups are quick with the rows in the last place.
    """

    def __init__(
        self, coef: NDArray[np.float32], intercept: NDArray[np.float32], seen: NDArray[np.bool_] | None = None
    ) -> None:
        self.coef, self.intercept, self.seen, self.loss = coef, intercept, seen, np.zeros(len(coef))
        self.taken = 0  # steps
        self._down = Adam(coef, _DECAY), Adam(intercept, decay=0)

    def copy(self) -> Heads:
        """The same heads, to be trained anew."""
        return Heads(self.coef.copy(), self.intercept.copy(), self.seen)

    def logits(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """(h, c, n), of the rows of X (n, d)."""
        h, c, d = self.coef.shape
        product: NDArray[np.float32] = (self.coef.reshape(h * c, d) @ X.T).reshape(h, c, len(X))
        return np.add(product, self.intercept[..., None], out=product)

    def proba(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """(h, c, n), of the rows of X (n, d)."""
        return over_groups(self.logits(X))

    def descend(self, X: NDArray[np.float32], loss: NDArray, slope: NDArray, left: float, rate: float = _RATE) -> None:
        """One step down `slope` (h, c, n), that of the loss (h,) by the logits at X (n, d), where `left` of all are."""
        h, c, d = self.coef.shape
        by_coef = (slope.reshape(h * c, len(X)) @ X).reshape(h, c, d)
        if self.seen is not None:
            by_coef *= self.seen[:, None]
        self.taken += 1
        self.loss += (loss - self.loss) / min(self.taken, 50)
        for own, gradient in zip(self._down, (by_coef, slope.sum(2)), strict=True):
            own.step(gradient, rate * left)


def over_groups(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities along the axis before the last."""
    e = logits - logits.max(-2, keepdims=True)
    np.exp(e, out=e)
    e /= e.sum(-2, keepdims=True)
    return e


def through_softmax(p: NDArray[np.float32], slope: NDArray[np.float32]) -> NDArray[np.float32]:
    """The slope by the logits of what has this slope by the probabilities p (h, c, n)."""
    return p * (slope - (p * slope).sum(1, keepdims=True))


def consistency(
    p: NDArray[np.float32], q: NDArray[np.float32], weight: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The loss (h,) −log⟨p, q⟩ − weight · entropy of the mean, and its slopes by the logits of p and q (h, c, n).

    Equation 2 of SCAN (Van Gansbeke et al., 2020), with the mean of the entropies of p and of q.
    """
    n = p.shape[2]
    both = p * q
    same = np.maximum(both.sum(1, keepdims=True), 1e-12)
    loss = -np.log(same).mean((1, 2))
    both /= same
    slopes = []
    for r in (p, q):
        mean = np.maximum(r.mean(2, keepdims=True), 1e-8)
        loss += weight / 2 * (mean * np.log(mean)).sum((1, 2))
        slopes.append((r - both + through_softmax(r, weight / 2 * np.log(mean))) / n)
    return loss, slopes[0], slopes[1]


def cross_entropy(p: NDArray[np.float32], labels: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of p (h, c, n) with labels (h, n): the loss (h,), and its slope by the logits of p."""
    target = labels[:, None] == np.arange(p.shape[1])[:, None]
    loss = -np.log(np.maximum((p * target).sum(1), 1e-12)).mean(1)
    return loss, (p - target) / np.float32(p.shape[2])


def batches(n: int, steps: int, rng: np.random.Generator) -> Iterator[tuple[float, NDArray[np.intp]]]:
    """Of each of `steps` mini-batches the share of steps left and its rows: all n in random order, then in another."""
    size = _BATCH if n >= 2 * _BATCH else n
    done = 0
    while done < steps:
        order = rng.permutation(n)
        for start in range(0, min(n // size, steps - done) * size, size):
            yield 1 - done / steps, order[start : start + size]
            done += 1


def partly(X: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """X with random columns of each row hidden, and the others larger for it (dropout: Srivastava et al., 2014)."""
    shown = rng.integers(100, size=X.shape, dtype=np.uint8) >= _HIDDEN
    return X * shown * np.float32(100 / (100 - _HIDDEN))


class HeadGrouper(Grouper):
    """A grouping method whose groups are the classes of trained heads: those with the least loss of `n_heads`.

    Where there are arms (heads that see different columns), a row's group is that of the product of their
    probabilities, and its strength the mean of what they give to this group.
    """

    AGREEMENT = 0.5  # strength under which an image is left out: no group has half of the probability

    blocks_: NDArray[np.int_]
    losses_: NDArray[np.float64]
    mean_: NDArray[np.float32]
    coef_: NDArray[np.float32]
    intercept_: NDArray[np.float32]

    n_heads: int

    def _seen(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """The leading columns of every space, `widths_` of them, about zero and of mean square one."""
        self.columns_ = np.concatenate(spaces := axes(self.blocks_, enough(len(X))))
        self.widths_ = np.array([len(space) for space in spaces])
        self.mean_ = X.mean(0, dtype=np.float64).astype(np.float32)
        V = X[:, self.columns_] - self.mean_[self.columns_]
        self.scale_ = np.maximum(np.sqrt(np.mean(V * V, dtype=np.float64)), 1e-12).astype(np.float32)
        V /= self.scale_
        return V

    def _near(self, V: NDArray[np.float32], k: int) -> NDArray[np.int32]:
        """(n, k) neighbours; fewer where they would be more than half of an even group."""
        k = max(1, min(k, len(V) // (2 * self.n_clusters_)))
        return nearest_neighbors(leading(V, self.widths_, _NEAR), k, "cosine", self.n_jobs)[0]

    def _start(self, V: NDArray[np.float32], rng: np.random.Generator, arms: NDArray[np.bool_] | None = None) -> Heads:
        """Heads that have learnt the groups of a k-means on rows of its own; of each `arms` (a, d) that see columns."""
        n, k, narrow = len(V), self.n_clusters_, leading(V, self.widths_)

        def one(own: np.random.Generator) -> NDArray[np.int32]:
            rows = own.choice(n, min(max(_SAMPLE, 10 * k), max(k, int(0.7 * n))), replace=False)
            return nearest(narrow, kmeans(narrow[rows], k, own, _RESTARTS))[1][:, 0]

        labels = np.stack(in_parallel(one, rng.spawn(max(1, min(self.n_heads, _GROUPS // k))), self.n_jobs))
        seen = None if arms is None else np.tile(arms, (len(labels), 1))
        labels = labels.repeat(1 if arms is None else len(arms), 0)
        coef = np.zeros((len(labels), k, V.shape[1]), np.float32)
        heads = Heads(coef, np.zeros(coef.shape[:2], np.float32), seen)
        for left, i in batches(n, _LEARNT, rng):
            heads.descend(V[i], *cross_entropy(heads.proba(V[i]), labels[:, i]), left, _RATE_LEARNING)
        return heads.copy()

    def _keep(self, heads: Heads, losses: NDArray, X: NDArray[np.float32]) -> None:
        """Take the heads (all arms) with the least loss, the largest group first."""
        self.losses_ = losses
        best = int(np.argmin(losses))
        arms = slice(best * len(heads.coef) // len(losses), (best + 1) * len(heads.coef) // len(losses))
        self.coef_ = np.zeros((len(heads.coef[arms]), self.n_clusters_, X.shape[1]), np.float32)
        self.coef_[..., self.columns_] = heads.coef[arms] / self.scale_
        self.intercept_ = heads.intercept[arms]
        order = np.argsort(-np.bincount(self._assign(X)[0], minlength=self.n_clusters_), kind="stable")
        self.coef_ = np.ascontiguousarray(self.coef_[:, order])
        self.intercept_ = np.ascontiguousarray(self.intercept_[:, order])

    def _assign(self, X: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        logits = Heads(self.coef_, self.intercept_).logits(X - self.mean_)
        label = logits.sum(0).argmax(0)
        strength = over_groups(logits).mean(0)[label, np.arange(len(X))]
        return label.astype(np.int32), strength.clip(0, 1)
