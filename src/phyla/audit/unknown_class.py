"""Pictures that belong to none of the classes that labels name: a new class, or a stray. By their energy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from phyla.audit._extremes import single
from phyla.audit._found import Found
from phyla.audit._mislabel import left_out, telling
from phyla.audit._outliers import beyond, by_fence, energy, max_logit
from phyla.engine import Run
from phyla.engine.local import run
from phyla.types import Rows

__all__ = ["unknown_class"]

_FEW = 20  # rows among which nothing can be called unusual


def unknown_class(
    *,
    X: Rows,
    labels: NDArray[np.int32],
    classes: Sequence[str],
    blocks: ArrayLike | None = None,
    n_jobs: int = 1,
    run: Run = run,
) -> list[Found]:
    """Rows of X (n, d) that are less like every class of the labels (n,; −1 unknown) than all others are.

    Liu, Wang, Owens and Li (2020); severity ½ is at Tukey's fence of all rows. 50,000 x 768: 3 s of processor time.
    """
    strange = severity(X, labels, len(classes), blocks, n_jobs, run=run)
    return single(strange, lambda row: f"It is like none of the {len(classes)} classes.")


def severity(
    X: Rows,
    labels: NDArray[np.int32],
    c: int,
    blocks: ArrayLike | None,
    n_jobs: int,
    by_largest: bool = False,
    run: Run = run,
) -> NDArray[np.float32]:
    """(n,) by the energy, or by the largest logit alone, of a regression that is not told a row's own label."""
    known = int((labels >= 0).sum())
    if c < 2 or known < _FEW:
        return np.zeros(len(X), np.float32)
    with threadpool_limits(1):  # how linear algebra rounds must not depend on n_jobs
        logits = left_out(telling(X, blocks, known), labels, c, n_jobs, run)
    return by_fence(beyond(max_logit(logits) if by_largest else energy(logits)))
