"""The hierarchy of a collection: groups merged above, divided below down to pictures.

After DendroMap (Bertucci and others, 2022). The paper takes one agglomerative tree over all images, O(n²); here groups
are merged by Ward's criterion, and one is divided only when somebody looks into it, so a million images open as fast as
a thousand.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._lloyd import kmeans, nearest  # of the method `kmeans`, without loading scikit-learn

Rows = NDArray[np.int32]

BOTTOM = 24  # pictures that are shown instead of being divided further
_WAYS = 4  # parts that rows are divided into at most
_SEEN = 20_000  # rows that centres are found from
_LINED = 200  # leaves whose order is optimised: the time grows with their cube or worse


class Tree:
    """Nodes by key: "" the root, "m7" the groups of merge 7, "g3" group 3, "g3.0.2" the third part of its first part.

    "u" is what was left out. of_group : group → its rows, most typical first, −1 for those. centers : (g, d) of all
    groups. vectors : rows → (m, d).
    """

    def __init__(
        self, of_group: dict[int, Rows], centers: NDArray[np.float32], vectors: Callable[[Rows], NDArray[np.float32]]
    ) -> None:
        self._whole = {f"g{group}" if group >= 0 else "u": rows for group, rows in of_group.items()}
        self._vectors = vectors
        self._parts: dict[str, list[Rows]] = {}
        groups = sorted(of_group.keys() - {-1})
        names = [f"g{group}" for group in groups]
        self._merged: dict[str, list[str]] = {}
        for number, (a, b) in enumerate(_merges(centers[groups])):
            self._merged[f"m{number}"] = [names[a], names[b]]
            names.append(f"m{number}")
        top = self._merged.pop(names[-1], names) if names else []
        self._merged[""] = top + ["u"] * ("u" in self._whole)

    def is_above(self, key: str) -> bool:
        """Whether a node holds whole groups."""
        return key in self._merged

    def is_divided(self, key: str) -> bool:
        """Whether something lies below a group or a part. Where nothing does, there are few enough to be shown."""
        return len(self.rows(key)) > BOTTOM

    def children(self, key: str) -> list[str]:
        """Keys of what a node is made of."""
        if key in self._merged:
            return self._merged[key]
        if not self.is_divided(key):
            return []
        if key not in self._parts:
            self._parts[key] = self._divide(self.rows(key))
        return [f"{key}.{part}" for part in range(len(self._parts[key]))]

    def rows(self, key: str) -> Rows:
        """Rows of a group or of a part of one, most typical first. KeyError where there is none."""
        if key in self._whole:
            return self._whole[key]
        above, _, part = key.rpartition(".")
        if not above or key not in self.children(above):
            raise KeyError(key)
        return self._parts[above][int(part)]

    def leaves(self, key: str) -> list[str]:
        """The groups, and what was left out, below a node; below these the node itself."""
        if key not in self._merged:
            return [key]
        return [leaf for child in self._merged[key] for leaf in self.leaves(child)]

    def _divide(self, rows: Rows) -> list[Rows]:
        ways = int(np.clip(-(-len(rows) // BOTTOM), 2, _WAYS))
        part = divide(self._vectors, rows, ways, restarts=1)
        sizes = np.bincount(part, minlength=ways)
        if sizes.max() == len(rows):  # all alike: any cut is as good
            return np.array_split(rows, ways)
        return [rows[part == p] for p in np.argsort(-sizes, kind="stable") if sizes[p]]


def divide(vectors: Callable[[Rows], NDArray[np.float32]], rows: Rows, parts: int, restarts: int) -> NDArray[np.int32]:
    """The part (n,) of each of `rows` by k-means of their vectors; in blocks, with centres from some of them."""
    some = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _SEEN)).astype(int))]
    centers = kmeans(vectors(some), parts, np.random.default_rng(0), restarts)
    blocks = (rows[start : start + _SEEN] for start in range(0, len(rows), _SEEN))
    return np.concatenate([nearest(vectors(block), centers)[1][:, 0] for block in blocks])


def _merges(centers: NDArray[np.float32]) -> list[tuple[int, int]]:
    if len(centers) < 2:
        return []
    from scipy.cluster.hierarchy import linkage

    return [(int(a), int(b)) for a, b in linkage(centers, "ward")[:, :2]]


def in_line(centers: NDArray[np.floating]) -> NDArray[np.float64]:
    """(g,) place of each centre (g, d) along a line, 0..1, on which near ones are next to each other.

    Leaves of Ward's tree, each of whose forks is turned so that neighbours are near (Bar-Joseph and others, 2001).
    """
    if len(centers) < 2:
        return np.zeros(len(centers))
    from scipy.cluster.hierarchy import leaves_list, linkage

    place = np.empty(len(centers))
    order = leaves_list(linkage(centers, "ward", optimal_ordering=len(centers) <= _LINED))
    place[order] = np.linspace(0, 1, len(centers))
    return place
