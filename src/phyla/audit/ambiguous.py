"""Pictures that two classes fit: both may be right, as where one shows two things."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phyla.audit._extremes import single
from phyla.audit._found import Found
from phyla.audit.mislabelled import judge
from phyla.engine import Run
from phyla.engine.local import run
from phyla.types import Rows

__all__ = ["ambiguous"]


def ambiguous(
    *,
    X: Rows,
    labels: NDArray[np.int32],
    classes: Sequence[str],
    neighbors: tuple[NDArray[np.int32], NDArray[np.float32]],
    blocks: ArrayLike | None = None,
    n_jobs: int = 1,
    run: Run = run,
) -> list[Found]:
    """Rows of X (n, d) whose second class has a chance of a quarter or more by looks; labelled or not.

    The severity is twice that chance, 1 where both are as likely. Of "mistakes" on ImageNet nearly half are second
    labels as right as the first (Vasudevan and others, 2022): such pictures had better count for both, or for none.
    50,000 x 768: 5 s of processor time.
    """
    if len(classes) < 2 or not (labels >= 0).any():
        return []
    proba = judge(X, labels, len(classes), neighbors, blocks, n_jobs, run).proba

    def why(row: int) -> str:
        first, second = np.argsort(-proba[row], kind="stable")[:2]
        chances = f"{proba[row, first]:.0%} and {proba[row, second]:.0%}"
        return f"It may be {classes[first]} or {classes[second]} ({chances})."

    return single(severity(proba), why)


def severity(proba: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,): twice the chance of the second likeliest class of `proba` (n, c)."""
    second: NDArray[np.float32] = np.partition(proba, -2, axis=1)[:, -2]
    return (2 * second).clip(0, 1)
