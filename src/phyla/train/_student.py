"""A small head on the features of one network, taught by what the whole ensemble says of each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from phyla.reduce._adam import Adam

Array = NDArray[np.float32]

_BATCH, _FEWEST_STEPS = 512, 400  # rows a step, fewer in small collections; steps that these take all the same
_RATE, _DECAY, _DROPOUT = 2e-3, 0.05, 0.3  # dropout: on CIFAR-10 0.3 is nearer to the teacher than 0.5 or 0.6
_SHARED = 0.75  # of the steps, before the ways of the soup's ingredients part
_APART, _APART_FEWEST = 0.1, 200  # of the rows, kept out to choose by; up to a third of a small collection
_BLOCK = 4096


class Student:
    """A dense layer, a ReLU and a softmax, distilled from an ensemble.

    - The teacher's mean soft vote is the only target: no hard labels (MEAL V2: Shen and Savvides, 2020; its
      discriminator is left out, the features being frozen).
    - The hidden layer also foretells what the other networks see, their leading axes (hints of FitNets: Romero and
      others, 2015): on CIFAR-10 the cross-entropy with the teacher falls from 0.363 to 0.361.
    - After three quarters of the steps the ways part; those ingredients whose mean weights come nearer to the teacher
      are averaged, greedily (model soups: Wortsman and others, 2022): from 0.361 to 0.359. Heads that never shared a
      way can't be averaged.
    - `generations` above one are taught by the mean of the teacher and the generation before (born-again networks:
      Furlanello and others, 2018). On CIFAR-10 that gained nothing (0.8918, then 0.8912), so one is the default.
    - A temperature makes it as sure as the teacher is (Guo and others, 2017), on rows that it has not learnt from.

    50,000 × 1,280 take about 80 s of CPU time; O(n · d · hidden) an epoch.

    Attributes
    ----------
    layers_ : two of (weights (in, out), bias (out,)), of the features as they are. apart_ : rows kept out. loss_ : the
    cross-entropy with the teacher there, agreement_ : the share with the same likeliest class. kept_ : ingredients.
    """

    VERSION = 1

    def __init__(
        self, hidden: int = 512, epochs: int = 6, generations: int = 1, ingredients: int = 3, random_state: int = 0
    ) -> None:
        if min(hidden, epochs, generations, ingredients) < 1:
            raise ValueError("hidden, epochs, generations and ingredients are whole numbers from 1")
        self.hidden, self.epochs, self.generations = hidden, epochs, generations
        self.ingredients, self.random_state = ingredients, random_state

    def fit(
        self,
        X: NDArray[np.floating],
        proba: Array,
        hints: Array | None = None,
        advance: Callable[[int], object] = lambda n: None,
    ) -> Self:
        """Learn `proba` (n, c) from the features X (n, d), with `hints` (n, h) of mean square about one.

        `advance` is told of steps done, of `steps(n)` in all.
        """
        n, c = proba.shape
        rng = np.random.default_rng(self.random_state)
        order, cut = rng.permutation(n), _cut(n)
        self.apart_, rows = np.sort(order[:cut]), order[cut:]
        see = _Eye(X, rows)
        unseen, said = see(self.apart_), proba[self.apart_]

        def loss(layers: Sequence[Array]) -> float:
            return _loss(_forward(layers, unseen)[:, :c], said)

        target, layers = proba, _untaught(X.shape[1], self.hidden, c + (0 if hints is None else hints.shape[1]), rng)
        for generation in range(self.generations):
            if generation:
                before = [
                    _softmax(_forward(layers, see(part))[:, :c]) for part in np.array_split(order, n // _BLOCK + 1)
                ]
                target = np.empty_like(proba)
                target[order] = (proba[order] + np.concatenate(before)) / 2
                layers = _untaught(X.shape[1], self.hidden, layers[3].size, rng)
            down = _Down(see, rows, target, hints, advance)
            steps = self._steps(n)
            together = int(steps * _SHARED) if self.ingredients > 1 else steps
            down(layers, together, steps, rng)
            if self.ingredients > 1:
                cooked = []
                for own in rng.spawn(self.ingredients):
                    cooked.append([part.copy() for part in layers])
                    down(cooked[-1], steps - together, steps - together, own)
                layers, self.kept_ = _soup(cooked, loss)
            else:
                self.kept_ = 1
        logits = _forward(layers, unseen)[:, :c]
        heat = np.float32(_temperature(logits, said))
        self.loss_ = _loss(logits / heat, said)
        self.agreement_ = float((logits.argmax(1) == said.argmax(1)).mean()) if cut else float("nan")
        first, bias, last, last_bias = layers
        self.layers_ = (
            (first / see.scale[:, None], bias - (see.mean / see.scale) @ first),
            (np.ascontiguousarray(last[:, :c]) / heat, last_bias[:c] / heat),
        )
        return self

    def params(self) -> dict[str, int]:
        """What it was told, but for the seed."""
        return {"hidden": self.hidden, "epochs": self.epochs, "generations": self.generations,
                "ingredients": self.ingredients}  # fmt: skip

    def predict_proba(self, X: NDArray[np.floating]) -> Array:
        """(n, c) of the features X (n, d)."""
        blocks = [np.asarray(X[i : i + _BLOCK], np.float32) for i in range(0, len(X), _BLOCK)]
        (first, bias), (last, last_bias) = self.layers_
        return np.concatenate([_softmax(_forward((first, bias, last, last_bias), block)) for block in blocks])

    def steps(self, n: int) -> int:
        """How many steps `fit` takes with n rows."""
        steps = self._steps(n)
        apart = steps - int(steps * _SHARED) if self.ingredients > 1 else 0
        return self.generations * (steps + (self.ingredients - 1) * apart)

    def _steps(self, n: int) -> int:
        learnt = n - _cut(n)
        return max(self.epochs * learnt // _batch(learnt), _FEWEST_STEPS)


def _cut(n: int) -> int:
    """How many of n rows are kept out."""
    return max(int(n * _APART), min(_APART_FEWEST, n // 3))


def _batch(n: int) -> int:
    return int(np.clip(n // 16, min(32, n), _BATCH))


class _Eye:
    """Features as the layers see them: about zero, a quarter of their variance."""

    def __init__(self, X: NDArray[np.floating], rows: NDArray[np.intp]) -> None:
        blocks = np.array_split(np.sort(rows), len(rows) // _BLOCK + 1)
        self._X = X
        self.mean = (sum(X[b].sum(0, dtype=np.float64) for b in blocks) / len(rows)).astype(np.float32)
        squares = sum(np.square(X[b] - self.mean, dtype=np.float64).sum(0) for b in blocks)
        spread = np.sqrt(squares / len(rows))
        self.scale = (2 * (spread + 1e-3 * max(float(spread.max()), 1e-12))).astype(np.float32)

    def __call__(self, rows: NDArray[np.intp]) -> Array:
        seen: Array = (self._X[rows] - self.mean) / self.scale
        return seen


class _Down:
    """Steps down the cross-entropy with the target, and the squares of what is missed of the hints."""

    def __init__(
        self, see: _Eye, rows: NDArray[np.intp], target: Array, hints: Array | None, advance: Callable[[int], object]
    ) -> None:
        self.see, self.rows, self.target, self.hints, self.advance = see, rows, target, hints, advance

    def __call__(self, layers: list[Array], steps: int, whole: int, rng: np.random.Generator) -> None:
        """`steps` in place, of a `whole` in which the rate falls to zero."""
        adam, size, c = Adam(layers, _RATE, whole), _batch(len(self.rows)), self.target.shape[1]
        order = self.rows[:0]
        for step in range(steps):
            if len(order) < size:
                order = np.concatenate([order, rng.permutation(self.rows)])
            rows, order = order[:size], order[size:]
            x = self.see(rows)
            hidden = x @ layers[0] + layers[1]
            keep = (hidden > 0) & (rng.random(hidden.shape, np.float32) >= _DROPOUT)
            hidden *= keep * np.float32(1 / (1 - _DROPOUT))
            slope = np.asarray(hidden @ layers[2] + layers[3], np.float32)
            slope[:, :c] = (_softmax(slope[:, :c]) - self.target[rows]) / size
            if self.hints is not None:
                slope[:, c:] = (slope[:, c:] - self.hints[rows]) * np.float32(2 / (size * self.hints.shape[1]))
            back = (slope @ layers[2].T) * (keep * np.float32(1 / (1 - _DROPOUT)))
            # Weights decay apart from the gradients (Loshchilov and Hutter, 2019).
            less = np.float32(1 - _DECAY * _RATE * (1 + np.cos(np.pi * step / whole)) / 2)
            layers[0] *= less
            layers[2] *= less
            adam.step([np.asarray(g, np.float32) for g in (x.T @ back, back.sum(0), hidden.T @ slope, slope.sum(0))])
            self.advance(1)


def _untaught(d: int, hidden: int, outputs: int, rng: np.random.Generator) -> list[Array]:
    """Layers whose activations keep their size (He and others, 2015), the last ten times smaller: nothing is sure."""
    first = rng.standard_normal((d, hidden)) * np.sqrt(2 / d)
    last = rng.standard_normal((hidden, outputs)) * 0.1 * np.sqrt(2 / hidden)
    return [part.astype(np.float32) for part in (first, np.zeros(hidden), last, np.zeros(outputs))]


def _soup(cooked: list[list[Array]], loss: Callable[[Sequence[Array]], float]) -> tuple[list[Array], int]:
    """The greedy soup: the best, and of the others those with which the mean is no worse; and how many."""
    cooked = sorted(cooked, key=loss)
    kept = [cooked[0]]
    for ingredient in cooked[1:]:
        if loss(_mean([*kept, ingredient])) <= loss(_mean(kept)):
            kept.append(ingredient)
    return _mean(kept), len(kept)


def _mean(several: Sequence[Sequence[Array]]) -> list[Array]:
    return [np.mean(parts, axis=0, dtype=np.float32) for parts in zip(*several, strict=True)]


def _forward(layers: Sequence[Array], x: Array) -> Array:
    first, bias, last, last_bias = layers
    logits: Array = np.maximum(x @ first + bias, 0) @ last + last_bias
    return logits


def _softmax(logits: Array) -> Array:
    share: Array = np.exp(logits - logits.max(1, keepdims=True))
    return share / share.sum(1, keepdims=True)


def _loss(logits: Array, said: Array) -> float:
    """Mean cross-entropy of what is said (n, c) by the logits."""
    if not len(logits):
        return 0.0
    top = logits.max(1, keepdims=True)
    log_share = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
    return float(-(said * log_share).sum(1).mean(dtype=np.float64))


def _temperature(logits: Array, said: Array) -> float:
    """The number that the logits are best divided by."""
    from scipy.optimize import minimize_scalar

    if not len(logits):
        return 1.0
    found = minimize_scalar(lambda t: _loss(logits / np.float32(np.exp(t)), said), bounds=(-2, 2), method="bounded")
    return float(np.exp(found.x))
