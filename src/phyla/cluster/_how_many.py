"""How many groups: the number at which independent runs agree best, or more where these still have to be split."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phyla.cluster._lloyd import in_parallel, lloyd, nearest, seeds_of_each
from phyla.cluster._split_merge import crossing, excess

# Columns of the evidence: the number, the weighted mean of the four measures after it, the bits of the code, and the
# excess of the split/merge test, where it was made.
EVIDENCE = ("number", "score", "stability", "prediction", "blocks", "gap", "bits", "splits")

_SAMPLE, _JUDGED = 4_000, 1_000  # rows a run is fitted to, and rows the runs are compared on
_ITERATIONS = 10  # of each run: the rows that still move after that are too few to change how two runs agree
# Of each run, the best is kept: with one the runs differ by where they got stuck, and CIFAR-10 has 9 to 12 groups; with
# three it has 10 nearly every time.
_RESTARTS = 3
# Of few rows only the one ahead after so many iterations goes on: they settle early, and the photos have 38 groups in
# seven draws of eight. Of CIFAR-10's thousands of rows it is too early to tell (13 groups in three draws of sixteen).
_AHEAD = 3
_RUNS_FIRST, RUNS = 8, 24  # on the coarse grid; near its best number
_MOST = 128
_STEP = 1.5  # from one number of the grid to the next
ROWS_A_GROUP = 10  # smaller groups than this can't be told from chance by subsamples of the rows
_WEIGHTS = (1, 1, 1, 0.5)  # of the measures: the gap differs most by luck
_NOISE = 0.01  # by which the scores of two sets of runs may differ by luck
_PEAK = 0.1  # how much lower a later peak may be, and how much deeper the valley before it must be
_REACH = 2.5  # times the number at which runs agree best: as far up as the split/merge test looks
_DISTORTION = 0.5  # of the code: half the variance of a whitened column


def how_many(
    X: NDArray[np.float32], rng: np.random.Generator, n_jobs: int = 1, runs: int = RUNS
) -> tuple[int, NDArray[np.float64]]:
    """The number of groups in X (n, d), and the evidence: rows of `EVIDENCE`, one for each number tried.

    K-means runs on different subsamples label the same held rows. If the groups are those of the data the runs find
    the same ones, which shows in

    - stability (Lange et al., 2004): the runs' mean adjusted mutual information, 0 for agreement by chance;
    - prediction (Tibshirani and Walther, 2005): the chance that two rows of one group of a run share one in another;
    - blocks and gap: the runs' co-association matrix is one of k blocks; so the mean of its k leading eigenvalues is
      near 1, and the next is smaller by a gap.

    A coarse geometric grid is followed by the neighbourhood of its best number, or of a later peak nearly as high. Of
    numbers as good as the best the largest wins: two groups of one class are put together by giving them one name, two
    classes in one group stay together. From there the split/merge test (`_split_merge.excess`) goes up to the number
    whose groups need not be split further: where classes are many and small, agreement hardly depends on the number.
    The length of the code that stores the rows by groups (`coding_length`) is shown, but not counted: it depends on the
    distortion allowed, and prefers 5 to 8 groups for the ten classes of CIFAR-10 and 3 for 43 of photos.

    In three draws CIFAR-10 has 10 groups each time; in eight, 43 classes of photos have 38 to 70 (without the test of
    splits 26 to 55). Rare classes are not seen: of ten classes of 5,000 to 50 images 5 to 20 are found.

    50,000 × 96 takes 5 s on two cores, 1,164 × 96 2 s.
    """
    most = min(_MOST, len(X) // ROWS_A_GROUP)
    if most < 2:
        return 1, np.array([[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, np.nan, np.nan]])
    judged = X[np.sort(rng.choice(len(X), min(_JUDGED, len(X)), replace=False))]
    found: dict[int, NDArray[np.float64]] = {}
    ahead = _AHEAD if len(X) < _SAMPLE else _ITERATIONS

    def judge(tried: NDArray[np.float64], runs: int) -> None:
        numbers = np.unique(tried.round().astype(int)).tolist()

        def labels_of(own: np.random.Generator) -> list[NDArray[np.int32]]:
            """Of the judged rows, by a run for each number; from the same rows and seeds, so that luck is shared."""
            size = max(numbers[-1], min(_SAMPLE, int(0.7 * len(X))))
            sample = np.ascontiguousarray(X[own.choice(len(X), size, replace=False)])
            starts = seeds_of_each(sample, numbers[-1], [own] * _RESTARTS)
            each = [_best(sample, starts[:, :k], ahead) for k in numbers]
            return [nearest(judged, centres)[1][:, 0] for centres in each]

        def measure(task: tuple[int, tuple[NDArray[np.int32], ...]]) -> NDArray[np.float64]:
            return _measures(judged, np.stack(task[1]), task[0])

        by_number = zip(*in_parallel(labels_of, rng.spawn(runs), n_jobs), strict=True)
        tasks = list(zip(numbers, by_number, strict=True))[::-1]  # the longest first, so that they end together
        found.update(zip(numbers[::-1], in_parallel(measure, tasks, n_jobs), strict=True))

    steps = 1 + int(np.ceil(np.log(most / 2) / np.log(_STEP)))
    judge(np.geomspace(2, most, steps), _RUNS_FIRST)
    best = _finest({k: found[k][1:4].mean() for k in sorted(found)})  # the gap shows at the very number, not beside it
    below, above = max([k for k in found if k < best] or [best]), min([k for k in found if k > best] or [best])
    judge(np.append(np.linspace(below, above, 9), best), runs)  # the best too: in few runs it may have been lucky
    near = {k: found[k][0] for k in found if below <= k <= above}
    number = max(k for k in near if near[k] >= max(near.values()) - _NOISE)

    splits: dict[int, float] = {}

    def agreement(labels: NDArray[np.int32], k: int) -> float:
        together = co_occurrence(labels, k)
        return (stability(together) + prediction_strength(together) + spectrum(together)[0]) / 3

    if runs >= RUNS:
        tested = [k for k in sorted(found) if number <= k <= _REACH * number]
        excesses = excess(X, tested, agreement, rng, n_jobs)
        number = crossing(np.array(tested, float), excesses)
        if number not in found:
            judge(np.array([number]), runs)
        splits = dict(zip(tested, excesses, strict=True))
    return number, np.array([[k, *found[k], splits.get(k, np.nan)] for k in sorted(found)])


def _best(X: NDArray[np.float32], starts: NDArray[np.float32], ahead: int) -> NDArray[np.float32]:
    """The centres (k, d) that Lloyd's iterations lead to from the best of `starts` (s, k, d) after `ahead` of them."""
    centres = min((lloyd(X, start, ahead) for start in starts), key=lambda run: run[0])[1]
    return lloyd(X, centres, _ITERATIONS - ahead)[1] if ahead < _ITERATIONS else centres


