"""t-SNE map: near stays near, drawn in the plane; large collections are laid out from a sample."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from phyla.types import PhylaError

__all__ = ["TSNE"]

_ANCHORS = 3  # embedded rows that decide where another row is placed
_FEW = 3_000  # rows below which the tree code (Barnes-Hut) is quicker than interpolation


class TSNE(TransformerMixin, BaseEstimator):
    """t-SNE by interpolated gradients (FIt-SNE), started from PCA.

    Up to `max_points` rows are embedded; of more rows, a seeded random sample is, and each other row is placed at the
    mean of its 3 nearest embedded rows, weighted by 1 / distance². `transform` places new rows in the same way.

    Parameters
    ----------
    n_components : 1 or 2.
    perplexity : neighbours that a row attends to, roughly; capped at a third of the rows there are.
    max_points : rows embedded at most, ≥ 1.
    early_exaggeration, late_exaggeration : factors on the attraction in the first 250 and the last 500 steps. A late
        factor above 1 keeps groups compact, with white space between them.
    random_state : seed of the sample and of the jitter on the start. The same seed and `n_jobs` give the same bytes.
    n_jobs : threads for the gradient. They wait for each other at every step: on two cores with another job beside, two
        took three times as long as one, for the same bytes.

    Attributes
    ----------
    embedding_ : (n, n_components) float32, all rows that were fitted.

    Notes
    -----
    Cost: O(min(n, max_points)²) for exact neighbours, then 750 steps of O(max_points); the rest is O(n max_points).
    On two cores with another job beside: 11 s for 10k rows of 64 columns, 14 s for 60k (10k embedded, 50k placed).

    Linderman, Rachh, Hoskins, Steinerberger, Kluger (2019), "Fast interpolation-based t-SNE for improved visualization
    of single-cell RNA-seq data", Nature Methods 16. PCA start: Kobak, Berens (2019), Nature Communications 10.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    >>> TSNE().fit_transform(X).shape
    (50, 2)
    """

    VERSION = 1

    def __init__(
        self,
        n_components: int = 2,
        perplexity: float = 30,
        max_points: int = 10_000,
        early_exaggeration: float = 12,
        late_exaggeration: float = 1.2,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.n_components = n_components
        self.perplexity = perplexity
        self.max_points = max_points
        self.early_exaggeration = early_exaggeration
        self.late_exaggeration = late_exaggeration
        self.random_state = random_state
        self.n_jobs = n_jobs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def fit(self, X: Any, y: Any = None) -> TSNE:
        """Lay out the rows of X, (n, d) float32."""
        self.fit_transform(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> NDArray[np.float32]:
        """Lay out the rows of X, (n, d) float32 → (n, n_components) float32."""
        if self.n_components not in (1, 2):
            raise PhylaError(f"A t-SNE map has no {self.n_components!r} axes.", "Use n_components 1 or 2.")
        if self.max_points < 1 or self.perplexity <= 0:
            raise PhylaError(
                f"max_points is {self.max_points} and perplexity {self.perplexity}.", "Both need to be above 0."
            )
        X = validate_data(self, X, dtype=np.float32)
        rng = check_random_state(self.random_state)
        rows = np.arange(len(X))
        if len(X) > self.max_points:
            rows = np.sort(rng.choice(len(X), self.max_points, replace=False))
        self._anchors = NearestNeighbors(algorithm="brute").fit(X[rows])
        # More threads of linear algebra round the start otherwise, and every later step makes more of the difference.
        with threadpool_limits(1):
            self._anchored = self._embed(X[rows], rng)
        self.embedding_ = np.empty((len(X), self.n_components), np.float32)
        self.embedding_[rows] = self._anchored
        rest = np.ones(len(X), bool)
        rest[rows] = False
        if rest.any():
            self.embedding_[rest] = self._place(X[rest])
        return self.embedding_

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Place new rows among the embedded ones, (m, d) float32 → (m, n_components) float32."""
        check_is_fitted(self, "embedding_")
        return self._place(validate_data(self, X, dtype=np.float32, reset=False))

    def _place(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        distances, near = self._anchors.kneighbors(X, n_neighbors=min(_ANCHORS, len(self._anchored)))
        # A row that equals an embedded one lands on it: its own weight outgrows the rest, yet stays finite.
        squared = distances.astype(np.float64) ** 2
        weights = 1 / np.maximum(squared, 1e-9 * squared.max(axis=1, keepdims=True) + 1e-30)
        weights /= weights.sum(axis=1, keepdims=True)
        return np.asarray(np.einsum("nk,nkc->nc", weights, self._anchored[near]), np.float32)

    def _embed(self, X: NDArray[np.float32], rng: np.random.RandomState) -> NDArray[np.float32]:
        """t-SNE proper, every row of X with every other."""
        n = len(X)
        start = np.zeros((n, self.n_components))
        axes = min(n, X.shape[1], self.n_components)
        with np.errstate(invalid="ignore"):  # identical rows: no variance to explain
            start[:, :axes] = PCA(axes, random_state=self.random_state).fit_transform(X) if n > 1 else 0
        if n < 4:  # too few to have neighbourhoods
            return start.astype(np.float32)

        from openTSNE import TSNE as OpenTSNE
        from openTSNE.affinity import PerplexityBasedNN
        from openTSNE.nearest_neighbors import PrecomputedNeighbors

        # Small, so that the first steps order the whole; jittered, because equal points would never part.
        start *= 1e-4 / max(float(start[:, 0].std()), 1e-12)
        start += rng.normal(scale=1e-6, size=start.shape)
        # Exact neighbours: at 10,000 rows they cost a second, and approximate ones depend on how threads interleave.
        distances, near = self._anchors.kneighbors(n_neighbors=min(n - 1, max(1, int(3 * self.perplexity))))
        perplexity = max(1.0, min(float(self.perplexity), near.shape[1] / 3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            affinities = PerplexityBasedNN(
                knn_index=PrecomputedNeighbors(near, distances), perplexity=perplexity, n_jobs=self.n_jobs
            )
            layout = OpenTSNE(
                n_components=self.n_components,
                early_exaggeration=self.early_exaggeration,
                exaggeration=self.late_exaggeration,
                negative_gradient_method="bh" if n < _FEW else "fft",
                min_num_intervals=10,  # one a unit is what accuracy needs; more only slows the small early layouts
                initialization=start,
                n_jobs=self.n_jobs,
                random_state=rng.randint(2**31),
            ).fit(affinities=affinities)
        return np.asarray(layout, np.float32)
