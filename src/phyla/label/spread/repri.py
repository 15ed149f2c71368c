"""RePRI: a linear head fitted to the answers and to all images, certain of each and held to the classes' sizes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.label.spread._spreader import Adam, Spreader, directions, one_hot, softmax

__all__ = ["RePRI"]

_WIDTH, _SHARP = 64, 10.0  # axes of each space; cosines to logits
_STEPS, _BATCH, _RATE = 150, 2048, 0.02
_ENTROPY = 0.3  # weight of the entropy against that of the answers and of the sizes: at 1 classes swallow others
_FREE = 50  # steps after which the sizes are taken from the head itself, as the paper does at one of its steps


class RePRI(Spreader):
    """Transductive inference (Boudiaf et al., 2021, written for segmentation): the head's loss is the cross-entropy of
    the answers, the entropy of what it says of all images, and the relative entropy of its classes' shares to sizes
    that are first equal and then its own. The head starts from the answers' means. O(steps · batch · axes · c).

    Attributes
    ----------
    weights_ : (axes, c).
    """

    def _fit(
        self, X: NDArray[np.float32], y: NDArray[np.int32], groups: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> None:
        view, asked = directions(X, self.blocks_, _WIDTH), np.flatnonzero(y >= 0)
        answers, shown = one_hot(y[asked], self.n_classes_), view[asked]
        means = shown.T @ answers
        means /= np.maximum(np.linalg.norm(means, axis=0), 1e-12)
        head = Adam(np.float32(_SHARP) * means, 0.0)
        sizes = np.full(self.n_classes_, 1 / self.n_classes_, np.float32)
        for step in range(_STEPS):
            x = view[rng.integers(len(view), size=min(_BATCH, len(view)))]
            said = softmax(x @ head.weights)
            shares, logs = said.mean(0), np.log(np.maximum(said, 1e-12))
            if step == _FREE:
                sizes = (shares + sizes) / 2
            push = np.log(np.maximum(shares, 1e-12) / sizes) - np.float32(_ENTROPY) * logs
            push = said * (push - (said * push).sum(1, keepdims=True)) / np.float32(len(x))
            missed = (softmax(shown @ head.weights) - answers) / np.float32(len(asked))
            head.step(x.T @ push + shown.T @ missed, _RATE * (1 - step / _STEPS) * _SHARP)
        self.weights_ = head.weights

    def _proba(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        return softmax(directions(X, self.blocks_, _WIDTH) @ self.weights_)
