"""Several feature spaces side by side in one X."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

TELLING = 32  # axes of each space that distances and the number of groups are judged in: more blur them


def leading(X: NDArray[np.float32], blocks: ArrayLike, width: int = TELLING) -> NDArray[np.float32]:
    """The first `width` columns of every block of X (n, sum of blocks)."""
    blocks = np.asarray(blocks)
    starts = np.cumsum(blocks) - blocks
    columns = [c for s, b in zip(starts, blocks, strict=True) for c in range(s, s + min(b, width))]
    return np.ascontiguousarray(X[:, columns])
