"""A prediction as a sum over the images that were learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

# Against what `anchored` spreads on CIFAR-10 from 40 answers, taught by 200 images a class: the same class for 0.953 of
# other images at γ = 1, 2 and 4, 0.941 at 8; ridges of 0.03 to 1 do alike, and so do 32 axes with 0.94. Of these γ = 4
# heeds the nearest ten most: 3 % of all that pushes, at 1 it is 1 %.
_GAMMA, _RIDGE, _WIDTH = 4.0, 1.0, 64


class Representers:
    """Kernel ridge regression whose every score is a signed contribution of each image it learnt from.

    The minimum of Σ |f(x_i) − y_i|² + λ|f|² is f(x) = Σ α_i k(x_i, x) with α = (K + λ)⁻¹ y (the representer theorem;
    representer points: Yeh and others, 2018), so image i pushes class c at x by α_ic · k(x_i, x), and nothing else
    does: the pushes sum to the score. k = exp(γ (cos − 1)) on the leading axes of each space. O(m²·d + m³) for m images
    learnt from, once; a prediction is O(m·d): with 3,000 images 1 s, and under a millisecond.

    Attributes
    ----------
    rows_ : (m, d') the images learnt from, of length 1. alpha_ : (m, c).
    """

    rows_: NDArray[np.float64]
    alpha_: NDArray[np.float64]

    def __init__(self, *, blocks: Sequence[int] | None = None) -> None:
        self.blocks = blocks

    def fit(self, X: NDArray[np.floating], y: NDArray[np.integer], n_classes: int) -> Self:
        """Learn from rows X (m, d) of classes y (m,)."""
        from scipy.linalg import cho_factor, cho_solve

        blocks = [X.shape[1]] if self.blocks is None else self.blocks
        starts = np.cumsum(blocks) - blocks
        self.columns_ = np.concatenate([np.arange(s, s + min(b, _WIDTH)) for s, b in zip(starts, blocks, strict=True)])
        self.rows_ = self._unit(X)[0]
        targets = np.eye(n_classes)[y] - 1 / n_classes
        self.alpha_ = cho_solve(cho_factor(self._kernel(self.rows_) + _RIDGE * np.eye(len(X))), targets)
        return self

    def scores(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n, c): how much speaks for each class, about 1 − 1/c for the right one and −1/c for the others."""
        return self._kernel(self._unit(X)[0]) @ self.alpha_

    def pushes(self, x: NDArray[np.floating], c: int, against: int | None = None) -> NDArray[np.float64]:
        """(m,): what each image learnt from adds to the score of class c at x (d,), or to its lead over another."""
        return self._kernel(self._unit(x[None])[0])[0] * self._alpha(c, against)

    def gradient(self, x: NDArray[np.floating], c: int, against: int | None = None) -> NDArray[np.float64]:
        """(d,): the gradient at x (d,) of the score of class c, or of its lead over another."""
        unit, length = self._unit(x[None])
        pull = _GAMMA * (self._kernel(unit)[0] * self._alpha(c, against)) @ self.rows_
        found = np.zeros(len(x))
        found[self.columns_] = (pull - (pull @ unit[0]) * unit[0]) / length[0]
        return found

    def _alpha(self, c: int, against: int | None) -> NDArray[np.float64]:
        return self.alpha_[:, c] - (0 if against is None else self.alpha_[:, against])

    def _unit(self, X: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        view = np.asarray(X, np.float64)[:, self.columns_]
        length = np.maximum(np.linalg.norm(view, axis=1, keepdims=True), 1e-12)
        return view / length, length

    def _kernel(self, unit: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.exp(_GAMMA * (unit @ self.rows_.T - 1))
