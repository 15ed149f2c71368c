"""Pictures that say little: nearly all of them follows from the pixel beside, as in drawn shapes and empty skies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.audit._extremes import extreme, single
from phyla.audit._found import Found

__all__ = ["low_information"]

# Bits a pixel. Photos as they are have 5.7, the least of 1,164 has 4.1; CIFAR-10 has 5.9, one in a thousand less than
# 2.2; a thing on pure white that fills a sixth of the picture 1.5. A gradient has 0.8, a dot on plain ground 0.1.
_WORTH, _SURE = 1.0, 0.4


def low_information(*, measured: dict[str, NDArray[Any]]) -> list[Found]:
    """Pictures of which a lossless file would need few bits a pixel.

    measured : `detail` of `measure`.
    """
    why = "It says little: {:.1f} bits a pixel, where {:.1f} are usual here."
    usual = float(np.median(measured["detail"])) if len(measured["detail"]) else 0.0
    return single(severity(measured), lambda row: why.format(measured["detail"][row], usual))


def severity(measured: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    return extreme(measured["detail"], _WORTH, _SURE)
