"""DASO: a linear head and nearest prototypes label together, so that rare classes are not swallowed by common ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phyla.label.spread._spreader import Spreader, directions, logistic, one_hot, softmax, with_one

__all__ = ["DASO"]

_WIDTH, _SHARP = 64, 10.0  # leading axes of each space; cosines to logits
_ROUNDS = 3
_SAMPLE = 10_000  # rows without an answer that a round learns from
_PENALTY = 1e-3
_ANSWERED = 0.5  # share of the loss that the answers have, however few they are
_EVEN = 1.5  # the paper's temperature of the class shares


class DASO(Spreader):
    """Distribution-aware semantics-oriented pseudo-labels (Oh, Kim and Kweon, 2022), for classes of unequal size.

    The head's pseudo-labels lean to common classes, those by likeness to the prototypes to rare ones. Each image has a
    blend: the commoner the class that the head gives, the more the prototypes count. The head learns the blends and the
    answers, in a few rounds; prototypes are the means of the answers, each class counting alike. O(rounds · n · d · c).

    Attributes
    ----------
    weights_ : (axes + 1, c), of the head.
    """

    def __init__(
        self, *, blocks: Sequence[int] | None = None, blend: bool = True, random_state: int = 0, n_jobs: int = 1
    ) -> None:
        self.blocks = blocks
        self.blend = blend
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _fit(
        self, X: NDArray[np.float32], y: NDArray[np.int32], groups: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> None:
        view, asked, others = directions(X, self.blocks_, _WIDTH), np.flatnonzero(y >= 0), np.flatnonzero(y < 0)
        answers, shown = one_hot(y[asked], self.n_classes_), view[asked]
        means = shown.T @ answers
        means /= np.maximum(np.linalg.norm(means, axis=0), 1e-12)
        scale = np.float32(np.sqrt(view.shape[1]))
        x = with_one(scale * shown)
        self.weights_ = logistic(x, answers, _PENALTY)
        view = view[rng.permutation(others)[:_SAMPLE]]
        if not len(view):
            return
        every = np.concatenate([x, with_one(scale * view)])
        weight = np.full(len(every), (1 - _ANSWERED) / len(view), np.float32)
        weight[: len(x)] = _ANSWERED / len(x)
        likeness = softmax(np.float32(_SHARP) * (view @ means))
        for _ in range(_ROUNDS):
            label = softmax(every[len(x) :] @ self.weights_)
            if self.blend:
                common = label.mean(0) ** np.float32(1 / _EVEN)
                trust = (common / common.max())[label.argmax(1)][:, None]
                label = (1 - trust) * label + trust * likeness
            self.weights_ = logistic(every, np.concatenate([answers, label]), _PENALTY, weight)

    def _proba(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        view = directions(X, self.blocks_, _WIDTH)
        return softmax(with_one(np.float32(np.sqrt(view.shape[1])) * view) @ self.weights_)
