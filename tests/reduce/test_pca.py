from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.decomposition import PCA as Theirs
from sklearn.exceptions import NotFittedError

from phyla import plugins
from phyla._steps import fitted_arrays, restore
from phyla.reduce._evidence import elbo, evidence, oas
from phyla.types import PhylaError

PCA = plugins.load("reduce", "pca")


@pytest.fixture(scope="module")
def X() -> NDArray[np.float32]:
    """(400, 20): axes of unlike length, turned, far from the origin."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    return (rng.normal(size=(400, 20)) * 1.3 ** -np.arange(20) @ turn + 50).astype(np.float32)


def same_axes(ours: NDArray, theirs: NDArray) -> NDArray:
    return ours * np.sign((ours * theirs).sum(0))


@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("k", [1, 7, 20])
def test_equals_scikit_learns(X: NDArray, k: int, whiten: bool) -> None:
    theirs = Theirs(k, whiten=whiten, svd_solver="full").fit(X.astype(float))
    ours = PCA(k, whiten=whiten).fit(X)
    want = theirs.transform(X.astype(float))
    assert_allclose(same_axes(ours.transform(X), want), want, atol=2e-3 * np.abs(want).max())
    assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=1e-3)
    assert_allclose(ours.mean_, theirs.mean_, rtol=1e-6)
    assert ours.total_variance_ == pytest.approx(X.var(0, ddof=1, dtype=float).sum(), rel=1e-4)


@pytest.mark.parametrize("cuts", [(1, 2, 3), (37, 200), (399,)], ids=str)
def test_blocks_in_any_number_and_order(X: NDArray, cuts: tuple[int, ...]) -> None:
    whole = PCA(7).fit(X).transform(X)
    blocks = np.split(X, cuts)
    for order in (blocks, blocks[::-1]):
        pca = PCA(7)
        for block in order:
            pca.partial_fit(block)
        assert_allclose(pca.transform(X), whole, atol=2e-3)


def test_a_row_comes_out_the_same_in_any_company(X: NDArray) -> None:
    pca = PCA(7).fit(X)
    whole = pca.transform(X)
    assert_allclose(pca.transform(X[::-1])[::-1], whole, atol=1e-5)
    assert_allclose(np.concatenate([pca.transform(row[None]) for row in X[:20]]), whole[:20], atol=1e-5)


def test_asking_between_blocks_does_not_disturb(X: NDArray) -> None:
    pca = PCA(7).partial_fit(X[:100])
    early = pca.transform(X)
    pca.partial_fit(X[100:])
    late = pca.transform(X)
    assert not np.allclose(early, late, atol=0.05)
    assert_allclose(late, PCA(7).fit(X).transform(X), atol=2e-3)


def test_fit_forgets_what_came_before(X: NDArray) -> None:
    again = PCA(7).fit(X[:50] * 3).fit(X)
    assert_array_equal(again.transform(X), PCA(7).fit(X).transform(X))


def test_whitened_axes_have_unit_variance(X: NDArray) -> None:
    Z = PCA(20).fit(X).transform(X)
    assert_allclose(np.cov(Z.T), np.eye(20), atol=5e-3)
    assert Z.dtype == np.float32


def test_largest_first_and_signs_fixed(X: NDArray) -> None:
    pca = PCA(20).fit(X)
    assert (np.diff(pca.explained_variance_) <= 0).all()
    largest = np.abs(pca.components_).argmax(1)
    assert (pca.components_[np.arange(20), largest] > 0).all()


def test_a_far_origin_costs_no_digits(X: NDArray) -> None:
    near, far = PCA(5).fit(X), PCA(5).fit(X + 2000)
    assert_allclose(far.explained_variance_, near.explained_variance_, rtol=0.01)


@pytest.mark.filterwarnings("error::RuntimeWarning")
class TestDegenerate:
    def test_one_row(self) -> None:
        Z = PCA(5).fit_transform(np.full((1, 8), 3, np.float32))
        assert Z.shape[0] == 1 and np.isfinite(Z).all() and not Z.any()

    def test_two_rows(self) -> None:
        Z = PCA(5).fit_transform(np.array([[0, 0, 0], [3, 4, 0]], np.float32))
        assert Z.shape == (2, 1)
        assert_allclose(np.abs(Z), np.sqrt(0.5), rtol=1e-5)

    def test_identical_rows(self) -> None:
        Z = PCA(5).fit_transform(np.full((30, 8), 0.1, np.float32))
        assert np.isfinite(Z).all() and not Z.any()

    def test_constant_columns(self, X: NDArray) -> None:
        padded = np.hstack([X, np.full((len(X), 5), 7, np.float32)])
        Z = PCA(25).fit_transform(padded)
        assert np.isfinite(Z).all()
        assert_allclose(Z[:, :20], PCA(20).fit_transform(X), atol=2e-3)
        assert np.abs(Z[:, 20:]).max() < 0.1, "axes without variance are noise, scaled up"

    def test_fewer_rows_than_axes_wanted(self, X: NDArray) -> None:
        assert PCA(20).fit_transform(X[:6]).shape == (6, 5)

    def test_a_copied_column_adds_an_axis_of_nothing(self, X: NDArray) -> None:
        Z = PCA(21).fit_transform(np.hstack([X, X[:, :1]]))
        assert np.isfinite(Z).all() and np.abs(Z[:, 20]).max() < 0.1


def test_unfitted() -> None:
    with pytest.raises(NotFittedError):
        PCA().transform(np.zeros((2, 3), np.float32))


def test_another_width_is_refused(X: NDArray) -> None:
    with pytest.raises(ValueError, match="features"):
        PCA(3).partial_fit(X).partial_fit(X[:, :4])


def fitted(X: NDArray, **params: Any) -> Any:
    return PCA(5, **params).fit(X)


def same_subspace(one: Any, other: Any, k: int = 5) -> float:
    """Mean squared cosine of the angles between two sets of k axes: 1 if they span the same."""
    return float((np.asarray(one.components_[:k] @ other.components_[:k].T, float) ** 2).sum() / k)


def spectrum_of(n: int, d: int, k: int, strength: float = 1, seed: int = 0) -> NDArray[np.float64]:
    """Eigenvalues, largest first, of n rows with k axes in d columns of noise of variance 1."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, k)) @ (strength * rng.normal(size=(k, d))) + rng.normal(size=(n, d))
    return np.linalg.eigvalsh(np.cov(X.T))[::-1].clip(0)


