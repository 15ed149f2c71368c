"""Classes beyond those named: a Gaussian mixture that splits and merges, steered by the few labels; for new kinds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import logsumexp
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

__all__ = ["Discover"]

Codes = NDArray[np.intp]
Rows = NDArray[np.float32]

# Axes of each space in which near images are alike; k-means finds classes better there than in all.
_WIDTH = 32
# Of a fold that hides known classes: rows, which the number of classes found does not need more of.
_ROWS = 4000
# Hiding a third of the classes at a time, three folds hide each once; their scores' mean wants a few such rounds.
_FOLDS, _HIDE = 9, 3
# Steps of assignment after a merge. With none the classes keep the bounds of k-means' finer parts.
_SETTLE = 5


class _Start(NamedTuple):
    """What merging starts from.

    fine (n,) : cluster of each row. home : group of each cluster. expected : classes there may be, roughly. settle :
    steps of assignment after a merge. aim : number of classes that stands if labels don't say otherwise; None for the
    bend.
    """

    fine: Codes
    home: Codes
    expected: int
    settle: int
    aim: int | None


class Discover(BaseEstimator):
    """Known classes from their labels, new ones from what is left, and how many of these there are.

    A mixture with too many components, of which those that hold a known class's labels become its own, is merged pair
    by pair, each time the two whose union adds least to the sum of squares (Ward, 1963); classes with different labels
    never merge. Where to stop is found by hiding: the labels of a third of the known classes are set aside, and half of
    those of the others. A number of classes is good if it finds them again (adjusted Rand index); of those as good as
    the best within its standard error it is the one nearest to the bend of the sum of squares.

    With `groups` the components are the groups, each in two, their bounds stay, and their number takes the place of the
    bend: it stands unless the hidden classes speak against it. Give them if you can: they find classes better, and a
    number from the bend and some labels is a guess. Hidden classes can't tell whether two that nobody named were
    merged.

    The mixture is then fitted in all axes, with one covariance, to what was found. That tells the classes of new rows,
    as sure as suits the labelled rows under a mixture fitted to the others.

    O(n·k·d) a merge, and the same nine times on 4,000 rows; 10,000 × 768 takes 1 s with groups and 3 s without.

    Parameters
    ----------
    n_new : new classes, or None to find their number.
    blocks : widths of the spaces that X holds side by side; None for a single one.
    random_state, n_jobs : seed; not used, the work is one thread's.

    Attributes
    ----------
    n_new_ : new classes found. weights_ : (d, c + n_new_), bias_ : (c + n_new_,), of the classes' logits.

    References
    ----------
    Zhao, Wen and Han (2023), "Learning Semi-supervised Gaussian Mixture Models for Generalized Category Discovery", for
    a mixture that splits and merges around labels; the merges here follow Ward and not chance. Troisemaine et al.
    (2023), "A Practical Approach to Novel Class Discovery in Tabular Data", for hiding known classes.
    """

    VERSION = 1

    def __init__(
        self,
        n_new: int | None = None,
        *,
        blocks: Sequence[int] | None = None,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.n_new = n_new
        self.blocks = blocks
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Learn from X (n, d), y (n,), −1 where the class is not known, and maybe a grouping, (n,) or soft (n, g)."""
        X = validate_data(self, X, dtype=np.float32, order="C", ensure_min_samples=2)
        y = np.asarray(y, np.intp)
        if len(y) != len(X):
            raise ValueError(f"y has {len(y)} rows, but X has {len(X)}")
        c = int(y.max()) + 1
        if not np.isin(np.arange(c), y).all() or c < 1:
            raise ValueError("each class 0 … c−1 needs a labelled row")
        blocks = (X.shape[1],) if self.blocks is None else tuple(self.blocks)
        if sum(blocks) != X.shape[1]:
            raise ValueError(f"blocks add up to {sum(blocks)}, but X has {X.shape[1]} columns")
        if groups is not None:
            groups = np.asarray(groups)
            groups = np.unique(groups if groups.ndim == 1 else groups.argmax(1), return_inverse=True)[1]
            if len(groups) != len(X):
                raise ValueError(f"groups has {len(groups)} rows, but X has {len(X)}")
        with threadpool_limits(1):
            part = self._partition(_leading(X, blocks), y, c, groups)
            self.n_new_ = int(part.max()) + 1 - c
            weights, bias = _mixture(X, part, int(part.max()) + 1)
            softness = _softness(X, y, part)
            self.weights_, self.bias_ = weights / softness, bias / softness
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """The probabilities (n, c + n_new_) of each row's class: the known ones first."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float32, order="C")
        with threadpool_limits(1):
            logits = X @ self.weights_ + self.bias_
        logits -= logits.max(1, keepdims=True)
        np.exp(logits, out=logits)
        return np.asarray(logits / logits.sum(1, keepdims=True), np.float32)

    def predict(self, X: Any) -> NDArray[np.int32]:
        """The likeliest class (n,) of each row."""
        return self.predict_proba(X).argmax(1).astype(np.int32)

    def _partition(self, Z: Rows, y: Codes, c: int, groups: Codes | None) -> Codes:
        """The class of each row, known ones first."""
        if groups is None:
            # Of 30 a merge ends well at 10 and of 94 at 43, as measured; many take long.
            count = max(min(4 * c + 10, c + 150, len(Z) // 10), 1)
            fine = _kmeans(Z, count, self.random_state)
            start = _Start(fine, np.arange(fine.max() + 1), max(count // 2, 1), _SETTLE, None)
        else:
            number = int(groups.max()) + 1
            start = _Start(*_halves(Z, groups, self.random_state), number, 0, number)
        if self.n_new is not None:
            wanted = c + self.n_new
        else:
            wanted = _number(Z, y, c, start, np.random.default_rng(self.random_state))
        return next(part for part in _merges(Z, y, c, start) if part.max() < wanted)


def _leading(X: Rows, blocks: Sequence[int]) -> Rows:
    """The first axes of each block."""
    ends = np.cumsum(blocks)
    return np.concatenate([X[:, e - w : e - w + min(w, _WIDTH)] for e, w in zip(ends, blocks, strict=True)], axis=1)


def _kmeans(Z: Rows, k: int, seed: int) -> Codes:
    """Clusters of Z, at most k."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        found = KMeans(min(k, len(Z)), n_init=3, random_state=seed).fit(Z).labels_
    return np.unique(found, return_inverse=True)[1]


