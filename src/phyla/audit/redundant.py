"""Redundant pictures: what can go, because what stays shows the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.audit import _choose
from phyla.audit._found import Found

__all__ = ["redundant"]


def redundant(
    *,
    near: NDArray[np.float32],
    neighbors: tuple[NDArray[np.int32], NDArray[np.float32]],
    labels: NDArray[np.integer] | None = None,
    share: float = 0.7,
    by: str = "auto",
    n_jobs: int = 1,
) -> list[Found]:
    """Pictures that can go, kind by kind, each near to one that stays.

    A choice says which `share` should stay; of the rest, what has a picture of that share no farther off than nearest
    neighbours usually are (in the median) is found, so all that goes stays in view. Of 50,000 images of CIFAR-10 19 %
    can go by "concepts". 60,000 pictures take about 3 s of CPU time.

    Parameters
    ----------
    near : (n, d), the leading axes. neighbors : nearest first, in these. labels : (n,), −1 = not known.
    by : "concepts" keeps more of the kinds that are complex, and of each the least typical (Abbas and others, 2024);
        "el2n" keeps what is hard to learn early on (Paul, Ganguli and Dziugaite, 2021) and needs labels;
        "quantisation" the same share of each part of a kind (Zhou and others, 2023). "auto" is "el2n" where half the
        pictures have labels, else "concepts". Of 10,000 images of CIFAR-10, half chosen by "el2n" train a linear
        classifier to 0.897, all to 0.897, "concepts" to 0.895, "quantisation" to 0.893 and half at random to 0.892.
    """
    n = len(near)
    keep = round(share * n)
    if not 0 < keep < n:
        return []
    known = labels is not None and len(np.unique(labels[labels >= 0])) > 1
    if by == "auto":
        by = "el2n" if labels is not None and known and np.mean(labels >= 0) >= 0.5 else "concepts"
    of = _choose.concepts(near)
    stays = chosen(near, of, keep, by, labels)
    away = _choose.coverage(near, stays, n_jobs)
    usual = float(np.median(neighbors[1][:, 0]))
    covered = away <= usual
    found: list[Found] = []
    for rows in np.split(np.argsort(of, kind="stable"), np.bincount(of).cumsum()[:-1]):
        going = rows[~stays[rows] & covered[rows]]
        if not len(going):
            continue
        nearness = float(away[going].mean()) / max(usual, 1e-12)
        why = (
            f"Of {len(rows)} pictures of one kind {len(going)} can go: each has one that stays, on average at "
            f"{nearness:.0%} of the usual distance of neighbours."
        )
        found.append((tuple(going.tolist()), 0.5 + 0.5 * (1 - nearness), why))
    return sorted(found, key=lambda f: (-f[1], -len(f[0]), f[0]))


def chosen(
    X: NDArray[np.float32], of: NDArray[np.intp], keep: int, by: str, labels: NDArray[np.integer] | None = None
) -> NDArray[np.bool_]:
    """Which `keep` rows (n,) stay, of the concepts `of` (n,)."""
    if by == "quantisation":
        return _choose.quantised(X, of, keep)
    if by == "concepts":
        return _choose.cut(-_choose.prototypical(X, of), of, _choose.shares(X, of, keep), keep)
    if by != "el2n":
        raise ValueError(f"by={by!r} is not known; there is: auto, concepts, el2n, quantisation")
    if labels is None:
        raise ValueError("by='el2n' needs labels")
    hard = _choose.el2n(X, labels)
    hard[labels < 0] = np.inf  # nobody knows, so they stay
    return _choose.cut(hard, np.zeros(len(X), np.intp), np.array([float(keep)]), keep)