class TestNumberOfAxes:
    def test_evidence_equals_scikit_learns(self) -> None:
        """Where no two eigenvalues are too near to be told apart, which it takes for infinite evidence."""
        from sklearn.decomposition._pca import _assess_dimension

        spectrum = 30 * 1.4 ** -np.arange(12.0)
        theirs = [_assess_dimension(spectrum, k, 500) for k in range(1, 12)]
        assert_allclose(evidence(spectrum, 500), theirs, rtol=1e-10)

    @pytest.mark.parametrize("how", [evidence, elbo])
    @pytest.mark.parametrize(("n", "d", "k"), [(200, 20, 5), (2000, 50, 10), (3000, 200, 20), (100, 300, 6)])
    def test_planted_axes_are_counted(self, how: Any, n: int, d: int, k: int) -> None:
        told = how(spectrum_of(n, d, k), n)
        assert np.isfinite(told).all()
        assert told.argmax() + 1 == k

    def test_equal_eigenvalues_have_no_infinite_evidence(self) -> None:
        spectrum = np.r_[np.full(3, 9.0), np.full(9, 1.0)]
        told = evidence(spectrum, 1000)
        assert np.isfinite(told).all()
        assert told.argmax() + 1 == 3

    def test_at_the_size_of_a_network(self) -> None:
        """40 axes of 1280 in 50,000 rows, the noise spread as chance spreads it (Marchenko and Pastur, 1967)."""
        d, n, k = 1280, 50_000, 40
        edge = np.sqrt(d / n)
        at = np.linspace((1 - edge) ** 2, (1 + edge) ** 2, 20_001)
        density = np.sqrt(np.maximum((at[-1] - at) * (at - at[0]), 0)) / at
        share = np.cumsum(density) / density.sum()
        noise = np.interp((np.arange(d - k) + 0.5) / (d - k), share, at)
        spectrum = np.sort(np.r_[noise, np.linspace(2, 30, k)])[::-1]
        for how in (evidence, elbo):
            told = how(spectrum, n)
            assert np.isfinite(told).all()
            assert told.argmax() + 1 == k

    def test_the_bound_is_the_one_that_iterating_finds(self) -> None:
        """Variational Bayes as it is usually run, from the best fit of rank 6, against the closed form."""
        rng = np.random.default_rng(1)
        d, m, h = 8, 60, 6
        V = rng.normal(size=(d, 2)) @ rng.normal(size=(2, m)) + 0.5 * rng.normal(size=(d, m))
        U, s, W = np.linalg.svd(V, full_matrices=False)
        B, A = U[:, :h] * np.sqrt(s[:h]), W[:h].T * np.sqrt(s[:h])
        Sa, Sb, Ca, Cb, noise = np.eye(h) * 0.01, np.eye(h) * 0.01, np.ones(h), np.ones(h), 0.3
        for _ in range(3000):
            Sa = noise * np.linalg.inv(B.T @ B + d * Sb + noise * np.diag(1 / Ca))
            A = V.T @ B @ Sa / noise
            Sb = noise * np.linalg.inv(A.T @ A + m * Sa + noise * np.diag(1 / Cb))
            B = V @ A @ Sb / noise
            Ca = (A**2).mean(0) + np.diag(Sa)
            Cb = (B**2).mean(0) + np.diag(Sb)
            moments = np.trace((A.T @ A + m * Sa) @ (B.T @ B + d * Sb))
            noise = ((V**2).sum() - 2 * np.trace(V.T @ B @ A.T) + moments) / (d * m)
        # Divergences from the priors; the other terms cancel at the best prior variances.
        apart = m * (np.log(Ca).sum() - np.linalg.slogdet(Sa)[1]) + d * (np.log(Cb).sum() - np.linalg.slogdet(Sb)[1])
        bound = -d * m / 2 * (np.log(2 * np.pi * noise) + 1) - apart / 2
        told = elbo(s**2 / m, m + 1)
        assert told.argmax() + 1 == 2
        assert told[1] == pytest.approx(bound, abs=0.05)
        assert told[1] - told[0] > 10

    @pytest.mark.parametrize("how", ["evidence", "elbo"])
    @pytest.mark.parametrize("rows", [60, 500])
    def test_copied_rows_and_dead_columns_add_no_axes(self, how: str, rows: int) -> None:
        rng = np.random.default_rng(0)
        X = 3 * rng.normal(size=(rows, 4)) @ rng.normal(size=(4, 100)) + rng.normal(size=(rows, 100))
        X = np.vstack([X, X[:10]])
        assert len(PCA(how).fit(np.hstack([X, np.ones((len(X), 20))])).components_) == 4

    @pytest.mark.parametrize("how", ["evidence", "elbo"])
    def test_it_is_fitted_with_as_many(self, how: str) -> None:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 30)) + 0.3 * rng.normal(size=(500, 30))
        X = np.hstack([X, np.full((500, 3), 2)]).astype(np.float32)  # and three dead columns
        pca = PCA(how).fit(X)
        assert pca.transform(X).shape == (500, 4)
        assert pca.evidence_.argmax() == 3
        assert_array_equal(pca.components_, PCA(4).fit(X).components_)
        assert not hasattr(pca.set_params(n_components=2).fit(X), "evidence_")

    @pytest.mark.parametrize("how", ["evidence", "elbo"])
    @pytest.mark.parametrize("rows", [1, 2, 3])
    @pytest.mark.filterwarnings("error::RuntimeWarning")
    def test_few_rows(self, X: NDArray, how: str, rows: int) -> None:
        for some in (X[:rows], np.full((rows, 4), 3, np.float32), X[:rows, :1]):
            Z = PCA(how).fit_transform(some)
            assert np.isfinite(Z).all() and Z.shape[1] >= 1

    def test_another_word_is_refused(self, X: NDArray) -> None:
        with pytest.raises(PhylaError, match="mle"):
            PCA("mle").fit(X)