def _halves(Z: Rows, groups: Codes, seed: int) -> tuple[Codes, Codes]:
    """Each group in two, and the group of each half."""
    fine = 2 * groups
    for g in range(int(groups.max()) + 1):
        rows = np.flatnonzero(groups == g)
        fine[rows] += _kmeans(Z[rows], 2, seed)
    halves, fine = np.unique(fine, return_inverse=True)
    return fine, halves // 2


def _claimed(y: Codes, c: int, fine: Codes, expected: int) -> tuple[Codes, Codes]:
    """The part of each row, known classes first, and of each cluster: one goes to the class that has half of it.

    The labelled share of a class tells how much of it a cluster holds, if classes are as large as `expected` of them
    are on average.
    """
    k, named = int(fine.max()) + 1, y >= 0
    share = np.zeros((k, c))
    np.add.at(share, (fine[named], y[named]), 1)
    share /= np.maximum(share.sum(0), 1)
    share *= len(y) / expected / np.maximum(np.bincount(fine, minlength=k), 1)[:, None]
    owner = np.where(share.max(1) > 0.5, share.argmax(1), -1)
    owner[owner < 0] = c + np.arange((owner < 0).sum())
    return np.where(named, y, owner[fine]), owner


def _means(Z: Rows, part: Codes, k: int) -> tuple[NDArray[np.float64], Rows]:
    """Sizes (k,) and means (k, d) of the parts."""
    size = np.bincount(part, minlength=k).astype(np.float64)
    total = csr_array((np.ones(len(Z), np.float32), (part, np.arange(len(Z)))), shape=(k, len(Z))) @ Z
    return size, np.asarray(total / np.maximum(size, 1)[:, None], np.float32)


def _squared(A: Rows, B: Rows) -> Rows:
    """Squared distances (a, b)."""
    return np.asarray((A**2).sum(1)[:, None] - 2 * A @ B.T + (B**2).sum(1), np.float32)


def _merges(Z: Rows, y: Codes, c: int, start: _Start) -> Iterator[Codes]:
    """The parts of all rows as ever more are merged, down to the known classes."""
    part, owner = _claimed(y, c, start.fine, start.expected)
    k = int(owner.max(initial=c - 1)) + 1
    member = np.zeros((k, int(start.home.max()) + 1), bool)
    member[owner, start.home] = True
    kin = member @ member.T  # parts of one group merge before those of different ones
    while True:
        size, mean = _means(Z, part, k)
        if not size.all():  # no new class without rows
            keep = size > 0
            part, kin, k = (np.cumsum(keep) - 1)[part], kin[keep][:, keep], int(keep.sum())
            size, mean = size[keep], mean[keep]
        yield part
        if k == c:
            return
        cost = size[:, None] * size / (size[:, None] + size) * np.maximum(_squared(mean, mean), 0)
        cost[kin] *= 1e-6
        cost[:c, :c] = np.inf
        np.fill_diagonal(cost, np.inf)
        i, j = sorted(np.unravel_index(cost.argmin(), cost.shape))
        part = np.where(part == j, i, part - (part > j))
        kin[i] |= kin[j]
        kin[:, i] = kin[i]
        kin, k = np.delete(np.delete(kin, j, 0), j, 1), k - 1
        for _ in range(start.settle):
            part = _squared(Z, _means(Z, part, k)[1]).argmin(1)
            part = np.where(y >= 0, y, part)


