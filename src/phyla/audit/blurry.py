"""Blurry pictures: no edge in them is sharp; a sharp thing before a soft background is not one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.audit._extremes import extreme, single
from phyla.audit._found import Found

__all__ = ["blurry"]

# Share of the gradients' energy that more blur takes away. Photos as they are have 0.46, one in a thousand less than
# 0.25 (CIFAR-10: 0.56, 0.32); blurred by a fiftieth of their height 0.02, CIFAR-10 by a 25th 0.14.
_WORTH, _SURE = 0.2, 0.1
_PLAIN = 5.0  # standard deviation of luminance under which there are no edges to judge by


def blurry(*, measured: dict[str, NDArray[Any]]) -> list[Found]:
    """Pictures that lose little by more blur.

    measured : `sharpness` and `spread` of `measure`.
    """
    why = "It is blurry: sharpness {:.2f}, where {:.2f} is usual here."
    usual = float(np.median(measured["sharpness"])) if len(measured["sharpness"]) else 0.0
    return single(severity(measured), lambda row: why.format(measured["sharpness"][row], usual))


def severity(measured: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    return np.where(measured["spread"] < _PLAIN, 0, extreme(measured["sharpness"], _WORTH, _SURE))
