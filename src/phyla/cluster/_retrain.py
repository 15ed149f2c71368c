"""Self-training: networks with a hidden layer learn a labelling, each from half of the rows, and relabel the other."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._grouper import softmax
from phyla.cluster._lloyd import in_parallel
from phyla.cluster._margin import Adam, with_one

_HIDDEN, _BATCH, _STEPS, _RATE, _DROP, _DECAY = 384, 512, 500, 0.003, 0.3, 1e-4
_SHARPEN = 1.5  # power of what the networks say, before it is the next labelling

Network = tuple[NDArray[np.float32], NDArray[np.float32]]


def retrain(
    X: NDArray[np.float32], label: NDArray[np.float32], rounds: int, rng: np.random.Generator, n_jobs: int
) -> list[Network]:
    """The two networks of the last round, from a labelling (n, c) of X (n, d); judge by the mean of both.

    A row is never labelled by the network that learnt its label, so what was wrong by chance is not learnt for good;
    the groups keep the sizes that they had at the start.
    """
    sizes = label.mean(0)
    for _ in range(rounds):
        half = rng.random(len(X)) < 0.5
        halves = (half, ~half)
        networks = in_parallel(partial(_train, X, label), list(zip(halves, rng.spawn(2), strict=True)), n_jobs)
        said = np.empty_like(label)
        for own, network in zip(halves, networks, strict=True):
            said[~own] = proba(X[~own], [network])
        label = _hold(said**_SHARPEN, sizes)
    return networks


def proba(X: NDArray[np.float32], networks: list[Network]) -> NDArray[np.float32]:
    """(n, c): the mean of what the networks say of the rows of X."""
    each = [softmax(with_one(np.maximum(with_one(X) @ inner, 0)) @ outer) for inner, outer in networks]
    total: NDArray[np.float32] = sum(each[1:], each[0]) / np.float32(len(each))
    return total


def _train(
    X: NDArray[np.float32], label: NDArray[np.float32], task: tuple[NDArray[np.bool_], np.random.Generator]
) -> Network:
    """One hidden layer of rectifiers with dropout (Srivastava et al., 2014), by Adam with a falling rate."""
    own, rng = task
    rows, d, k = np.flatnonzero(own), X.shape[1], label.shape[1]
    inner = Adam((rng.standard_normal((d + 1, _HIDDEN), np.float32) * np.float32(np.sqrt(2 / d))), _DECAY)
    outer = Adam((rng.standard_normal((_HIDDEN + 1, k), np.float32) / np.float32(np.sqrt(_HIDDEN))), _DECAY)
    for step in range(_STEPS):
        drawn = rows[rng.integers(len(rows), size=_BATCH)]
        x = with_one(X[drawn] * _kept(rng, (_BATCH, d)))
        hidden = x @ inner.weights
        gate: NDArray[np.float32] = (hidden > 0) * _kept(rng, hidden.shape)
        y = with_one(hidden * gate)
        surplus = (softmax(y @ outer.weights) - label[drawn]) / np.float32(_BATCH)
        back = (surplus @ outer.weights[:-1].T) * gate
        outer.step(y.T @ surplus, _RATE * (1 - step / _STEPS))
        inner.step((x.T @ back).astype(np.float32), _RATE * (1 - step / _STEPS))
    return inner.weights, outer.weights


def _kept(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Dropout's mask: 0, or what keeps the mean."""
    return (rng.random(shape, np.float32) >= _DROP) * np.float32(1 / (1 - _DROP))


def _hold(label: NDArray[np.float32], sizes: NDArray[np.float32]) -> NDArray[np.float32]:
    """`label` scaled by rows and columns until its groups have these sizes (Sinkhorn and Knopp, 1967)."""
    for _ in range(5):
        label = label * (sizes / np.maximum(label.mean(0), 1e-12))
        label = label / np.maximum(label.sum(1, keepdims=True), 1e-12)
    return label
