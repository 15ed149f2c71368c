"""Blank pictures: one colour and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.audit._extremes import extreme, single
from phyla.audit._found import Found

__all__ = ["blank"]

# Range of colour, 0..255. A plain surface with a camera's noise (standard deviation 2) has 5; the plainest picture of
# CIFAR-10's 50,000 has 33.
_WORTH, _SURE = 14.0, 6.0


def blank(*, measured: dict[str, NDArray[Any]]) -> list[Found]:
    """Pictures without anything in them: neither do pixels differ in luminance, nor places in colour.

    measured : `p1`, `p99` and `thumb` of `measure`.
    """
    return single(severity(measured), lambda row: "There is nothing in it but one colour.")


def severity(measured: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    places = measured["thumb"].std((1, 2), dtype=np.float32).max(1)
    # Four standard deviations are about the range that 98 % of normal values have.
    return extreme(np.maximum(measured["p99"] - measured["p1"], 4 * places), _WORTH, _SURE)
