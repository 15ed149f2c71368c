"""Where the activations of a network lie on pictures of a collection, so that it can compute in 8-bit integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Range = tuple[float, float]


@dataclass(frozen=True)
class Ranges:
    """What `calibrate` found.

    ends : smallest and largest value of every activation that is rounded, in the network's order.
    shift : (d,) how much larger the features in integers are than those in floats, in the mean.
    """

    ends: tuple[Range, ...]
    shift: NDArray[np.float32]
