"""Expectation maximisation: what the mixture models share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._grouper import Grouper, likeliest, softmax
from phyla.cluster._lloyd import in_parallel, nearest

Parameters = tuple[NDArray, ...]

_BLOCK = 8192  # rows a task
_SAMPLE = 10_000  # rows that a start is fitted to, and that the starts are compared on
_STEPS, _FIRST_STEPS = 50, 15  # of EM, on all rows and on a sample, at most
_SETTLED = 1e-3  # share of the posterior that moves in a step, under which EM has settled


class Mixture(Grouper):
    """A mixture model by EM (Dempster, Laird and Rubin, 1977), tempered. A subclass says what its groups are.

    Each of `n_init` starts is a k-means run and a few steps of EM, on a sample of the rows if there are many (after
    Biernacki, Celeux and Govaert, 2003). The one that the others agree with most goes on with all rows. It is not the
    one under which rows are likeliest: of ten starts on CIFAR-10, that one found 0.73 of the images, six found
    0.83 to 0.86, and one of these agreed with the others most. Of equals, the likelier is taken.

    A hundred axes multiplied as if they were independent make nearly every posterior probability 0 or 1, whatever is
    uncertain. So for the strength they are raised to the power `temper_`, at most 1, at which the mean strength equals
    the mean share of rows on which another start, its groups matched, agrees with the one taken.
    """

    FITTED: ClassVar[tuple[str, ...]]  # names of the parameters

    n_init: int
    temper_: float

    def _prepare(self, X: NDArray[np.float32]) -> None:
        """Learn what rows are seen from."""
        raise NotImplementedError

    def _rows(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the model sees of X: (n, m)."""
        raise NotImplementedError

    def _centres(self, F: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """(c, m), of groups to start from."""
        raise NotImplementedError

    def _maximise(self, F: NDArray[np.float32], posterior: NDArray[np.float32], n_jobs: int) -> Parameters:
        """The likeliest parameters given the groups' posterior probabilities (n, c)."""
        raise NotImplementedError

    def _logits(self, F: NDArray[np.float32], parameters: Parameters) -> NDArray[np.float32]:
        """(n, c): log weight and density of each group, but for what all groups have in common."""
        raise NotImplementedError

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        self._prepare(X)
        F = self._rows(X)

        def drawn(own: np.random.Generator) -> NDArray[np.float32]:
            return F if len(F) <= _SAMPLE else F[np.sort(own.choice(len(F), _SAMPLE, replace=False))]

        def start(own: np.random.Generator) -> tuple[Parameters, NDArray[np.intp], float]:
            rows = drawn(own)
            group = nearest(rows, self._centres(rows, own))[1][:, 0]
            posterior = np.eye(self.n_clusters_, dtype=np.float32)[group]
            parameters = self._em(rows, posterior, _FIRST_STEPS, 1)
            logits = self._logits(judged, parameters)
            return parameters, logits.argmax(1), float(np.logaddexp.reduce(logits, axis=1).mean(dtype=np.float64))

        judged = drawn(rng)
        starts, labels, likelihoods = zip(*in_parallel(start, rng.spawn(self.n_init), self.n_jobs), strict=True)
        agreed = mean_agreement(labels, self.n_clusters_)
        best = max(range(len(starts)), key=lambda i: (agreed[i], likelihoods[i]))
        parameters = self._em(F, self._posterior(F, starts[best], self.n_jobs), _STEPS, self.n_jobs)
        for name, value in zip(self.FITTED, parameters, strict=True):
            setattr(self, name, value)
        self.temper_ = temper(self._logits(judged, parameters), agreed[best])

    def _assign(self, X: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        parameters = tuple(getattr(self, name) for name in self.FITTED)
        return likeliest(self._posterior(self._rows(X), parameters, self.n_jobs, self.temper_))

    def _em(self, F: NDArray[np.float32], posterior: NDArray[np.float32], steps: int, n_jobs: int) -> Parameters:
        for _ in range(steps):
            parameters = self._maximise(F, posterior, n_jobs)
            before, posterior = posterior, self._posterior(F, parameters, n_jobs)
            if np.abs(posterior - before).sum(dtype=np.float64) / 2 < _SETTLED * len(F):
                break
        return parameters

    def _posterior(
        self, F: NDArray[np.float32], parameters: Parameters, n_jobs: int, power: float = 1
    ) -> NDArray[np.float32]:
        def block(start: int) -> NDArray[np.float32]:
            return softmax(np.float32(power) * self._logits(F[start : start + _BLOCK], parameters))

        return np.concatenate(in_parallel(block, range(0, len(F), _BLOCK), n_jobs))


def mean_agreement(labels: Sequence[NDArray[np.integer]], k: int) -> list[float]:
    """Of each of several groupings into k: share of rows on which another agrees, on average; 1 of a single one.

    Groups are matched one to one (Kuhn, 1955). O(groupings² · (n + k³)).
    """
    from scipy.optimize import linear_sum_assignment

    def agreement(one: NDArray[np.integer], other: NDArray[np.integer]) -> float:
        together = np.bincount(one * k + other, minlength=k * k).reshape(k, k)
        return float(together[linear_sum_assignment(together, maximize=True)].sum() / len(one))

    if len(labels) == 1:
        return [1.0]
    found = np.zeros((len(labels), len(labels)))
    for i, one in enumerate(labels):
        for j in range(i):
            found[i, j] = found[j, i] = agreement(one, labels[j])
    return (found.sum(1) / (len(labels) - 1)).tolist()


def temper(logits: NDArray[np.float32], mean: float) -> float:
    """The power, 0..1, to which to raise posteriors for the largest of each row to have this mean, or 1 if lower."""
    logits = logits - logits.max(1, keepdims=True)

    def reached(power: float) -> float:
        return float((1 / np.exp(np.float32(power) * logits).sum(1)).mean())

    low, high = 0.0, 1.0
    if reached(high) <= mean:
        return high
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) > mean else (middle, high)
    return high
