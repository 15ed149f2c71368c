"""Groups that run into others: by whose pictures are nearest to theirs, and how many ways they vary."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.audit._found import Found

__all__ = ["separability"]


def separability(*, groups: NDArray[np.int32], neighbors: tuple[NDArray[np.int32], NDArray[np.float32]]) -> list[Found]:
    """A finding for each of `groups` (n,) of whose nearest neighbours half or fewer, beyond chance, are in it.

    Its rows are those most of whose neighbours are in other groups. The severity is the share of neighbours in other
    groups, as a part of what chance would give. O(n·k).
    """
    indices, distances = neighbors
    grouped = groups >= 0
    if len(np.unique(groups[grouped])) < 2:
        return []
    same = groups[indices] == groups[:, None]
    dimensions = dimension(distances)
    usual = float(np.median(dimensions[grouped]))
    found: list[Found] = []
    for group in np.unique(groups[grouped]).tolist():
        rows = np.flatnonzero(groups == group)
        mixed = severity(same[rows], len(rows) / len(groups))
        if mixed < 0.5:
            continue
        others = groups[indices[rows]]
        others = others[(others != group) & (others >= 0)]
        most = np.bincount(others).argmax() if len(others) else None
        to = f", many in group {most}" if most is not None else ""
        why = (
            f"Of the nearest neighbours of group {group} only {same[rows].mean():.0%} are in it{to}; "
            f"it varies in about {np.median(dimensions[rows]):.0f} ways, all in {usual:.0f}."
        )
        astray = rows[same[rows].mean(1) < 0.5]
        found.append((tuple((astray if len(astray) else rows).tolist()), mixed, why))
    return sorted(found, key=lambda one: -one[1])


def severity(same: NDArray[np.bool_], share: float) -> float:
    """0 where all neighbours of a group's rows are in it, `same` (m, k), 1 where no more than its share of all rows."""
    return float(np.clip((1 - same.mean()) / max(1 - share, 1e-9), 0, 1))


def dimension(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,): the number of dimensions that near rows spread in, from the distances (n, k) to the nearest of them.

    The maximum likelihood estimate of Levina and Bickel (2005) with the bias removed: (k − 2) / Σ log(Tₖ/Tⱼ). Where it
    is large, a class is hard to learn (Konz and Mazurowski, 2024).
    """
    k = distances.shape[1]
    if k < 3:
        return np.zeros(len(distances), np.float32)
    least = np.maximum(distances, 1e-12)
    logs = np.log(least[:, -1:] / least[:, :-1]).sum(1)
    return np.where(logs > 1e-9, (k - 2) / np.maximum(logs, 1e-9), 0).astype(np.float32)
