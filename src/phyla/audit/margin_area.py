"""Labels that a classifier is slow to learn: by the area under their margins, against rows given a made-up class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from phyla.audit._extremes import single
from phyla.audit._found import Found
from phyla.audit._mislabel import telling
from phyla.audit._trained import margins, steps, with_one
from phyla.engine.local import run
from phyla.types import Rows

__all__ = ["margin_area"]

_ROUNDS = 2  # each with threshold rows of its own: the paper's
_CUT = 0.99  # percentile of the threshold rows' areas: the paper's


def margin_area(
    *,
    X: Rows,
    labels: NDArray[np.int32],
    classes: Sequence[str],
    blocks: ArrayLike | None = None,
    n_jobs: int = 1,
) -> list[Found]:
    """Rows of X (n, d) whose label (n,) is learned no better than a class that does not exist.

    Pleiss, Zhang, Elenberg and Weinberger (2020): the mean, over the epochs of training, of the margin by which a row's
    label is ahead of the others; here a softmax regression is trained. Rows put into an extra class tell what that mean
    is for labels that are surely wrong: severity ½ is at the 99th percentile of theirs. −1, no label, is not judged.
    50,000 x 768: 2 s of processor time.
    """
    wrong = severity(X, labels, len(classes), blocks, n_jobs)
    return single(wrong, lambda row: f"It is labelled {classes[labels[row]]}, which a classifier was slow to learn.")


def severity(X: Rows, labels: NDArray[np.int32], c: int, blocks: ArrayLike | None, n_jobs: int) -> NDArray[np.float32]:
    """(n,): ½ where the area is that of the best of the threshold rows, and more where it is less."""
    known = np.flatnonzero(labels >= 0)
    found = np.zeros(len(X), np.float32)
    if c < 2 or len(known) < 4 * (c + 1):  # too few for a threshold row in each round
        return found
    A, given = with_one(telling(X, blocks, len(known))[known]), labels[known].astype(np.int32)
    seeds = np.random.default_rng(0).spawn(_ROUNDS + 1)
    size = len(known) // (c + 1)
    drawn = seeds[-1].permutation(len(known))[: _ROUNDS * size].reshape(_ROUNDS, size)

    def areas(number: int) -> NDArray[np.float32]:
        """(known,): less the area, in standard deviations of the threshold rows' from their cut; NaN for these."""
        told = given.copy()
        told[drawn[number]] = c
        total, seen = np.zeros(len(told), np.float32), np.zeros(len(told), np.float32)
        for rows, logits, _ in steps(A, told, c + 1, seeds[number]):
            total[rows] += margins(logits, told[rows])
            seen[rows] += 1
        total /= seen
        cut, spread = np.quantile(total[drawn[number]], _CUT), total[drawn[number]].std()
        total = (cut - total) / max(float(spread), 1e-6)
        total[drawn[number]] = np.nan
        return total

    with threadpool_limits(1):
        below = np.nanmean(np.stack(list(run(areas, range(_ROUNDS), n_jobs))), axis=0)
    found[known] = 1 / (1 + np.exp(-below.clip(-30, 30)))
    return found
