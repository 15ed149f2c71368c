"""What every way of spreading has in common: the contract around `_fit` and `_proba`, kernels and ridge regression."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

_T = TypeVar("_T")
_TINY = 1e-12
_NOISE = 0.3  # of an answer, against what is known of its neighbours: 0.1 to 1 do about as well
_NEAR = 2.0  # γ of the kernel around the answers: 1 to 3 do as well
_MANY = 2000  # answers that are looked around; more are labels like others
_LIKE = 30.0  # cosines to logits of whose answer an image heeds: 20 to 40 do as well
_PURE = 4  # power of the shares of a group: most that is found in a group beside its class was asked for being odd
_TOLD = 0.7  # power of the probe among the classes of a group: at 1 it is believed too much where all answers are hard
_PART = 4096  # rows that one thread takes at a time; the same for any number of threads, so that sums round alike


class Spreader(BaseEstimator):
    """A way of spreading answers. A subclass gives `_fit`, which sees the answers as y, and `_proba`.

    A constructor of its own takes, by name, these too: `blocks` (widths of the spaces that X holds side by side; None
    for a single one), `random_state` and `n_jobs` (threads; the answer does not depend on how many).
    """

    VERSION = 1

    def __init__(self, *, blocks: Sequence[int] | None = None, random_state: int = 0, n_jobs: int = 1) -> None:
        self.blocks = blocks
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Learn from the answers y (n,), −1 where there is none, to rows of X (n, d).

        groups (n,), or (n, g) soft, is a grouping made without answers; a way that has no use for it leaves it.
        """
        X, y = _rows(X), np.asarray(y).astype(np.int32)
        if len(X) != len(y):
            raise ValueError(f"{len(X)} rows, but {len(y)} answers; −1 stands for none")
        if not (y >= 0).any():
            raise ValueError("there is no answer to spread: all of y is below 0")
        for name in [n for n in vars(self) if n.endswith("_")]:
            delattr(self, name)  # of an earlier fit
        blocks = (X.shape[1],) if self.blocks is None else self.blocks
        if sum(blocks) != X.shape[1]:
            raise ValueError(f"blocks add up to {sum(blocks)}, but X has {X.shape[1]} columns")
        self.blocks_ = np.array(blocks)
        self.n_classes_ = int(y.max()) + 1
        with threadpool_limits(1):
            self._fit(X, y, None if groups is None else shares(groups), np.random.default_rng(self.random_state))
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """(n, c): the probability of each class for each row of X (n, d)."""
        check_is_fitted(self, "n_classes_")
        X = _rows(X)
        if X.shape[1] != self.blocks_.sum():
            raise ValueError(f"X has {X.shape[1]} columns; fitted to {self.blocks_.sum()}")
        with threadpool_limits(1):
            parts = by_parts(lambda part: self._proba(X[part]), len(X), self.n_jobs)
        return np.concatenate([np.zeros((0, self.n_classes_), np.float32), *parts])

    def predict(self, X: Any) -> NDArray[np.int32]:
        """(n,): the likeliest class of each row of X (n, d)."""
        return self.predict_proba(X).argmax(1).astype(np.int32)

    def _fit(
        self, X: NDArray[np.float32], y: NDArray[np.int32], groups: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> None:
        raise NotImplementedError

    def _proba(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        raise NotImplementedError


def _rows(X: Any) -> NDArray[np.float32]:
    X = np.ascontiguousarray(X, dtype=np.float32)
    if X.ndim != 2 or not np.isfinite(X).all():
        raise ValueError("X has to be a table (n, d) of finite numbers")
    return X


def each_part(task: Callable[[slice], _T], n: int, n_jobs: int) -> Iterator[_T]:
    """`task` of each part of n rows, in order, in as many threads."""
    parts = [slice(start, min(start + _PART, n)) for start in range(0, n, _PART)]
    if n_jobs == 1 or len(parts) < 2:
        yield from map(task, parts)
        return
    with ThreadPoolExecutor(n_jobs) as threads:
        yield from threads.map(task, parts)


def by_parts(task: Callable[[slice], _T], n: int, n_jobs: int) -> list[_T]:
    return list(each_part(task, n, n_jobs))


def one_hot(codes: NDArray[np.int32], c: int) -> NDArray[np.float32]:
    return np.eye(c, dtype=np.float32)[codes]


def shares(groups: Any) -> NDArray[np.float32]:
    """(n, g): the groups as rows that sum to 1, whether given hard (n,) or soft (n, g); left out is all alike."""
    groups = np.asarray(groups)
    if groups.ndim == 2:
        return _normed(np.maximum(groups, 0).astype(np.float32))
    hard = one_hot(np.maximum(groups, 0), int(groups.max(initial=0)) + 1)
    hard[groups < 0] = 1 / hard.shape[1]
    return hard


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def proportions(scores: NDArray[np.float32], least: float = 1e-4) -> NDArray[np.float32]:
    """Scores that are near probabilities, as probabilities of at least about `least`."""
    return _normed(np.maximum(scores, np.float32(least)))


def hold(proba: NDArray[np.float32], sizes: NDArray[np.float32]) -> NDArray[np.float32]:
    """`proba` scaled by rows and columns until its classes have these sizes (Sinkhorn and Knopp, 1967)."""
    for _ in range(5):
        proba = _normed(proba * (sizes / np.maximum(proba.mean(0), _TINY)))
    return proba


def directions(X: NDArray[np.float32], blocks: NDArray[np.int_], width: int) -> NDArray[np.float32]:
    """Rows of length 1, in the first `width` axes of every space."""
    starts = np.cumsum(blocks) - blocks
    columns = np.concatenate([np.arange(s, s + min(b, width)) for s, b in zip(starts, blocks, strict=True)])
    view: NDArray[np.float32] = X[:, columns]
    return view / np.maximum(np.linalg.norm(view, axis=1, keepdims=True), _TINY)


def with_one(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """X and a column of ones."""
    return np.column_stack([X, np.ones(len(X), X.dtype)])


def kernel(A: NDArray[np.float32], B: NDArray[np.float32], gamma: float) -> NDArray[np.float32]:
    """exp(γ (cos − 1)) between rows of length 1."""
    return np.exp(np.float32(gamma) * (A @ B.T - np.float32(1)))


def named(
    groups: NDArray[np.float32],
    view: NDArray[np.float32],
    asked: NDArray[np.intp],
    answers: NDArray[np.float32],
    plain: NDArray[np.float32],
    n_jobs: int,
) -> NDArray[np.float32]:
    """(n, c): the classes of soft groups (n, g), from answers (m, c) to the rows asked, and a probe's say of all.

    What a group holds is what its images say, each by the answer most like it in `view` and of its own group. Counting
    the answers themselves would be misled, for they are asked where groups touch. A group's mass stays its own: the
    probe only tells apart the classes that the group holds.
    """
    own, at = groups[asked], view[asked]

    def held(part: slice) -> NDArray[np.float32]:
        likeness = np.float32(_LIKE) * (view[part] @ at.T) + np.log(groups[part] @ own.T + np.float32(0.01))
        return groups[part].T @ (softmax(likeness) @ answers)

    holds = np.sum(by_parts(held, len(view), n_jobs), axis=0) + np.float32(_TINY)
    # A class that has no group yet is likelier in one without answers than another that has several: with one random
    # answer a class, CIFAR-10's groups are named right in 0.88 to 0.90 of the images so, else in 0.74.
    holds = hold(_normed(holds), np.full(answers.shape[1], 1 / answers.shape[1], np.float32))
    holds, plain = proportions(holds**_PURE, _TINY), plain ** np.float32(_TOLD)
    label: NDArray[np.float32] = _normed(((groups / (plain @ holds.T)) @ holds) * plain)
    return label


class Residuals:
    """A Gaussian process of what was missed at the answers, over rows of length 1."""

    def __init__(
        self,
        view: NDArray[np.float32],
        asked: NDArray[np.intp],
        answers: NDArray[np.float32],
        rng: np.random.Generator,
        n_jobs: int,
    ) -> None:
        if len(asked) > _MANY:
            chosen = np.sort(rng.permutation(len(asked))[:_MANY])
            asked, answers = asked[chosen], answers[chosen]
        self._view, self._asked, self._answers, self._n_jobs = view, asked, answers, n_jobs
        own = kernel(view[asked], view[asked], _NEAR)
        self._inverse = np.linalg.inv(own.astype(np.float64) + _NOISE * np.eye(len(own)))

    def mended(self, label: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, c): `label`, moved around the answers by what it misses there."""
        missed = (self._inverse @ (self._answers - label[self._asked])).astype(np.float32)
        at = self._view[self._asked]
        moves = by_parts(lambda part: kernel(self._view[part], at, _NEAR) @ missed, len(label), self._n_jobs)
        return label + np.concatenate(moves)


def logistic(
    x: NDArray[np.float32], label: NDArray[np.float32], penalty: float, weight: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """(d, c): weights of least mean surprise at soft labels (n, c) of x (n, d), and `penalty` times half their squares.

    `weight` (n,) are the rows', which sum to 1.
    """
    from scipy.optimize import minimize

    shape = (x.shape[1], label.shape[1])
    each = np.full((len(x), 1), 1 / len(x), np.float32) if weight is None else weight[:, None]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(shape).astype(np.float32)
        said = softmax(x @ weights)
        surprise = -float((each * label * np.log(np.maximum(said, _TINY))).sum())
        slope = x.T @ (each * (said - label)) + np.float32(penalty) * weights
        return surprise + penalty / 2 * float((flat**2).sum()), slope.ravel().astype(np.float64)

    found = minimize(loss, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 100})
    weights: NDArray[np.float32] = found.x.reshape(shape).astype(np.float32)
    return weights


class Adam:
    """Steps of Adam (Kingma and Ba, 2015) on `weights`, in place, which decay."""

    def __init__(self, weights: NDArray[np.float32], decay: float = 1e-4) -> None:
        self.weights, self._decay, self._steps = weights, np.float32(decay), 0
        self._mean, self._square = np.zeros_like(weights), np.zeros_like(weights)

    def step(self, slope: NDArray[np.float32], rate: float) -> None:
        self._steps += 1
        slope = slope + self._decay * self.weights
        self._mean += np.float32(0.1) * (slope - self._mean)
        self._square += np.float32(0.001) * (slope * slope - self._square)
        rate *= (1 - 0.999**self._steps) ** 0.5 / (1 - 0.9**self._steps)
        self.weights -= np.float32(rate) * self._mean / (np.sqrt(self._square) + np.float32(1e-8))


def _normed(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.maximum(rows.sum(1, keepdims=True), _TINY)
