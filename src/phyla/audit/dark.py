"""Dark pictures: too little light; a night with lamps in it is not one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.audit._extremes import extreme, single
from phyla.audit._found import Found

__all__ = ["dark"]

# Luminance that hardly a pixel exceeds. Photos at a quarter of their light have 52, at a seventh 31; of photos and of
# CIFAR-10 as they are, one in a thousand has less than 135 and 86, and with lamps planted in the dark it is 111.
_WORTH, _SURE = 65.0, 35.0


def dark(*, measured: dict[str, NDArray[Any]]) -> list[Found]:
    """Pictures whose luminance, two standard deviations above its mean, is still dark, here and by any measure.

    measured : `mean` and `spread` of `measure`.
    """
    return single(severity(measured), lambda row: f"It is dark: mean brightness {measured['mean'][row]:.0f} of 255.")


def severity(measured: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    return extreme(measured["mean"] + 2 * measured["spread"], _WORTH, _SURE)
