"""Labels that surprise a classifier learned from the other half: by a mixture of the losses of right and wrong ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax
from scipy.stats import beta
from threadpoolctl import threadpool_limits

from phyla.audit._extremes import single
from phyla.audit._found import Found
from phyla.audit._mislabel import telling
from phyla.audit._trained import trained, with_one
from phyla.engine.local import run
from phyla.types import Rows

__all__ = ["small_loss"]

_STEPS = 30
_EDGE = 1e-3  # losses are kept this far inside 0..1, where the densities are finite
_LARGEST = 0.99  # quantile of the losses that becomes 1


def small_loss(
    *,
    X: Rows,
    labels: NDArray[np.int32],
    classes: Sequence[str],
    blocks: ArrayLike | None = None,
    n_jobs: int = 1,
) -> list[Found]:
    """Rows of X (n, d) whose label (n,) has a loss that is likelier that of a wrong one.

    Two softmax regressions learn a half of the rows each and judge the other, so that none can learn a wrong label by
    heart, and each proposes its own instead (after CrossSplit: Kim, Baratin, Zhang and Lacoste-Julien, 2023). Two beta
    distributions are fitted to the losses (Arazo, Ortego, Albert, O'Connor and McGuinness, 2019). −1, no label, is not
    judged. 50,000 x 768: 2 s of processor time.
    """
    wrong, instead = severity(X, labels, len(classes), blocks, n_jobs)

    def why(row: int) -> str:
        return f"It is labelled {classes[labels[row]]}, but the others say {classes[instead[row]]}."

    return single(np.where(instead == labels, 0, wrong), why)


def severity(
    X: Rows, labels: NDArray[np.int32], c: int, blocks: ArrayLike | None, n_jobs: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The chance (n,) that each label is wrong, and what the other half's classifier says (n,)."""
    known = np.flatnonzero(labels >= 0)
    found, instead = np.zeros(len(X), np.float32), labels.astype(np.int32)
    if c < 2 or len(known) < 4:
        return found, instead
    A, given = with_one(telling(X, blocks, len(known))[known]), labels[known].astype(np.int32)
    first, second, cut = np.random.default_rng(0).spawn(3)
    order = cut.permutation(len(known))
    halves = order[: len(order) // 2], order[len(order) // 2 :]

    def judged(task: tuple[NDArray[np.intp], NDArray[np.intp], np.random.Generator]) -> NDArray[np.float32]:
        mine, others, rng = task
        return A[others] @ trained(A[mine], given[mine], c, rng)

    logits = np.empty((len(known), c), np.float32)
    with threadpool_limits(1):
        tasks = [(*halves, first), (*halves[::-1], second)]
        for (_, others, _), said in zip(tasks, run(judged, tasks, n_jobs), strict=True):
            logits[others] = said
    losses = -log_softmax(logits, axis=1)[np.arange(len(known)), given]
    found[known] = of_the_larger(losses)
    instead[known] = logits.argmax(1)
    return found, instead


def of_the_larger(losses: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,): the chance that a loss is of the kind whose losses are larger; it never falls as the loss grows.

    Expectation and maximisation, the latter by weighted moments as in the paper.
    """
    scale = max(float(np.quantile(losses, _LARGEST)), 1e-6)
    x = np.clip(losses.astype(np.float64) / scale, _EDGE, 1 - _EDGE)
    larger = x  # where it begins: the larger the likelier
    for _ in range(_STEPS):
        parts = []
        for share in (1 - larger, larger):
            total = max(float(share.sum()), 1e-9)
            mean = float(share @ x) / total
            variance = max(float(share @ (x - mean) ** 2) / total, 1e-6)
            weight = max(mean * (1 - mean) / variance - 1, 1e-3)
            parts.append((total / len(x), mean, beta(mean * weight, (1 - mean) * weight)))
        small, large = (share * law.pdf(x) for share, _, law in parts)
        larger = large / np.maximum(small + large, 1e-300)
    order = np.argsort(x, kind="stable")
    rising = np.empty(len(x), np.float32)
    # Far out the wider of the two may win on both sides; a smaller loss is never the worse.
    rising[order] = np.maximum.accumulate(np.where(x[order] > parts[0][1], larger[order], 0))
    return rising
