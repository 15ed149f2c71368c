"""Evenly over a tree of cells within cells, so that common kinds take no more questions than rare ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.label.ask._rows import Asked, cells, nearest

__all__ = ["hierarchical"]

_LEVELS, _SHRINK, _SMALLEST = 4, 10, 10  # levels at most; cells of a level for one of the next; images for one cell
_AGAIN, _KEPT = 5, 5  # times that a level is grouped again, and members of each cell that this is done with


def hierarchical(n: int, rng: np.random.Generator, *, X: NDArray[np.float32], labels: NDArray[np.int32]) -> Asked:
    """Hierarchical k-means and balanced sampling (Vo et al., 2024).

    Cells of images, cells of those cells' centres, and so on. K-means puts many cells where images are many; grouped
    again by as many members of each cell, it puts fewer there, so that in the end cells divide the space and not the
    images. The questions are divided evenly among
    the top cells, what each gets among its parts, and so on; answers count as questions. O(rows · √rows · d).
    """
    tree = [_even(X, max(1, min(len(X) // _SMALLEST, int(np.sqrt(len(X) * _SHRINK)))), rng)]
    while len(tree) < _LEVELS and len(tree[-1][1]) >= 2 * _SHRINK:
        centers = tree[-1][1]
        tree.append(_even(centers, len(centers) // _SHRINK, rng))
    cell, centers = tree[0]
    away = np.square(X - centers[cell]).sum(1)
    free = np.flatnonzero(labels < 0)
    queue = free[np.lexsort((away[free], cell[free]))]  # nearest to its centre first
    path = [cell]
    for above, _ in tree[1:]:
        path.append(above[path[-1]])
    turn = _turns(queue, path, labels)
    order = np.argsort(turn, kind="stable")[:n]
    return [(int(row), f"near the centre of {(cell == cell[row]).sum()} similar images") for row in queue[order]]


def _even(X: NDArray[np.float32], k: int, rng: np.random.Generator) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """k cells that follow the space rather than the rows: the cell (n,) of each row, and the centres (k, d)."""
    cell, centers = cells(X, k, rng)
    for _ in range(_AGAIN):
        order = np.lexsort((np.square(X - centers[cell]).sum(1), cell))
        place = np.arange(len(X)) - np.searchsorted(cell[order], cell[order])
        centers = cells(X[order[place < _KEPT]], k, rng)[1]
        cell = nearest(X, centers)
    return cell, centers


def _turns(queue: NDArray[np.intp], path: list[NDArray[np.int32]], labels: NDArray[np.int32]) -> NDArray[np.intp]:
    """(len(queue),): after how many others a row is asked, when all parts of a cell take turns at every level.

    Within a cell of a level the rows are already in turn; the k-th of each of its neighbours in the next come together.
    """
    turn = np.arange(len(queue))
    for cell in path:
        known = np.bincount(cell[labels >= 0], minlength=cell.max() + 1)
        own = cell[queue]
        order = np.lexsort((turn, own))
        starts = np.searchsorted(own[order], own[order])
        place = np.empty(len(queue), int)
        place[order] = np.arange(len(queue)) - starts + known[own[order]]
        # Equal places are told apart by the cell, so that the level above sees them in a fixed order.
        turn[np.lexsort((turn, place))] = np.arange(len(queue))
    return turn
