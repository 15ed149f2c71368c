"""TLDR: a linear map under which neighbours come out alike; in PCA's place where search matters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.neighbors import nearest_neighbors
from phyla.reduce._adam import Adam
from phyla.reduce._reducer import Reducer, signs

__all__ = ["TLDR"]

# Leading axes that a map to one may draw on. With 2 in place of 4, a point less of the 10 nearest share a row's class
# (three networks' features of CIFAR-10 and of groceries); far behind lies noise.
_AXES = 4
_FLOOR = 1e-7  # of the largest variance: an axis with less is rounding error
_BATCH = 512
_RATE = 3e-3  # of Adam; not tuned
_ROUNDS = 200  # times that a row is seen at most: few rows are learned in less than the given steps
_REDUNDANCY = 0.005  # weight of the loss' second part, as in Barlow Twins


class TLDR(Reducer):
    """Twin learning for dimensionality reduction (Kalantidis, Lassance, Almazán and Larlus, 2022).

    Pairs are a row and one of its nearest neighbours. Both go through a linear encoder and, in training only, a
    projector with one hidden layer; on its outputs, over a batch, each column should correlate with itself across the
    pair, and with no other (Barlow Twins: Zbontar, Jing, Misra, LeCun and Deny, 2021). So the encoder keeps what
    neighbours share, which need not be what varies most. It starts from the solution without a projector, which is an
    eigenproblem, in the leading 4 · n_components principal axes.

    Of the space that the encoder finds, the axes are then turned such that they are uncorrelated and the one that
    neighbours agree on most comes first. Each, of unit variance, is multiplied by that agreement: a row's place is
    where its neighbours are expected.

    O(n²·d) for the neighbours, and O(n_steps) batches; 50,000 × 192 take 24 s of one core.

    Parameters
    ----------
    n_components : axes wanted; fewer come back when the data has fewer. n_neighbors : partners of a row, by cosine.
    n_hidden : units of the projector, both hidden and out; 0 for none. n_steps : batches of 512 pairs, at most 200
        rounds. random_state : of pairs, batches and projector. n_jobs : threads for the neighbours; the answer does not
        depend on how many.

    Attributes
    ----------
    mean_ : (d,). components_ : (k, d). agreement_ : (k,), slope of the regression of neighbours on rows, about 0..1.
    loss_ : (steps,), of each batch.
    """

    VERSION = 1

    mean_: NDArray[np.float32]
    components_: NDArray[np.float32]
    agreement_: NDArray[np.float32]
    loss_: NDArray[np.float32]

    def __init__(
        self,
        n_components: int = 64,
        *,
        n_neighbors: int = 5,
        n_hidden: int = 256,
        n_steps: int = 1000,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.n_hidden = n_hidden
        self.n_steps = n_steps
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        from scipy.linalg import eigh

        n, d = X.shape
        self.mean_ = X.mean(0, dtype=np.float64).astype(np.float32)
        X = X - self.mean_
        width = min(_AXES * self.n_components, d, n - 1)
        variance, axes = eigh((X.T @ X).astype(np.float64) / (n - 1), subset_by_index=(d - width, d - 1))
        variance, axes = variance[::-1], axes[:, ::-1] * signs(axes[:, ::-1])
        lengths = np.sqrt(np.maximum(variance, 0))
        # Twins meet in a whitened space, where one rate of learning suits all axes.
        whiten = np.where(variance > _FLOOR * variance[0], 1 / np.maximum(lengths, 1e-12), 0)
        W = X @ (axes * whiten).astype(np.float32)
        k = min(self.n_neighbors, n - 1)
        near, _ = nearest_neighbors(W * lengths.astype(np.float32), k, "cosine", self.n_jobs)
        encoder = self._learn(W, near, rng).astype(np.float64)

        agreement, turn = _agreed(W @ encoder.astype(np.float32), near)
        agreement = np.maximum(agreement, 0)
        found = (axes * whiten) @ encoder @ turn * agreement
        self.components_ = np.ascontiguousarray((found * signs(found)).T, dtype=np.float32)
        self.agreement_ = agreement.astype(np.float32)

    def _learn(self, W: NDArray[np.float32], near: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.float32]:
        """The encoder (w, k) for the whitened rows of W (n, w) and their neighbours (n, m)."""
        n, k, h = len(W), min(self.n_components, W.shape[1]), self.n_hidden
        weights = [np.ascontiguousarray(_agreed(W, near)[1][:, :k], np.float32)]
        if h:
            shapes = ((k, h), (h, h))
            weights += [rng.normal(scale=np.sqrt(2 / s[0]), size=s).astype(np.float32) for s in shapes]
        batch = min(_BATCH, n)
        steps = min(self.n_steps, _ROUNDS * -(-n // batch))
        adam = Adam(weights, _RATE, steps)
        self.loss_ = np.zeros(steps, np.float32)
        order = np.empty(0, np.intp)
        for step in range(steps):
            if len(order) < batch:
                order = rng.permutation(n)
            rows, order = order[:batch], order[batch:]
            twins = near[rows, rng.integers(near.shape[1], size=batch)]
            self.loss_[step], gradients = loss(np.concatenate([W[rows], W[twins]]), weights)
            adam.step(gradients)
        return weights[0]

    def _transform(self, X: NDArray[np.float32]) -> NDArray[np.floating]:
        return (X - self.mean_.astype(np.float64)) @ self.components_.T.astype(np.float64)


def _agreed(Z: NDArray[np.float32], near: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Agreement (k,) and axes (k, k) in the columns, uncorrelated in Z (n, k): most agreed on by neighbours first.

    (Symmetric covariance of rows and their neighbours) v = agreement · (covariance of the rows) v.
    """
    from scipy.linalg import eigh

    Z = Z - Z.mean(0)
    beside = sum(Z[near[:, j]] for j in range(near.shape[1])) / near.shape[1]
    own, across = ((Z.T @ other).astype(np.float64) / len(Z) for other in (Z, beside))
    ridge = _FLOOR * max(np.trace(own) / len(own), 1e-12)
    agreement, axes = eigh((across + across.T) / 2, own + ridge * np.eye(len(own)))
    return agreement[::-1], axes[:, ::-1]


