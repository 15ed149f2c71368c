"""Pictures of odd size or shape: far larger, smaller or longer than the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.audit._extremes import extreme, single
from phyla.audit._found import Found

__all__ = ["odd_size"]

# Doublings. Cameras of one collection differ by up to four times the pixels, which is one doubling of the side; photos
# of 4:3, 3:2, 16:9 and squares lie within 0.83 of each other in shape.
_SIZE = 1.5, 3.0
_SHAPE = 1.0, 2.0


def odd_size(*, width: NDArray[np.integer], height: NDArray[np.integer]) -> list[Found]:
    """Pictures whose size (root of the area) or shape (longer by shorter side; standing or lying is one) is far off.

    width, height : (n,), pixels.
    """
    size, shape = _doublings(width, height)
    by_size, by_shape = _off(size, *_SIZE), _off(shape, *_SHAPE)

    def why(row: int) -> str:
        told = f"It has {width[row]} x {height[row]} pixels; "
        if by_size[row] >= by_shape[row]:
            usual = 2 ** np.median(size)
            return f"{told}usual here is the area of {usual:.0f} x {usual:.0f}."
        return f"{told}its sides are as 1 to {2 ** shape[row]:.1f}, usual here is 1 to {2 ** np.median(shape):.1f}."

    return single(np.maximum(by_size, by_shape), why)


def severity(width: NDArray[np.integer], height: NDArray[np.integer]) -> NDArray[np.float64]:
    size, shape = _doublings(width, height)
    return np.maximum(_off(size, *_SIZE), _off(shape, *_SHAPE))


def _doublings(width: NDArray[Any], height: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    w, h = (np.log2(np.maximum(side, 1).astype(np.float64)) for side in (width, height))
    return (w + h) / 2, np.abs(w - h)


def _off(values: NDArray[np.float64], worth: float, sure: float) -> NDArray[np.float64]:
    return extreme(np.abs(values - np.median(values)), worth, sure) if len(values) else values