def _finest(scores: dict[int, float]) -> int:
    """The number of the best score; or of a later peak nearly as high: of groups in groups the finer are wanted."""
    best = max(scores, key=scores.__getitem__)
    valley, last = scores[best], best
    for k in [k for k in scores if k > best]:
        if scores[k] >= max(scores[best] - _PEAK, valley + _PEAK) and (last == best or scores[k] > scores[last]):
            last = k
        valley = min(valley, scores[k])
    return last


def _measures(judged: NDArray[np.float32], labels: NDArray[np.int32], k: int) -> NDArray[np.float64]:
    """The columns of `EVIDENCE` after the first, of the runs' labels (r, n)."""
    together = co_occurrence(labels, k)
    four = stability(together), prediction_strength(together), *spectrum(together)
    return np.array([np.average(four, weights=_WEIGHTS), *four, coding_length(judged, labels[0]) / len(judged)])


def co_occurrence(labels: NDArray[np.int32], k: int) -> NDArray[np.float64]:
    """(r, k, r, k): how many rows have group i in one run and j in another, of labels (r, n). O(r²·k²·n)."""
    runs, n = labels.shape
    member = np.zeros((n, runs * k), np.float32)
    member[np.arange(n)[:, None], labels.T + k * np.arange(runs)] = 1
    return (member.T @ member).reshape(runs, k, runs, k).astype(np.float64)


