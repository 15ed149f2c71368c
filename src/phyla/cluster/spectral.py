"""Spectral: eigenfunctions of the nearest-neighbour graph, linear in the features; quick, steady, labels new images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._graph import links
from phyla.cluster._grouper import Grouper
from phyla.cluster._lloyd import in_parallel, kmeans, nearest
from phyla.cluster._margin import axes, enough

__all__ = ["Spectral"]

_RIDGE = 1e-3  # of the mean of the functions' squares: an axis with less than that is noise to the functions
_COLUMNS = 64  # of the basis a task
# Axes of each space in the basis. Of 10,000 images of CIFAR-10, 32 and 64 place 0.83 rightly, 256 0.81; of 1,164 photos
# 32 place 0.64, 64 0.69.
_WIDTH = 64
_SAMPLE = 20_000  # rows k-means sees


class Spectral(Grouper):
    """Spectral clustering by parametric eigenfunctions (Deng and Luo, 2023), here solved in closed form.

    Spectral clustering takes the leading eigenvectors of the normalised graph of nearest neighbours as coordinates; a
    new image has none. Neural eigenfunctions are functions of an image's features instead, trained so that they are
    orthonormal over the images and change least along the links. Of functions Ψ(x) = Vᵀφ(x) with a fixed basis φ,
    those of the objective's optimum need no training: with links W, degrees D and basis Φ (n, m) of all rows, V are the
    leading solutions of ΦᵀWΦ v = λ ΦᵀDΦ v. The basis is the features and a constant or, with `n_hidden`, the outputs
    of a random hidden layer too. Rows of Ψ on the unit sphere (Ng, Jordan and Weiss, 2001) are grouped by k-means.

    O(n²·d) for the graph of up to 100,000 rows, O(n·m²) for the functions; O(n·m) memory. 50,000 × 192 takes 31 s of a
    core, nearly all for the graph, and divides among threads.

    Parameters
    ----------
    n_clusters : int or None, found by stability where None.
    blocks : widths of the spaces that X holds side by side, of which links see the first 32 axes and the functions as
        many as the rows suffice for, up to 64; None for a single one.
    n_neighbors : links a row makes in each space. n_hidden : width of the random hidden layer; 0 for none, which is
        best on pretrained networks' features; where groups are bent, a few hundred.
    n_init : restarts of k-means. n_jobs : threads; the answer does not depend on how many.

    Attributes
    ----------
    labels_ : (n,) int32. strength_ : (n,), 1 − (distance to the nearest centre) / (distance to the second nearest).
    eigenvalues_ : (m,), largest first: 1 for the constant. functions_ : (basis, m). cluster_centers_ : (c, m).
    width_, mean_, scale_ : the axes of a space that are used, and their standardisation. hidden_ : (basis, n_hidden).
    """

    VERSION = 2
    AGREEMENT = 0.0  # a distance is no vote: nothing is left out

    blocks_: NDArray[np.int_]

    def __init__(
        self,
        n_clusters: int | None = None,
        *,
        blocks: Sequence[int] | None = None,
        n_neighbors: int = 15,
        n_hidden: int = 0,
        n_init: int = 10,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.blocks = blocks
        self.n_neighbors = n_neighbors
        self.n_hidden = n_hidden
        self.n_init = n_init
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        from scipy.linalg import eigh

        self.width_ = min(_WIDTH, enough(len(X)))
        F = X[:, np.concatenate(axes(self.blocks_, self.width_))]
        self.mean_, scale = F.mean(0), F.std(0).max()
        self.scale_ = scale if scale > 0 else np.float32(1)
        if self.n_hidden:
            # He initialisation (He, Zhang, Ren and Sun, 2015), with thresholds where the rows are.
            self.hidden_ = rng.normal(size=(F.shape[1] + 1, self.n_hidden)).astype(np.float32)
            self.hidden_[:-1] *= np.sqrt(np.float32(2 / F.shape[1]))
        # In double precision: of many hidden outputs some are nearly sums of others.
        basis = self._basis(X).astype(np.float64)
        graph = links(X, self.blocks_, self.n_neighbors, self.n_jobs)
        slices = [slice(s, s + _COLUMNS) for s in range(0, basis.shape[1], _COLUMNS)]
        # W Φ is formed some columns at a time, which bounds memory.
        linked = in_parallel(lambda s: basis.T @ (graph @ np.ascontiguousarray(basis[:, s])), slices, self.n_jobs)
        within = np.hstack(linked)
        square = (basis * graph.sum(1)[:, None]).T @ basis
        m = len(square)
        square += _RIDGE * np.trace(square) / m * np.eye(m)
        wanted = min(self.n_clusters_, m)
        values, V = eigh((within + within.T) / 2, square, subset_by_index=(m - wanted, m - 1))
        # Scaled to a mean square of 1 over the links: the constant function is then about 1.
        self.eigenvalues_ = values[::-1].astype(np.float32)
        self.functions_ = np.ascontiguousarray(V[:, ::-1] * np.sqrt(graph.sum()), dtype=np.float32)
        sample = rng.choice(len(X), min(_SAMPLE, max(self.n_clusters_, int(0.7 * len(X)))), replace=False)
        place = self._place(X)[np.sort(sample)]
        self.cluster_centers_ = kmeans(place, self.n_clusters_, rng, self.n_init, n_jobs=self.n_jobs)

    def _assign(self, X: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        squared, which = nearest(self._place(X), self.cluster_centers_, min(2, len(self.cluster_centers_)))
        if squared.shape[1] == 1:
            return which[:, 0], np.ones(len(X), np.float32)
        near, second = np.sqrt(np.maximum(squared, 0)).T
        return which[:, 0], (1 - near / np.maximum(second, 1e-12)).astype(np.float32).clip(0, 1)

    def eigenfunctions(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, m): the values of the functions at the rows of X, most even along the links first."""
        return self._basis(X) @ self.functions_

    def _place(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        # One step of diffusion (Coifman and Lafon, 2006): functions that links hardly hold together count for little.
        # It brings the NMI on 43 classes of photos from 0.79 to 0.81, and changes nothing on CIFAR-10.
        place = self.eigenfunctions(X) * self.eigenvalues_.clip(0)
        place /= np.maximum(np.linalg.norm(place, axis=1, keepdims=True), 1e-12)
        return place

    def _basis(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, m): the features, the hidden layer if there is one, and a constant."""
        columns = np.concatenate(axes(self.blocks_, int(self.width_)))
        F = np.column_stack([(X[:, columns] - self.mean_) / self.scale_, np.ones(len(X), np.float32)])
        return np.hstack([np.maximum(F @ self.hidden_, 0), F]) if self.n_hidden else F
