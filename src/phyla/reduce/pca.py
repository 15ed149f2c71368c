"""Principal components, whitened; streams over shards in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from phyla.reduce._evidence import elbo, evidence, oas
from phyla.reduce._weights import no_distances, weigh
from phyla.types import PhylaError

__all__ = ["PCA"]

_SUMS = ("_count", "_origin", "_sum", "_gram", "_distances")
_FLOOR = 1e-7  # of the largest variance: what is less is rounding error of float32, and is not blown up


class PCA(TransformerMixin, BaseEstimator):
    """Principal component analysis (Pearson, 1901; Hotelling, 1933) from running sums.

    `partial_fit` adds a block of rows to the sums of x and of x xᵀ about a fixed origin; blocks may come in any
    number, for sums merge. Memory is d² doubles, time n·d² multiply-adds and, once, d³ for the eigenvectors: under
    1 s for 1280 columns.

    Parameters
    ----------
    n_components : int, narrow axes wanted; fewer come back when the data has fewer. "evidence" takes as many as have
        the greatest Bayesian evidence (Minka, 2000), "elbo" as many as its greatest variational lower bound pays for
        (Chérief-Abdellatif, 2019; in closed form by Nakajima and others, 2013). Both ask which axes are more than noise
        that is the same in all directions, and find hundreds in a network's features.
    whiten : bool, scale every axis to unit variance.
    shrinkage : 0 to 1, how far eigenvalues are drawn to their mean; "auto" is the share of least expected error for
        normal data, from the sums alone (OAS: Chen, Wiesel, Eldar and Hero, 2010, equation 23). Few rows make large
        eigenvalues too large and small ones too small.
    robust : bool, count rows the less the farther out they are, and not at all when far beyond the others; see Notes.

    Attributes
    ----------
    mean_ : (d,), components_ : (k, d), explained_variance_ : (k,), shrunk, total_variance_ : float
    spectrum_ : (d,), all eigenvalues, largest first, not shrunk
    evidence_ : (m,), log evidence, or its bound, of 1 to m axes; only where it chose their number

    Notes
    -----
    Robust: distances are taken from the mean so far (in the first block, from its median), and compared with the
    distances of all rows so far. A tenth of the rows may be far off without turning the axes, but not a quarter. The
    first block should hold some hundred rows: what is far is not known earlier. Diakonikolas, Kane, Pensia and Pittas
    (2023) filter rows by their scores along directions of large variance; here distance alone counts, as a few rows
    that lie off together, no farther than others do, may well be a rare class.
    """

    VERSION = 1

    _count: float  # of rows; whole unless robust

    def __init__(
        self,
        n_components: int | str = 64,
        *,
        whiten: bool = True,
        shrinkage: float | str = 0,
        robust: bool = False,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.shrinkage = shrinkage
        self.robust = robust

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def fit(self, X: Any, y: Any = None) -> PCA:
        for name in (*_SUMS, "components_"):
            self.__dict__.pop(name, None)
        self.partial_fit(X)
        self.solve()
        return self

    def partial_fit(self, X: Any, y: Any = None) -> PCA:
        """Add the rows of X (n, d) to those fitted so far."""
        first = self._is_new()
        X = validate_data(self, X, reset=first, dtype=np.float32)
        if first:
            d = X.shape[1]
            # Sums about the first block's middle: about zero they would lose digits where the mean is large.
            middle = np.median(X, axis=0) if self.robust else X.mean(0, dtype=np.float64)
            self._origin = middle.astype(np.float32)
            self._count, self._sum, self._gram = 0, np.zeros(d), np.zeros((d, d))
            if self.robust:
                self._distances = no_distances()
        X = X - self._origin
        if self.robust:
            X = self._weighed(X)
        else:
            self._count = self._count + len(X)
            self._sum = self._sum + X.sum(0, dtype=np.float64)
        # Float32 products of one block, float64 sums over blocks.
        self._gram = self._gram + X.T @ X
        self.__dict__.pop("components_", None)
        return self

    def _weighed(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Count the rows of X (n, d) by their weights; return them multiplied by the roots of these."""
        middle = (self._sum / max(self._count, 1)).astype(np.float32)
        with np.errstate(over="ignore"):
            squared = ((X - middle) ** 2).sum(1)
        weights, self._distances = weigh(squared, self._distances)
        X, weights = X[weights > 0], weights[weights > 0]
        self._count = self._count + float(weights.sum(dtype=np.float64))
        self._sum = self._sum + weights.astype(np.float64) @ X
        return X * np.sqrt(weights)[:, None]

    def merge(self, other: PCA) -> PCA:
        """Add the rows that `other` was fitted on, perhaps on another machine, from its sums."""
        if other._is_new():
            return self
        if self._is_new():
            names = [name for name in (*_SUMS, "n_features_in_") if hasattr(other, name)]
            self.__dict__.update({name: getattr(other, name) for name in names})
            return self
        if len(self._origin) != len(other._origin) or self.robust != other.robust:
            told = [f"{len(p._origin)} columns{' and robust' * p.robust}" for p in (self, other)]
            raise PhylaError(f"A PCA of {told[0]} does not merge with one of {told[1]}.", "Fit both in the same way.")
        # From the other's origin to ours.
        shift = other._origin.astype(np.float64) - self._origin
        across = np.outer(other._sum, shift)
        self._gram = self._gram + other._gram + across + across.T + other._count * np.outer(shift, shift)
        self._sum = self._sum + other._sum + other._count * shift
        self._count = self._count + other._count
        if self.robust:
            self._distances = self._distances + other._distances
        self.__dict__.pop("components_", None)
        return self

    def sums(self) -> dict[str, NDArray[Any]]:
        """The running sums, d² doubles, by attribute: what to save beside the fitted arrays to go on or merge later."""
        check_is_fitted(self, "_count")
        return {name: np.asarray(getattr(self, name)) for name in _SUMS if hasattr(self, name)}

    def _is_new(self) -> bool:
        """Whether there are no sums yet."""
        if not hasattr(self, "_count") and hasattr(self, "components_"):
            raise PhylaError("This PCA came back without its sums.", "Save what sums() gives, too, or fit anew.")
        return not hasattr(self, "_count")

    def solve(self) -> PCA:
        """Find the axes from the sums; `transform` does so where it has not been done."""
        if hasattr(self, "components_"):
            return self
        from scipy.linalg import eigh, eigvalsh

        mean = self._sum / self._count
        covariance = (self._gram - self._count * np.outer(mean, mean)) / max(self._count - 1, 1)
        d = len(mean)
        spectrum = np.maximum(eigvalsh(covariance)[::-1], 0)
        k = min(self._wanted(spectrum), d, max(int(self._count) - 1, 1))
        variance, axes = eigh(covariance, subset_by_index=(d - k, d - 1))
        variance, axes = np.maximum(variance[::-1], 0), axes.T[::-1]
        # An eigenvector's sign is free; its largest entry is made positive so that every machine agrees.
        signs = np.sign(axes[np.arange(k), np.abs(axes).argmax(1)])
        shrinkage = oas(spectrum, self._count) if self.shrinkage == "auto" else float(self.shrinkage)
        self.mean_ = (self._origin + mean).astype(np.float32)
        self.components_ = np.ascontiguousarray(axes * signs[:, None], dtype=np.float32)
        self.explained_variance_ = ((1 - shrinkage) * variance + shrinkage * spectrum.mean()).astype(np.float32)
        self.spectrum_ = spectrum.astype(np.float32)
        self.total_variance_ = np.float32(np.trace(covariance))
        return self

    def _wanted(self, spectrum: NDArray[np.float64]) -> int:
        self.__dict__.pop("evidence_", None)
        if not isinstance(self.n_components, str):
            return self.n_components
        told = {"evidence": evidence, "elbo": elbo}.get(self.n_components)
        if told is None:
            raise PhylaError(f"n_components={self.n_components!r} is no number.", 'Or give "evidence" or "elbo".')
        self.evidence_ = told(spectrum, self._count)
        return int(self.evidence_.argmax()) + 1

    def transform(self, X: Any) -> NDArray[np.float32]:
        """The narrow rows (n, k) of X (n, d)."""
        X = self._ready(X)
        Z = (X - self.mean_) @ self.components_.T
        if self.whiten:
            # Axes with (numerically) no variance stay at zero instead of blowing rounding errors up.
            floor = _FLOOR * max(float(self.explained_variance_[0]), 1e-30)
            Z /= np.sqrt(np.maximum(self.explained_variance_, floor))
        return Z

    def residual(self, X: Any) -> NDArray[np.float32]:
        """How far the rows of X (n, d) lie off the axes: squared, in units of the mean over the fitted rows, (n,)."""
        X = self._ready(X) - self.mean_
        X -= (X @ self.components_.T) @ self.components_
        total = float(self.total_variance_)
        # Arrays saved before there was a spectrum have no shrunk variances either.
        kept = getattr(self, "spectrum_", self.explained_variance_)[: len(self.components_)]
        rest = total - float(kept.sum(dtype=np.float64))
        return (X**2).sum(1) / np.float32(max(rest, _FLOOR * total, 1e-30))

    def _ready(self, X: Any) -> NDArray[np.float32]:
        if hasattr(self, "_count"):
            self.solve()
        check_is_fitted(self, "components_")
        return validate_data(self, X, reset=False, dtype=np.float32)
