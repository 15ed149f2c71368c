"""Any images without an answer; the control that other ways to ask are compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.label.ask._rows import Asked

__all__ = ["random"]


def random(n: int, rng: np.random.Generator, *, labels: NDArray[np.int32]) -> Asked:
    """Up to n rows, each as likely as any other: what is found on them holds for the whole collection."""
    rows = np.flatnonzero(labels < 0)
    return [(int(row), "drawn at random") for row in rng.permutation(rows)[:n]]
