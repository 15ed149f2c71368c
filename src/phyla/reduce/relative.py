"""Relative: each image by its cosines to anchor images; for comparing collections coded by different networks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.reduce._reducer import Reducer

__all__ = ["Relative"]


class Relative(Reducer):
    """Relative representations (Moschella et al., 2023): cosines to anchors, rows of the fitted X drawn at random.

    Turning, mirroring, moving or scaling a space changes nothing, as directions are seen from the mean. Which rows are
    anchors depends on `random_state` and n alone: fitted to the same images in the same order, spaces of different
    networks, of different widths too, become one. O(n·d·n_components).

    Parameters
    ----------
    n_components : number of anchors, at most n; the paper takes some hundred. random_state : seed of their choice.

    Attributes
    ----------
    mean_ : (d,). anchors_ : (n_components, d), of length one about the mean.
    """

    VERSION = 1

    mean_: NDArray[np.float32]
    anchors_: NDArray[np.float32]

    def __init__(self, n_components: int = 256, *, random_state: int = 0) -> None:
        self.n_components = n_components
        self.random_state = random_state

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        rows = np.sort(rng.choice(len(X), min(self.n_components, len(X)), replace=False))
        self.mean_ = X.mean(0, dtype=np.float64).astype(np.float32)
        self.anchors_ = self._directions(X[rows]).astype(np.float32)

    def _transform(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        cosines: NDArray[np.float64] = self._directions(X) @ self.anchors_.T.astype(np.float64)
        return cosines.clip(-1, 1)

    def _directions(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Rows of length one, as seen from the mean; zero for a row that lies on it."""
        apart = X - self.mean_.astype(np.float64)
        return apart / np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-12)
