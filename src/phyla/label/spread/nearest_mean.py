"""Nearest mean: the class whose answers are nearest on average; classes and answers can be added at any time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.label.spread._spreader import Spreader, directions, one_hot, softmax

__all__ = ["NearestMean"]

_WIDTH = 64  # leading axes of each space
_SHARP = 10.0  # cosines to probabilities


class NearestMean(Spreader):
    """The nearest class mean on frozen features (Janson et al., 2022); needs no training, only sums.

    `learn_more` adds answers, of known classes or new ones, without those given before. O(answers · axes).

    Attributes
    ----------
    sums_ : (c, axes), of the answers' rows scaled to length 1. counts_ : (c,) answers.
    """

    def _fit(
        self, X: NDArray[np.float32], y: NDArray[np.int32], groups: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> None:
        self.sums_, self.counts_ = self._summed(X, y, self.n_classes_)

    def learn_more(self, X: NDArray[np.float32], y: NDArray[np.int32]) -> None:
        """Add the answers y (n,), −1 where there is none, to rows of X (n, d); a new code is a new class."""
        c = max(self.n_classes_, int(y.max(initial=-1)) + 1)
        sums, counts = self._summed(np.asarray(X, np.float32), np.asarray(y), c)
        new = c - self.n_classes_
        self.sums_ = sums + np.pad(self.sums_, ((0, new), (0, 0)))
        self.counts_ = counts + np.pad(self.counts_, (0, new))
        self.n_classes_ = c

    def _summed(
        self, X: NDArray[np.float32], y: NDArray[np.int32], c: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        asked = np.flatnonzero(y >= 0)
        answers = one_hot(y[asked], c)
        return answers.T @ directions(X[asked], self.blocks_, _WIDTH), answers.sum(0)

    def _proba(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        means = self.sums_ / np.maximum(np.linalg.norm(self.sums_, axis=1, keepdims=True), 1e-12)
        cosines = directions(X, self.blocks_, _WIDTH) @ means.T
        cosines[:, self.counts_ == 0] = -2  # nothing is known of such a class
        return softmax(np.float32(_SHARP) * cosines)
