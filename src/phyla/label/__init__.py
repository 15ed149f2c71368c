"""What people decided: a log of edits, replayed over whatever grouping is current."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from phyla.types import Edit

__all__ = ["group_names"]


def group_names(edits: Iterable[Edit], ids: NDArray[np.str_], best: NDArray[np.int32]) -> dict[int, str]:
    """Group → the name that people gave it.

    A name was given to images; it goes to the group that holds most of them now, so it survives a new grouping. Of
    two names that reach the same group, the later one counts. Two groups of one name are one class.
    """
    order = np.argsort(ids)
    names: dict[int, str] = {}
    for edit in edits:
        if edit.op != "name":
            continue
        at = np.searchsorted(ids, np.array(edit.ids), sorter=order).clip(max=len(ids) - 1)
        known = ids[order[at]] == np.array(edit.ids)
        if known.any():
            group = int(np.bincount(best[order[at[known]]]).argmax())
            names[group] = edit.classes[0]
    return names
