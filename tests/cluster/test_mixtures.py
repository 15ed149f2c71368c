"""Mixtures of Gaussians and of von Mises–Fisher distributions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.special import gammaln, ive
from scipy.stats import multivariate_normal

from phyla.cluster import score
from phyla.cluster._grouper import softmax
from phyla.cluster._mixture import mean_agreement, temper
from phyla.cluster.gmm import _AN_AXIS, _GROUPS, GMM
from phyla.cluster.kmeans import KMeans
from phyla.cluster.vmf import VonMisesFisher, concentration, log_bessel


def right(labels: NDArray, truth: NDArray) -> float:
    return score(labels, np.zeros(len(labels), bool), truth)["accuracy"]


def ratio(order: float, x: float) -> float:
    """I_{order+1}(x) / I_order(x) by its continued fraction (DLMF 10.33.1), from far down."""
    value = 0.0
    for i in range(int(order + x) + 2000, 0, -1):
        value = 1 / (2 * (order + i) / x + value)
    return value


def on_sphere(n: int, d: int, kappa: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draws about the first axis, from the density of the cosine on a fine grid."""
    cosine = np.linspace(-1, 1, 200_001)
    log = kappa * cosine + (d - 3) / 2 * np.log1p(-np.minimum(cosine**2, 1 - 1e-15))
    reach = np.cumsum(np.exp(log - log.max()))
    t = np.interp(rng.random(n) * reach[-1], reach, cosine)
    rest = rng.normal(size=(n, d - 1))
    rest /= np.linalg.norm(rest, axis=1, keepdims=True)
    return np.hstack([t[:, None], np.sqrt(1 - t**2)[:, None] * rest])