def stability(together: NDArray[np.float64]) -> float:
    """The mean adjusted mutual information of all pairs of runs (Vinh, Epps and Bailey, 2010; mean of entropies)."""
    runs, k = together.shape[:2]
    size = np.einsum("rkrk->rk", together).astype(int)
    n = size[0].sum()
    log = np.log(np.maximum(np.arange(n + 1), 1))
    table = np.arange(n + 1) * log / n  # c/n·log c of a count c
    entropy = log[n] - table[size].sum(1)
    shared = table[together.astype(int)].sum((1, 3)) - log[n] + entropy[:, None] + entropy
    sizes, which = np.unique(size, return_inverse=True)
    groups = np.zeros((runs, len(sizes)))  # how many of each size each run has
    np.add.at(groups, (np.arange(runs)[:, None], which.reshape(runs, k)), 1)
    by_chance = groups @ _shared_by_chance(sizes, int(n)) @ groups.T
    mean = (entropy[:, None] + entropy) / 2
    one, other = np.tril_indices(runs, -1)
    most = (mean - by_chance)[one, other]
    adjusted = np.where(most > 1e-12, (shared - by_chance)[one, other] / np.maximum(most, 1e-12), 1)
    return float(adjusted.mean())


def _shared_by_chance(sizes: NDArray[np.int_], n: int) -> NDArray[np.float64]:
    """(s, s): what two groups of these sizes add to the mutual information of random groupings of n rows."""
    from scipy.special import gammaln

    log = gammaln(np.arange(n + 1) + 1.0)  # of factorials
    found = np.zeros((len(sizes), len(sizes)))
    for i, a in enumerate(sizes):
        b = sizes[i:, None]
        least, most = np.maximum(a + b - n, 0), np.minimum(a, b)
        both = np.arange(1, a + 1)  # rows that the two may have in common: hypergeometric
        m = both.clip(least, most)
        chance = log[a] + log[b] + log[n - a] + log[n - b] - log[n] - log[m] - log[a - m] - log[b - m]
        chance -= log[n - a - b + m]
        share = m / n * np.log(np.maximum(n * m, 1) / np.maximum(a * b, 1))
        found[i, i:] = found[i:, i] = np.where(m == both, np.exp(chance) * share, 0).sum(1)
    return found


def prediction_strength(together: NDArray[np.float64]) -> float:
    """The chance that two rows of a group of one run share one in another run, over rows and pairs of runs.

    The mean, not the least of the groups as in the paper: that falls with the number whatever the data.
    """
    runs = len(together)
    size = np.einsum("rkrk->rk", together)
    pairs = (together * (together - 1)).sum(3) / np.maximum(size * (size - 1), 1)[:, :, None]
    weight = np.where(size > 1, size, 0)
    chance = np.einsum("rks,rk->rs", pairs, weight) / np.maximum(weight.sum(1), 1)[:, None]
    return float(chance[~np.eye(runs, dtype=bool)].mean())


def spectrum(together: NDArray[np.float64]) -> tuple[float, float]:
    """The mean of the k leading eigenvalues of the co-association matrix, and the gap to the next."""
    runs, k = together.shape[:2]
    size = np.einsum("rkrk->rk", together).ravel()
    root = np.sqrt(np.maximum(size * runs, 1))
    values = np.linalg.eigvalsh(together.reshape(runs * k, runs * k) / np.outer(root, root))[::-1]
    return float(values[:k].mean()), float(values[k - 1] - values[k])


def coding_length(X: NDArray[np.float32], labels: NDArray[np.int32]) -> float:
    """Bits that store the rows of X (n, d) by groups, up to a distortion (Ma, Derksen, Hong and Wright, 2007)."""
    n, d = X.shape
    bits = 0.0
    for group in np.unique(labels):
        rows = X[labels == group].astype(np.float64)
        m, centre = len(rows), rows.mean(0)
        rows -= centre
        gram = rows @ rows.T if m < d else rows.T @ rows
        spread = np.linalg.slogdet(np.eye(len(gram)) + gram / (m * _DISTORTION))[1]
        bits += (m + d) / 2 * spread + d / 2 * np.log1p(centre @ centre / (d * _DISTORTION)) - m * np.log(m / n)
    return bits / np.log(2)
