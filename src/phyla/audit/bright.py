"""Bright pictures: washed out by too much light; a thing on white is not one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.audit._extremes import extreme, single
from phyla.audit._found import Found

__all__ = ["bright"]

# Luminance that hardly a pixel is under. Photos faded to a quarter of their contrast towards white have 192, to a
# seventh 217; of photos and of CIFAR-10 as they are, one in a thousand has more than 73 and 161.
_WORTH, _SURE = 175.0, 215.0


def bright(*, measured: dict[str, NDArray[Any]]) -> list[Found]:
    """Pictures whose luminance, two standard deviations below its mean, is still bright, here and by any measure.

    measured : `mean` and `spread` of `measure`.
    """
    why = "It is washed out: mean brightness {:.0f} of 255."
    return single(severity(measured), lambda row: why.format(measured["mean"][row]))


def severity(measured: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    return extreme(measured["mean"] - 2 * measured["spread"], _WORTH, _SURE)
