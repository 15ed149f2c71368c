"""Principal components, whitened; streams over shards in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

__all__ = ["PCA"]


class PCA(TransformerMixin, BaseEstimator):
    """Principal component analysis (Pearson, 1901; Hotelling, 1933) from running sums.

    `partial_fit` adds a block of rows to the sums of x and of x xᵀ about a fixed origin; blocks may come in any
    number, for sums merge. Memory is d² doubles, time n·d² multiply-adds.

    Parameters
    ----------
    n_components : int, narrow axes wanted; fewer come back when the data has fewer.
    whiten : bool, scale every axis to unit variance.

    Attributes
    ----------
    mean_ : (d,), components_ : (k, d), explained_variance_ : (k,), total_variance_ : float
    """

    VERSION = 1

    def __init__(self, n_components: int = 64, *, whiten: bool = True) -> None:
        self.n_components = n_components
        self.whiten = whiten

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def fit(self, X: Any, y: Any = None) -> PCA:
        for name in ("_count", "_origin", "_sum", "_gram"):
            self.__dict__.pop(name, None)
        self.partial_fit(X)
        self._solve()
        return self

    def partial_fit(self, X: Any, y: Any = None) -> PCA:
        first = not hasattr(self, "_count")
        X = validate_data(self, X, reset=first, dtype=np.float32)
        if first:
            d = X.shape[1]
            # Sums about the first block's mean: about zero they would lose digits where the mean is large.
            self._origin = X.mean(0, dtype=np.float64).astype(np.float32)
            self._count, self._sum, self._gram = 0, np.zeros(d), np.zeros((d, d))
        X = X - self._origin
        self._count += len(X)
        self._sum += X.sum(0, dtype=np.float64)
        # Float32 products of one block, float64 sums over blocks.
        self._gram += X.T @ X
        self.__dict__.pop("components_", None)
        return self

    def _solve(self) -> None:
        if hasattr(self, "components_"):
            return
        from scipy.linalg import eigh

        mean = self._sum / self._count
        covariance = (self._gram - self._count * np.outer(mean, mean)) / max(self._count - 1, 1)
        d = len(mean)
        k = min(self.n_components, d, max(self._count - 1, 1))
        variance, axes = eigh(covariance, subset_by_index=(d - k, d - 1))
        variance, axes = np.maximum(variance[::-1], 0), axes.T[::-1]
        # An eigenvector's sign is free; its largest entry is made positive so that every machine agrees.
        signs = np.sign(axes[np.arange(k), np.abs(axes).argmax(1)])
        self.mean_ = (self._origin + mean).astype(np.float32)
        self.components_ = np.ascontiguousarray(axes * signs[:, None], dtype=np.float32)
        self.explained_variance_ = variance.astype(np.float32)
        self.total_variance_ = np.float32(np.trace(covariance))

    def transform(self, X: Any) -> NDArray[np.float32]:
        if hasattr(self, "_count"):
            self._solve()
        check_is_fitted(self, "components_")
        X = validate_data(self, X, reset=False, dtype=np.float32)
        Z = (X - self.mean_) @ self.components_.T
        if self.whiten:
            # Axes with (numerically) no variance stay at zero instead of blowing rounding errors up.
            floor = 1e-7 * max(float(self.explained_variance_[0]), 1e-30)
            Z /= np.sqrt(np.maximum(self.explained_variance_, floor))
        return Z
