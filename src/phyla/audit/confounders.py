"""Confounders: groups that follow how pictures were made: their folder, day, camera, size or compression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.audit._found import Found

__all__ = ["confounders"]

_PARTS = 8  # of equal size that numbers are cut into
_FEWEST = 5  # pictures of a value that is looked at by itself
_FOLDS = 5
_WORTH, _SURE = 0.25, 0.75  # gain over chance: of what chance gets wrong, a quarter is right
_LEAD, _SIGMAS = 0.5, 5.0  # how much more frequent a value is in a group than outside it, and beyond chance
_SAME = 0.9  # gain at which folders are the classes that people named


@dataclass(frozen=True)
class Fact:
    """What one fact, such as the camera, has to do with the groups.

    gain : how well it and the group tell each other, cross-validated: 0 by chance, 1 without error.
    signature : how well the nearest neighbours in the same group tell it: 0 by chance, 1 without error.
    robustness : of the neighbours that share either the group or the fact, the share of those that share the group.
    """

    name: str
    gain: float
    signature: float
    robustness: float
    values: NDArray[np.str_]
    bounds: NDArray[np.float64] | None  # (values, 2) of numbers
    codes: NDArray[np.intp]


def confounders(
    *,
    groups: NDArray[np.integer],
    facts: Mapping[str, NDArray[Any]],
    neighbors: tuple[NDArray[np.int32], NDArray[np.float32]],
    labels: NDArray[np.integer] | None = None,
    names: Sequence[str] | None = None,
) -> list[Found]:
    """Groups that mostly hold pictures of one camera, day, folder, size or compression, where others do not.

    A group that follows a confounder is more about how pictures were made than about what they show. Where folders are
    classes, groups should follow them: where people's `labels` are the folders, folders are left out; else the finding
    says so. Robustness is the share of nearest neighbours that share the group, of those that share either the group or
    the fact. About a second for 60,000 pictures and six facts.

    Parameters
    ----------
    groups : (n,). facts : name → (n,) strings ("" = not known), or numbers, which are cut into eight equal parts. A
        date counts by its day. neighbors : nearest first. labels : (n,), −1 = not known. names : of the groups.
    """
    found: list[Found] = []
    for fact in examine(groups, facts, neighbors):
        if fact.gain < _WORTH:
            continue
        if fact.name == "folder" and labels is not None and _is_known(fact, labels):
            continue
        closing = ". As it should be where folders are classes." if fact.name == "folder" else "."
        known = fact.codes >= 0
        for group in np.unique(groups[known]):
            inside = known & (groups == group)
            within = np.bincount(fact.codes[inside], minlength=len(fact.values)) / inside.sum()
            outside = known & ~inside
            if not outside.any():
                continue
            without = np.bincount(fact.codes[outside], minlength=len(fact.values)) / outside.sum()
            first, last = _leading(within - without, fact.bounds is not None)
            here, elsewhere = (float(share[first:last].sum()) for share in (within, without))
            lead = here - elsewhere
            noise = np.sqrt(max(elsewhere * (1 - elsewhere), 1 / len(groups)) / inside.sum())
            if lead < _LEAD or lead < _SIGMAS * noise:
                continue
            severity = 0.5 + 0.5 * min((fact.gain - _WORTH) / (_SURE - _WORTH), (lead - _LEAD) / (0.9 - _LEAD), 1)
            called = names[group] if names else f"group {group}"
            value = fact.values[first] if fact.bounds is None else _range(fact.bounds[first:last])
            why = (
                f"{here:.0%} of {called} have the {fact.name} {value}, of the rest {elsewhere:.0%}; "
                f"{fact.name} and group tell each other {fact.gain:.0%} better than chance; "
                f"robustness {fact.robustness:.2f}{closing}"
            )
            rows = np.flatnonzero(inside & (first <= fact.codes) & (fact.codes < last))
            found.append((tuple(rows.tolist()), float(severity), why))
    return sorted(found, key=lambda f: (-f[1], f[0]))


def examine(
    groups: NDArray[np.integer],
    facts: Mapping[str, NDArray[Any]],
    neighbors: tuple[NDArray[np.int32], NDArray[np.float32]],
) -> list[Fact]:
    """What each fact that has several values has to do with the groups, the strongest first."""
    told = []
    for name, given in facts.items():
        values, bounds, codes = _coded(name, given)
        known = codes >= 0
        if len(values) < 2 or not known.any():
            continue
        one, other = groups[known].astype(np.intp), codes[known]
        gain = max(_gain(one, other), _gain(other, one))
        told.append(Fact(name, gain, *_around(groups, codes, neighbors[0]), values, bounds, codes))
    return sorted(told, key=lambda fact: -fact.gain)


def _leading(more: NDArray[np.float64], ordered: bool) -> tuple[int, int]:
    """The value, or range of numbers (first, behind the last), that a group exceeds the rest in most."""
    if not ordered:
        best = int(more.argmax())
        return best, best + 1
    sums = np.append(0, more.cumsum())
    gains = np.triu(sums[None, :] - sums[:, None])
    first, last = np.unravel_index(gains.argmax(), gains.shape)
    return int(first), int(last)


def _coded(name: str, given: NDArray[Any]) -> tuple[NDArray[np.str_], NDArray[np.float64] | None, NDArray[np.intp]]:
    """A fact's values, their bounds if they are numbers, and which (n,) each picture has; −1 = unknown, or rare."""
    given = np.asarray(given)
    bounds = None
    if given.dtype.kind in "iufb":
        known = np.isfinite(given.astype(np.float64))
        edges = np.unique(np.quantile(given[known], np.linspace(0, 1, _PARTS + 1)[1:-1])) if known.any() else given[:0]
        part = np.searchsorted(edges, given, side="left")
        codes = np.where(known, part, -1)
        ranges = [given[codes == p] for p in range(len(edges) + 1)]
        bounds = np.array([(r.min(), r.max()) if len(r) else (0, 0) for r in ranges], np.float64).reshape(-1, 2)
        values = np.array([_range(b) for b in bounds], str)
    else:
        text = given.astype(str)
        if name == "date":
            text = np.array([t[:10] for t in text])
        values, codes = np.unique(text, return_inverse=True)
        codes = np.where(values[codes] == "", -1, codes)
    counts = np.bincount(codes[codes >= 0], minlength=len(values))
    kept = counts >= _FEWEST
    renumbered = np.append(np.where(kept, kept.cumsum() - 1, -1), -1)  # −1 stays −1
    return values[kept].astype(str), None if bounds is None else bounds[kept], renumbered[codes].astype(np.intp)


