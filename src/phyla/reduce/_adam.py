"""Adam over NumPy arrays, for the reducers whose gradients are written by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MEAN, _SQUARE = 0.9, 0.999  # how slowly both running means forget: the paper's


class Adam:
    """Adam (Kingma and Ba, 2015), with a rate that falls to zero along half a cosine (Loshchilov and Hutter, 2017).

    `parameters` are changed in place.
    """

    def __init__(self, parameters: Sequence[NDArray[np.float32]], rate: float, steps: int) -> None:
        self.parameters, self._rate, self._steps, self._done = parameters, rate, steps, 0
        self._moments = [(np.zeros_like(p), np.zeros_like(p)) for p in parameters]

    def step(self, gradients: Sequence[NDArray[np.float32]]) -> None:
        """Go one step down."""
        rate = self._rate * (1 + np.cos(np.pi * self._done / self._steps)) / 2
        self._done += 1
        rate *= np.sqrt(1 - _SQUARE**self._done) / (1 - _MEAN**self._done)
        for p, g, (mean, square) in zip(self.parameters, gradients, self._moments, strict=True):
            mean += (1 - _MEAN) * (g - mean)
            square += (1 - _SQUARE) * (g * g - square)
            p -= np.float32(rate) * mean / (np.sqrt(square) + np.float32(1e-8))

    def forget(self, rows: NDArray[np.intp]) -> None:
        """Take these rows of every parameter for new ones."""
        for moment in (m for both in self._moments for m in both):
            moment[rows] = 0
