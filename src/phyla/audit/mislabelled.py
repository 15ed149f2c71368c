"""Labels that are probably wrong: a picture looks like another class. By all that is known; take this one first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from phyla.audit._extremes import single
from phyla.audit._found import Found
from phyla.audit._mislabel import (
    OF_DISCRIMINANTS,
    OF_REGRESSION,
    OF_VOTE,
    Judged,
    channel,
    discriminants,
    left_out,
    telling,
    vote,
)
from phyla.engine import Run
from phyla.engine.local import run
from phyla.types import Rows

__all__ = ["mislabelled"]

_MANY = 50  # labelled rows a class: of fewer each would draw its class's centre to itself


def mislabelled(
    *,
    X: Rows,
    labels: NDArray[np.int32],
    classes: Sequence[str],
    neighbors: tuple[NDArray[np.int32], NDArray[np.float32]],
    blocks: ArrayLike | None = None,
    n_jobs: int = 1,
    run: Run = run,
) -> list[Found]:
    """Rows of X (n, d) whose label (n,) is wrong rather than right; the severity is the chance that it is.

    What a picture looks like is judged by a regression and by its neighbours, neither of which knows its label; how
    often each class is taken for each other is learned from all labels (see `channel`). −1, no label, is not judged.
    50,000 x 768: 5 s of processor time.
    """
    judged = judge(X, labels, len(classes), neighbors, blocks, n_jobs, run)

    def why(row: int) -> str:
        return f"It is labelled {classes[labels[row]]}, but looks like {classes[judged.instead[row]]}."

    return single(judged.wrong, why)


def judge(
    X: Rows,
    labels: NDArray[np.int32],
    c: int,
    neighbors: tuple[NDArray[np.int32], NDArray[np.float32]],
    blocks: ArrayLike | None,
    n_jobs: int,
    run: Run = run,
) -> Judged:
    """The chance that each label is wrong, and what each row looks like."""
    if c < 2 or not (labels >= 0).any():
        n = len(X)
        return Judged(
            np.zeros(n, np.float32), np.full((n, c), 1 / max(c, 1), np.float32), np.zeros(n, np.int32), np.eye(c)
        )
    with threadpool_limits(1):  # how linear algebra rounds must not depend on n_jobs
        narrow = telling(X, blocks, int((labels >= 0).sum()))
        regressed, votes = left_out(narrow, labels, c, n_jobs, run), vote(neighbors[0], labels, c)
        judged = channel([regressed, votes], labels, (OF_REGRESSION, OF_VOTE))
        if (labels >= 0).sum() < _MANY * c:
            return judged
        return channel([discriminants(regressed, judged, labels), votes], labels, (OF_DISCRIMINANTS, OF_VOTE))