class TestLogBessel:
    @pytest.mark.parametrize("order", [0, 0.5, 9.5, 10, 15.5, 31, 47.5, 100])
    def test_as_scipy_where_that_does_not_underflow(self, order: float) -> None:
        x = np.geomspace(0.1, 1e4, 40)
        scaled = ive(order, x)
        x = x[scaled > 1e-290]
        expected = np.log(ive(order, x)) + x - order * np.log(x)
        assert len(x) > 15
        assert_allclose(log_bessel(order, x), expected, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("order", [0, 5.5, 15.5, 127, 1023, 4095, 16383])
    def test_at_zero_it_is_the_first_term_of_the_series(self, order: float) -> None:
        expected = -order * np.log(2) - gammaln(order + 1)
        assert_allclose(log_bessel(order, np.array([0.0])), expected, rtol=1e-10, atol=1e-9)

    @pytest.mark.parametrize("order", [15.5, 127, 1023, 4095, 16383])  # the last three: 2,048 to 32,768 dimensions
    @pytest.mark.parametrize("x", [0.3, 20, 700, 9000])
    def test_ratios_of_large_orders_obey_the_continued_fraction(self, order: float, x: float) -> None:
        one, next_ = (float(log_bessel(v, np.array([x]))[0]) for v in (order, order + 1))
        assert_allclose(x * np.exp(next_ - one), ratio(order, x), rtol=1e-7)

    def test_the_control_scipy_underflows(self) -> None:
        assert ive(1023, 20.0) == 0 and np.isfinite(log_bessel(1023, np.array([20.0]))).all()

    def test_the_step_to_the_expansion_is_smooth(self) -> None:
        """Three orders around the change from one formula to the other are tied by I_{v−1} − I_{v+1} = 2v/x I_v."""
        x = np.geomspace(0.5, 500, 30)
        below, at, above = (log_bessel(v, x) + v * np.log(x) for v in (9.0, 10.0, 11.0))
        assert_allclose(np.exp(below - at) - np.exp(above - at), 20 / x, rtol=1e-7)


class TestConcentration:
    @pytest.mark.parametrize("d", [2, 3, 33, 257, 2048])
    @pytest.mark.parametrize("kappa", [0.5, 30, 400, 5000])
    def test_it_is_the_one_of_that_mean_length(self, d: int, kappa: float) -> None:
        found = concentration(np.array([ratio(d / 2 - 1, kappa)]), d)
        assert_allclose(found, kappa, rtol=1e-3)

    @pytest.mark.parametrize("d", [2, 33, 2048])
    def test_it_is_finite_at_the_ends(self, d: int) -> None:
        with np.errstate(all="raise"):
            low, high = concentration(np.array([0.0, 1.0]), d)
        assert low == 0 and high == 1e4

    def test_of_draws(self) -> None:
        rng = np.random.default_rng(0)
        for d, kappa in ((3, 5.0), (33, 60.0)):
            drawn = on_sphere(4000, d, kappa, rng)
            found = concentration(np.array([np.linalg.norm(drawn.mean(0))]), d)[0]
            assert found == pytest.approx(kappa, rel=0.05), f"{d} dimensions: {found:.2f}, drawn with {kappa}"


def wide_and_narrow(n: int = 600) -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    """Two long parallel groups beside each other, which are no balls."""
    rng = np.random.default_rng(0)
    of = np.arange(n) % 2
    X = rng.normal(size=(n, 4)) * [3, 1, 1, 1]
    X[:, :2] += np.outer(of, [3, 5])
    return X.astype(np.float32), of


class TestGMM:
    def test_long_groups_are_kept_whole(self) -> None:
        X, of = wide_and_narrow()
        plain, own = (right(method(2).fit(X).labels_, of) for method in (KMeans, GMM))
        print(f"k-means {plain:.3f}, gmm {own:.3f}")
        assert plain < 0.9 and own > 0.98

    def test_logits_are_those_of_scipy(self) -> None:
        X, _ = wide_and_narrow(300)
        fitted = GMM(3).fit(X)
        expected = [
            weight + multivariate_normal.logpdf(X - fitted.mean_, mean, np.linalg.inv(w @ w.T))
            for mean, w, weight in zip(
                fitted.means_, fitted.whitening_.astype(float), fitted.log_weights_.astype(float), strict=True
            )
        ]
        found = fitted._logits(fitted._rows(X), (fitted.means_, fitted.whitening_, fitted.log_weights_))
        assert_allclose(found - 2 * np.log(2 * np.pi), np.stack(expected, 1), rtol=1e-3, atol=1e-3)

    def test_covariances_are_shrunk_to_the_common_one(self) -> None:
        """Against sums written out, of soft posteriors, row by row."""
        rng = np.random.default_rng(0)
        F = rng.normal(size=(40, 3)).astype(np.float32)
        posterior = softmax(rng.normal(size=(40, 2)).astype(np.float32))
        means, whitening, log_weights = GMM(2)._maximise(F, posterior, 1)
        scatters = np.zeros((2, 3, 3))
        for g in range(2):
            assert_allclose(means[g], np.average(F, axis=0, weights=posterior[:, g]), rtol=1e-4, atol=1e-5)
            for row, p in zip(F, posterior[:, g], strict=True):
                scatters[g] += p * np.outer(row - means[g], row - means[g])
        common = (scatters.sum(0) + np.diag(F.var(0))) / 41
        prior = _GROUPS * 20 + _AN_AXIS * 3
        for g in range(2):
            size = posterior[:, g].sum()
            expected = (scatters[g] + prior * common) / (size + prior)
            assert_allclose(np.linalg.inv(whitening[g] @ whitening[g].T), expected, rtol=1e-3, atol=1e-4)
            assert log_weights[g] == pytest.approx(np.log((size + 1) / 42), abs=1e-5)

    def test_one_row_a_group(self) -> None:
        X = np.random.default_rng(0).normal(size=(6, 40)).astype(np.float32)
        fitted = GMM(6).fit(X)
        assert sorted(fitted.labels_) == list(range(6))
        assert np.isfinite(fitted.whitening_).all()


class TestVonMisesFisher:
    @pytest.mark.parametrize("sharing", ["shared", "own"])
    def test_directions_of_any_length(self, sharing: str) -> None:
        """Rows of one class share a direction, and their lengths say nothing."""
        rng = np.random.default_rng(0)
        of = np.arange(600) % 4
        X = np.linalg.qr(rng.normal(size=(16, 16)))[0][:4][of] + 0.12 * rng.normal(size=(600, 16))
        X = (X - X.mean(0)) * rng.lognormal(0, 1, size=(600, 1))
        X = X.astype(np.float32)
        plain = right(KMeans(4).fit(X).labels_, of)
        own = right(VonMisesFisher(4, concentration=sharing).fit(X).labels_, of)
        print(f"k-means {plain:.3f}, vmf {own:.3f}")
        assert plain < 0.75 and own > 0.95

    def test_a_narrower_group_is_more_concentrated(self) -> None:
        rng = np.random.default_rng(0)
        groups = [on_sphere(300, 6, 200, rng), -on_sphere(300, 6, 20, rng)]
        fitted = VonMisesFisher(2, concentration="own").fit(np.vstack(groups).astype(np.float32))
        narrow, wide = fitted.concentration_[[fitted.labels_[0], fitted.labels_[-1]], 0]
        assert narrow > 3 * wide, f"{narrow:.0f} and {wide:.0f}, drawn with 200 and 20"
        assert fitted.coef_.shape == (2, 7)
        together = VonMisesFisher(2).fit(np.vstack(groups).astype(np.float32)).concentration_
        assert together[0] == together[1], "shared"

    def test_an_unknown_sharing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="there is: shared, own"):
            VonMisesFisher(2, concentration="tied").fit(np.eye(4))


