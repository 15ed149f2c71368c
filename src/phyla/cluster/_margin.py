"""Margin maximisation: move a grouping to where linear classifiers in several spaces tell its groups apart best."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy, deepcopy

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._grouper import softmax
from phyla.cluster._lloyd import in_parallel

# Measured on CIFAR-10 from the consensus of the voters (0.863): 150 steps of 1,024 rows reach 0.899, 1,000 steps 0.897;
# 512 rows 0.895, 256 rows 0.888. Two steps of the classifiers for one of the labellers do as well as five or twenty.
_BATCH, _STEPS, _INNER = 1024, 150, 2
_RATE, _RATE_START = 0.01, 0.02
WEIGHT, _GENTLE = 10.0, 3.0  # γ, how much the sizes expected count: the paper's; and a gentler one (see `widest`)
_DECAY = 0.01  # of all weights: few rows can be told apart by chance
_TINY = 1e-12
# Nats of a classifier's mean surprise that equal sizes may cost: 0.004 on CIFAR-10, 0.013 on 43 classes of photos, both
# of equal size; 0.033 on CIFAR-10 with a long tail, 0.2 on three separate blobs of 60, 30 and 10.
_TOLERATED = 0.02
# What else is known of the images: labellers, generator → the slopes that it adds to the objective's.
Pull = Callable[[list[NDArray[np.float32]], np.random.Generator], list[NDArray[np.float32]]]
WIDTH = 256  # axes of each space: 128 reach 0.894, 256 0.899, 512 0.899


def margin(
    X: NDArray[np.float32],
    blocks: list[NDArray[np.intp]],
    start: NDArray[np.float32],
    rng: np.random.Generator,
    sizes: NDArray[np.float32],
    weight: float = WEIGHT,
    pull: Pull | None = None,
) -> tuple[list[NDArray[np.float32]], float]:
    """Labellers (width + 1, c), one a space, found from the labelling `start` (n, c) of X (n, d); and their surprise.

    TURTLE (Gadetsky, Jiang and Brbić, 2024): each space has a labeller θ and a classifier w, both linear. An image is
    labelled by the mean over the spaces of softmax(θᵀx). The classifiers learn that labelling by steps of logistic
    regression; the labellers then move to what the classifiers are less surprised by (the paper's first-order gradient,
    w held constant), while `weight` (γ) times the relative entropy to `sizes` (c,), the shares expected, holds the
    groups near these (equal ones in the paper). From a random start, as in the paper, this takes thousands of steps and
    ends anywhere between 0.78 and 0.89 on CIFAR-10; from a consensus it takes 150. O(steps · batch · d · c).
    """
    batches = _Batches(X, blocks, rng)
    return _widen(_taught(batches, start), batches, sizes, weight, pull)


class _Batches:
    """Rows of X drawn at random, each once before any twice; split into spaces, with a column of ones."""

    def __init__(self, X: NDArray[np.float32], blocks: list[NDArray[np.intp]], rng: np.random.Generator) -> None:
        self.rng = rng
        self.size = min(_BATCH, max(len(X) // 4, 1))
        self.widths = [len(block) + 1 for block in blocks]
        self._X, self._blocks, self._rows, self._at = X, blocks, rng.permutation(len(X)), 0

    def draw(self) -> tuple[NDArray[np.intp], list[NDArray[np.float32]]]:
        if self._at + self.size > len(self._X):
            self._rows, self._at = self.rng.permutation(len(self._X)), 0
        self._at += self.size
        rows = self._rows[self._at - self.size : self._at]
        drawn = self._X[rows]
        return rows, [with_one(drawn[:, block]) for block in self._blocks]

    def fork(self) -> _Batches:
        """One that will draw the same from here."""
        other = copy(self)
        other.rng = deepcopy(self.rng)
        return other


def _taught(batches: _Batches, start: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Labellers that say what `start` says."""
    labellers = [Adam(np.zeros((width, start.shape[1]), np.float32)) for width in batches.widths]
    for step in range(_STEPS):
        drawn, spaces = batches.draw()
        for own, x in zip(labellers, spaces, strict=True):
            surplus: NDArray[np.float32] = softmax(x @ own.weights) - start[drawn]
            own.step(x.T @ surplus / np.float32(batches.size), _RATE_START * (1 - step / _STEPS))
    return [own.weights for own in labellers]


