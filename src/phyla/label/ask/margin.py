"""The images whose two likeliest classes are closest; the plain baseline for `uncertain`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phyla.label.ask._rows import Asked, between, highest, margins

__all__ = ["margin"]


def margin(
    n: int, rng: np.random.Generator, *, labels: NDArray[np.int32], proba: NDArray[np.float32], classes: Sequence[str]
) -> Asked:
    """Up to n rows by smallest margin (Scheffer, Decomain and Wrobel, 2001). They may all be alike. O(rows · c)."""
    doubt = np.where(labels < 0, -margins(proba), -np.inf)
    return [(row, between(proba, row, classes)) for row in highest(doubt, n)]