class TestStrength:
    def test_agreement_matches_the_groups(self) -> None:
        labels = [
            np.array(rows) for rows in ([0, 0, 0, 1, 1, 2, 2, 2], [2, 2, 2, 0, 0, 1, 1, 1], [2, 2, 0, 0, 0, 1, 1, 1])
        ]
        assert mean_agreement(labels, 3) == pytest.approx([(1 + 7 / 8) / 2, (1 + 7 / 8) / 2, 7 / 8])
        assert mean_agreement(labels[:1], 3) == [1]

    def test_temper_reaches_the_mean(self) -> None:
        logits = 30 * np.random.default_rng(0).normal(size=(500, 5)).astype(np.float32)
        power = temper(logits, 0.8)
        assert 0 < power < 1
        assert softmax(np.float32(power) * logits).max(1).mean() == pytest.approx(0.8, abs=1e-3)
        assert softmax(logits).max(1).mean() > 0.95, "the control, untempered"
        assert temper(logits, 1.0) == 1

    @pytest.mark.parametrize("method", [GMM, VonMisesFisher])
    def test_of_groups_that_no_run_is_sure_of(self, method: type) -> None:
        """Of noise, starts end apart; the plain posterior is nearly sure all the same, the strength is not."""
        X = np.random.default_rng(0).normal(size=(500, 60)).astype(np.float32)
        fitted = method(6, blocks=(30, 30)).fit(X)
        parameters = tuple(getattr(fitted, name) for name in fitted.FITTED)
        plain = fitted._posterior(fitted._rows(X), parameters, 1).max(1).mean()
        print(f"plain {plain:.3f}, tempered {fitted.strength_.mean():.3f}")
        assert fitted.strength_.mean() < 0.55 < plain

    @pytest.mark.parametrize("method", [GMM, VonMisesFisher])
    def test_threads_change_nothing(self, method: type) -> None:
        X = np.random.default_rng(0).normal(size=(11_000, 6)).astype(np.float32)  # two blocks, and starts on samples
        one, two = (method(3, n_init=2, n_jobs=jobs).fit(X) for jobs in (1, 3))
        assert_array_equal(one.labels_, two.labels_)
        assert_array_equal(one.strength_, two.strength_)
