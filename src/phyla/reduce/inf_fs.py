"""Infinite feature selection: keeps the columns that vary most and repeat others least, as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from phyla.types import PhylaError

__all__ = ["InfFS"]

_REACH = 0.9  # of the longest step that lets sums over paths converge, as in the paper of 2015


class InfFS(TransformerMixin, BaseEstimator):
    """Infinite feature selection, unsupervised (Roffo, Melzi, Castellani, Vinciarelli and Cristani, 2020).

    Columns are nodes of a graph, and an edge is the heavier the more either column varies and the less the two rise and
    fall together; a constant column has none. A column's score is the sum over all paths, of every length, that start
    from it: one linear system.

    Parameters
    ----------
    n_components : int or None, columns kept; None leaves it to the scores.
    alpha : 0..1, share of variation in an edge; the rest is 1 − |Spearman's correlation|.
    max_rows : rows looked at, a seeded sample of those given. random_state : its seed.

    Attributes
    ----------
    scores_ : (d,). ranking_ : (d,) columns, best first. n_components_ : int, how many of them are kept.

    Notes
    -----
    Cost: O(max_rows·d² + d³), about 2 s for 5,000 × 1280 on one core. Of 10,000 photographs with 1280 features, 32
    columns let k-means find 0.48 and a linear probe 0.73 of the classes' images, the 113 that None keeps 0.61 and 0.84;
    32 principal components 0.72 and 0.85.
    """

    VERSION = 1

    def __init__(
        self, n_components: int | None = None, *, alpha: float = 0.5, max_rows: int = 5_000, random_state: int = 0
    ) -> None:
        self.n_components = n_components
        self.alpha = alpha
        self.max_rows = max_rows
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def fit(self, X: Any, y: Any = None) -> InfFS:
        """Score the columns of X (n, d)."""
        if not 0 <= self.alpha <= 1:
            raise PhylaError(f"alpha={self.alpha} is no share.", "Give a number from 0 to 1.")
        X = validate_data(self, X, dtype=np.float32)
        if len(X) > self.max_rows:
            rng = np.random.default_rng(self.random_state)
            X = X[np.sort(rng.choice(len(X), self.max_rows, replace=False))]
        self.scores_ = scores(X, self.alpha)
        self.ranking_ = np.argsort(-self.scores_, kind="stable")
        wanted = cut(self.scores_) if self.n_components is None else self.n_components
        self.n_components_ = min(wanted, X.shape[1])
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """The columns kept, best first, of X (n, d)."""
        check_is_fitted(self, "ranking_")
        X = validate_data(self, X, reset=False, dtype=np.float32)
        return X[:, self.ranking_[: self.n_components_]]


def scores(X: NDArray[np.float32], alpha: float) -> NDArray[np.float64]:
    """Scores (d,) of the columns of X (n, d)."""
    from scipy.linalg import eigvalsh, solve
    from scipy.stats import rankdata

    n, d = X.shape
    ranks = rankdata(X, axis=0)
    ranks -= (n + 1) / 2
    length = np.sqrt((ranks**2).sum(0))
    ranks = (ranks / np.where(length > 0, length, 1)).astype(np.float32)
    unlike = 1 - np.abs(ranks.T @ ranks).clip(0, 1)
    deviation = X.std(0, dtype=np.float64)
    larger = np.maximum(deviation[:, None], deviation)
    larger -= larger.min()
    varied = larger / max(larger.max(), 1e-30)
    edges = alpha * varied + (1 - alpha) * unlike
    constant = length == 0  # unlike all others, and yet nothing to keep
    edges[constant] = edges[:, constant] = 0
    # Σ_l (r A)^l 1 over l ≥ 0, with r below the inverse of the spectral radius, is (I − r A)⁻¹ 1.
    radius = eigvalsh(edges, subset_by_index=(d - 1, d - 1))[0]
    return solve(np.eye(d) - _REACH / max(radius, 1e-30) * edges, np.ones(d), assume_a="pos")


def cut(scores: NDArray[np.float64]) -> int:
    """How many columns to keep: as many as a histogram of d / 2 bins has bins above the mean count.

    The rule is that of the program the paper's authors published (version 5.1, 2020).
    """
    bins = max(len(scores) // 2, 1)
    span = np.ptp(scores)
    if span <= 1e-9 * scores.max():
        return len(scores)  # nothing to choose by
    place = np.minimum((scores - scores.min()) / span * bins, bins - 1).astype(int)
    return max(int((np.bincount(place, minlength=bins) > len(scores) / bins).sum()), 1)
