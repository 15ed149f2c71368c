"""One typical image of each group, then unsure ones of every kind and some to check the sure ones (default)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phyla.label._checks import turns
from phyla.label.ask._rows import Asked, Neighbors, between, highest, in_each, margins, typicality
from phyla.label.ask.uncertain import one_of_each_kind

__all__ = ["auto"]

# Share of the questions that check what would be taken for sure, once there are answers to spread. On CIFAR-10, with
# 250 answers spread by logistic regression from the groups, the error that `Defer` states is off by 0.5 points with
# half of them and by 0.8 with a quarter, for 0.1 points of accuracy.
_CHECKS = 0.2
# Answers before the first check, and before what the spread says counts: few bend it too much. On CIFAR-10 30 answers
# after the first ten give 0.907 and 0.906 (two seeds) by the groups alone, 0.900 with the spread's margins.
_FIRST = 40


def auto(
    n: int,
    rng: np.random.Generator,
    *,
    X: NDArray[np.float32],
    groups: NDArray[np.int32],
    strength: NDArray[np.float32],
    labels: NDArray[np.int32],
    neighbors: Neighbors,
    proba: NDArray[np.float32] | None = None,
    classes: Sequence[str] = (),
) -> Asked:
    """Typical images while a group has no answer, the largest group first; then unsure ones and checks in turn.

    TypiClust's analysis: typical images are best while answers are fewer than the regions that they cover, unsure ones
    after that. Here the regions are the groups, as an answer spreads over its group, so the switch comes when the last
    group has its answer. Before anything is spread, unsure are those of low strength. O(rows · (k + c) + n² · d).
    """
    free = labels < 0
    silent = np.setdiff1d(groups, groups[~free])
    size = np.bincount(groups)
    score = np.where(free, typicality(neighbors, groups), -np.inf)
    first = in_each(score, groups, silent[np.argsort(-size[silent], kind="stable")])[:n]
    asked = [(row, f"the most typical of group {groups[row]}, of which nothing is known") for row in first]
    free[first] = False
    n = min(n - len(first), int(free.sum()))
    if proba is None:
        unsure = one_of_each_kind(np.where(free, 1 - strength, -np.inf), n, X, rng)
        return asked + [(row, f"at the edge of group {groups[row]}") for row in unsure]

    known = len(labels) - int(free.sum())
    n_checks = _checks_among(known + n) - _checks_among(known)  # their share holds for questions one by one, too
    drawn = highest(np.where(free, -turns(proba), -np.inf), n_checks)
    free[drawn] = False
    # Unsure in the groups as well as after spreading. 240 such on CIFAR-10, two seeds: 0.915 and 0.914; unsure after
    # spreading alone 0.911 and 0.910, in the groups alone 0.908 and 0.910, random 0.907 and 0.908. Squared, as what is
    # said of rows as if they were new is less sure: 0.917, and 0.916 without (five seeds).
    doubt = (1 - strength) * ((1 - margins(proba)) ** 2 if known + n > _FIRST else 1)
    unsure = one_of_each_kind(np.where(free, doubt, -np.inf), n - len(drawn), X, rng)
    questions = [(row, between(proba, row, classes)) for row in unsure]
    for place, row in enumerate(drawn):
        questions.insert(2 * place + 1, (row, f"drawn to check {classes[proba[row].argmax()]}"))
    return asked + questions


def _checks_among(answers: int) -> int:
    return int(_CHECKS * max(answers - _FIRST, 0))
