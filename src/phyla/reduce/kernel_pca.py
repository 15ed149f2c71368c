"""Kernel PCA: principal components of a curved space, by landmarks; where groups are no clouds but bent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.reduce._reducer import Reducer, portions, signs

__all__ = ["KernelPCA"]

_KERNELS = ("rbf", "cosine", "arc-cosine")
_SAMPLE = 20_000  # rows that the axes come from: covariances of a thousand landmarks are settled by then
_PAIRS = 1_000  # rows whose distances tell gamma
_RANK = 1e-10  # of the largest eigenvalue of the landmarks' kernel: below are rounding errors of doubles
_FLOOR = 1e-7  # of the largest variance: an axis with less stays near zero instead of being blown up
_STEPS = 50  # of the robust ascent; not tuned


class KernelPCA(Reducer):
    """Kernel principal component analysis (Schölkopf, Smola and Müller, 1998), exact for few rows.

    Rows are described by their kernel with landmarks (Nyström: Williams and Seeger, 2001), rows of X drawn at random,
    such that products of descriptions are the kernel, exactly so between landmarks; then PCA. With all rows for
    landmarks, this is the eigenproblem of the n × n kernel matrix. New rows need the landmarks only.

    `robust` bounds what one row may weigh: over rows, the sum of Huber's function of the projection's length is
    maximised, not that of its square, by the difference-of-convex steps of Tonin, Lambert, Patrinos and Suykens (2023),
    each a clipped projection and a polar decomposition. This is for "arc-cosine", where far rows weigh more: under the
    other kernels all have the same length.

    O(n·m·d + m³), with at most 20,000 rows fitted and m landmarks: 3 s of one core, 22 s if robust.

    Parameters
    ----------
    n_components : axes wanted; fewer come back when the data has fewer.
    kernel : "rbf", exp(−gamma·|x − y|²); "cosine", of angles at the mean; or "arc-cosine", what an infinitely wide
        layer of rectified units computes (Cho and Saul, 2009, order 1).
    gamma : of "rbf" alone; None takes 1 / the median of |x − y|². n_landmarks : m, at most n.
    whiten : scale every axis to unit variance. robust : bound the weight of a row. random_state : of the landmarks.

    Attributes
    ----------
    mean_ : (d,). landmarks_ : (m, d). gamma_ : float. explained_variance_ : (k,).
    coefficients_ : (m, k), offset_ : (k,), of axes = kernel(X, landmarks_) @ coefficients_ − offset_.
    """

    VERSION = 1

    mean_: NDArray[np.float32]
    landmarks_: NDArray[np.float32]
    gamma_: float
    explained_variance_: NDArray[np.float64]
    coefficients_: NDArray[np.float64]
    offset_: NDArray[np.float64]

    def __init__(
        self,
        n_components: int = 64,
        *,
        kernel: str = "rbf",
        gamma: float | None = None,
        n_landmarks: int = 1024,
        whiten: bool = True,
        robust: bool = False,
        random_state: int = 0,
    ) -> None:
        self.n_components = n_components
        self.kernel = kernel
        self.gamma = gamma
        self.n_landmarks = n_landmarks
        self.whiten = whiten
        self.robust = robust
        self.random_state = random_state

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        from scipy.linalg import eigh

        if self.kernel not in _KERNELS:
            raise ValueError(f"kernel={self.kernel!r} is not known; there is: {', '.join(_KERNELS)}")
        if self.gamma is not None and (self.kernel != "rbf" or self.gamma <= 0):
            raise ValueError(f"gamma={self.gamma} with kernel={self.kernel!r}; it is for rbf, and above 0")
        if self.n_landmarks < 1:
            raise ValueError(f"n_landmarks={self.n_landmarks} describe nothing; give a whole number from 1")
        X = X[rng.choice(len(X), min(len(X), _SAMPLE), replace=False)]
        self.mean_ = X.mean(0, dtype=np.float64).astype(np.float32)
        self.landmarks_ = X[: self.n_landmarks]
        self.gamma_ = self._scale() if self.gamma is None else float(self.gamma)

        size, vectors = eigh(self._similarity(self.landmarks_))
        kept = size > _RANK * size[-1]
        kept[-1] = True
        root = vectors[:, kept] / np.sqrt(np.maximum(size[kept], 1e-12))
        described = np.concatenate([self._similarity(rows) @ root for rows in portions(X)])
        centre, axes, variance = (_robust if self.robust else _plain)(described, self.n_components)
        if self.whiten:
            axes = axes / np.sqrt(np.maximum(variance, _FLOOR * max(variance[0], 1e-12)))
        axes = axes * signs(axes)
        self.explained_variance_ = variance
        self.coefficients_, self.offset_ = root @ axes, centre @ axes

    def _transform(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        return self._similarity(X) @ self.coefficients_ - self.offset_

    def _scale(self) -> float:
        """1 / the median squared distance of two landmarks."""
        from scipy.spatial.distance import pdist

        squared = pdist(self.landmarks_[:_PAIRS].astype(np.float64), "sqeuclidean")
        middle = float(np.median(squared)) if len(squared) else 0.0
        return 1 / middle if middle > 0 else 1.0

    def _similarity(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """The kernel (n, m) of the rows of X (n, d) with the landmarks."""
        X, Y = (rows - self.mean_.astype(np.float64) for rows in (X, self.landmarks_))
        squared, others = (np.einsum("nd,nd->n", rows, rows) for rows in (X, Y))
        product = X @ Y.T
        if self.kernel == "rbf":
            return np.exp(-self.gamma_ * np.maximum(squared[:, None] + others - 2 * product, 0))
        lengths = np.sqrt(np.outer(squared, others))
        cosine = (product / np.maximum(lengths, 1e-12)).clip(-1, 1)
        if self.kernel == "cosine":
            return cosine
        angle = np.arccos(cosine)
        return lengths * (np.sin(angle) + (np.pi - angle) * cosine) / np.pi


Found = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _plain(F: NDArray[np.float64], k: int, centre: NDArray[np.float64] | None = None) -> Found:
    """Centre (r,), axes (r, k) and variances (k,), largest first, of the rows of F (n, r)."""
    from scipy.linalg import eigh

    centre = F.mean(0) if centre is None else centre
    r, k = F.shape[1], min(k, F.shape[1], len(F) - 1)
    apart = F - centre
    variance, axes = eigh(apart.T @ apart / (len(F) - 1), subset_by_index=(r - k, r - 1))
    return centre, axes[:, ::-1], np.maximum(variance[::-1], 0)


def _robust(F: NDArray[np.float64], k: int) -> Found:
    """As `_plain`, with Huber's function in place of the square, bent at the median length of the projections."""
    centre = F.mean(0)
    for _ in range(_STEPS):
        apart = F - centre
        weight = _clip(apart, float(np.median(np.linalg.norm(apart, axis=1))))
        centre = (weight * F).sum(0) / weight.sum()
    apart = F - centre
    _, axes, _ = _plain(F, k, centre)
    bound = float(np.median(np.linalg.norm(apart @ axes, axis=1)))
    for _ in range(_STEPS):
        places = apart @ axes
        left, _, right = np.linalg.svd(apart.T @ (places * _clip(places, bound)), full_matrices=False)
        axes = left @ right
    places = apart @ axes
    weight = _clip(places, bound)
    variance, turn = np.linalg.eigh((places * weight).T @ places / max(weight.sum() - 1, 1))
    return centre, axes @ turn[:, ::-1], np.maximum(variance[::-1], 0)


def _clip(rows: NDArray[np.float64], bound: float) -> NDArray[np.float64]:
    """Factors (n, 1) that leave no row longer than `bound`."""
    bound = max(bound, 1e-12)
    return bound / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), bound)
