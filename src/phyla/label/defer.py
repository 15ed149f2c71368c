"""Which labels to take without looking, at an error that is stated, and which to leave to a person."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from phyla.label._checks import checks

__all__ = ["Defer"]

# How far calibration may be from the identity before answers say so: standard deviations of the slope, of the intercept
# and of each class's own. Wider follows the few wrong checks, narrower never learns that `proba` is too sure. Of rows
# as if they were new `anchored` has intercept 0.2 and slope 0.9 on CIFAR-10, 0.2 and 0.7 on photos of 43 classes, −0.4
# and 0.7 on the long tail. With 42 checks drawn again and again, set to 2 %, the error is off by 0.5, 0.6 and 3.3
# points; with 0.2 and 0.5 by 0.7, 1.0 and 2.8, with 0.1 and 0.3 by 0.3, 0.4 and 4.4.
_SLOPE, _SHIFT, _OWN = 0.17, 0.3, 0.1
# Checks below which nothing is stated. With none `anchored` would state 3 % for 1,164 photos of 43 classes, 60 of
# them answered, where 31 % are wrong: how sure it is says little of how sure it may be.
_FEWEST = 30
_FLATTEST = 0.05  # slope; a likelier label is never taken for a worse one
_STEPS = 50  # of Newton's method, which needs about six


_Model = TypeVar("_Model")


class Defer:
    """A radius for each class within which its labels are accepted (deferral by distance to the class, 2024).

    The distance of an image to its likeliest class is 1 − p. The paper's radius ends before the nearest image that was
    labelled wrongly, which says nothing of the error inside. Here the radii are those at which every class is equally
    likely wrong, logit(right) = a + a_class + b · logit(p), and as wide as keeps the mean error of what is accepted
    within `target`. a, a_class and b are the posterior's mode (Platt scaling with a normal prior around p itself).

    With fewer than 30 checks nothing can be said of the error: `error_` is NaN, and what is accepted is more likely
    right than wrong, by `proba` itself.

    Answers were asked where the labels are doubtful, so they would state too large an error. Only those that are
    `checks`, drawn by chance, are counted, by what is said of them without their answer (`held_out`).
    O(n · c).

    Parameters
    ----------
    target : the share of wrong labels among the accepted.

    Attributes
    ----------
    radius_ : (c,), largest 1 − p that is accepted; below 0 where nothing is. error_ : expected share of wrong labels
        among the accepted rows of `fit`. deviation_ : its standard deviation, of the calibration. coverage_ : share of
        the rows that is accepted. calibration_ : (2 + c,), a, b and each class's own. n_checks_ : answers counted.
    """

    VERSION = 2

    def __init__(self, target: float = 0.02) -> None:
        if not 0 <= target <= 1:
            raise ValueError(f"target={target} is no share of wrong labels; give a number from 0 to 1")
        self.target = target

    def fit(self, proba: NDArray[np.float32], labels: NDArray[np.int32]) -> Self:
        """Learn the radii from `proba` (n, c), that of answered rows `held_out`, and `labels` (n,), −1 unknown."""
        rows = checks(proba, labels)
        return self._fit(proba, rows, proba[rows].argmax(1) == labels[rows])

    def fit_right(self, proba: NDArray[np.float32], right: NDArray[np.floating]) -> Self:
        """Learn the radii from how probably the likeliest class of each row of `proba` (n, c) is right, as a teacher
        whose answers were checked says: `right` (n,)."""
        return self._fit(proba, np.arange(len(proba)), right)

    def _fit(self, proba: NDArray[np.float32], rows: NDArray[np.intp], right: NDArray[Any]) -> Self:
        c = proba.shape[1]
        self.n_checks_ = len(rows)
        self.calibration_, covariance = _calibrated(_terms(proba[rows]), right, c)

        if self.n_checks_ < _FEWEST:
            self.radius_, self.error_, self.deviation_ = np.full(c, 0.5), float("nan"), float("nan")
            self.coverage_ = float(self.accept(proba).mean())
            return self
        wrong = self.error(proba)
        order = np.argsort(wrong, kind="stable")
        mean = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
        accepted = order[: int(np.searchsorted(mean, self.target, side="right"))]  # the mean of a rising row rises
        self.coverage_ = len(accepted) / len(order)
        self.error_ = float(wrong[accepted].mean()) if len(accepted) else 0.0
        slopes = (wrong * (1 - wrong))[accepted, None] * _terms(proba[accepted])
        gradient = slopes.mean(0) if len(accepted) else np.zeros(2 + c)
        self.deviation_ = float(np.sqrt(gradient @ covariance @ gradient))
        edge = wrong[accepted[-1]] if len(accepted) else -1.0
        a, b, own = self.calibration_[0], self.calibration_[1], self.calibration_[2:]
        farthest = 1 / (1 + np.exp((np.log((1 - edge) / edge) - a - own) / b)) if edge > 0 else np.full(c, -1.0)
        self.radius_ = np.asarray(farthest, np.float64)
        return self

    def error(self, proba: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,): the probability that the likeliest class of a row is wrong."""
        return 1 / (1 + np.exp(_terms(proba) @ self.calibration_))

    def accept(self, proba: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(n,): whether to take the likeliest class of a row; for new rows as well."""
        return 1 - _likeliest(proba) <= self.radius_[proba.argmax(1)] + 1e-9


def held_out(
    learn: Callable[[Sequence[NDArray[np.int32]]], Iterator[tuple[_Model, NDArray[np.float32]]]],
    labels: NDArray[np.int32],
    rng: np.random.Generator,
    folds: int = 5,
) -> tuple[_Model, NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """A model learnt from all labels (n,), its `proba` (n, c), that in which no answer is seen by its own row, and the
    labels (n,) of which that is true.

    `learn` gives a model and its `proba` for each of several labellings: with all labels, and `folds` times without a
    part of them. The only answer of a class is never left out, so it is −1 in the labels that come back.
    """
    rows = rng.permutation(np.flatnonzero((labels >= 0) & (_times(labels) > 1)))
    rows = rows[np.argsort(labels[rows], kind="stable")]
    parts = [rows[fold::folds] for fold in range(min(folds, len(rows)))]  # classes in turn: of two one stays
    learnt = learn([labels, *(np.where(np.isin(np.arange(len(labels)), part), -1, labels) for part in parts)])
    model, proba = next(learnt)
    apart, kept = proba.copy(), np.full_like(labels, -1)
    for part, (_, other) in zip(parts, learnt, strict=True):
        apart[part] = _matched(other[part], proba.shape[1], int(labels.max()) + 1)
    kept[rows] = labels[rows]
    return model, proba, apart, kept


def _matched(proba: NDArray[np.float32], c: int, known: int) -> NDArray[np.float32]:
    """`proba` with c columns: without some answers a way may discover other classes, so what is new is all alike."""
    if proba.shape[1] == c:
        return proba
    same = np.zeros((len(proba), c), np.float32)
    same[:, :known], same[:, -1] = proba[:, :known], proba[:, known:].sum(1)
    return same


def _times(labels: NDArray[np.int32]) -> NDArray[np.intp]:
    """(n,): how many answers a row's class has; 0 for rows without one."""
    known = labels >= 0
    return np.where(known, np.bincount(labels[known], minlength=1)[np.where(known, labels, 0)], 0)


def _likeliest(proba: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,): the probability of the likeliest class, where it has a logit."""
    return proba.max(1).astype(np.float64).clip(1e-6, 1 - 1e-6)


def _logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(p / (1 - p))


def _terms(proba: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, 2 + c): 1, the logit of the likeliest class, and which class that is."""
    own = np.eye(proba.shape[1])[proba.argmax(1)]
    return np.column_stack([np.ones(len(proba)), _logit(_likeliest(proba)), own])


def _calibrated(
    terms: NDArray[np.float64], right: NDArray[Any], c: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (2 + c,) of the terms (m, 2 + c), the posterior's mode by Newton's method, and their covariance.

    right : (m,) whether, or how probably, each row is.
    """
    mean = np.r_[0.0, 1.0, np.zeros(c)]
    precision = 1 / np.square(np.r_[_SHIFT, _SLOPE, np.full(c, _OWN)])
    weights = mean.copy()
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-terms @ weights))
        curvature = (terms * (p * (1 - p))[:, None]).T @ terms + np.diag(precision)
        step = np.linalg.solve(curvature, terms.T @ (right - p) - precision * (weights - mean))
        weights = weights + step / max(1.0, np.abs(step).max())  # a longer one may overshoot
        if np.abs(step).max() < 1e-9:
            break
    weights[1] = max(weights[1], _FLATTEST)
    return weights, np.linalg.inv(curvature)
