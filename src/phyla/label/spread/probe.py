"""Probe: logistic regression on the answers alone; the plain baseline, and enough where answers are many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.label.spread._spreader import Spreader, logistic, one_hot, softmax, with_one

__all__ = ["Probe"]

_FOLDS = 5
_WEIGHTS = (1e-4, 1e-3, 1e-2, 1e-1)  # of the weights' squares, against the mean surprise of an answer


class Probe(Spreader):
    """A linear classifier by plain empirical risk (Im and Grigorescu, 2023, "ignorance is bliss": on frozen features no
    correction for wrong labels does better).

    How strongly weights are held small is found by cross-validation in five folds, where every class has two answers.
    O(answers · d · c) a step; a second for thousands of answers.

    Attributes
    ----------
    weights_ : (d + 1, c). penalty_ : the weight found.
    """

    def _fit(
        self, X: NDArray[np.float32], y: NDArray[np.int32], groups: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> None:
        asked = np.flatnonzero(y >= 0)
        x, answers = with_one(X[asked]), one_hot(y[asked], self.n_classes_)
        fold = rng.permutation(len(x)) % _FOLDS
        self.penalty_ = _WEIGHTS[2]
        if answers.sum(0).min() >= 2 and len(x) >= 4 * _FOLDS:
            missed = [sum(self._missed(x, answers, fold == f, weight) for f in range(_FOLDS)) for weight in _WEIGHTS]
            self.penalty_ = _WEIGHTS[int(np.argmin(missed))]
        self.weights_ = logistic(x, answers, self.penalty_)

    def _missed(
        self, x: NDArray[np.float32], answers: NDArray[np.float32], out: NDArray[np.bool_], weight: float
    ) -> float:
        """The surprise at the answers of one fold."""
        said = softmax(x[out] @ logistic(x[~out], answers[~out], weight))
        return float(-(answers[out] * np.log(np.maximum(said, 1e-12))).sum())

    def _proba(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        return softmax(with_one(X) @ self.weights_)
