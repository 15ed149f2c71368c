"""Labels of pictures that are far from what most of their class looks like: by several centres for each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from phyla.audit._extremes import single
from phyla.audit._found import Found
from phyla.reduce._adam import Adam
from phyla.types import Rows

__all__ = ["sub_centres"]

_CENTRES = 3  # a class: the paper's
_SCALE, _MARGIN = 16.0, 0.3  # gentler than the paper's 64 and 0.5, whose features are learned along
_BATCH, _EPOCHS, _RATE = 512, 5, 0.02
_LEADING = 32  # axes of each space: in all of them every angle is near a right one


def sub_centres(
    *,
    X: Rows,
    labels: NDArray[np.int32],
    classes: Sequence[str],
    blocks: ArrayLike | None = None,
    n_jobs: int = 1,
) -> list[Found]:
    """Rows of X (n, d) nearer, by angle, to another class's main centre than to that of their label (n,).

    Sub-centre ArcFace (Deng, Guo, Liu, Gong and Zafeiriou, 2020): each class has three centres, and a row need be near
    only one of them, so that wrong labels gather about the minor ones. The paper drops rows more than 75° from the main
    one; here the angle is compared with that to the next class. −1, no label, is not judged. 50,000 x 768: 1 s.
    """
    wrong, instead = severity(X, labels, len(classes), blocks)

    def why(row: int) -> str:
        return f"It is labelled {classes[labels[row]]}, but nearer to most of {classes[instead[row]]}."

    return single(wrong, why)


def severity(
    X: Rows, labels: NDArray[np.int32], c: int, blocks: ArrayLike | None
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """(n,): ½ where the main centre of another class is as near, and which class that is (n,)."""
    known = np.flatnonzero(labels >= 0)
    found, instead = np.zeros(len(X), np.float32), labels.astype(np.int32)
    if c < 2 or len(known) < 2:
        return found, instead
    widths = np.asarray([X[:1].shape[1]] if blocks is None else blocks)
    starts = np.cumsum(widths) - widths
    columns = np.concatenate([np.arange(s, s + min(w, _LEADING)) for s, w in zip(starts, widths, strict=True)])
    Z, given = X[known][:, columns], labels[known].astype(np.int32)
    Z = Z / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-9)
    at = np.arange(len(known))
    with threadpool_limits(1):
        centres = trained(Z, given, c, np.random.default_rng(0))
        cosines = (Z @ centres).reshape(len(Z), c, _CENTRES)
    # The main centre of a class is the one that most of its rows are nearest to.
    nearest = cosines[at, given].argmax(1)
    votes = np.zeros((c, _CENTRES), np.intp)
    np.add.at(votes, (given, nearest), 1)
    main = np.arccos(cosines[:, np.arange(c), votes.argmax(1)].clip(-1, 1))
    own = main[at, given]
    main[at, given] = np.inf
    found[known] = 1 / (1 + np.exp(-_SCALE * (own - main.min(1))))
    instead[known] = main.argmin(1)
    return found, instead


def trained(Z: NDArray[np.float32], labels: NDArray[np.int32], c: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """The centres (d, c · centres), of length one, that rows Z (n, d) of length one are told apart by."""
    d = Z.shape[1]
    free = rng.standard_normal((d, c * _CENTRES), np.float32)
    for group in np.unique(labels):  # each starts at a row of its class
        drawn = rng.choice(np.flatnonzero(labels == group), _CENTRES)
        free[:, group * _CENTRES : (group + 1) * _CENTRES] = Z[drawn].T
    free += np.float32(0.01) * rng.standard_normal(free.shape, np.float32)
    size = min(_BATCH, max(len(Z) // 4, 1))
    adam = Adam([free], _RATE, _EPOCHS * -(-len(Z) // size))
    for _ in range(_EPOCHS):
        order = rng.permutation(len(Z))
        for start in range(0, len(Z), size):
            rows = order[start : start + size]
            at = np.arange(len(rows))
            lengths = np.linalg.norm(free, axis=0)
            centres = free / lengths
            cosines = (Z[rows] @ centres).reshape(len(rows), c, _CENTRES)
            which = cosines.argmax(2)
            best = np.take_along_axis(cosines, which[:, :, None], 2)[:, :, 0].clip(-0.999, 0.999)
            own = best[at, labels[rows]]
            sine = np.sqrt(1 - own**2)
            logits = _SCALE * best
            # cos(θ + m) instead of cos θ for the label's class
            logits[at, labels[rows]] = _SCALE * (own * np.cos(_MARGIN) - sine * np.sin(_MARGIN))
            slope = softmax(logits, axis=1)
            slope[at, labels[rows]] -= 1
            slope[at, labels[rows]] *= np.cos(_MARGIN) + own / sine * np.sin(_MARGIN)
            by_cosine = np.zeros_like(cosines)
            np.put_along_axis(by_cosine, which[:, :, None], (_SCALE / len(rows) * slope)[:, :, None], 2)
            pull = Z[rows].T @ by_cosine.reshape(len(rows), -1)
            adam.step([((pull - centres * (centres * pull).sum(0)) / lengths).astype(np.float32)])
    return free / np.linalg.norm(free, axis=0)
