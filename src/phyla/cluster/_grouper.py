"""What every grouping method has in common: scikit-learn's contract around `_fit` and `_assign`."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from phyla.cluster._how_many import RUNS, how_many
from phyla.cluster._spaces import leading, worth


class Grouper(ClusterMixin, BaseEstimator):
    """A grouping method. A subclass gives `_fit`, which learns `n_clusters_` groups, and `_assign`.

    Columns of X are axes, the leading first. Of fewer than 480 rows a method that tells spaces apart looks at a tenth
    as many axes of each, and at six at least.

    Its constructor takes `n_clusters` first, and by name `random_state`, `n_jobs` (threads; the answer does not depend
    on how many) and, if it tells spaces apart, `blocks` (their widths in X; None for a single one).
    """

    VERSION = 2
    AGREEMENT = 0.0  # strength under which an image is left out
    EFFORT: ClassVar[dict[str, dict[str, int]]] = {}  # what "fast" and "best" change of the parameters

    n_clusters: int | None
    random_state: int
    n_jobs: int
    labels_: NDArray[np.int32]
    strength_: NDArray[np.float32]

    def fit(self, X: Any, y: Any = None) -> Self:
        """Group the rows of X (n, d); y is not looked at."""
        X = validate_data(self, X, dtype=np.float32, order="C", ensure_min_samples=2)
        for name in [n for n in vars(self) if n.endswith("_") and n not in {"n_features_in_", "feature_names_in_"}]:
            delattr(self, name)  # of an earlier fit
        if hasattr(self, "blocks"):
            blocks = (X.shape[1],) if self.blocks is None else self.blocks
            if sum(blocks) != X.shape[1]:
                raise ValueError(f"blocks add up to {sum(blocks)}, but X has {X.shape[1]} columns")
            self.blocks_ = worth(blocks, len(X))
        if self.n_clusters is not None and self.n_clusters < 1:
            raise ValueError(f"n_clusters={self.n_clusters} makes no groups; give a whole number from 1")
        rng, X = np.random.default_rng(self.random_state), self._told(X)
        # What goes on at once are tasks of our own; how linear algebra rounds must not depend on how many do.
        with threadpool_limits(1):
            k = self.n_clusters
            self.n_clusters_ = min(self._number(X, rng) if k is None else k, len(X))
            self._fit(X, rng)
            self.labels_, self.strength_ = self._assign(X)
        return self

    def assign(self, X: Any) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The group of each row of X (n, d), and its strength (n,), 0..1."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float32, order="C")
        with threadpool_limits(1):
            return self._assign(self._told(X))

    def predict(self, X: Any) -> NDArray[np.int32]:
        """The group of each row of X (n, d)."""
        return self.assign(X)[0]

    def _told(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """The columns of X that groups are told by: where the rows were few, the first of each space."""
        if not hasattr(self, "blocks") or self.blocks_.sum() == X.shape[1]:
            return X
        return leading(X, (X.shape[1],) if self.blocks is None else self.blocks, self.blocks_.max())

    def _number(self, X: NDArray[np.float32], rng: np.random.Generator) -> int:
        """How many groups where none are asked for, kept in `evidence_`.

        A method that finds their number as it groups says how many there can be, and leaves both to `_fit`.
        """
        narrow = leading(X, self.blocks_) if hasattr(self, "blocks") else X
        k, self.evidence_ = how_many(narrow, rng, self.n_jobs, getattr(self, "n_runs", RUNS))
        return k

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        raise NotImplementedError

    def _assign(self, X: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        raise NotImplementedError


def likeliest(proba: NDArray[np.floating]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Label and strength from the probabilities (n, c) of the groups."""
    label = proba.argmax(1)
    return label.astype(np.int32), proba[np.arange(len(proba)), label].astype(np.float32).clip(0, 1)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities along the last axis."""
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)