class TestShrinkage:
    def test_auto_is_oas(self, X: NDArray) -> None:
        """scikit-learn's leaves 2 / d out of equation 23, which hardly matters at 20 columns of 30 rows."""
        from sklearn.covariance import OAS

        some = X[:30] - X[:30].mean(0)
        spectrum = np.linalg.eigvalsh(np.cov(some.T.astype(float)))[::-1]
        assert oas(spectrum, 30) == pytest.approx(OAS().fit(some.astype(float)).shrinkage_, rel=0.15)
        raw, pca = PCA(20).fit(some), PCA(20, shrinkage="auto").fit(some)
        share = oas(spectrum, 30)
        want = (1 - share) * raw.explained_variance_ + share * spectrum.mean()
        assert_allclose(pca.explained_variance_, want, rtol=1e-4)
        assert_array_equal(pca.components_, raw.components_)
        assert_array_equal(pca.spectrum_, raw.spectrum_)

    def test_it_is_nearer_the_truth(self) -> None:
        rng = np.random.default_rng(0)
        truth = np.linspace(2, 1, 40)
        errors = []
        for _ in range(10):
            few = (rng.normal(size=(60, 40)) * np.sqrt(truth)).astype(np.float32)
            raw, shrunk = (PCA(40, shrinkage=s).fit(few).explained_variance_ for s in (0, "auto"))
            errors.append([((v - truth) ** 2).mean() for v in (raw, shrunk)])
        raw, shrunk = np.mean(errors, 0)
        assert shrunk < 0.1 * raw, f"mean squared error of the variances: {shrunk:.3f} shrunk, {raw:.3f} raw"

    def test_all_the_way(self, X: NDArray) -> None:
        pca = PCA(3, shrinkage=1).fit(X)
        assert_allclose(pca.explained_variance_, pca.total_variance_ / 20, rtol=1e-5)


