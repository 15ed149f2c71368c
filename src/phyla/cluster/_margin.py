"""Margin maximisation: move a grouping to where linear classifiers in several spaces tell its groups apart best."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

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
    n, k = start.shape
    size = min(_BATCH, max(n // 4, 1))
    rows, at = rng.permutation(n), 0

    def draw() -> tuple[NDArray[np.intp], list[NDArray[np.float32]]]:
        nonlocal rows, at
        if at + size > n:
            rows, at = rng.permutation(n), 0
        at += size
        drawn = X[rows[at - size : at]]
        return rows[at - size : at], [with_one(drawn[:, block]) for block in blocks]

    labellers = [Adam(np.zeros((len(block) + 1, k), np.float32)) for block in blocks]
    for step in range(_STEPS):
        drawn, spaces = draw()
        for own, x in zip(labellers, spaces, strict=True):
            surplus = softmax(x @ own.weights) - start[drawn]
            own.step(x.T @ surplus / size, _RATE_START * (1 - step / _STEPS))
    labellers = [Adam(own.weights) for own in labellers]
    classifiers = [Adam(np.zeros_like(own.weights)) for own in labellers]
    losses = []
    for _ in range(_STEPS):
        _, spaces = draw()
        each = [softmax(x @ own.weights) for x, own in zip(spaces, labellers, strict=True)]
        label = sum(each[1:], each[0]) / np.float32(len(each))
        surprise = np.zeros_like(label)
        for x, own in zip(spaces, classifiers, strict=True):
            for _ in range(_INNER):
                own.step(x.T @ (softmax(x @ own.weights) - label) / size, _RATE)
            surprise -= np.log(np.maximum(softmax(x @ own.weights), _TINY))
        losses.append(float((label * surprise).sum(1).mean()) / len(spaces))
        skew = np.log(np.maximum(label.mean(0), _TINY) / sizes)
        slope = surprise + weight * (skew + 1)  # of the loss by the labelling
        slopes = by_weights(spaces, each, slope / size)
        if pull is not None:
            more = pull([own.weights for own in labellers], rng)
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

    def found(*expected: tuple[NDArray[np.float32], float]) -> list[tuple[list[list[NDArray[np.float32]]], float]]:
        """For each (sizes, weight) the labellers, and their mean surprise."""

        def one(task: tuple[NDArray[np.float32], float, np.random.Generator]) -> tuple[list[NDArray], float]:
            return margin(X, blocks, start, deepcopy(task[2]), task[0], task[1], pull)

        runs = in_parallel(one, [(*sizes, seed) for sizes in expected for seed in rngs], n_jobs)
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
