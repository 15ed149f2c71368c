"""Voting: many k-means over the networks' spaces, and their consensus moved to the widest margins (default)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._grouper import Grouper, likeliest
from phyla.cluster._how_many import RUNS
from phyla.cluster._lloyd import in_parallel, kmeans, nearest
from phyla.cluster._margin import axes, enough, mean_labelling, widest
from phyla.cluster._retrain import proba as of_networks
from phyla.cluster._retrain import retrain
from phyla.cluster._spaces import leading

__all__ = ["Vote"]

# Rows a voter is fitted to: its centres are settled by then, and different rows make voters differ.
_SAMPLE = 20_000
# Axes of each space a voter may use. CIFAR-10 is grouped worse with 16 (0.79) or 64 (0.68) of them than with 24 to 40.
_WIDTHS = (24, 32, 40)
_DENSE = 1_000  # side of the clusters × clusters matrix up to which all eigenvectors cost under a second


class Vote(Grouper):
    """Consensus of many k-means (the galaxy morphology pipeline, 2023: several clusterers vote).

    Each voter sees its own rows and its own number of leading axes of every space. The co-association of images i and
    j, the share of voters that put them together (Fred and Jain, 2005), is an n × n matrix; its leading eigenvectors
    are those of the voters' clusters × clusters matrix carried over to the images (Li et al., 2012, "transfer cut"), so
    it is never formed and nothing is sampled. K-means on these vectors gives the consensus; margin maximisation in all
    axes (`_margin`), from there, gives the groups and labels new images.

    50,000 × 768 takes 12 s on two cores; O(n · voters · groups · d).

    Parameters
    ----------
    n_clusters : int or None, found by stability where None.
    blocks : widths of the spaces that X holds side by side; None for a single one.
    n_voters, n_margins : how many of each. n_rounds : of self-training by networks with a hidden layer after that (see
        `_retrain`). n_runs : k-means for each number of groups that is tried, where it has to be found; with fewer than
        24 groups are not tested for splits. n_jobs : threads; the answer does not depend on how many.

    Attributes
    ----------
    labels_ : (n,) int32. strength_ : (n,) float32, the geometric mean of the voters' share that agrees with the label
        and of the labellers' probability of it.
    centers_, widths_, shares_ : the voters. labellers_ : (margins, width of all spaces + one each, groups).
    inner_, outer_ : the two networks' layers, if there are rounds.
    """

    VERSION = 4
    AGREEMENT = (
        0.5  # strength under which an image is left out: the voters, or the labellers, are about as much against as for
    )
    EFFORT: ClassVar = {
        "fast": {"n_runs": 16, "n_voters": 16, "n_margins": 1},
        "best": {"n_voters": 80, "n_margins": 8, "n_rounds": 4},
    }

    blocks_: NDArray[np.int_]

    def __init__(
        self,
        n_clusters: int | None = None,
        *,
        blocks: Sequence[int] | None = None,
        n_voters: int = 40,
        n_margins: int = 2,
        n_rounds: int = 0,
        n_runs: int = RUNS,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.blocks = blocks
        self.n_voters = n_voters
        self.n_margins = n_margins
        self.n_rounds = n_rounds
        self.n_runs = n_runs
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        k = self.n_clusters_
        view, narrow = leading(X, self.blocks_, _WIDTHS[-1]), np.minimum(self.blocks_, _WIDTHS[-1])
        self.widths_ = rng.choice(_WIDTHS, self.n_voters)

        def centres_of(task: tuple[int, np.random.Generator]) -> NDArray[np.float32]:
            width, own = task
            sample = own.choice(len(X), min(_SAMPLE, max(k, int(0.7 * len(X)))), replace=False)
            return kmeans(leading(view[sample], narrow, width), k, own, restarts=3)

        tasks = list(zip(self.widths_.tolist(), rng.spawn(self.n_voters), strict=True))
        centres = in_parallel(centres_of, tasks, self.n_jobs)
        self.centers_ = np.stack([np.pad(c, ((0, 0), (0, view.shape[1] - c.shape[1]))) for c in centres])

        votes = self._votes(X)
        start = np.eye(k, dtype=np.float32)[self._consensus(votes, rng)]
        self.width_ = enough(len(X))
        spaces = axes(self.blocks_, self.width_)
        found = widest(X, spaces, start, rng.spawn(self.n_margins), self.n_jobs)
        self.labellers_ = np.stack([np.concatenate(labellers) for labellers in found])
        if self.n_rounds:
            columns = np.concatenate(spaces)
            networks = retrain(X[:, columns], self._proba(X), self.n_rounds, rng, self.n_jobs)
            self.inner_, self.outer_ = (np.stack(layer) for layer in zip(*networks, strict=True))
        self._settle(X, votes)

    def _assign(self, X: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        label, certain = likeliest(self._proba(X))
        votes, share = self._votes(X), np.zeros(len(X), np.float32)
        for voter in range(self.n_voters):
            share += self.shares_[voter, votes[:, voter], label]
        # Each alone is half the story: the labellers are too certain where images are few (on 1,164 photos 0.97 with
        # 0.67 right), the voters too coarse near the borders (the surest 80 % of CIFAR-10: 0.943 right, not 0.955).
        return label, np.sqrt(certain * share / self.n_voters).astype(np.float32)

    def _settle(self, X: NDArray[np.float32], votes: NDArray[np.int32]) -> None:
        """The largest group comes first; and how the voters' clusters divide among the groups."""
        k = self.n_clusters_
        order = np.argsort(-np.bincount(self._proba(X).argmax(1), minlength=k), kind="stable")
        self.labellers_ = np.ascontiguousarray(self.labellers_[:, :, order])
        if self.n_rounds:
            self.outer_ = np.ascontiguousarray(self.outer_[:, :, order])
        label = self._proba(X).argmax(1)
        self.shares_ = np.zeros((self.n_voters, k, k), np.float32)
        for voter in range(self.n_voters):
            np.add.at(self.shares_[voter], (votes[:, voter], label), 1)
        self.shares_ /= np.maximum(self.shares_.sum(2, keepdims=True), 1)

    def _votes(self, X: NDArray[np.float32]) -> NDArray[np.int32]:
        """(n, voters): each voter's cluster for each row."""
        votes = np.empty((len(X), self.n_voters), np.int32)
        for width in np.unique(self.widths_):
            view = leading(X, self.blocks_, width)
            for voter in np.flatnonzero(self.widths_ == width):
                votes[:, voter] = nearest(view, self.centers_[voter, :, : view.shape[1]])[1][:, 0]
        return votes

    def _consensus(self, votes: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int32]:
        """(n,): groups of rows that the voters put together."""
        from scipy.linalg import eigh
        from scipy.sparse import csr_array
        from scipy.sparse.linalg import eigsh

        n, k, m = len(votes), self.n_clusters_, self.n_clusters_ * self.n_voters
        chosen = votes + k * np.arange(self.n_voters, dtype=np.int32)
        starts = np.arange(0, n * self.n_voters + 1, self.n_voters)
        member = csr_array((np.ones(chosen.size, np.float32), chosen.ravel(), starts), shape=(n, m))
        together = (member.T @ member).toarray()
        root = np.sqrt(np.maximum(np.diag(together) * self.n_voters, 1))
        together = together / np.outer(root, root)
        # The few largest of many are quicker by Lanczos, from a fixed start so that the answer is too.
        few = m > _DENSE
        vectors = eigsh(together, k, v0=np.ones(m))[1] if few else eigh(together, subset_by_index=(m - k, m - 1))[1]
        place = np.ascontiguousarray(member @ (vectors / root[:, None]).astype(np.float32))
        # Rows on the unit sphere (Ng, Jordan and Weiss, 2001).
        place /= np.maximum(np.linalg.norm(place, axis=1, keepdims=True), 1e-12)
        sample = place[rng.choice(n, min(_SAMPLE, n), replace=False)]
        return nearest(place, kmeans(sample, k, rng, restarts=10, n_jobs=self.n_jobs))[1][:, 0]

    def _proba(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, c): the mean over margins and spaces of what the labellers say."""
        if hasattr(self, "outer_"):
            columns = np.concatenate(axes(self.blocks_, self.width_))
            return of_networks(X[:, columns], list(zip(self.inner_, self.outer_, strict=True)))
        return mean_labelling(X, self.blocks_, self.width_, self.labellers_)