@pytest.fixture(scope="module")
def clean() -> NDArray[np.float32]:
    """(2000, 60): five axes over noise."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(2000, 5)) @ (rng.normal(size=(5, 60)) * np.array([[3], [2.5], [2], [1.7], [1.4]]))
    return (signal + rng.normal(size=(2000, 60)) + 5).astype(np.float32)


def dirty(clean: NDArray, share: float, kinds: int) -> NDArray[np.float32]:
    """`clean` and a share of rows ten times as far out, in a few directions that are not its own."""
    rng = np.random.default_rng(1)
    n = int(share * len(clean) / (1 - share))
    length = np.linalg.norm(clean - clean.mean(0), axis=1).mean()
    out = rng.normal(size=(kinds, 60))[np.arange(n) % kinds] + 0.1 * rng.normal(size=(n, 60))
    out *= 10 * length / np.linalg.norm(out, axis=1, keepdims=True)
    return np.vstack([clean, clean.mean(0) + out])[rng.permutation(len(clean) + n)].astype(np.float32)


class TestRobust:
    @pytest.mark.parametrize("share", [0.01, 0.1, 0.15])
    @pytest.mark.parametrize("kinds", [1, 3, 500])
    @pytest.mark.parametrize("block", [300, 5000])
    def test_far_rows_do_not_turn_the_axes(self, clean: NDArray, share: float, kinds: int, block: int) -> None:
        mixed = dirty(clean, share, kinds)
        ours, plain = PCA(5, robust=True), PCA(5)
        for start in range(0, len(mixed), block):
            for pca in (ours, plain):
                pca.partial_fit(mixed[start : start + block])
        Z = ours.transform(clean)
        plain.transform(clean)
        want = fitted(clean)
        kept, lost = same_subspace(ours, want), same_subspace(plain, want)
        assert kept > 0.99 > 0.9 > lost, f"subspace kept: {kept:.4f} robust, {lost:.3f} plain"
        assert_allclose(Z.std(0), 1, atol=0.1)
        assert_allclose(ours.mean_, want.mean_, atol=0.2)

    def test_clean_rows_all_count(self, clean: NDArray) -> None:
        ours, want = fitted(clean, robust=True), fitted(clean)
        assert same_subspace(ours, want) > 0.9999
        assert_allclose(ours.spectrum_, want.spectrum_, rtol=0.05)

    def test_a_rare_class_is_no_outlier(self, clean: NDArray) -> None:
        """2 % of the rows lie off in one direction, at the distance that the others have."""
        rng = np.random.default_rng(2)
        direction = rng.normal(size=60)
        length = np.linalg.norm(clean - clean.mean(0), axis=1).mean()
        rare = clean.mean(0) + length * direction / np.linalg.norm(direction) + rng.normal(size=(40, 60))
        both = np.vstack([clean, rare]).astype(np.float32)
        one, other = (PCA(6, robust=r).fit(both) for r in (True, False))
        assert same_subspace(one, other, 6) > 0.999

    @pytest.mark.filterwarnings("error::RuntimeWarning")
    def test_values_near_the_largest_float(self, clean: NDArray) -> None:
        mixed = clean.copy()
        mixed[::50] = 1e38
        ours = fitted(mixed, robust=True)
        assert same_subspace(ours, fitted(clean)) > 0.99
        assert np.isfinite(ours.transform(clean)).all()

    @pytest.mark.filterwarnings("error::RuntimeWarning")
    @pytest.mark.parametrize("rows", [1, 2, 30])
    def test_identical_rows(self, rows: int) -> None:
        assert not fitted(np.full((rows, 8), 0.1, np.float32), robust=True).transform(np.full((2, 8), 0.1)).any()

    def test_on_from_its_sums(self, clean: NDArray) -> None:
        whole = fitted(clean[:1000], robust=True).partial_fit(clean[1000:])
        first = fitted(clean[:1000], robust=True)
        back = restore(PCA(5, robust=True), fitted_arrays(first) | first.sums()).partial_fit(clean[1000:])
        assert_array_equal(back.transform(clean), whole.transform(clean))


class TestSums:
    def test_new_rows_after_fit(self, X: NDArray) -> None:
        later = fitted(X[:150]).partial_fit(X[150:])
        assert_allclose(later.transform(X), fitted(X).transform(X), atol=2e-3)

    def test_new_rows_after_coming_back(self, X: NDArray) -> None:
        first = fitted(X[:150])
        saved = fitted_arrays(first) | first.sums()
        for array in saved.values():
            array.flags.writeable = False  # as if mapped from a file
        back = restore(PCA(5), saved)
        assert_array_equal(back.transform(X), first.transform(X))
        back.partial_fit(X[150:])
        assert_array_equal(back.transform(X), first.partial_fit(X[150:]).transform(X))

    def test_coming_back_without_them(self, X: NDArray) -> None:
        """Not a new start in silence."""
        back = restore(PCA(5), fitted_arrays(fitted(X)))
        for go_on in (lambda: back.partial_fit(X), lambda: back.merge(fitted(X)), lambda: fitted(X).merge(back)):
            with pytest.raises(PhylaError, match="without its sums"):
                go_on()
        assert_array_equal(back.transform(X), fitted(X).transform(X))
        assert_array_equal(back.fit(X[:50]).transform(X), fitted(X[:50]).transform(X))

    def test_unfitted(self) -> None:
        with pytest.raises(NotFittedError):
            PCA().sums()

    @pytest.mark.parametrize("robust", [False, True])
    def test_merged_is_as_if_in_one_place(self, X: NDArray, robust: bool) -> None:
        far = X + np.float32(0.1 if robust else 3)  # rows of another mean, and so another origin
        whole = fitted(np.vstack([X, far[:100]]), robust=robust)
        parts = [fitted(part, robust=robust) for part in (X[:250], X[250:], far[:100])]
        before = parts[1].transform(X)
        merged = PCA(5, robust=robust).merge(parts[0]).merge(parts[1]).merge(parts[2]).merge(PCA(5, robust=robust))
        atol = 0.2 if robust else 5e-3
        assert_allclose(merged.transform(X), whole.transform(X), atol=atol)
        assert_allclose(merged.spectrum_, whole.spectrum_, rtol=0.1 if robust else 1e-3, atol=1e-4)
        assert_array_equal(parts[1].transform(X), before)
        later, want = merged.partial_fit(far[100:]), fitted(np.vstack([X, far]), robust=robust)
        assert_allclose(later.transform(X), want.transform(X), atol=atol)

    def test_unlike_ones_do_not_merge(self, X: NDArray) -> None:
        for other in (fitted(X[:, :6]), fitted(X, robust=True)):
            with pytest.raises(PhylaError, match="does not merge"):
                fitted(X).merge(other)


class TestTheRest:
    def test_spectrum(self, X: NDArray) -> None:
        pca = fitted(X)
        assert_allclose(pca.spectrum_, np.linalg.eigvalsh(np.cov(X.T.astype(float)))[::-1], rtol=1e-3, atol=1e-4)
        assert_allclose(pca.spectrum_[:5], pca.explained_variance_, rtol=1e-5)

    def test_residual(self, X: NDArray) -> None:
        theirs = Theirs(5, svd_solver="full").fit(X.astype(float))
        off = ((X - theirs.inverse_transform(theirs.transform(X.astype(float)))) ** 2).sum(1)
        ours = fitted(X).residual(X)
        assert ours.dtype == np.float32 and ours.shape == (400,)
        assert_allclose(ours, off / off.mean(), rtol=0.01)
        assert ours.mean() == pytest.approx(1, abs=0.005)

    def test_what_is_off_the_axes_stands_out(self, X: NDArray) -> None:
        pca = fitted(X)
        along, off = pca.mean_ + 9 * pca.components_[0], pca.mean_ + 9 * PCA(20).fit(X).components_[19]
        on, apart = pca.residual(np.vstack([along, off]))
        assert on < 0.01 < 20 < apart

    @pytest.mark.filterwarnings("error::RuntimeWarning")
    def test_nothing_left(self, X: NDArray) -> None:
        assert PCA(20).fit(X).residual(X).max() < 1e-3
        assert not fitted(np.ones((30, 4), np.float32)).residual(np.ones((3, 4))).any()

    def test_the_saved_arrays_are_enough(self, X: NDArray) -> None:
        pca = fitted(X, shrinkage="auto")
        arrays = fitted_arrays(pca)
        back = restore(PCA(), arrays)  # with no word of how it was fitted
        assert_array_equal(back.residual(X), pca.residual(X))
        assert_array_equal(back.transform(X), pca.transform(X))

    def test_arrays_of_before_there_was_a_spectrum(self, X: NDArray) -> None:
        arrays = fitted_arrays(fitted(X))
        old = restore(PCA(), {name: array for name, array in arrays.items() if name != "spectrum_"})
        assert_allclose(old.residual(X), fitted(X).residual(X), rtol=1e-4)