def loss(X: NDArray[np.float32], weights: list[NDArray[np.float32]]) -> tuple[float, list[NDArray[np.float32]]]:
    """Loss of rows of X (2b, w), of which i and b + i are a pair, and its gradient for each of the weights.

    These are the encoder and, if there is a projector, its two layers.
    """
    Z = X @ weights[0]
    if len(weights) == 1:
        value, dZ = _redundancy(Z)
        return value, [X.T @ dZ]
    hidden = np.maximum(Z @ weights[1], 0)
    value, dY = _redundancy(hidden @ weights[2])
    dA = (dY @ weights[2].T) * (hidden > 0)
    return value, [X.T @ (dA @ weights[1].T), Z.T @ dA, hidden.T @ dY]


def _redundancy(Y: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
    """Barlow Twins' loss of the outputs Y (2b, h), and its gradient."""
    b = len(Y) // 2
    pair = Y.reshape(2, b, -1)
    spread = pair.std(1, keepdims=True) + 1e-5
    one, two = unit = (pair - pair.mean(1, keepdims=True)) / spread
    C = one.T @ two / b
    off = np.diag(C) - 1
    dC = 2 * _REDUNDANCY * C
    value = _REDUNDANCY * ((C**2).sum() - (np.diag(C) ** 2).sum()) + (off**2).sum()
    np.fill_diagonal(dC, 2 * off)
    d = np.stack([two @ dC.T, one @ dC]) / b
    # Back through the standardised columns.
    d -= d.mean(1, keepdims=True) + unit * (d * unit).mean(1, keepdims=True)
    return float(value), (d / spread).reshape(Y.shape)