def _widen(
    taught: list[NDArray[np.float32]],
    batches: _Batches,
    sizes: NDArray[np.float32],
    weight: float,
    pull: Pull | None,
) -> tuple[list[NDArray[np.float32]], float]:
    """What `margin` returns, from the labellers `taught`."""
    labellers = [Adam(weights.copy()) for weights in taught]
    classifiers = [Adam(np.zeros_like(weights)) for weights in taught]
    losses = []
    for _ in range(_STEPS):
        _, spaces = batches.draw()
        each = [softmax(x @ own.weights) for x, own in zip(spaces, labellers, strict=True)]
        label = sum(each[1:], each[0]) / np.float32(len(each))
        surprise = np.zeros_like(label)
        for x, own in zip(spaces, classifiers, strict=True):
            for _ in range(_INNER):
                own.step(x.T @ (softmax(x @ own.weights) - label) / np.float32(batches.size), _RATE)
            surprise -= np.log(np.maximum(softmax(x @ own.weights), _TINY))
        losses.append(float((label * surprise).sum(1).mean()) / len(spaces))
        skew = np.log(np.maximum(label.mean(0), _TINY) / sizes)
        slope = surprise + weight * (skew + 1)  # of the loss by the labelling
        slopes = by_weights(spaces, each, slope / batches.size)
        if pull is not None:
            more = pull([own.weights for own in labellers], batches.rng)
            slopes = [one + other for one, other in zip(slopes, more, strict=True)]
        for own, towards in zip(labellers, slopes, strict=True):
            own.step(towards, _RATE)
    return [own.weights for own in labellers], float(np.mean(losses[-_STEPS // 5 :]))


def widest(
    X: NDArray[np.float32],
    blocks: list[NDArray[np.intp]],
    start: NDArray[np.float32],
    rngs: list[np.random.Generator],
    n_jobs: int,
    pull: Pull | None = None,
) -> list[list[NDArray[np.float32]]]:
    """The labellers of `margin` for each of `rngs`, with groups of sizes as equal as the images allow.

    Expecting equal sizes makes up for a start that merges a class with a part of another (CIFAR-10: 0.896 against
    0.877), and cuts through what is plainly of unequal size (long tail: 0.49 against 0.54); then the surprise grows
    beyond that of the sizes at the start. Next, equal sizes are expected with less weight (photos: 0.661 against 0.644
    with the sizes at the start), and last the sizes at the start.
    """
    k = start.shape[1]
    own = np.maximum(start.mean(0), 1 / len(start))
    equal, held = np.full(k, 1 / k, np.float32), (own / own.sum()).astype(np.float32)

    def begin(rng: np.random.Generator) -> tuple[list[NDArray[np.float32]], _Batches]:
        batches = _Batches(X, blocks, rng)
        return _taught(batches, start), batches

    begun = in_parallel(begin, rngs, n_jobs)  # whatever sizes are expected

    def found(*expected: tuple[NDArray[np.float32], float]) -> list[tuple[list[list[NDArray[np.float32]]], float]]:
        """For each (sizes, weight) the labellers, and their mean surprise."""

        def one(task: tuple[NDArray[np.float32], float, int]) -> tuple[list[NDArray], float]:
            taught, batches = begun[task[2]]
            return _widen(taught, batches.fork(), task[0], task[1], pull)

        runs = in_parallel(one, [(*sizes, i) for sizes in expected for i in range(len(rngs))], n_jobs)
        parts = [runs[i : i + len(rngs)] for i in range(0, len(runs), len(rngs))]
        return [([labellers for labellers, _ in part], float(np.mean([s for _, s in part]))) for part in parts]

    as_equal, as_held = found((equal, WEIGHT), (held, WEIGHT))
    if as_equal[1] - as_held[1] <= _TOLERATED:
        return as_equal[0]
    # With less weight than there are spaces all in one group would pay: each is surprised by their entropy at most.
    (gentle,) = found((equal, max(_GENTLE, len(blocks))))
    return (gentle if gentle[1] - as_held[1] <= _TOLERATED else as_held)[0]


def labelling(
    X: NDArray[np.float32], blocks: list[NDArray[np.intp]], labellers: list[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """(n, c): the mean over the spaces of what their labellers say of the rows of X."""
    parts = [softmax(X[:, block] @ w[:-1] + w[-1]) for block, w in zip(blocks, labellers, strict=True)]
    total: NDArray[np.float32] = sum(parts[1:], parts[0]) / np.float32(len(parts))
    return total


def mean_labelling(
    X: NDArray[np.float32], blocks: NDArray[np.int_], width: int, labellers: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(n, c): the mean over margins of `labelling`, of `labellers` (margins, width of all spaces + one each, c)."""
    spaces = axes(blocks, width)
    ends = np.cumsum([len(space) + 1 for space in spaces])[:-1]
    total = np.zeros((len(X), labellers.shape[2]), np.float32)
    for one in labellers:
        total += labelling(X, spaces, np.split(one, ends))
    return total / np.float32(len(labellers))


def by_weights(
    spaces: list[NDArray[np.float32]], each: list[NDArray[np.float32]], slope: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """The slopes by the labellers' weights of what has `slope` (n, c) by the mean labelling of `each` in `spaces`."""
    return [
        x.T @ (p * (slope - (p * slope).sum(1, keepdims=True)) / len(each)) for x, p in zip(spaces, each, strict=True)
    ]


def enough(n: int) -> int:
    """Axes of a space that n rows suffice for: with too few rows anything can be told apart."""
    return min(WIDTH, max(n // 16, 32))


def axes(blocks: NDArray[np.int_], width: int) -> list[NDArray[np.intp]]:
    """The first `width` columns of each space."""
    return [np.arange(s, s + min(b, width)) for s, b in zip(np.cumsum(blocks) - blocks, blocks, strict=True)]


def with_one(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """X and a column of ones, for the labellers' last rows."""
    return np.column_stack([X, np.ones(len(X), X.dtype)])


class Adam:
    """Steps of Adam (Kingma and Ba, 2015) on `weights`, in place, which decay."""

    def __init__(self, weights: NDArray[np.float32], decay: float = _DECAY) -> None:
        self.weights, self._decay, self._steps = weights, np.float32(decay), 0
        self._mean, self._square = np.zeros_like(weights), np.zeros_like(weights)

    def step(self, gradient: NDArray[np.float32], rate: float) -> None:
        self._steps += 1
        gradient = gradient + self._decay * self.weights
        self._mean += np.float32(0.1) * (gradient - self._mean)
        self._square += np.float32(0.001) * (gradient * gradient - self._square)
        rate *= np.sqrt(1 - 0.999**self._steps) / (1 - 0.9**self._steps)
        self.weights -= np.float32(rate) * self._mean / (np.sqrt(self._square) + np.float32(1e-8))
