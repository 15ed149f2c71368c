"""Classes with far fewer pictures than others: a model trained on them will overlook these."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phyla.audit._found import Found

__all__ = ["imbalance"]

_TIMES = 10  # fewer than the largest is worth a look; its square is sure


def imbalance(
    *, groups: NDArray[np.int32], labels: NDArray[np.int32] | None = None, classes: Sequence[str] | None = None
) -> list[Found]:
    """A finding for each class ten times smaller than the largest; of the groups (n,) where all labels are unknown.

    The severity grows with the logarithm: ½ for ten times smaller, 1 for a hundred.
    """
    named = labels is not None and classes is not None and bool((labels >= 0).any())
    codes = labels if named and labels is not None else groups
    counts = np.bincount(codes[codes >= 0]) if (codes >= 0).any() else np.zeros(0, int)

    def name(code: int) -> str:
        return str(classes[code]) if named and classes is not None else f"group {code}"

    found: list[Found] = []
    for code in np.flatnonzero(counts).tolist():
        size, most = int(counts[code]), int(counts.argmax())
        severity = min(float(np.log(counts[most] / size) / (2 * np.log(_TIMES))), 1.0)
        if severity >= 0.5:
            why = f"{name(code)} has {size}, {counts[most] / size:.0f} times fewer than {name(most)}."
            found.append((tuple(np.flatnonzero(codes == code).tolist()), severity, why))
    return sorted(found, key=lambda one: -one[1])
