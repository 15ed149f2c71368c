"""Near-duplicates: saved again, resized, cropped, brightened or mirrored copies, and shots of one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.audit._align import aligned
from phyla.audit._found import Found

__all__ = ["duplicates"]

_NEAREST = 5  # neighbours that are compared; 98 % of planted copies other than re-encoded ones were the first
_MIRRORED = 2  # of these, as mirror images, too
_BITS = 8  # of 64 in which the hashes of copies may differ: re-encoded, resized and most brightened ones have fewer
_FLAT = 100_000  # rows up to which comparing all hashes with all takes seconds
# Correlations after aligning, of pixels and of details, that are worth a look. The 1st percentile of copies planted
# among CIFAR-10 and photos is 0.92 and 0.81 (crops of 90 %; other copies 0.97 and 0.94), the 99.9th of random pairs
# 0.88 and 0.54.
_PIXELS, _DETAILS = 0.92, 0.8
_SURE = 0.95  # correlation of details of a picture that was only saved again
_DRAWN, _SIGMAS = 5000, 4.5  # random pairs, and how far beyond them a pair must lie: a few in a million of normal ones
_BLOCK = 1 << 14  # pictures turned grey at a time
_FEW = 30  # pictures in which a few copies may be more than a twentieth of the pairs
# Difference of the shares of red, green and blue, summed, over which a copy has another colour: planted ones had less.
_COLOUR = 0.12
_GREY = 8.0  # colourfulness under which a picture has none; 5 % of CIFAR-10 have less than 10
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


def duplicates(
    *,
    measured: dict[str, NDArray[Any]],
    neighbors: tuple[NDArray[np.int32], NDArray[np.float32]],
    folder: NDArray[Any] | None = None,
    labels: NDArray[np.int32] | None = None,
    classes: Sequence[str] | None = None,
    n_jobs: int = 1,
) -> list[Found]:
    """Groups of pictures of which each is nearly the same as another of the group.

    Candidates are each picture's nearest neighbours in features, which find crops, and those of nearly the same
    perceptual hash, which finds what was saved again too coarsely for features. A pair counts if, moved and scaled onto
    each other, the pixels of their thumbnails correlate, and the details too: pictures of one kind of scene share what
    is coarse, copies what is fine. Where random pairs of the collection correlate so, as digits do, more is asked for.

    60,000 pictures take 25 s of CPU time. Exact copies are one row already.

    Parameters
    ----------
    measured : `hash`, `mirrored`, `thumb` and `colourfulness` of `measure`. neighbors : nearest first.
    folder : (n,) str, told where a group spans several: of training and test, say. labels : (n,), told where they
        differ, by the names in `classes`.
    """
    first, second, closeness = pairs(measured=measured, neighbors=neighbors, n_jobs=n_jobs)
    found = []
    for rows, severity in _groups(first, second, closeness, len(measured["hash"])):
        why = f"{len(rows)} pictures are nearly the same"
        if folder is not None and len(places := _named(folder[rows])) > 1:
            why += f", in {_listed(places)}"
        if labels is not None and len(said := np.unique(labels[rows][labels[rows] >= 0])) > 1:
            why += f", labelled {_listed([str(classes[c]) if classes else str(c) for c in said])}"
        found.append((tuple(rows.tolist()), severity, f"{why}."))
    return sorted(found, key=lambda f: (-f[1], f[0]))


def pairs(
    *,
    measured: dict[str, NDArray[Any]],
    neighbors: tuple[NDArray[np.int32], NDArray[np.float32]],
    n_jobs: int = 1,
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Rows of the near-duplicates, first < second (p,), and how severe each pair is (p,), 0.5 to 1."""
    n = len(measured["hash"])
    gray = np.empty((2 * n, *measured["thumb"].shape[1:3]), np.float32)  # row n + i is the mirror image of row i
    for start in range(0, n, _BLOCK):
        part = measured["thumb"][start : start + _BLOCK].astype(np.float32) @ _LUMINANCE
        gray[start : start + len(part)], gray[n + start : n + start + len(part)] = part, part[:, :, ::-1]
    first, second = _candidates(measured, neighbors[0], n_jobs)
    second_row = second % max(n, 1)
    same = _same_colour(measured, first, second_row)
    first, second, second_row = first[same], second[same], second_row[same]
    pixels, details = _alike(gray, first, second, n_jobs)
    least = _limit(gray, n, n_jobs)
    kept = (pixels >= _PIXELS) & (details >= least)
    first, second, details = first[kept], second_row[kept], details[kept]
    sure = max(_SURE, (1 + least) / 2)
    severity = (0.5 + 0.5 * (details.astype(np.float64) - least) / (sure - least)).clip(0.5, 1)
    # A pair may have been found twice, straight and mirrored: the closer one counts.
    order = np.lexsort((-severity, second, first))
    first, second, severity = first[order], second[order], severity[order]
    new = np.append(True, (np.diff(first) != 0) | (np.diff(second) != 0))[: len(first)]
    return first[new], second[new], severity[new]


