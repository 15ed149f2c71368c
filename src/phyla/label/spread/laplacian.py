"""Laplacian: labels flow along nearest neighbours; where classes of about equal size are no round clouds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.label.spread._spreader import Spreader, directions, one_hot, proportions, softmax
from phyla.neighbors import nearest_neighbors

__all__ = ["Laplacian"]

_WIDTH, _NEIGHBORS = 32, 15
_ROUNDS = 30
_PULL = 1.0  # of the neighbours against the class's prototype
_SHARP = 15.0  # cosines to logits
_HOLD = 0.5  # power of the correction towards equal sizes, where no grouping gives sizes


class Laplacian(Spreader):
    """Prototypes, neighbours and a few fixed labels in one objective, by parallel updates of every image at once
    (Ziko et al., 2020; the unified view of transductive few-shot learning and clustering).

    A label is softmax(cosines to the prototypes + the neighbours' mean label), the concave-convex bound's minimum with
    the others held; prototypes are the means of the labelled images; classes are drawn towards equal sizes. A new image
    has the prototypes' label times the labels of its nearest of the images kept. A round is O(n · k · c).

    Attributes
    ----------
    means_ : (c, axes) prototypes. place_, label_ : images kept, and their labels.
    """

    def _fit(
        self, X: NDArray[np.float32], y: NDArray[np.int32], groups: NDArray[np.float32] | None, rng: np.random.Generator
    ) -> None:
        view = directions(X, self.blocks_, _WIDTH)
        asked = np.flatnonzero(y >= 0)
        answers = one_hot(y[asked], self.n_classes_)
        near = nearest_neighbors(view, min(_NEIGHBORS, len(X) - 1), n_jobs=self.n_jobs)[0] if len(X) > 1 else None
        sizes = np.full(self.n_classes_, 1 / self.n_classes_, np.float32)
        label = _by_means(view, answers.T @ view[asked])
        for _ in range(_ROUNDS):
            label[asked] = answers
            said = np.log(proportions(_by_means(view, label.T @ view)))
            if near is not None:
                said += np.float32(_PULL * _SHARP / 5) * label[near].mean(1)
            label = softmax(said)
            label = proportions(label * (sizes / np.maximum(label.mean(0), 1e-6)) ** np.float32(_HOLD))
        label[asked] = answers
        kept = np.sort(rng.permutation(len(X))[:20_000])
        self.means_, self.place_, self.label_ = label.T @ view, view[kept], label[kept]

    def _proba(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        view = directions(X, self.blocks_, _WIDTH)
        k = min(_NEIGHBORS, len(self.place_))
        near = np.argpartition(-(view @ self.place_.T), k - 1, axis=1)[:, :k]
        said = np.log(proportions(_by_means(view, self.means_)))
        return softmax(said + np.float32(_PULL * _SHARP / 5) * self.label_[near].mean(1))


def _by_means(view: NDArray[np.float32], sums: NDArray[np.float32]) -> NDArray[np.float32]:
    means = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return softmax(np.float32(_SHARP) * (view @ means.T))
