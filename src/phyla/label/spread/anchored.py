"""Anchored self-training: groups named and corrected by the answers, then learnt from all images (default)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phyla.label.spread._spreader import (
    Residuals,
    Spreader,
    by_parts,
    directions,
    hold,
    kernel,
    named,
    one_hot,
    proportions,
    softmax,
    with_one,
)

__all__ = ["Anchored"]

_SAMPLE = 60_000  # rows learnt from; all the answers are among them
_LANDMARKS = 1500  # of the kernel: 1,000 lose 0.001 on CIFAR-10 and cost two thirds
# Measured on CIFAR-10 with 250 answers, one seed: γ = 1, 2, 4, 6 → 0.913, 0.913, 0.912, 0.910; 32 axes of each space
# 0.907. With 40 answers: 0.908, 0.907, 0.906, 0.903.
_GAMMA, _WIDTH = 1.0, 64
_PLAIN = 0.03  # weight of the axes themselves beside the kernel: 0.06 does as well, 0 costs 0.01
_RIDGES = (0.03, 0.3, 3.0, 30.0)  # of which the one that misses least by leaving out is taken
_TRIED = 5000  # rows that are left out for that
_POWER = 20.0  # the scores of a class are within 0..1: at 12 the labels blur from round to round
# As sure as right: ECE 0.01 to 0.02 on CIFAR-10 with 10 to 250 answers. Fitting it to the answers, each left out, gave
# 14 and 0.05 with 250 of them, for what is learnt around an answer was moved by it.
_SAID = 9.0


class Anchored(Spreader):
    """Self-training that is held to the answers (Arazo et al., 2020, hold it by trusted rows in every batch).

    1. Groups are named: what a group holds is what its images say, each by the answer most like it and of its own
       group, with classes spread over groups; among the classes of one group a plain probe decides (see `named`).
    2. Kernel ridge regression, on all axes and on the kernel exp(γ (cos − 1)) of the leading ones, learns these labels;
       what it says of a row without that row's own label (leave-one-out, in closed form) is sharpened, and its classes
       are held to their sizes, to be the next labels. So what is wrong by chance is not learnt for good.
    3. In every round the labels around an answer move by what the round missed there (a Gaussian process of the
       answers' residuals, with the same kernel); the answers are their own labels.

    50,000 × 768 takes 12 s on two cores; O(n · p² + p³) for p = landmarks + d.

    Parameters
    ----------
    n_rounds : rounds of self-training.

    Attributes
    ----------
    landmarks_ : (m, axes) rows that the kernel looks from. weights_ : (m + d + 1, c).
    """

    VERSION = 1

    def __init__(
        self, *, blocks: Sequence[int] | None = None, n_rounds: int = 3, random_state: int = 0, n_jobs: int = 1
    ) -> None:
        self.blocks = blocks
        self.n_rounds = n_rounds
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _fit(
        self, X: NDArray[np.float32], y: NDArray[np.int32], groups: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> None:
        if len(X) > _SAMPLE:
            asked, others = rng.permutation(np.flatnonzero(y >= 0))[:_SAMPLE], np.flatnonzero(y < 0)
            rows = np.sort(np.concatenate([asked, rng.permutation(others)[: _SAMPLE - len(asked)]]))
            X, y, groups = X[rows], y[rows], None if groups is None else groups[rows]
        view = directions(X, self.blocks_, _WIDTH)
        self.landmarks_ = view[np.sort(rng.permutation(len(X))[:_LANDMARKS])]
        asked = np.flatnonzero(y >= 0)
        answers = one_hot(y[asked], self.n_classes_)
        near = Residuals(view, asked, answers, rng, self.n_jobs)
        plain = proportions(near.mended(np.tile(answers.mean(0), (len(X), 1))))
        label = plain if groups is None else named(groups, view, asked, answers, plain, self.n_jobs)
        sizes = label.mean(0)

        seen = np.concatenate(by_parts(lambda part: self._features(X[part], view[part]), len(X), self.n_jobs))
        ridge = _Ridge(seen, self._penalty(X.shape[1]), label, self.n_jobs)
        label = proportions(near.mended(label))
        for _ in range(self.n_rounds):
            label[asked] = answers
            label = hold(softmax(np.float32(_POWER) * ridge.left_out(label)), sizes)
            label = proportions(near.mended(label))
        label[asked] = answers
        self.weights_ = ridge.weights(label)

    def _proba(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        scores = self._features(X, directions(X, self.blocks_, _WIDTH)) @ self.weights_
        return softmax(np.float32(_SAID) * scores)

    def _features(self, X: NDArray[np.float32], view: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, m + d + 1): the kernel with the landmarks, and the axes themselves."""
        return np.concatenate([kernel(view, self.landmarks_, _GAMMA), np.float32(_PLAIN) * with_one(X)], axis=1)

    def _penalty(self, d: int) -> NDArray[np.float64]:
        """Of the weights' squares: in the kernel's own norm for the landmarks (Williams and Seeger, 2001: Nyström)."""
        m = len(self.landmarks_)
        penalty = np.eye(m + d + 1)
        penalty[:m, :m] = kernel(self.landmarks_, self.landmarks_, _GAMMA) + 1e-3 * np.eye(m)
        return penalty


class _Ridge:
    """Ridge regression on features (n, p), whose matrices are made once for any number of labellings."""

    def __init__(
        self, features: NDArray[np.float32], penalty: NDArray[np.float64], label: NDArray[np.float32], n_jobs: int
    ) -> None:
        self._features, self._n_jobs = features, n_jobs
        gram = sum(by_parts(lambda part: features[part].T @ features[part], len(features), n_jobs), 0 * penalty)
        some = slice(0, None, max(len(features) // _TRIED, 1))
        found = []
        for weight in _RIDGES:
            self._inverse = np.linalg.inv(gram + weight * penalty).astype(np.float32)
            lever = self._levers(features[some])
            missed = label[some] - features[some] @ self.weights(label)
            found.append((float(((missed / (1 - lever)) ** 2).mean()), self._inverse))
        self._inverse = min(found, key=lambda pair: pair[0])[1]
        self._lever = np.concatenate(by_parts(lambda part: self._levers(features[part]), len(features), n_jobs))

    def _levers(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 1): how far what is said of a row is its own label."""
        return ((features @ self._inverse) * features).sum(1, keepdims=True).clip(0, 0.99)

    def weights(self, label: NDArray[np.float32]) -> NDArray[np.float32]:
        features = self._features
        products = by_parts(lambda part: features[part].T @ label[part], len(label), self._n_jobs)
        weights: NDArray[np.float32] = self._inverse @ sum(products[1:], products[0])
        return weights

    def left_out(self, label: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, c): what is said of each row by the regression on all the others."""
        weights = self.weights(label)
        said = np.concatenate(by_parts(lambda part: self._features[part] @ weights, len(label), self._n_jobs))
        return (said - self._lever * label) / (1 - self._lever)
