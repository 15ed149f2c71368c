"""Which labels are wrong: what a picture looks like without its own label, and how labels came to be given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.special import log_softmax

from phyla.engine import Run
from phyla.engine.local import run
from phyla.types import Rows

_CHUNK = 4096  # rows a task
_SUMS = 256  # of how many tasks sums are merged, as long as each is of 4,096 to 65,536 rows
# Ridge penalties tried, in rows; whitened axes have a variance of one. 0.006 is best on CIFAR-10.
_PENALTIES = np.array([0.001, 0.006, 0.03, 0.2, 1, 5], np.float32)
_FOR_PENALTY = 10_000  # rows that the penalty is chosen by
_FOR_CHANNEL = 20_000  # rows that the channel's few numbers are learned from
_STEPS = 40
# Where the weights of views end up on CIFAR-10: what they are expected to be where there are few labels.
OF_REGRESSION, OF_DISCRIMINANTS, OF_VOTE = 8.0, 0.2, 0.5
_RARE, _SURE = 0.05, 20.0  # wrong labels expected, and of how many rows that expectation is worth
_TINY = 1e-9
_FLOOR = 0.05  # added to a vote's shares: 20 neighbours can't tell of rarer ones


@dataclass(frozen=True)
class _Columns:
    """Some columns of rows that are read when asked for."""

    X: Rows
    columns: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        return self.X[rows][:, self.columns]


def telling(X: Rows, blocks: ArrayLike | None, labelled: int) -> Rows:
    """The leading columns of every block of X (n, d) that so many labelled rows suffice for."""
    widths = np.asarray([X[:1].shape[1]] if blocks is None else blocks)
    width = max(labelled // 16, 32)
    starts = np.cumsum(widths) - widths
    return _Columns(X, np.concatenate([np.arange(s, s + min(w, width)) for s, w in zip(starts, widths, strict=True)]))


def left_out(X: Rows, labels: NDArray[np.int32], c: int, n_jobs: int = 1, run: Run = run) -> NDArray[np.float32]:
    """(n, c): how much each row of X (n, d) is like each class to a ridge regression that was not told its label.

    Of the least squares on the classes' indicators, what a fit to all other labelled rows would say follows from one
    fit to all: (ŷ − h·y) / (1 − h), h the row's leverage (Allen's PRESS, 1974). The penalty has the least such error.
    On CIFAR-10 with a tenth of the labels wrong its margins rank these as well as softmax regressions in five folds do
    (AUROC 0.996), and with labels of like classes exchanged better (0.987 against 0.979). O(n·d²), in two passes over X
    by an engine's `run`, the sums of the first merged.
    """
    known = np.flatnonzero(labels >= 0)
    regression = _Regression(X, labels, c)
    width = X[:1].shape[1] + 1
    gram, sums = np.zeros((width, width)), np.zeros((width, c))
    size = min(max(len(known) // _SUMS, _CHUNK), 16 * _CHUNK)
    for a, b in run(regression.products, _chunks(known, size), n_jobs):
        gram += a
        sums += b
    values, vectors = eigh(gram)
    V, B = vectors.astype(np.float32), (vectors.T @ sums).astype(np.float32)

    def judged(rows: NDArray[np.intp], penalty: np.float32) -> NDArray[np.float32]:
        shrunk = (1 / (np.maximum(values, 0) + penalty * len(known))).astype(np.float32)[:, None]
        said = run(partial(regression.left_out, V, shrunk * B, shrunk), _chunks(rows), n_jobs)
        return np.concatenate(list(said))

    some = known[:: max(len(known) // _FOR_PENALTY, 1)]
    truth = labels[some, None] == np.arange(c)
    best = min(_PENALTIES, key=lambda penalty: float(((judged(some, penalty) - truth) ** 2).mean()))
    return judged(np.arange(len(X)), best)


@dataclass(frozen=True)
class _Regression:
    """What workers compute of some rows (r,) for `left_out`."""

    X: Rows
    labels: NDArray[np.int32]
    c: int

    def _table(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """[X, 1] and the indicators of the classes."""
        indicators = (self.labels[rows, None] == np.arange(self.c)).astype(np.float32)
        return np.column_stack([self.X[rows], np.ones(len(rows), np.float32)]), indicators

    def products(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        tables = (self._table(part) for part in _chunks(rows))
        grams, sums = zip(*((A.T @ A, A.T @ T) for A, T in tables), strict=True)
        return np.sum(grams, 0, np.float64), np.sum(sums, 0, np.float64)

    def left_out(
        self, V: NDArray[np.float32], B: NDArray[np.float32], shrunk: NDArray[np.float32], rows: NDArray[np.intp]
    ) -> NDArray[np.float32]:
        A, T = self._table(rows)
        P = A @ V
        fitted, leverage = P @ B, (P * P) @ shrunk
        own = self.labels[rows, None] >= 0
        return np.where(own, (fitted - leverage * T) / np.maximum(1 - leverage, 1e-6), fitted)


def _chunks(rows: NDArray[np.intp], size: int = _CHUNK) -> list[NDArray[np.intp]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def vote(indices: NDArray[np.int32], labels: NDArray[np.int32], c: int) -> NDArray[np.float32]:
    """(n, c): logarithms of the classes' shares among the labelled of each row's neighbours (n, k), near ones first."""
    n, k = indices.shape
    # The twentieth counts a fifth of the first, of which there are twenty times fewer within its distance.
    weights = (np.arange(1, k + 1) ** -0.5).astype(np.float32)
    shares = np.zeros((n, c), np.float32)
    for weight, column in zip(weights / weights.sum(), indices.T, strict=True):
        told = np.flatnonzero(labels[column] >= 0)
        shares[told, labels[column[told]]] += weight
    return np.log(shares + np.float32(_FLOOR))


@dataclass(frozen=True)
class Judged:
    """What is known of n labels of c classes.

    wrong (n,): the chance that a label is; proba (n, c): of the classes, by looks alone; instead (n,): the likeliest
    class other than the label; confusion (c, c): the chance of each label (column) given the true class (row).
    """

    wrong: NDArray[np.float32]
    proba: NDArray[np.float32]
    instead: NDArray[np.int32]
    confusion: NDArray[np.float64]


def discriminants(regressed: NDArray[np.float32], judged: Judged, labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """(n, c): what the regression of `left_out` (n, c) says, by normal classes of one covariance within its c numbers.

    Least squares hide a class that lies between two others; discriminants of what they give do not (Hastie, Tibshirani
    and Buja, 1994). A labelled row counts for every class by its chance to be of it: wrong labels would be learned
    along. On CIFAR-10 the AUROC grows from 0.9959 to 0.9963 (symmetric), and from 0.9940 to 0.9945 (asymmetric).
    """
    known = np.flatnonzero(labels >= 0)
    chances = judged.proba[known].astype(np.float64) * judged.confusion[:, labels[known]].T
    chances /= np.maximum(chances.sum(1, keepdims=True), 1e-30)
    F = regressed - regressed.mean(1, keepdims=True)
    sizes = np.maximum(chances.sum(0), _TINY)[:, None]
    told = F[known].astype(np.float64)
    centres = chances.T @ told / sizes
    centred, apart = told - told.mean(0), centres - told.mean(0)
    within = (centred.T @ centred - (apart * sizes).T @ apart) / len(known)
    c = len(within)
    # F sums to nothing over the classes: along that direction there is no variance.
    within += np.trace(within) / c**2 + (1e-3 * np.trace(within) / c + _TINY) * np.eye(c)
    A = np.linalg.solve(within, centres.T)
    scores: NDArray[np.float32] = F @ A.astype(np.float32) - (0.5 * (centres.T * A).sum(0)).astype(np.float32)
    return scores


def channel(views: Sequence[NDArray[np.float32]], labels: NDArray[np.int32], expected: Sequence[float]) -> Judged:
    """How likely each label (n,) is wrong, from views (n, c) that do not know it; 0 where there is none (−1).

    A picture's true class is drawn from softmax(Σ aᵥ·viewᵥ + b), and its label from the true class's row of a table of
    confusion: as Dawid and Skene (1979) have it for several people. Expectation and maximisation (a Newton step for a
    and b) find all of these from the labels, so that the chances are calibrated, and a mistake that many labels share
    is told from a picture that is hard. `expected` are the weights a where labels are few.

    The table is free where that explains the labels enough better (Akaike, 1974) than mistakes that are all as likely:
    these rank better where it is true (AUROC on CIFAR-10 0.9955 against 0.9951), and the free one where classes are
    taken for their like (0.9934 against 0.9854). O(n·c²) for some steps.
    """
    V = np.stack([view - view.mean(1, keepdims=True) for view in views])
    known = np.flatnonzero(labels >= 0)
    some = known
    if len(known) > _FOR_CHANNEL:
        some = np.sort(np.random.default_rng(0).choice(known, _FOR_CHANNEL, replace=False))
    told, given = V[:, some].astype(np.float64), labels[some]
    c = V.shape[2]
    even, free = (_learned(told, given, np.asarray(expected), is_free) for is_free in (False, True))
    more = c * (c - 1) - 1  # numbers that are free in the one and not in the other
    a, b, table, _ = free if free[3] - even[3] > more else even
    looks = np.exp(log_softmax(np.tensordot(a.astype(np.float32), V, 1) + b.astype(np.float32), 1))
    both = looks.copy()
    both[known] *= table.astype(np.float32)[:, labels[known]].T
    both /= np.maximum(both.sum(1, keepdims=True), 1e-30)
    # As a sum over the others: one less the label's own share would round to nothing.
    both[known, labels[known]] = 0
    wrong = np.where(labels >= 0, both.sum(1).clip(0, 1), 0).astype(np.float32)
    return Judged(wrong, looks, both.argmax(1).astype(np.int32), table)


def _learned(
    V: NDArray[np.float64], given: NDArray[np.int32], expected: NDArray[np.float64], free: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
    """The weights of the views V (v, n, c), the classes' b, the table of confusion and the labels' log likelihood."""
    views, n, c = V.shape
    a, b, table = expected.copy(), np.zeros(c), _table(_RARE, c)
    prior = np.concatenate([1 / expected**2, np.ones(c)])  # precision: they may well be twice as large
    for _ in range(_STEPS):
        p = np.exp(log_softmax(np.tensordot(a, V, 1) + b, 1))
        q = p * table[:, given].T
        likelihood = q.sum(1, keepdims=True)
        q /= likelihood
        counts = np.stack([np.bincount(given, weights, c) for weights in q.T])
        wrong = (n - np.trace(counts) + _RARE * _SURE) / (n + _SURE)
        table = _table(wrong, c)
        if free:
            table = counts + table
            table /= table.sum(1, keepdims=True)
        centred = V - (V * p).sum(2, keepdims=True)
        slope = np.concatenate([((q - p) * V).sum((1, 2)), (q - p).sum(0)]) - prior * np.append(a - expected, b)
        curve = np.diag(prior)
        flat = centred.reshape(views, -1)
        curve[:views, :views] += (flat * p.ravel()) @ flat.T
        curve[:views, views:] += (centred * p).sum(1)
        curve[views:, :views] = curve[:views, views:].T
        curve[views:, views:] += np.diag(p.sum(0)) - p.T @ p
        step = np.linalg.solve(curve, slope)
        a, b = np.maximum(a + step[:views], 0), b + step[views:]
    return a, b, table, float(np.log(np.maximum(likelihood, 1e-300)).sum())


def _table(wrong: float, c: int) -> NDArray[np.float64]:
    """A table of confusion in which all mistakes are as likely."""
    table = np.full((c, c), wrong / max(c - 1, 1))
    np.fill_diagonal(table, 1 - wrong if c > 1 else 1)
    return table
