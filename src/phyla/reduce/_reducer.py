"""What every reducer that learns from all rows at once has in common: the contract around `_fit` and `_transform`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

_PORTION = 4096  # rows in doubles at a time


class Reducer(TransformerMixin, BaseEstimator):
    """A way of making X (n, d) narrower. A subclass gives `_fit`, and `_transform` for some rows.

    All that `_fit` learns are attributes that end in an underscore, arrays and numbers. `_transform` computes in double
    precision, so that a row comes out the same in any company.
    """

    VERSION = 1

    n_components: int
    random_state: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from the rows of X (n, d); y is not looked at."""
        X = validate_data(self, X, dtype=np.float32, order="C", ensure_min_samples=2)
        if self.n_components < 1:
            raise ValueError(f"n_components={self.n_components} leaves nothing; give a whole number from 1")
        # How linear algebra rounds must not depend on the number of its threads.
        with threadpool_limits(1):
            self._fit(X, np.random.default_rng(self.random_state))
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """The rows of X (n, d) made narrower, (n, n_components) float32."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float32, order="C")
        return np.concatenate([self._transform(rows) for rows in portions(X)]).astype(np.float32, copy=False)

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        raise NotImplementedError

    def _transform(self, X: NDArray[np.float32]) -> NDArray[np.floating]:
        raise NotImplementedError


def portions(X: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """The rows of X (n, d), some thousand at a time."""
    for start in range(0, len(X), _PORTION):
        yield X[start : start + _PORTION]


def signs(axes: NDArray[np.floating]) -> NDArray[np.floating]:
    """±1 for each column of axes (d, k): an axis' sign is free, and every machine agrees if its largest entry is +."""
    largest = axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])]
    return np.where(largest < 0, -1.0, 1.0)


def blocks_of(blocks: Sequence[int] | None, d: int) -> NDArray[np.int_]:
    """The widths of the spaces side by side in d columns; a single one where None."""
    blocks = (d,) if blocks is None else blocks
    if sum(blocks) != d:
        raise ValueError(f"blocks add up to {sum(blocks)}, but X has {d} columns")
    return np.array(blocks)
