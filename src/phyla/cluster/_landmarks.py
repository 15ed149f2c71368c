"""More rows than a method shall be given at once: some, the landmarks, are grouped, and the others assigned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from phyla.types import Rows

# On 60,000 images of CIFAR-10 `vote`, fitted to 40,000 of them, differs from `vote` fitted to all by as much as another
# seed does (0.979 and 0.980 the same, 0.900 right each); to 20,000, 0.975 and 0.898. Six times as many are taken, as
# there may be more groups than ten; of 768 axes they take 0.8 GB.
LANDMARKS = 1 << 18
_BLOCK = 1 << 14  # rows assigned at a time: of 768 axes they take 50 MB


def fit(
    clusterer: Any,
    X: Rows,
    told: Mapping[str, NDArray[Any]],
    seed: int,
    run: Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]],
    advance: Callable[[int], object],
) -> None:
    """Fit a grouping method to X (n, d): its `labels_` and `strength_` are of all n rows.

    Of more than `LANDMARKS` rows so many are drawn, to which the method is fitted; the others are assigned block by
    block. `told` : (n,) what else the method gets to know of each row. `run` : an engine's, which yields in order
    what a function gives for each task. Memory: that of fitting `LANDMARKS` rows, and four blocks for each worker.
    """
    n = len(X)
    if n <= LANDMARKS:
        clusterer.fit(X[:], **told)
        advance(n)
        return
    rows = np.sort(np.random.default_rng([seed, n]).choice(n, LANDMARKS, replace=False))
    clusterer.fit(X[rows], **{name: values[rows] for name, values in told.items()})
    advance(LANDMARKS)
    fitted = clusterer.labels_, clusterer.strength_
    labels, strength = np.empty(n, np.int32), np.empty(n, np.float32)
    blocks = [slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
    with threadpool_limits(1):  # around all: one that ends must not give the others more threads
        for block, (of, how) in zip(blocks, run(partial(_assign, clusterer, X), blocks), strict=True):
            labels[block], strength[block] = of, how
            advance((n - LANDMARKS) * block.stop // n - (n - LANDMARKS) * block.start // n)
    labels[rows], strength[rows] = fitted  # a method may know more of what it was fitted to
    clusterer.labels_, clusterer.strength_ = labels, strength


def _assign(clusterer: Any, X: Rows, block: slice) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # of this thread
    try:
        labels, strength = clusterer.assign(X[block])
        return labels, strength
    finally:
        faiss.omp_set_num_threads(threads)
