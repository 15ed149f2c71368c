"""What every grouping and reducing method owes: scikit-learn's contract, and ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from phyla import plugins
from phyla._steps import fitted_arrays, restore

# Known exceptions: method → check → reason.
_ROUNDING = "float32 products round in the eighth digit by where a row stands in its block; 1e-7 is asked for"
EXPECTED: dict[str, dict[str, str]] = {
    "PCA": {"check_methods_sample_order_invariance": _ROUNDING, "check_methods_subset_invariance": _ROUNDING},
}
FEW = {"n_heads": 2, "n_steps": 50}  # what is trained need not be good here
QUICK = {"n_clusters": 3, "n_voters": 10, "n_init": 3}

CLUSTERERS = plugins.names("cluster")


def made(room: str, name: str, **params: Any) -> Any:
    """The method `name`, with those of `params` that it has."""
    method = plugins.load(room, name)()
    return method.set_params(**{k: v for k, v in (FEW | params).items() if k in method.get_params()})


def blobs(n: int = 120, d: int = 8, k: int = 3, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    rng = np.random.default_rng(seed)
    of = np.arange(n) % k
    return (8 * rng.normal(size=(k, d))[of] + rng.normal(size=(n, d))).astype(np.float32), of


ALL = [made(room, name, **QUICK) for room in ("cluster", "reduce") for name in plugins.names(room)]


@parametrize_with_checks(ALL, expected_failed_checks=lambda e: EXPECTED.get(type(e).__name__, {}))
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_none_is_left_out() -> None:
    assert {"KMeans", "Vote", "PCA", "TSNE"} <= {type(e).__name__ for e in ALL}


@pytest.mark.parametrize("name", plugins.names("reduce"))
def test_a_reducer_has_a_version(name: str) -> None:
    assert isinstance(plugins.load("reduce", name).VERSION, int)


@pytest.mark.parametrize("name", CLUSTERERS)
class TestClusterer:
    def test_has_a_version_and_takes_the_number_first(self, name: str) -> None:
        method = plugins.load("cluster", name)
        assert isinstance(method.VERSION, int)
        assert method(5, random_state=1).n_clusters == 5
        assert method().n_clusters is None

    def test_same_seed_same_bytes(self, name: str) -> None:
        X, _ = blobs(d=3)
        X += np.random.default_rng(1).normal(size=X.shape).astype(np.float32) * 6  # overlapping: nothing is certain
        params = {"n_voters": 15, "n_init": 1, "random_state": 3}  # the best of many starts is the same for all seeds
        runs = [made("cluster", name, n_clusters=k, **params).fit(X.copy()) for k in (4, 4, None, None)]
        for one, two in (runs[:2], runs[2:]):
            assert one.labels_.tobytes() == two.labels_.tobytes()
            assert one.strength_.tobytes() == two.strength_.tobytes()
        other = made("cluster", name, n_clusters=4, n_voters=15, n_init=1, random_state=4).fit(X)
        assert other.strength_.tobytes() != runs[0].strength_.tobytes(), "random_state is not used"

    @pytest.mark.parametrize("k", [None, 1, 3, 7])
    def test_fitted_rows_are_assigned_as_they_were(self, name: str, k: int | None) -> None:
        X, _ = blobs()
        fitted = made("cluster", name, n_clusters=k, n_voters=10).fit(X)
        labels, strength = fitted.assign(X)
        assert_array_equal(labels, fitted.labels_)
        assert_array_equal(strength, fitted.strength_)
        assert_array_equal(fitted.predict(X), fitted.labels_)
        assert labels.dtype == np.int32 and strength.dtype == np.float32
        assert labels.min() >= 0 and labels.max() < fitted.n_clusters_
        assert strength.min() >= 0 and strength.max() <= 1

    def test_a_row_is_assigned_by_itself(self, name: str) -> None:
        X, _ = blobs()
        fitted = made("cluster", name, **QUICK).fit(X)
        new, _ = blobs(seed=1)
        labels, strength = fitted.assign(new)
        for row in (0, 17, 99):
            label, sure = fitted.assign(new[row : row + 1])
            assert label[0] == labels[row]
            assert sure[0] == pytest.approx(strength[row], abs=1e-5)

    def test_refitting_starts_anew(self, name: str) -> None:
        X, _ = blobs()
        again = made("cluster", name, **QUICK).fit(blobs(d=5, seed=2)[0]).fit(X)
        assert_array_equal(again.labels_, made("cluster", name, **QUICK).fit(X).labels_)

    def test_a_number_given_leaves_no_evidence_of_another(self, name: str) -> None:
        X, _ = blobs()
        method = made("cluster", name, n_voters=5)
        assert method.fit(X).evidence_.shape[1] >= 2
        assert method.n_clusters_ in method.evidence_[:, 0]
        method.set_params(n_clusters=4).fit(X)
        assert method.n_clusters_ == 4
        assert not hasattr(method, "evidence_"), "what the last fit went by"

    @pytest.mark.parametrize("k", [None, 3])
    def test_the_arrays_are_all_there_is_to_save(self, name: str, k: int | None) -> None:
        X, _ = blobs()
        fitted = made("cluster", name, n_clusters=k, n_voters=10).fit(X)
        arrays = fitted_arrays(fitted)
        assert {"labels_", "strength_"} <= set(arrays)
        restored = restore(clone(fitted), arrays)
        new, _ = blobs(seed=5)
        for one, two in zip(restored.assign(new), fitted.assign(new), strict=True):
            assert_array_equal(one, two)

    @pytest.mark.parametrize("rows", [2, 3, 9])
    @pytest.mark.parametrize("k", [None, 1, 2, 50])
    def test_few_rows(self, name: str, rows: int, k: int | None) -> None:
        X, _ = blobs(rows)
        fitted = made("cluster", name, n_clusters=k, n_voters=5).fit(X)
        assert fitted.n_clusters_ <= rows
        assert fitted.labels_.shape == fitted.strength_.shape == (rows,)
        assert np.isfinite(fitted.strength_).all()
        assert fitted.labels_.max() < fitted.n_clusters_
        if k in (None, 1):
            assert fitted.n_clusters_ == 1 and not fitted.labels_.any()

    @pytest.mark.parametrize("k", [None, 1, 4])
    @pytest.mark.filterwarnings("error::RuntimeWarning")
    def test_identical_rows(self, name: str, k: int | None) -> None:
        X = np.full((60, 6), 3, np.float32)
        fitted = made("cluster", name, n_clusters=k, n_voters=5).fit(X)
        assert len(set(fitted.labels_)) == 1
        assert np.isfinite(fitted.strength_).all()
        assert 0 <= fitted.strength_.min() <= fitted.strength_.max() <= 1

    def test_identical_rows_among_others(self, name: str) -> None:
        X, of = blobs(90)
        X[of == 0] = X[0]
        labels = made("cluster", name, **QUICK).fit(X).labels_
        assert len(set(zip(labels.tolist(), of.tolist(), strict=True))) == 3

    def test_a_constant_column_changes_nothing_much(self, name: str) -> None:
        X, of = blobs()
        X = np.hstack([X, np.zeros((len(X), 2), np.float32)])
        labels = made("cluster", name, **QUICK).fit(X).labels_
        assert len(set(zip(labels.tolist(), of.tolist(), strict=True))) == 3

    @pytest.mark.parametrize("k", [0, -1])
    def test_a_senseless_number_is_refused(self, name: str, k: int) -> None:
        with pytest.raises(ValueError, match="n_clusters"):
            made("cluster", name, n_clusters=k).fit(blobs()[0])

    def test_the_data_is_not_changed(self, name: str) -> None:
        X, _ = blobs()
        before = X.copy()
        made("cluster", name, **QUICK).fit(X).assign(X)
        assert_array_equal(X, before)

    def test_unfitted(self, name: str) -> None:
        with pytest.raises(NotFittedError):
            made("cluster", name).assign(blobs()[0])


WITH_BLOCKS = [name for name in CLUSTERERS if "blocks" in plugins.load("cluster", name)().get_params()]


def test_some_method_knows_blocks() -> None:
    assert "vote" in WITH_BLOCKS


@pytest.mark.parametrize("name", WITH_BLOCKS)
class TestBlocks:
    @pytest.mark.parametrize("blocks", [(4, 3), (8, 8), (9,), ()])
    def test_blocks_that_do_not_add_up(self, name: str, blocks: tuple[int, ...]) -> None:
        method = made("cluster", name, **QUICK, blocks=blocks)
        with pytest.raises(ValueError, match=f"add up to {sum(blocks)}, but X has 8 columns"):
            method.fit(blobs()[0])

    def test_one_block_is_no_blocks(self, name: str) -> None:
        X, _ = blobs()
        one, none = (made("cluster", name, **QUICK, blocks=blocks).fit(X) for blocks in ((8,), None))
        assert_array_equal(one.labels_, none.labels_)

    def test_the_leading_axes_of_each_block_are_seen(self, name: str) -> None:
        """The classes differ on the first axis of the second space only, behind 60 axes of noise of the first.

        Spectral clustering cuts some draws otherwise: of four, one is enough for it.
        """
        of, got = np.arange(300) % 3, []
        for draw in range(4 if name == "spectral" else 1):
            rng = np.random.default_rng(draw)
            X = rng.normal(size=(300, 64)).astype(np.float32) * 0.3
            X[:, 60] += 10 * of
            labels = made("cluster", name, **QUICK, blocks=(60, 4)).fit(X).labels_
            together = np.zeros((3, 3), int)
            np.add.at(together, (labels, of), 1)
            got.append(together.max(1).sum())
            if got[-1] >= 0.85 * 300:
                break
        assert max(got) >= 0.85 * 300, f"unseen about 120, got {got} of 300"