def _candidates(
    measured: dict[str, NDArray[Any]], indices: NDArray[np.int32], n_jobs: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs to look at, once each; a second row of n + j is the mirror image of row j."""
    n = len(measured["hash"])
    straight: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    mirrored: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for found, width in ((straight, _NEAREST), (mirrored, _MIRRORED)):
        near = indices[:, :width]
        found.append((np.repeat(np.arange(n), near.shape[1]), near.ravel().astype(np.intp)))
    straight.append(_near_hashes(measured["hash"], measured["hash"], n_jobs))
    mirrored.append(_near_hashes(measured["hash"], measured["mirrored"], n_jobs))
    codes = []
    for number, found in enumerate((straight, mirrored)):
        one, other = (np.concatenate(rows) for rows in zip(*found, strict=True))
        differ = one != other
        low, high = np.minimum(one, other)[differ], np.maximum(one, other)[differ]
        codes.append(np.unique(low * np.int64(2 * n) + high + number * n))
    code = np.concatenate(codes)
    return code // max(2 * n, 1), code % max(2 * n, 1)


def _near_hashes(
    hashes: NDArray[np.uint64], asked: NDArray[np.uint64], n_jobs: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each asked hash the nearest few rows of `hashes`, with at most `_BITS` other bits."""
    import faiss

    k = min(_NEAREST + 1, len(hashes))
    index: Any
    if len(hashes) <= _FLAT:
        index = faiss.IndexBinaryFlat(64)
    else:  # four tables of 16 bits, each looked up with every one bit flipped: all within 7 bits are found
        index = faiss.IndexBinaryMultiHash(64, 4, 16)
        index.nflip = 1
    index.add(hashes.view(np.uint8).reshape(-1, 8))
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(n_jobs)
    try:
        bits, rows = index.search(asked.view(np.uint8).reshape(-1, 8), k)
    finally:
        faiss.omp_set_num_threads(threads)
    which, column = np.nonzero((bits <= _BITS) & (rows >= 0))
    return which, rows[which, column].astype(np.intp)


def _same_colour(
    measured: dict[str, NDArray[Any]], first: NDArray[np.intp], second: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Whether a pair has one mixture of colours, or one of it is grey."""
    mean = measured["thumb"].mean((1, 2)) + 1
    mixture = (mean / mean.sum(1, keepdims=True)).astype(np.float32)
    grey = measured["colourfulness"] < _GREY
    return (np.abs(mixture[first] - mixture[second]).sum(1) <= _COLOUR) | grey[first] | grey[second]


def _alike(
    gray: NDArray[np.float32], first: NDArray[np.intp], second: NDArray[np.intp], n_jobs: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The better of aligning the first to the second and the second to the first."""
    there, back = aligned(gray, first, second, n_jobs), aligned(gray, second, first, n_jobs)
    better = there[1] >= back[1]
    return np.where(better, there[0], back[0]), np.where(better, there[1], back[1])


def _limit(gray: NDArray[np.float32], n: int, n_jobs: int) -> float:
    """Correlation of details that copies have and no random pair of this collection."""
    if n < _FEW:
        return _DETAILS
    rng = np.random.default_rng(0)
    first = rng.integers(n, size=_DRAWN)
    second = (first + rng.integers(1, n, size=_DRAWN)) % n
    _, details = aligned(gray, first, second, n_jobs)
    z = np.arctanh(details.clip(-0.999, 0.999))  # Fisher's transform, after which correlations are nearly normal
    middle, high = np.quantile(z, (0.5, 0.95))  # a twentieth of the pairs may be copies
    return max(_DETAILS, float(np.tanh(middle + _SIGMAS * (high - middle) / 1.645)))


def _groups(
    first: NDArray[np.intp], second: NDArray[np.intp], severity: NDArray[np.float64], n: int
) -> list[tuple[NDArray[np.intp], float]]:
    """Rows that hang together by pairs, and the severity of the closest pair."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = np.unique(np.concatenate([first, second]))
    _, of = connected_components(coo_array((severity, (first, second)), shape=(n, n)), directed=False)
    most = np.zeros(n)
    np.maximum.at(most, of[first], severity)
    order = rows[np.argsort(of[rows], kind="stable")]
    parts = np.split(order, np.flatnonzero(np.diff(of[order])) + 1) if len(rows) else []
    return [(part, float(most[of[part[0]]])) for part in parts]


def _named(values: NDArray[Any]) -> list[str]:
    return [str(v) for v in np.unique(values.astype(str))]


def _listed(names: list[str]) -> str:
    shown = names[:3] + ([f"{len(names) - 3} more"] if len(names) > 3 else [])
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
