"""How far a picture is out, by what is acceptable anywhere and by what is usual here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from phyla.audit._found import Found

_SIGMAS = 2.5  # from what is usual here that are worth a look; twice as many are sure. One in 160 if all is normal
_STEEPNESS = np.log(19)  # sure is 0.95


def extreme(values: NDArray[np.floating], worth: float, sure: float) -> NDArray[np.float64]:
    """Severity (n,), 0..1, of values (n,): 0.5 where they are `worth` a look, 0.95 where they are `sure` to be wrong.

    Besides, they must lie that far beyond the median: in the direction of `sure`, 2.5 times the spread (the median
    absolute deviation, scaled as for normal values), so that what most pictures here are like is not found.
    """
    if not len(values):
        return np.empty(0)
    values = np.asarray(values, np.float64)
    absolute = (values - worth) / (sure - worth)
    middle = np.median(values)
    # Never less than a tenth of the way from worth to sure: one value for nearly all is no reason for suspicion.
    spread = max(1.4826 * np.median(np.abs(values - middle)), 0.1 * abs(sure - worth))
    relative = np.sign(sure - worth) * (values - middle) / spread / _SIGMAS - 1
    return 1 / (1 + np.exp(-_STEEPNESS * np.minimum(absolute, relative).clip(-10, 10)))


def single(severity: NDArray[np.floating], why: Callable[[int], str]) -> list[Found]:
    """One finding for each row that is worth a look, the most severe first."""
    rows = np.flatnonzero(severity >= 0.5)
    rows = rows[np.argsort(-severity[rows], kind="stable")]
    return [((int(row),), float(severity[row]), why(int(row))) for row in rows]
