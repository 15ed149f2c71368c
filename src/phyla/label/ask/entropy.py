"""The images whose class is least known over all classes; a baseline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phyla.label.ask._rows import Asked, between, highest

__all__ = ["entropy"]


def entropy(
    n: int, rng: np.random.Generator, *, labels: NDArray[np.int32], proba: NDArray[np.float32], classes: Sequence[str]
) -> Asked:
    """Up to n rows by largest entropy of their classes. They may all be alike. O(rows · c)."""
    unsure = -(proba * np.log(np.maximum(proba, 1e-12))).sum(1)
    doubt = np.where(labels < 0, unsure, -np.inf)
    return [(row, between(proba, row, classes)) for row in highest(doubt, n)]
