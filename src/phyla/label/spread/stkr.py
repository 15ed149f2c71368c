"""STKR: regression with a kernel whose spectrum all images have sharpened; smooth where images are dense."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.label.spread._spreader import Spreader, by_parts, directions, kernel, one_hot, softmax

__all__ = ["STKR"]

_WIDTH, _GAMMA, _LANDMARKS = 32, 4.0, 1000
_SAMPLE = 20_000  # rows that the spectrum is found on
_POWER = 2  # of the eigenvalues: 1 is the kernel itself; 2 spreads over two steps of likeness
_RIDGE = 0.01  # against the mean likeness of an answer to itself
_SHARP = 6.0  # scores to logits


class STKR(Spreader):
    """Spectrally transformed kernel regression (Zhai et al., 2024), which predicts new images: the kernel's
    eigenfunctions are found on all images, their eigenvalues λ are replaced by λ², and the answers are regressed on
    them by ridge regression. The eigenfunctions are those of the landmarks' span (Nyström). O(n · m² + m³).

    Attributes
    ----------
    landmarks_ : (m, axes). weights_ : (m, c), of the kernel with the landmarks. shares_ : (c,), of the answers.
    """

    def _fit(
        self, X: NDArray[np.float32], y: NDArray[np.int32], groups: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> None:
        view, asked = directions(X, self.blocks_, _WIDTH), np.flatnonzero(y >= 0)
        order = rng.permutation(len(X))
        self.landmarks_, sample = view[order[:_LANDMARKS]], view[order[:_SAMPLE]]
        values, vectors = np.linalg.eigh(kernel(self.landmarks_, self.landmarks_, _GAMMA).astype(np.float64))
        root = vectors / np.sqrt(np.maximum(values, 1e-4))  # of the kernel's inverse among the landmarks
        likeness = by_parts(
            lambda part: (lambda k: k.T @ k)(kernel(sample[part], self.landmarks_, _GAMMA)), len(sample), self.n_jobs
        )
        spread = root.T @ (sum(likeness[1:], likeness[0]) / np.float32(len(sample))) @ root
        spectrum, axes = np.linalg.eigh(spread)
        spectrum = np.maximum(spectrum, 0) / max(spectrum[-1], 1e-12)
        # Features whose products are Σ λ^p ψ(x) ψ(x'), where those of `root @ axes` are Σ λ ψ(x) ψ(x').
        to = root @ axes * spectrum ** ((_POWER - 1) / 2)
        features = kernel(view[asked], self.landmarks_, _GAMMA) @ to
        answers = one_hot(y[asked], self.n_classes_)
        self.shares_ = answers.mean(0)
        gram = features @ features.T
        gram += np.eye(len(gram)) * max(_RIDGE * float(np.diag(gram).mean()), 1e-9)
        self.weights_ = (to @ (features.T @ np.linalg.solve(gram, answers - self.shares_))).astype(np.float32)

    def _proba(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        scores = kernel(directions(X, self.blocks_, _WIDTH), self.landmarks_, _GAMMA) @ self.weights_
        return softmax(np.float32(_SHARP) * (scores + self.shares_))
