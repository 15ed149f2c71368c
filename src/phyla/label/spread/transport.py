"""Transport: prototypes of few answers, moved by optimal transport to where the images of all classes lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.label.spread._spreader import Spreader, directions, hold, one_hot, softmax

__all__ = ["Transport"]

_WIDTH, _SAMPLE = 32, 20_000  # leading axes of each space; rows that the prototypes are moved by
_SHARP = 15.0  # cosines to logits; 1 / the transport's entropy
_ROUNDS = 10


class Transport(Spreader):
    """Optimal-transport alignment of prototypes (Poulakakis-Daktylidis and Jamali-Rad, 2024: BECLR's OpTA): few answers
    are a biased sample of their class; images are transported to the prototypes, each of which takes its class's share
    of them, and a prototype moves to the mean of what it takes. Shares are equal. O(rounds · n · axes · c).

    Attributes
    ----------
    means_ : (axes, c) prototypes of length 1.
    """

    def _fit(
        self, X: NDArray[np.float32], y: NDArray[np.int32], groups: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> None:
        view, asked = directions(X, self.blocks_, _WIDTH), np.flatnonzero(y >= 0)
        answers, shown = one_hot(y[asked], self.n_classes_), view[asked]
        view = view[rng.permutation(len(view))[:_SAMPLE]]
        sizes = np.full(self.n_classes_, 1 / self.n_classes_, np.float32)
        self.means_ = _unit(shown.T @ answers)
        for _ in range(_ROUNDS):
            plan = hold(softmax(np.float32(_SHARP) * (view @ self.means_)), sizes)
            # The answers count as much as as many images, that is little where these are many.
            self.means_ = _unit(view.T @ plan + shown.T @ answers)

    def _proba(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        return softmax(np.float32(_SHARP) * (directions(X, self.blocks_, _WIDTH) @ self.means_))


def _unit(columns: NDArray[np.float32]) -> NDArray[np.float32]:
    return columns / np.maximum(np.linalg.norm(columns, axis=0), 1e-12)
