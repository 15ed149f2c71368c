"""Anchored self-training: groups named and corrected by the answers, then learnt from all images (default)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from phyla.label.spread._spreader import (
    Residuals,
    Spreader,
    by_parts,
    directions,
    each_part,
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
_LANDMARKS = 3000  # of the kernel. On CIFAR-10 with 250 answers, five seeds: 1,500, 2,000, 3,000 → 0.914, 0.916, 0.917
# γ = 0.5, 1 and 1.5 do alike there; 128 axes of each space instead of 64 lose 0.002.
_GAMMA, _WIDTH = 1.0, 64
_JITTER = 1e-4  # on the landmarks' own kernel, so that two alike do no harm
_PLAIN = 0.03  # weight of the axes themselves beside the kernel: 0.01 loses 0.0004, 0 costs 0.01
_RIDGES = (0.03, 0.3, 3.0, 30.0)  # of which the one that misses least by leaving out is taken
_TRIED = 1000  # rows that are left out for that
_POWER = 20.0  # the scores of a class are within 0..1: at 12 the labels blur from round to round
# As sure as right, of rows as if they were new: the least surprise is at 8 on CIFAR-10, 7 to 9 on photos of 43 classes,
# 5 to 6 on the long tail.
_SAID = 8.0


class Anchored(Spreader):
    """Self-training that is held to the answers (Arazo et al., 2020, hold it by trusted rows in every batch).

    1. Groups are named: what a group holds is what its images say, each by the answer most like it and of its own
       group, with classes spread over groups; among the classes of one group a plain probe decides (see `named`).
    2. Kernel ridge regression, on all axes and on the kernel exp(γ (cos − 1)) of the leading ones, learns these labels;
       what it says of a row without that row's own label (leave-one-out, in closed form) is sharpened, and its classes
       are held to their sizes, to be the next labels. So what is wrong by chance is not learnt for good.
    3. In every round the labels around an answer move by what the round missed there (a Gaussian process of the
       answers' residuals, with the same kernel); the answers are their own labels.

    The kernel is seen through landmarks, and made white there (Williams and Seeger, 2001: Nyström): the weights of the
    kernel itself are so large that float32 loses 0.004 of accuracy.

    50,000 × 768 takes 25 s on two cores, and 1.5 GB; O(n · p² + p³) for p = landmarks + d.

    Parameters
    ----------
    n_rounds : rounds of self-training.

    Attributes
    ----------
    landmarks_ : (m, axes) rows that the kernel looks from. weights_ : (m + d + 1, c), of the kernel with the landmarks,
        and of the axes and 1.
    """

    VERSION = 2
    _shared: dict[str, Any] | None = None  # while `fits`

    def __init__(
        self, *, blocks: Sequence[int] | None = None, n_rounds: int = 3, random_state: int = 0, n_jobs: int = 1
    ) -> None:
        self.blocks = blocks
        self.n_rounds = n_rounds
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fits(self, X: Any, answers: Iterable[Any], groups: Any = None) -> Iterator[tuple[Self, NDArray[np.float32]]]:
        """A copy fitted to each of several answers (n,), the first of which hold the others, and the probabilities
        (n, c) of the rows of X as if they were new: what is said of each without its own label.

        `predict_proba` of rows learnt from is too sure: of 1,164 photos with 250 answers 0.80 are right, left out 0.81,
        and the logit of being right is 1.6 lower than said, left out 0.2 higher. The matrices hang on no answer and are
        made once: one more takes 2 s for 50,000 rows. How strongly the regression is held back is the first's choice.
        """
        shared: dict[str, Any] = {}
        for y in answers:
            model = clone(self)
            model._shared = shared
            model.fit(X, y, groups)
            del model._shared
            proba, rows = shared["said"], shared["rows"]
            if len(rows) < len(X):
                proba = model.predict_proba(X)
                proba[rows] = shared["said"]
            yield model, proba

    def _fit(
        self, X: NDArray[np.float32], y: NDArray[np.int32], groups: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> None:
        shared = {} if self._shared is None else self._shared
        if not shared:
            shared["rows"] = _sampled(y, rng)
        if len(shared["rows"]) < len(X):
            rows = shared["rows"]
            X, y, groups = X[rows], y[rows], None if groups is None else groups[rows]
        view = directions(X, self.blocks_, _WIDTH)
        asked = np.flatnonzero(y >= 0)
        answers = one_hot(y[asked], self.n_classes_)
        near = Residuals(view, asked, answers, rng, self.n_jobs)
        plain = proportions(near.mended(np.tile(answers.mean(0), (len(X), 1))))
        label = plain if groups is None else named(groups, view, asked, answers, plain, self.n_jobs)
        sizes = label.mean(0)

        if "ridge" not in shared:
            landmarks = view[np.sort(rng.permutation(len(X))[:_LANDMARKS])]
            white = _white(landmarks)
            features = self._features(X, view, landmarks, white)
            shared |= {"landmarks": landmarks, "white": white, "ridge": _Ridge(features, label, self.n_jobs)}
        ridge, white = shared["ridge"], shared["white"]
        label = proportions(near.mended(label))
        for _ in range(self.n_rounds):
            label[asked] = answers
            label = hold(softmax(np.float32(_POWER) * ridge.left_out(label)), sizes)
            label = proportions(near.mended(label))
        label[asked] = answers
        weights, m = ridge.weights(label), len(white)
        self.landmarks_ = shared["landmarks"]
        self.weights_ = np.concatenate([white @ weights[:m], np.float32(_PLAIN) * weights[m:]])
        if self._shared is not None:
            shared["said"] = softmax(np.float32(_SAID) * ridge.left_out(label))

    def _proba(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        near, m = kernel(directions(X, self.blocks_, _WIDTH), self.landmarks_, _GAMMA), len(self.landmarks_)
        return softmax(np.float32(_SAID) * (near @ self.weights_[:m] + with_one(X) @ self.weights_[m:]))

    def _features(
        self, X: NDArray[np.float32], view: NDArray[np.float32], landmarks: NDArray[np.float32],
        white: NDArray[np.float32],
    ) -> NDArray[np.float32]:  # fmt: skip
        """(n, m + d + 1): the kernel with the landmarks, made white, and the axes themselves."""
        m = len(landmarks)
        features = np.empty((len(X), m + X.shape[1] + 1), np.float32)

        def fill(part: slice) -> None:
            np.matmul(kernel(view[part], landmarks, _GAMMA), white, out=features[part, :m])
            features[part, m:] = np.float32(_PLAIN) * with_one(X[part])

        by_parts(fill, len(X), self.n_jobs)
        return features


def _sampled(y: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.intp]:
    """Up to `_SAMPLE` rows, the answered ones first."""
    if len(y) <= _SAMPLE:
        return np.arange(len(y))
    asked, others = rng.permutation(np.flatnonzero(y >= 0))[:_SAMPLE], np.flatnonzero(y < 0)
    return np.sort(np.concatenate([asked, rng.permutation(others)[: _SAMPLE - len(asked)]]))


def _white(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """(m, m): makes the kernel with the landmarks into features whose products are the kernel."""
    from scipy.linalg import cholesky, solve_triangular

    own = kernel(landmarks, landmarks, _GAMMA).astype(np.float64) + _JITTER * np.eye(len(landmarks))
    white: NDArray[np.float64] = solve_triangular(cholesky(own), np.eye(len(own)))
    return white.astype(np.float32)


class _Ridge:
    """Ridge regression on features (n, p), whose matrices are made once for any number of labellings."""

    def __init__(self, features: NDArray[np.float32], label: NDArray[np.float32], n_jobs: int) -> None:
        self._features, self._n_jobs = features, n_jobs
        p = features.shape[1]
        gram = np.zeros((p, p))
        for product in each_part(lambda part: features[part].T @ features[part], len(features), n_jobs):
            gram += product
        target = np.asarray(self._targets(label), np.float64)
        some = slice(0, None, max(len(features) // _TRIED, 1))
        missed = {ridge: _missed(gram, ridge, target, features[some], label[some]) for ridge in _RIDGES}
        self._inverse = np.linalg.inv(gram + min(missed, key=missed.__getitem__) * np.eye(p)).astype(np.float32)
        self._lever = np.concatenate(by_parts(lambda part: self._levers(features[part]), len(features), n_jobs))

    def _levers(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 1): how far what is said of a row is its own label."""
        return ((features @ self._inverse) * features).sum(1, keepdims=True).clip(0, 0.99)

    def weights(self, label: NDArray[np.float32]) -> NDArray[np.float32]:
        weights: NDArray[np.float32] = self._inverse @ self._targets(label)
        return weights

    def left_out(self, label: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, c): what is said of each row by the regression on all the others."""
        weights = self.weights(label)
        said = np.concatenate(by_parts(lambda part: self._features[part] @ weights, len(label), self._n_jobs))
        return (said - self._lever * label) / (1 - self._lever)

    def _targets(self, label: NDArray[np.float32]) -> NDArray[np.float32]:
        """(p, c): the features' products with the labels."""
        products = by_parts(lambda part: self._features[part].T @ label[part], len(label), self._n_jobs)
        total: NDArray[np.float32] = sum(products[1:], products[0])
        return total


def _missed(
    gram: NDArray[np.float64], ridge: float, target: NDArray[np.float64],
    features: NDArray[np.float32], label: NDArray[np.float32],
) -> float:  # fmt: skip
    """Mean square of what the regression misses at some of its rows when each is left out."""
    from scipy.linalg import cho_factor, cho_solve

    factor = cho_factor(gram + ridge * np.eye(len(gram)))
    lever = (features * cho_solve(factor, features.T).T).sum(1, keepdims=True).clip(0, 0.99)
    return float((((label - features @ cho_solve(factor, target)) / (1 - lever)) ** 2).mean())
