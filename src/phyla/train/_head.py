"""What turns a network's features into classes: principal components, dense layers, and how far to trust them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """Arrays alone, so that it can be kept in any format. d features, k components, c classes.

    mean : (d,), components : (k, d), scale : (k,): z = (x − mean) · componentsᵀ / scale.
    layers : (weights (in, out), bias (out,)) each, a ReLU between two; the last gives the logits, calibrated.
    radius : (c,), largest 1 − p of the likeliest class at which it is still taken.
    centers : (m, k) in z, quantiles : (3, q): see `outlier`.
    """

    mean: Array
    components: Array
    scale: Array
    layers: tuple[tuple[Array, Array], ...]
    radius: Array
    centers: Array
    quantiles: Array

    def reduce(self, X: Array) -> Array:
        """z (n, k) of features X (n, d)."""
        return np.asarray((X - self.mean) @ self.components.T / self.scale, np.float32)

    def logits(self, Z: Array) -> Array:
        for weights, bias in self.layers[:-1]:
            Z = np.maximum(Z @ weights + bias, 0).astype(np.float32)
        weights, bias = self.layers[-1]
        return Z @ weights + bias

    def probability(self, X: Array) -> Array:
        """(n, c)."""
        logits = self.logits(self.reduce(X))
        share = np.exp(logits - logits.max(1, keepdims=True))
        return share / share.sum(1, keepdims=True)

    def defer(self, probability: Array) -> NDArray[np.bool_]:
        """(n,): whether a person should look, as the likeliest class may be wrong."""
        return 1 - probability.max(1) > self.radius[probability.argmax(1)]

    def strangeness(self, X: Array) -> Array:
        """(n, 2): squared distance of z to the nearest of the centers, and of x to what z can say of it."""
        Z = self.reduce(X)
        away = (Z**2).sum(1, keepdims=True) - 2 * Z @ self.centers.T + (self.centers**2).sum(1)
        rest = ((X - self.mean) ** 2).sum(1) - ((Z * self.scale) ** 2).sum(1)
        return np.column_stack([away.min(1), rest])

    def outlier(self, X: Array) -> Array:
        """(n,) 0..1: the share of the pictures learnt from that are less strange.

        Both distances as the share of those pictures that have a smaller one, their mean again as such a share.
        """
        ranks = [rank(q, column) for q, column in zip(self.quantiles, self.strangeness(X).T, strict=False)]
        return rank(self.quantiles[2], (ranks[0] + ranks[1]) / 2)


def rank(quantiles: Array, values: NDArray[np.floating]) -> Array:
    """(n,): the share of the quantiles (q,), in order, that are below each value."""
    return (np.searchsorted(quantiles, values, side="left") / len(quantiles)).astype(np.float32)
