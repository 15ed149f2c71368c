"""Voting with a person's answers: these two are the same, those two are different."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phyla.cluster._grouper import softmax
from phyla.cluster._margin import Pull, axes, by_weights, widest, with_one
from phyla.cluster.vote import Vote
from phyla.types import PhylaError

__all__ = ["Pairwise"]

_LEAST = 0.05  # of a probability that a slope is divided by: a wrong answer must not outweigh all right ones
_BATCH = 512  # answers a step
# Weight of the answers' surprise against the labellers' margins, and answers from which it is that: fewer weigh less in
# proportion. On 5,000 images of CIFAR-10, answers about images that were unsure, weights 3, 10 and 30: 0.882, 0.875,
# 0.866 right with 100 answers, 0.899, 0.889, 0.866 with 500; 2,000 answers about any images: 0.890, 0.893, 0.889.
_WEIGHT, _ENOUGH = 10.0, 1500


class Pairwise(Vote):
    """The groups of `vote`, moved to where they agree with answers about pairs (clustering with side information).

    The labellers of `vote` (`_margin`) go on from its groups with one more loss: of the probabilities pᵢ and pⱼ that
    they give to two images, −log⟨pᵢ, pⱼ⟩ where these are the same and −log(1 − ⟨pᵢ, pⱼ⟩) where they are different. As
    the labellers are linear in the features, an answer about two images moves all that look like them. What follows
    from answers counts too: images that are the same as a third are the same, and are different from all that one of
    them is different from. An answer is a soft penalty, not a law (PCK-means: Basu, Banerjee and Mooney, 2004).

    Without answers it is `vote`; with any it takes 4 s more for 50,000 × 192 on two cores.

    Parameters
    ----------
    n_clusters, blocks, n_voters, n_margins, n_jobs : see `vote`.

    Attributes
    ----------
    Those of `vote`. agreed_ : share of the answers given that the groups agree with; 1 where there are none.
    """

    VERSION = 2
    EFFORT: ClassVar = {"fast": {"n_voters": 16, "n_margins": 1}, "best": {"n_voters": 80, "n_margins": 8}}

    _answers: tuple[ArrayLike | None, ArrayLike | None] = None, None

    def __init__(
        self,
        n_clusters: int | None = None,
        *,
        blocks: Sequence[int] | None = None,
        n_voters: int = 40,
        n_margins: int = 2,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.blocks = blocks
        self.n_voters = n_voters
        self.n_margins = n_margins
        self.random_state = random_state
        self.n_jobs = n_jobs

    n_rounds = 0  # networks that relabel one half from the other would not heed answers

    def fit(self, X: Any, y: Any = None, *, same: ArrayLike | None = None, different: ArrayLike | None = None) -> Self:
        """Group the rows of X (n, d), given pairs of rows (m, 2) that are the same, or different; y is not looked at.

        Raises `PhylaError` where a pair is no pair of rows, and where answers contradict each other.
        """
        self._answers = same, different
        try:
            return super().fit(X, y)
        finally:
            self._answers = None, None

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        same, different = _pairs(self._answers[0], len(X), "same"), _pairs(self._answers[1], len(X), "different")
        whole = components(same, different, len(X))  # whatever is wrong with the answers is said at once
        super()._fit(X, rng)
        if len(same) + len(different) and self.n_clusters_ > 1:
            spaces = axes(self.blocks_, self.width_)
            towards = _towards(X, spaces, same, different, whole)
            found = widest(X, spaces, self._proba(X), rng.spawn(self.n_margins), self.n_jobs, towards)
            self.labellers_ = np.stack([np.concatenate(labellers) for labellers in found])
            self._settle(X, self._votes(X))
        label = self._proba(X).argmax(1)
        kept = np.append(label[same[:, 0]] == label[same[:, 1]], label[different[:, 0]] != label[different[:, 1]])
        self.agreed_ = float(kept.mean()) if len(kept) else 1.0


def components(same: NDArray[np.intp], different: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """(n,): which rows are one by the answers `same`. Raises `PhylaError` where `different` says otherwise."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(same)), (same[:, 0], same[:, 1])), shape=(n, n))
    of: NDArray[np.intp] = connected_components(graph, directed=False)[1].astype(np.intp)
    against = different[of[different[:, 0]] == of[different[:, 1]]]
    if len(against):
        i, j = against[0].tolist()
        raise PhylaError(
            f"images {i} and {j} are said to be different, and by other answers they are the same",
            "take back one of the answers that link them",
        )
    return of


def _pairs(given: ArrayLike | None, n: int, which: str) -> NDArray[np.intp]:
    """The answers as rows of X (m, 2)."""
    pairs = np.asarray([] if given is None else given)
    if pairs.size == 0:
        return np.empty((0, 2), np.intp)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise PhylaError(f"{which} has shape {pairs.shape} of {pairs.dtype}", "give two row numbers for each answer")
    wrong = pairs[((pairs < 0) | (pairs >= n)).any(1)]
    if len(wrong):
        raise PhylaError(
            f"{which} has the pair {wrong[0].tolist()}, and there are {n} images", f"rows are 0 to {n - 1}"
        )
    return pairs.astype(np.intp)


def _towards(
    X: NDArray[np.float32],
    spaces: list[NDArray[np.intp]],
    same: NDArray[np.intp],
    different: NDArray[np.intp],
    whole: NDArray[np.intp],
) -> Pull:
    """The slopes of the mean surprise of the answers by labellers, on answers drawn each time.

    An answer's images are each replaced by any that is the same as they are, so all that follows is drawn too.
    """
    order = np.argsort(whole, kind="stable")
    sizes = np.bincount(whole)
    starts = np.cumsum(sizes) - sizes
    pairs, alike = np.vstack([same, different]), np.arange(len(same) + len(different)) < len(same)
    size = min(_BATCH, len(pairs))
    weight = _WEIGHT * min(len(pairs) / _ENOUGH, 1)

    def pull(labellers: list[NDArray[np.float32]], rng: np.random.Generator) -> list[NDArray[np.float32]]:
        drawn = rng.choice(len(pairs), size, replace=False)
        groups = whole[pairs[drawn]]
        rows = order[starts[groups] + (rng.random(groups.shape) * sizes[groups]).astype(np.intp)].T.ravel()
        seen = [with_one(X[np.ix_(rows, space)]) for space in spaces]
        each = [softmax(x @ w) for x, w in zip(seen, labellers, strict=True)]
        p = sum(each[1:], each[0]) / np.float32(len(each))
        slope = np.float32(weight / size) * of_pairs(p[:size], p[size:], alike[drawn])
        return by_weights(seen, each, slope)

    return pull


def of_pairs(p: NDArray[np.floating], q: NDArray[np.floating], alike: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Slopes (2 m, c) by p and then q (m, c) of −log⟨p, q⟩ where `alike` (m,), of −log(1 − ⟨p, q⟩) elsewhere."""
    met = (p * q).sum(1)
    by_met = np.where(alike, -1 / np.maximum(met, _LEAST), 1 / np.maximum(1 - met, _LEAST))[:, None].astype(p.dtype)
    return np.vstack([by_met * q, by_met * p])