def _number(Z: Rows, y: Codes, c: int, start: _Start, rng: np.random.Generator) -> int:
    """Classes in all: the number at which hidden known ones are found again; of equally good ones nearest the aim."""
    named = np.flatnonzero(y >= 0)
    others = np.flatnonzero(y < 0)
    rows = np.sort(np.append(named, rng.permutation(others)[: max(_ROWS - len(named), 0)]))
    kept, fine = np.unique(start.fine[rows], return_inverse=True)
    Z, y, start = Z[rows], y[rows], start._replace(fine=fine, home=start.home[kept])
    aim = _elbow(Z, y, c, start) if start.aim is None else start.aim
    if c < _HIDE:  # too few to hide one and learn from the others
        return aim
    scores: dict[int, list[float]] = {}
    for fold in range(_FOLDS):
        if fold % _HIDE == 0:
            order = rng.permutation(c)
        shown = np.setdiff1d(np.arange(c), order[fold % _HIDE :: _HIDE])
        code = np.full(c + 1, -1)
        code[shown] = np.arange(len(shown))
        told = code[y]
        if start.settle:  # new classes might take what lies about the others' labels: half of those is to show it
            for j in shown:
                rows = rng.permutation(np.flatnonzero(y == j))
                told[rows[(len(rows) + 1) // 2 :]] = -1
        tested = (y >= 0) & ((told < 0) | (start.settle == 0))
        for part in _merges(Z, told, len(shown), start):
            scores.setdefault(int(part.max()) + 1, []).append(adjusted_rand_score(y[tested], part[tested]))
    scores = {k: s for k, s in scores.items() if len(s) == _FOLDS and k >= c} or {c: [0.0]}
    mean = {k: float(np.mean(s)) for k, s in scores.items()}
    best = max(mean, key=lambda k: (mean[k], -k))
    # Three folds hide every class once; more of them are no new evidence.
    error = float(np.std(scores[best])) / _HIDE**0.5
    return min((k for k in mean if mean[k] >= mean[best] - error), key=lambda k: abs(k - aim))


def _elbow(Z: Rows, y: Codes, c: int, start: _Start) -> int:
    """The number of classes where the sum of squares bends most: lies farthest under its chord."""
    ks, left = [], []
    for part in _merges(Z, y, c, start):
        size, mean = _means(Z, part, int(part.max()) + 1)
        ks.append(len(size))
        left.append(float((Z**2).sum(dtype=np.float64) - (size * (mean**2).sum(1)).sum()))
    chord = np.interp(ks, [ks[-1], ks[0]], [left[-1], left[0]])
    return ks[int((chord - left).argmax())]


def _softness(X: Rows, y: Codes, part: Codes) -> float:
    """What the logits are to be divided by: Gaussians in hundreds of axes are far too sure (Guo et al., 2017).

    Likeliest are the labels, under a mixture fitted to the other rows, at that.
    """
    named = y >= 0
    if named.all():
        return 1.0
    weights, bias = _mixture(X[~named], part[~named], int(part.max()) + 1)
    logits = (X[named] @ weights + bias).astype(np.float64)
    best, softness = -np.inf, 1.0
    for candidate in 2.0 ** np.arange(0, 6.5, 0.5):
        soft = logits / candidate
        likelihood = float((soft[np.arange(len(soft)), y[named]] - logsumexp(soft, axis=1)).mean())
        if likelihood > best:
            best, softness = likelihood, float(candidate)
    return softness


def _mixture(X: Rows, part: Codes, k: int) -> tuple[Rows, Rows]:
    """Weights (d, k) and bias (k,) of the logits of Gaussians with one covariance.

    Its shrinkage towards a multiple of the identity is that of Ledoit and Wolf (2004).
    """
    n, d = X.shape
    size, mean = _means(X, part, k)
    rest = X - mean[part]
    covariance = (rest.T @ rest / n).astype(np.float64)
    even = float(np.trace(covariance)) / d
    if even <= 1e-12:  # within classes all rows are alike
        even, covariance = 1.0, np.eye(d)
    off = float((covariance**2).sum()) - d * even**2
    fourth = float((np.einsum("nd,nd->n", rest, rest, dtype=np.float64) ** 2).mean())
    noise = (fourth - float((covariance**2).sum())) / n
    shrinkage = min(max(noise / off, 1e-3), 1.0) if off > 0 else 1.0
    covariance = (1 - shrinkage) * covariance + shrinkage * even * np.eye(d)
    weights = np.linalg.solve(covariance, mean.T.astype(np.float64))
    bias = np.log(np.maximum(size, 0.5) / n) - 0.5 * np.einsum("kd,dk->k", mean, weights)
    return weights.astype(np.float32), bias.astype(np.float32)
