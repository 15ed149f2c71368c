"""Label shift: what grows and shrinks together; for images of several folders, dates or cameras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phyla.cluster._grouper import Grouper, likeliest, softmax
from phyla.cluster._lloyd import kmeans, nearest
from phyla.cluster._margin import Adam, Pull, axes, by_weights, enough, mean_labelling, widest, with_one
from phyla.cluster._spaces import leading
from phyla.types import PhylaError

__all__ = ["LabelShift"]

_BATCH, _STEPS, _RATE = 1024, 300, 0.01  # of the discriminator; it has settled by then
_CELLS, _ROWS_A_CELL = 10, 10  # cells a group; and rows a cell has at least, on average
_FACTORED = 100  # multiplicative updates
# Weight of the domains' surprise against the labellers' margins. 10,000 images of CIFAR-10 in 10 domains (Dirichlet 1):
# 0.833 at 0, 0.843 at 1, 0.895 at 10.
_WEIGHT = 10.0
_SMOOTH = 0.1  # images of each group that a domain is granted


class LabelShift(Grouper):
    """Unsupervised learning under latent label shift (Roberts, Mani, Garg and Lipton, 2022).

    Where an image comes from says how likely each class is, but a class looks alike everywhere: then classes are told
    apart by what grows and shrinks together from domain to domain. As in the paper a discriminator learns p(domain |
    image), the images are put into fine cells, and the cells × domains table of counts is factored without negative
    numbers into Q(cell | group) and p(group, domain).

    The factors are unique only with as many domains as classes and images of one class alone for each of them: on
    10,000 images of CIFAR-10 the likeliest of ten random starts is 0.71 and 0.86 right with 20 domains, 0.4 to 0.7 with
    5 or 10, and margins from there never ended better. So features have a say all along. Cells are those of [leading
    axes, log p(domain | image)], and the factors start from k-means: 0.82 to 0.86 with 5, 10 or 20 domains. Linear
    labellers then maximise the margins (`_margin`) and the likelihood of the domains,
    log Σ p(domain | group) p(group | image).

    With one domain, or none given, the counts say nothing: then it is margins from k-means alone.

    O(n · cells · d) for the cells, the rest is less.

    Parameters
    ----------
    n_clusters : int or None, found by stability where None.
    blocks : widths of the spaces that X holds side by side; None for a single one.
    n_margins : margin maximisations, of which the mean labels.
    n_jobs : threads; the answer does not depend on how many.

    Attributes
    ----------
    labels_ : (n,) int32. strength_ : (n,) float32, the labellers' mean probability of the label; domains unknown.
    labellers_ : (margins, width of all spaces + one each, groups).
    domains_ : (m,), sorted (names are not saved, numbers are). mixes_ : (m, groups), each domain's shares of the
        groups. shares_ : (groups,), those of all images.
    """

    VERSION = 2
    AGREEMENT = 0.5  # strength under which an image is left out: no group has half of the probability

    blocks_: NDArray[np.int_]
    _domains: NDArray[Any] | None = None

    def __init__(
        self,
        n_clusters: int | None = None,
        *,
        blocks: Sequence[int] | None = None,
        n_margins: int = 2,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.blocks = blocks
        self.n_margins = n_margins
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None, *, domains: ArrayLike | None = None) -> Self:
        """Group the rows of X (n, d), which come from `domains` (n,), numbers or names; y is not looked at."""
        self._domains = None if domains is None else np.asarray(domains)
        try:
            return super().fit(X, y)
        finally:
            self._domains = None

    def proba(self, X: Any, domains: ArrayLike | None = None) -> NDArray[np.float32]:
        """p(group | image) (n, c), or p(group | image, domain) with the `domains` (n,) of the rows of X.

        A class looks alike in every domain, so the odds change as the shares of the groups do.
        """
        p = self._proba(np.ascontiguousarray(X, np.float32))
        if domains is None:
            return p
        given = _plain(np.asarray(domains))
        at = np.searchsorted(self.domains_, given).clip(max=len(self.domains_) - 1)
        known = self.domains_[at] == given
        p = p * np.where(known[:, None], self.mixes_[at] / np.maximum(self.shares_, 1e-12), 1).astype(np.float32)
        return p / np.maximum(p.sum(1, keepdims=True), 1e-30)

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        k, n = self.n_clusters_, len(X)
        self.domains_, of = self._coded(n)
        m = len(self.domains_)
        narrow = leading(X, self.blocks_)
        near = nearest(narrow, kmeans(narrow, k, rng, 10, n_jobs=self.n_jobs))[1][:, 0]
        self.width_ = enough(n)
        spaces = axes(self.blocks_, self.width_)
        rngs = rng.spawn(self.n_margins)
        start, towards = np.eye(k, dtype=np.float32)[near], None
        if m > 1:
            start, towards = self._factored(X, narrow, near, of, rng), _towards(X, spaces, of, m)
        found = widest(X, spaces, start, rngs, self.n_jobs, towards)
        self.labellers_ = np.stack([np.concatenate(labellers) for labellers in found])
        order = np.argsort(-np.bincount(self._proba(X).argmax(1), minlength=k), kind="stable")
        self.labellers_ = np.ascontiguousarray(self.labellers_[:, :, order])
        self.mixes_ = _mixes(np.eye(k)[self._proba(X).argmax(1)], of, m)
        self.mixes_ /= self.mixes_.sum(1, keepdims=True)
        self.shares_ = np.bincount(of, minlength=m) / n @ self.mixes_

    def _assign(self, X: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        return likeliest(self._proba(X))

    def _proba(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        return mean_labelling(X, self.blocks_, self.width_, self.labellers_)

    def _coded(self, n: int) -> tuple[NDArray[Any], NDArray[np.intp]]:
        """The domains (m,), and which of them each row is of."""
        if self._domains is None:
            return np.zeros(1), np.zeros(n, np.intp)
        if self._domains.shape != (n,):
            raise PhylaError(
                f"domains has shape {self._domains.shape}, and there are {n} images", "give one domain for each image"
            )
        return np.unique(_plain(self._domains), return_inverse=True)

    def _factored(
        self,
        X: NDArray[np.float32],
        narrow: NDArray[np.float32],
        near: NDArray[np.int32],
        of: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> NDArray[np.float32]:
        """p(group | cell, domain) (n, c) of the factors found from the groups `near` of the rows."""
        n, k, m = len(X), self.n_clusters_, len(self.domains_)
        told = discriminator(X, of, m, rng)
        place = np.hstack([_of_size_one(narrow), _of_size_one(told)])
        cells = max(k, min(_CELLS * k, n // _ROWS_A_CELL))
        cell = nearest(place, kmeans(place, cells, rng, 3, n_jobs=self.n_jobs))[1][:, 0]
        counts = _together(cell, of, cells, m)
        by_group, mix, _ = factor(
            counts, _together(cell, near, cells, k) + _SMOOTH, _together(near, of, k, m) + _SMOOTH
        )
        p = by_group[cell] * mix.T[of]
        return (p / np.maximum(p.sum(1, keepdims=True), 1e-30)).astype(np.float32)


def discriminator(
    X: NDArray[np.float32], of: NDArray[np.intp], m: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """log p(domain | row) (n, m), about its mean, by multinomial logistic regression on the rows of X (n, d)."""
    V = with_one((X - X.mean(0)) / np.float32(max(X.std(), 1e-12)))
    learnt, one_hot = Adam(np.zeros((V.shape[1], m), np.float32)), np.eye(m, dtype=np.float32)
    size = min(_BATCH, len(X))
    for step in range(_STEPS):
        rows = rng.integers(len(X), size=size)
        surplus = softmax(V[rows] @ learnt.weights) - one_hot[of[rows]]
        learnt.step((V[rows].T @ surplus / size).astype(np.float32), _RATE * (1 - step / _STEPS))
    log_p = np.log(softmax(V @ learnt.weights) + np.float32(1e-6))
    return log_p - log_p.mean(0)


def factor(
    counts: NDArray[np.floating],
    by_group: NDArray[np.floating],
    mix: NDArray[np.floating],
    updates: int = _FACTORED,
) -> tuple[NDArray[np.floating], NDArray[np.floating], float]:
    """Q(cell | group) (cells, c), p(group, domain) (c, m) and the divergence of their product from `counts`.

    Multiplicative updates for the Kullback–Leibler divergence (Lee and Seung, 2001) from `by_group` and `mix`.
    """
    table = counts / counts.sum()
    Q, H = by_group / by_group.sum(0), mix / mix.sum()
    for _ in range(updates):
        ratio = table / np.maximum(Q @ H, 1e-30)
        Q, H = Q * (ratio @ H.T), H * (Q.T @ ratio)
        Q /= np.maximum(Q.sum(0), 1e-30)
    seen = table > 0
    return Q, H, float((table[seen] * np.log(table[seen] / np.maximum((Q @ H)[seen], 1e-30))).sum())


def _towards(X: NDArray[np.float32], spaces: list[NDArray[np.intp]], of: NDArray[np.intp], m: int) -> Pull:
    """The slopes of the mean −log Σ p(domain | group) p(group | row) by labellers, on rows drawn each time.

    p(domain | group) is that of the rows drawn, and taken as it stands, as in EM. (Three or ten turns of EM for it, in
    each step, end 0.001 to 0.003 higher on CIFAR-10: not worth their lines.)
    """
    size = min(_BATCH, len(X))

    def pull(labellers: list[NDArray[np.float32]], rng: np.random.Generator) -> list[NDArray[np.float32]]:
        rows = rng.integers(len(X), size=size)
        drawn = X[rows]
        seen = [with_one(drawn[:, space]) for space in spaces]
        each = [softmax(x @ w) for x, w in zip(seen, labellers, strict=True)]
        p = sum(each[1:], each[0]) / np.float32(len(each))
        by_group = _mixes(p, of[rows], m)
        like = (by_group / by_group.sum(0))[of[rows]].astype(np.float32)
        slope = like / np.maximum((p * like).sum(1, keepdims=True), 1e-12)
        return by_weights(seen, each, np.float32(-_WEIGHT / size) * slope)

    return pull


def _mixes(p: NDArray[np.floating], of: NDArray[np.intp], m: int) -> NDArray[np.float64]:
    """How much of each group each domain holds (m, c), with a little of every one."""
    held = np.zeros((m, p.shape[1]))
    np.add.at(held, of, p)
    return held + _SMOOTH * p.mean(0) * np.bincount(of, minlength=m)[:, None] / len(of) + 1e-12


def _plain(domains: NDArray[Any]) -> NDArray[Any]:
    """Domains that can be sorted: objects become their names."""
    return domains.astype(str) if domains.dtype == object else domains


def _together(one: NDArray[np.integer], two: NDArray[np.integer], m: int, k: int) -> NDArray[np.float64]:
    """(m, k): how many rows are of each pair."""
    return np.bincount(one.astype(np.int64) * k + two, minlength=m * k).reshape(m, k).astype(float)


def _of_size_one(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """X about its mean, its rows of mean square one."""
    X = X - X.mean(0)
    return X / np.maximum(np.sqrt((X * X).sum(1).mean()), np.float32(1e-12))
