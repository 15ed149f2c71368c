"""Whether rows that came after groups were found still fit them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.neighbors import nearest_of

_NEAR = 10  # neighbours of a row that are looked at; 20 find no more
_CHANCE = 1e-3  # that so many of them are late ones by chance, under which a row is strange
_LEAST = 10  # strange rows that may make a group: one group for ten images is the most that is ever found
# Strange rows as a share of the late ones. 1,000 more of the same have 0 to 2 of them, 1,000 of one class that was
# there up to 9, and 1,000 of which a tenth are a new class 20 to 50 (CIFAR-10, see docs/benchmarks.md).
_SHARE = 0.01
_JUDGED = 5_000  # late rows at most


def drift(
    X: NDArray[np.float32], fitted: NDArray[np.bool_], labels: NDArray[np.int32], n_jobs: int = 1
) -> dict[str, Any]:
    """Whether the rows of X (n, d) that are not among the `fitted` (n,) have brought what `labels` (n,) do not know.

    What is new lies together. So a late row is strange if of its ten nearest more are late, too, than the growth of
    the groups that they lie in explains: a nearest-neighbour test (Schilling, 1986) within the groups. That one group
    grew and others did not, however much, makes none of its rows strange; a class that was never seen does, where it
    brings ten rows or more. 1,000 late rows among 60,000 of 96 axes take half a second; O(min(late, 5,000)·n·d).

    Returns
    -------
    dict : `since`, the number of late rows; `strange`, how many of them are; `moved`, 0..1, the share of the late rows
        that lie in other groups than as many of the fitted would (not part of the judgement); `anew`, whether strange
        ones are ten and a hundredth of the late ones: then grouping anew may find a group for them.
    """
    from scipy.stats import binom

    late = np.flatnonzero(~fitted)
    groups = int(labels.max(initial=0)) + 1
    came, was = (np.bincount(labels[rows], minlength=groups) for rows in (~fitted, fitted))
    moved = np.abs(came / max(came.sum(), 1) - was / max(was.sum(), 1)).sum() / 2 if len(late) else 0.0
    strange, near = 0, min(_NEAR, len(X) - 1)
    if len(late) >= _LEAST:
        judged = late[np.linspace(0, len(late) - 1, min(len(late), _JUDGED)).astype(int)]
        found = nearest_of(X[judged], X, near + 1, n_jobs)[0]
        own = found == judged[:, None]
        own[~own.any(1), -1] = True  # among copies it may not have been found
        found = found[~own].reshape(-1, near)
        share = came / np.maximum(came + was, 1)
        expected = np.maximum(share[labels[found]].mean(1), share[labels[judged]])
        chance = binom.sf((~fitted)[found].sum(1) - 1, near, expected)
        strange = round(int((chance < _CHANCE).sum()) * len(late) / len(judged))
    return {
        "since": len(late),
        "strange": strange,
        "moved": round(float(moved), 4),
        "anew": strange >= max(_LEAST, _SHARE * len(late)),
    }