def _range(numbers: NDArray[np.float64]) -> str:
    low, high = numbers.min(), numbers.max()
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def _gain(given: NDArray[np.intp], asked: NDArray[np.intp]) -> float:
    """How much better than the most frequent value `asked` (n,) is told by `given` (n,), in five folds; 1 = always."""
    fold = np.random.default_rng(0).permutation(len(asked)) % _FOLDS
    shape = (_FOLDS, int(given.max()) + 1, int(asked.max()) + 1)
    table = np.zeros(shape)
    np.add.at(table, (fold, given, asked), 1)
    rest = table.sum(0) - table  # counts of the other folds
    overall = rest.sum(1)
    # Ties, and values that the other folds lack, go by what is most frequent overall.
    guess = (rest + 1e-6 * overall[:, None] / max(len(asked), 1)).argmax(2)
    right = float(np.mean(guess[fold, given] == asked))
    chance = float(np.mean(overall.argmax(1)[fold] == asked))
    return max((right - chance) / (1 - chance), 0.0) if chance < 1 else 0.0


def _around(groups: NDArray[np.integer], codes: NDArray[np.intp], indices: NDArray[np.int32]) -> tuple[float, float]:
    """The signature and the robustness of a fact: how neighbours share it.

    After the robustness index of de Jong, Marcus and Teuwen (2025), which compares how many of the nearest neighbours
    share the class with how many share the medical centre.
    """
    known = np.flatnonzero(codes >= 0)
    near = indices[known]
    has_fact = codes[near] >= 0
    same_group = (groups[near] == groups[known][:, None]) & has_fact
    same_fact = (codes[near] == codes[known][:, None]) & has_fact
    group_only, fact_only = (same_group & ~same_fact).sum(), (same_fact & ~same_group).sum()
    robustness = float(group_only / max(group_only + fact_only, 1))
    # Within a group, does the fact of a neighbour agree more often than that of any picture of the group?
    pairs = int(same_group.sum())
    table = np.zeros((int(groups.max()) + 1, int(codes.max()) + 1))
    np.add.at(table, (groups[known], codes[known]), 1)
    size = table.sum(1)
    by_chance = (table * (table - 1)).sum(1) / np.maximum(size * (size - 1), 1)
    expected = float((by_chance[groups[known]] * same_group.sum(1)).sum() / max(pairs, 1))
    agree = float((same_group & same_fact).sum() / max(pairs, 1))
    return (max((agree - expected) / (1 - expected), 0.0) if expected < 1 else 0.0), robustness


def _is_known(fact: Fact, labels: NDArray[np.integer]) -> bool:
    """Whether people's labels are what this fact says."""
    both = (fact.codes >= 0) & (labels >= 0)
    return both.sum() >= _FEWEST and _gain(fact.codes[both], labels[both].astype(np.intp)) >= _SAME
