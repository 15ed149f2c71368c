"""An index over rows: as good as it says, the same however it is made, and refused where it is damaged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from phyla.neighbors import Index, Shard, calibrate, centers_of, n_cells, nearest_rows, sample_of, shard_of

N, WIDTH, SHARD = 12_000, 12, 5000
rng = np.random.default_rng(0)
MIXTURE = (rng.normal(size=(300, WIDTH))[rng.integers(300, size=N)] + 0.6 * rng.normal(size=(N, WIDTH))).astype(
    np.float16
)
NOISE = rng.normal(size=(N, 48)).astype(np.float16)
QUERIES = rng.integers(N, size=60)


def brute(X: np.ndarray, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    squared = ((X.astype(np.float64) - query) ** 2).sum(1)
    order = np.argsort(squared, kind="stable")[:k]
    return order, squared[order]


def index_of(X: np.ndarray, shard: int = SHARD, n_jobs: int = 1) -> Index:
    centers = centers_of(X[sample_of(len(X))], n_cells(len(X)))
    shards = [shard_of(X[start : start + shard], start, centers, n_jobs) for start in range(0, len(X), shard)]
    return Index(centers, shards, calibrate(Index(centers, shards)))


@pytest.fixture(scope="module")
def mixture() -> Index:
    return index_of(MIXTURE)


def recall(index: Index, X: np.ndarray, k: int) -> float:
    found = []
    for row in QUERIES:
        query = X[row].astype(np.float32)
        found.append(len(set(index.search(query, k)[0].tolist()) & set(brute(X, query, k)[0].tolist())) / k)
    return float(np.mean(found))


def test_all_are_compared_as_plain_arithmetic_does() -> None:
    for row in QUERIES[:10]:
        query = MIXTURE[row].astype(np.float32) + 0.01
        rows, squared = nearest_rows(MIXTURE, query, 15)
        want = brute(MIXTURE, query, 15)
        assert_array_equal(rows, want[0])
        assert_allclose(squared, want[1], rtol=1e-4)
    assert len(nearest_rows(MIXTURE[:4], query, 15)[0]) == 4


def test_it_looks_into_few_cells_and_misses_little(mixture: Index) -> None:
    for k in (10, 100):
        probes, cells = mixture.probes(k), len(mixture.centers)
        got = recall(mixture, MIXTURE, k)
        one = Index(mixture.centers, mixture.shards, np.array([[k, 1, 0.5]]))
        print(
            f"{k} neighbours: recall {got:.3f} from {probes} of {cells} cells, {recall(one, MIXTURE, k):.3f} from one"
        )
        assert probes < cells / 4
        assert got > 0.95 > recall(one, MIXTURE, k)
        assert abs(got - mixture.measured[mixture.measured[:, 0] == k, 2][0]) < 0.04, "it has as much as it was said to"


def test_distances_are_those_of_the_rows(mixture: Index) -> None:
    query = MIXTURE[5].astype(np.float32)
    rows, squared = mixture.search(query, 20)
    assert_allclose(squared, ((MIXTURE[rows].astype(np.float32) - query) ** 2).sum(1), rtol=1e-4, atol=1e-5)
    assert rows[0] == 5 and (np.diff(squared) >= 0).all() and len(set(rows.tolist())) == 20


def test_where_cells_tell_nothing_all_rows_are_compared() -> None:
    index = index_of(NOISE)
    assert index.probes(10) == len(index.centers)
    assert recall(index, NOISE, 10) == 1


def test_more_neighbours_than_were_measured_are_exact(mixture: Index) -> None:
    query = MIXTURE[7].astype(np.float32)
    assert set(mixture.search(query, 3000)[0].tolist()) == set(brute(MIXTURE, query, 3000)[0].tolist())
    assert len(mixture.search(query, 10 * N)[0]) == N


def test_shards_and_threads_change_nothing(mixture: Index) -> None:
    other = index_of(MIXTURE, shard=N, n_jobs=3)
    assert_array_equal(other.centers, mixture.centers)
    for row in QUERIES[:20]:
        query = MIXTURE[row].astype(np.float32)
        for one, two in zip(
            Index(mixture.centers, mixture.shards, other.measured).search(query, 10),
            other.search(query, 10),
            strict=True,
        ):
            assert_array_equal(one, two)
    again = index_of(MIXTURE)
    assert_array_equal(again.measured, mixture.measured)
    for one, two in zip(again.shards, mixture.shards, strict=True):
        assert_array_equal(one.vectors, two.vectors)
        assert_array_equal(one.rows, two.rows)


def test_rows_that_come_later_are_a_shard_more(mixture: Index) -> None:
    more = (MIXTURE[:500] + np.float16(0.05)).astype(np.float16)
    grown = Index(mixture.centers, [*mixture.shards, shard_of(more, N, mixture.centers)], mixture.measured)
    rows, _ = grown.search(more[3].astype(np.float32), 1)
    assert rows.tolist() == [N + 3] and grown.n == N + 500


def test_from_memory_maps(mixture: Index, tmp_path: object) -> None:
    shards = []
    for number, shard in enumerate(mixture.shards):
        parts = {}
        for name in ("vectors", "rows", "ends"):
            np.save(f"{tmp_path}/{number}.{name}.npy", getattr(shard, name))
            parts[name] = np.load(f"{tmp_path}/{number}.{name}.npy", mmap_mode="r")
        shards.append(Shard(**parts))
    mapped = Index(mixture.centers, shards, mixture.measured)
    query = MIXTURE[11].astype(np.float32)
    assert_array_equal(mapped.search(query, 10)[0], mixture.search(query, 10)[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, rows=s.rows[:-1]),
        lambda s: replace(s, rows=s.rows + np.int32(1)),
        lambda s: replace(s, rows=s.rows.astype(np.int64)),
        lambda s: replace(s, vectors=s.vectors[:, :-1]),
        lambda s: replace(s, vectors=s.vectors.astype(np.float32)),
        lambda s: replace(s, ends=s.ends[:-1]),
        lambda s: replace(s, ends=s.ends[::-1]),
        lambda s: replace(s, ends=s.ends + 1),
    ],
)
def test_what_does_not_belong_together_is_refused(mixture: Index, change: object) -> None:
    wrong = change(mixture.shards[1])  # type: ignore[operator]
    with pytest.raises(ValueError, match="5,000 is damaged"):
        Index(mixture.centers, [mixture.shards[0], wrong])


def test_shards_in_another_order_are_refused(mixture: Index) -> None:
    with pytest.raises(ValueError, match="row 0 is damaged"):
        Index(mixture.centers, mixture.shards[::-1])
    with pytest.raises(ValueError, match="middles"):
        Index(mixture.centers * np.nan, mixture.shards)
    with pytest.raises(ValueError, match="measured"):
        Index(mixture.centers, mixture.shards, np.zeros(4))


@pytest.mark.parametrize("n", [1, 2, 5, 39, 41])
def test_few_rows(n: int) -> None:
    index = index_of(MIXTURE[:n])
    assert_array_equal(np.sort(index.search(MIXTURE[0].astype(np.float32), n)[0]), np.arange(n))
