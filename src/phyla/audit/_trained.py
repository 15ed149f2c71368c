"""Linear classifiers trained by small steps, for the checks that watch or cross them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from phyla.reduce._adam import Adam

# On CIFAR-10 with a tenth of the labels wrong 5 epochs rank them as well as 10: more learn the wrong labels, too.
BATCH, EPOCHS = 512, 5
_RATE, _DECAY = 0.01, 0.01


def with_one(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """X (n, d) and a column of ones."""
    return np.column_stack([X, np.ones(len(X), np.float32)])


def steps(
    X: NDArray[np.float32], labels: NDArray[np.int32], c: int, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]]:
    """Train a softmax regression on X (n, d); of each step the rows, their logits before it, and the weights (d, c)."""
    weights = np.zeros((X.shape[1], c), np.float32)
    size = min(BATCH, max(len(X) // 4, 1))
    adam = Adam([weights], _RATE, EPOCHS * -(-len(X) // size))
    for _ in range(EPOCHS):
        order = rng.permutation(len(X))
        for start in range(0, len(X), size):
            rows = order[start : start + size]
            logits = X[rows] @ weights
            surplus = softmax(logits, axis=1)
            surplus[np.arange(len(rows)), labels[rows]] -= 1
            yield rows, logits, weights
            adam.step([X[rows].T @ surplus / np.float32(len(rows)) + np.float32(_DECAY) * weights])


def trained(X: NDArray[np.float32], labels: NDArray[np.int32], c: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """The weights (d, c) of a softmax regression on X (n, d)."""
    for _, _, weights in steps(X, labels, c, rng):  # noqa: B007
        pass
    return weights


def margins(logits: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """(n,): how far the logit of the label is above the largest other."""
    at = np.arange(len(logits))
    others = logits.copy()
    others[at, labels] = -np.inf
    gap: NDArray[np.float32] = logits[at, labels] - others.max(1)
    return gap
