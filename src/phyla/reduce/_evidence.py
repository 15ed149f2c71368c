"""How many principal components the data speaks for, told from the eigenvalues of its covariance alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammaln

_ROUNDING = 1e-7  # of the largest eigenvalue: what float32 leaves of an axis without variance
_NOISES = 1000  # levels of noise tried; neighbours differ by less than 1 % where eigenvalues span four decades


def evidence(variance: NDArray[np.float64], n: float) -> NDArray[np.float64]:
    """Log evidence of probabilistic PCA with 1, 2, … axes (Minka, 2000), one entry each; O(d²).

    variance : (d,) eigenvalues, largest first. n : rows they come from.

    Laplace's approximation integrates over every pair of axes that may turn into one another, and diverges where two
    eigenvalues are equal. Yet no axis is less certain than one drawn at random, so that its w angles, each a factor
    √(2π / a), cover at most its sphere of w dimensions: eigenvalues count as at least so far apart.
    """
    variance = variance[variance > _ROUNDING * variance[0]][: max(int(n) - 1, 1)]
    d = len(variance)
    if d < 2:
        return np.zeros(1)
    k = np.arange(1, d)
    log = np.log(variance)
    noise = np.cumsum(variance[::-1])[::-1][1:] / (d - k)  # (d − 1,), mean of what k axes leave

    width = d - np.arange(d)
    sphere = np.log(2) + np.log(np.pi) * width / 2 - gammaln(width / 2)  # (d,), log area of where an axis may point
    least = np.sqrt(2 * np.pi / n) * np.exp(-sphere / np.maximum(width - 1, 1))  # of a variance, that others are apart

    def apart(smaller: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log(np.maximum(variance[:, None] - smaller, (least * variance)[:, None]))

    pairs = np.triu(apart(variance), 1)
    freedom = d * k - k * (k + 1) // 2  # of k axes to turn
    fit = np.cumsum(log)[:-1] + (d - k) * np.log(noise)
    # log |A_Z|: both factors of axes among the k, then those of an axis and the noise.
    among = np.cumsum(pairs.sum(0) - log * np.arange(d) - (np.cumsum(log) - log))[:-1]
    against = (d - k) * (np.triu(apart(noise)[:-1]).sum(0) - k * np.log(noise) - np.cumsum(log)[:-1])
    curved = np.cumsum(pairs.sum(1))[:-1] + among + against + freedom * np.log(n)
    prior = -np.cumsum(sphere)[:-1]
    return prior + ((freedom + k) * np.log(2 * np.pi) - n * fit - curved - k * np.log(n)) / 2


def elbo(variance: NDArray[np.float64], n: float) -> NDArray[np.float64]:
    """Greatest lower bound of the log evidence with up to 1, 2, … axes, one entry each; O(d) for a level of noise.

    Variational Bayes with independent posteriors of axes and coordinates, and the variances of both priors chosen to
    raise the bound, has its optimum in closed form (Nakajima, Sugiyama, Babacan and Tomioka, 2013): an axis pays
    exactly if its eigenvalue exceeds the noise by a factor that depends on d / n. Only the noise is searched for.
    """
    rows = max(n - 1, 1)
    many = max(len(variance), rows)
    few = min(int((variance > _ROUNDING * variance[0]).sum()), int(rows))  # of columns or rows not all zero
    variance = np.maximum(variance[: max(few, 1)] * (rows / many), np.finfo(np.float32).tiny)
    alpha = len(variance) / many

    def balance(z: float) -> float:
        return np.log1p(z) / z + np.log1p(z / alpha) * alpha / z - 1

    least = brentq(balance, 1e-9, 1e3)
    threshold = (1 + least) * (1 + alpha / least)
    noise = np.geomspace(variance[-1], variance.mean(), _NOISES)[:, None]
    x = variance / noise
    inner = np.maximum(x, threshold) - (1 + alpha)
    tau = (inner + np.sqrt(inner**2 - 4 * alpha)) / 2
    gain = np.where(x > threshold, tau - np.log1p(tau) - alpha * np.log1p(tau / alpha), 0)
    without = len(variance) * np.log(2 * np.pi * noise) + x.sum(1, keepdims=True)
    return many / 2 * (np.cumsum(gain, 1) - without).max(0)


def oas(variance: NDArray[np.float64], n: float) -> float:
    """How far to draw eigenvalues (d,) from n rows to their mean (Chen, Wiesel, Eldar and Hero, 2010, equation 23)."""
    d = len(variance)
    square, total = float((variance**2).sum()), float(variance.sum()) ** 2
    apart = (n + 1 - 2 / d) * (square - total / d)
    return min(((1 - 2 / d) * square + total) / apart, 1.0) if apart > 0 else 1.0
