"""Which pictures to keep where fewer would do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from phyla.neighbors import nearest_of

__all__ = ["concepts", "coverage", "cut", "el2n", "prototypical", "quantised", "shares"]

_A_CONCEPT = 100  # pictures a concept has on average
_AT_ONCE, _A_PART = 100_000, 20_000  # rows up to which they are not parted first; of a part, on average
_NEAR = 20  # concepts that one is compared with, and the sharpness of the shares: as in the paper
_TEMPERATURE = 0.1
_BINS = 10  # as in the paper
_SEEDS, _EPOCHS, _BATCH, _RATE = 5, 5, 256, 0.5  # of EL2N: a few epochs, averaged over runs


def concepts(X: NDArray[np.float32], random_state: int = 0) -> NDArray[np.intp]:
    """The concept (n,) of each row of X (n, d): some hundred rows that are alike (k-means).

    Many rows are parted first, and each part by itself, or the time would grow with n². A million x 96: 40 s.
    """
    X = np.ascontiguousarray(X, np.float32)
    if len(X) <= _AT_ONCE:
        return _parted(X, max(len(X) // _A_CONCEPT, 1), random_state)
    parts, of, number = _parted(X, len(X) // _A_PART, random_state), np.empty(len(X), np.intp), 0
    for rows in np.split(np.argsort(parts, kind="stable"), np.bincount(parts).cumsum()[:-1]):
        of[rows] = number + _parted(X[rows], max(len(rows) // _A_CONCEPT, 1), random_state)
        number = int(of[rows].max()) + 1
    return of


def _parted(X: NDArray[np.float32], k: int, random_state: int) -> NDArray[np.intp]:
    """Which of k parts each row lies in, counted without those that are empty."""
    import faiss

    kmeans = faiss.Kmeans(X.shape[1], k, niter=10, seed=random_state, min_points_per_centroid=1)
    kmeans.train(X)
    return np.unique(kmeans.index.search(X, 1)[1][:, 0], return_inverse=True)[1].astype(np.intp)


def shares(X: NDArray[np.float32], of: NDArray[np.intp], keep: int) -> NDArray[np.float64]:
    """How many rows of each concept to keep, `keep` in all: the more, the more complex the concept is.

    Complexity is the mean distance (1 − cosine) of a concept's rows to its centre times that of the centre to the
    nearest other centres; shares are a softmax of it. The numbers are the closest to these shares (least squares) that
    no concept is too small for (Abbas and others, 2024, "Effective pruning of web-scale datasets based on complexity of
    concept clusters").
    """
    size = np.bincount(of).astype(np.float64)
    unit = _unit(X)
    centres = _unit(np.stack([np.bincount(of, column) for column in unit.T], axis=1))
    inside = np.bincount(of, 1 - (unit * centres[of]).sum(1), len(size)) / size
    between = np.sort(1 - centres @ centres.T, axis=1)[:, 1 : _NEAR + 1]
    complexity = inside * (between.mean(1) if between.shape[1] else 1.0)
    wanted = np.exp((complexity - complexity.max()) / _TEMPERATURE)
    wanted *= keep / wanted.sum()
    # min ‖x − wanted‖² with 0 ≤ x ≤ size and Σx = keep is wanted + λ, cut off at both ends: λ by halving.
    low, high = -wanted.max(), size.max()
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (wanted + middle).clip(0, size).sum() < keep else (low, middle)
    return (wanted + high).clip(0, size)


def cut(order: NDArray[np.floating], of: NDArray[np.intp], share: NDArray[np.float64], keep: int) -> NDArray[np.bool_]:
    """Which rows (n,) are kept: of each concept its share, those of the greatest `order` (n,) first."""
    ranked = np.lexsort((-order, of))
    size = np.bincount(of)
    place = np.empty(len(of))
    place[ranked] = np.arange(len(of)) - np.repeat(size.cumsum() - size, size)
    kept = np.zeros(len(of), bool)
    kept[np.argsort(place + 0.5 - share[of], kind="stable")[:keep]] = True
    return kept


def prototypical(X: NDArray[np.float32], of: NDArray[np.intp]) -> NDArray[np.float64]:
    """How near (n,) each row is to the centre of its concept: its cosine."""
    unit = _unit(X)
    centres = _unit(np.stack([np.bincount(of, column) for column in unit.T], axis=1))
    return (unit * centres[of]).sum(1)


def quantised(X: NDArray[np.float32], of: NDArray[np.intp], keep: int, random_state: int = 0) -> NDArray[np.bool_]:
    """Which rows (n,) are kept by dataset quantisation (Zhou and others, 2023), concept by concept.

    A concept is divided into bins: each takes, one by one, the row of the greatest gain, its squared distances to what
    the bin has less those to what is left. From every bin the same share is drawn at random.
    """
    rng = np.random.default_rng(random_state)
    bins = np.empty(len(X), np.intp)
    for rows in np.split(np.argsort(of, kind="stable"), np.bincount(of).cumsum()[:-1]):
        bins[rows[_taken(X[rows].astype(np.float64))]] = np.arange(len(rows)) * _BINS // len(rows)
    code = of * _BINS + bins
    _, code = np.unique(code, return_inverse=True)
    return cut(rng.random(len(X)), code, np.bincount(code) * keep / len(X), keep)


def _taken(X: NDArray[np.float64]) -> NDArray[np.intp]:
    """The rows of X (m, d) in the order in which the bins take them: m²·d, from sums alone."""
    square = (X**2).sum(1)
    left, order = np.ones(len(X), bool), []
    sum_left = X.sum(0)
    for number in range(len(X)):
        if number * _BINS // len(X) != (number - 1) * _BINS // len(X) or not number:
            held, sum_held = 0, np.zeros(X.shape[1])  # a new bin
        # Σ‖x − p‖² over a set is |set|·‖x‖² − 2x·Σp, but for what all x share.
        gain = (held - left.sum()) * square + 2 * X @ (sum_left - sum_held)
        row = int(np.where(left, gain, -np.inf).argmax())
        order.append(row)
        left[row] = False
        held, sum_held, sum_left = held + 1, sum_held + X[row], sum_left - X[row]
    return np.array(order, np.intp)


def el2n(X: NDArray[np.float32], labels: NDArray[np.integer], random_state: int = 0) -> NDArray[np.float32]:
    """How hard (n,) each row of X (n, d) is early in training (Paul, Ganguli and Dziugaite, 2021): the EL2N score.

    ‖p − y‖ of a linear classifier after a few epochs, mean over several runs; 0 for a row without a label.
    """
    known = np.flatnonzero(labels >= 0)
    classes, y = np.unique(labels[known], return_inverse=True)
    scores = np.zeros(len(X), np.float32)
    if len(classes) < 2:
        return scores
    Z = X[known].astype(np.float32)
    Z = (Z - Z.mean(0)) / np.maximum(Z.std(0), 1e-6) / np.sqrt(Z.shape[1])
    Z = np.hstack([Z, np.ones((len(Z), 1), np.float32)])
    truth = np.eye(len(classes), dtype=np.float32)[y]
    with threadpool_limits(1):
        for rng in np.random.default_rng(random_state).spawn(_SEEDS):
            weights = rng.normal(0, 0.01, (Z.shape[1], len(classes))).astype(np.float32)
            for _ in range(_EPOCHS):
                order = rng.permutation(len(Z))
                for start in range(0, len(Z), _BATCH):
                    batch = order[start : start + _BATCH]
                    weights -= _RATE * Z[batch].T @ (_softmax(Z[batch] @ weights) - truth[batch]) / len(batch)
            scores[known] += np.linalg.norm(_softmax(Z @ weights) - truth, axis=1) / _SEEDS
    return scores


def coverage(X: NDArray[np.float32], kept: NDArray[np.bool_], n_jobs: int = 1) -> NDArray[np.float32]:
    """Distance (n,) of each row of X (n, d) to the nearest that is kept; 0 for those that are."""
    away = np.zeros(len(X), np.float32)
    if kept.any() and not kept.all():
        away[~kept] = nearest_of(X[~kept], X[kept], 1, n_jobs)[1][:, 0]
    return away


def _unit(X: NDArray[np.floating]) -> NDArray[np.floating]:
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)
