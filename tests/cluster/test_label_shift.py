"""Domains whose classes mix differently: the discriminator, the factors, the slopes, and what they add to distances."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.decomposition import NMF

from phyla.cluster import score
from phyla.cluster._grouper import softmax
from phyla.cluster._margin import labelling
from phyla.cluster.kmeans import KMeans
from phyla.cluster.label_shift import LabelShift, _mixes, _towards, discriminator, factor
from phyla.types import PhylaError


def right(labels: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    return score(labels, np.zeros(len(labels), bool), truth)["accuracy"]


def placed(of: NDArray[np.int_], m: int, alpha: float, seed: int = 0) -> NDArray[np.int_]:
    """(n,): a domain for each row, of m that mix the classes by a Dirichlet distribution."""
    rng = np.random.default_rng(seed)
    mix = rng.dirichlet(np.full(of.max() + 1, alpha), m)
    mix /= mix.sum(0)
    return (rng.random(len(of))[:, None] > mix.T[of].cumsum(1)).sum(1).clip(max=m - 1)


def mostly(of: NDArray[np.int_]) -> NDArray[np.int_]:
    """(n,): three domains, each with four in five images of one class of three."""
    shares = 0.1 + 0.7 * np.eye(3)
    return (np.random.default_rng(0).random(len(of))[:, None] > shares[of].cumsum(1)).sum(1).clip(max=2)


def striped(n: int = 1200, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    """Three classes side by side, and a difference as great that has nothing to do with them."""
    rng = np.random.default_rng(seed)
    of = np.arange(n) % 3
    X = 0.2 * rng.normal(size=(n, 6))
    X[:, 0] += of - 1
    X[:, 1] += 1.2 * (rng.integers(3, size=n) - 1)
    return X.astype(np.float32), of


def blurred(n: int = 2000, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    """Six classes that overlap, along an axis that tells nothing."""
    rng = np.random.default_rng(seed)
    of = np.arange(n) % 6
    X = 1.3 * rng.normal(size=(6, 10))[of] + rng.normal(size=(n, 10))
    X[:, 9] = 2.2 * rng.normal(size=n)
    return X.astype(np.float32), of


def test_the_discriminator_is_that_of_bayes() -> None:
    """Two domains that mix two Gaussians: what it says of a row follows from their densities."""
    rng = np.random.default_rng(0)
    of = rng.integers(2, size=6000)
    X = (rng.normal(size=(6000, 1)) + 2 * of[:, None]).astype(np.float32)
    mix = np.array([[0.9, 0.1], [0.1, 0.9]])  # p(domain | class)
    domain = (rng.random(6000) > mix[of, 0]).astype(int)
    log_p = discriminator(X, domain, 2, rng)
    at = softmax(-0.5 * (X - np.array([[0.0, 2.0]])) ** 2) @ mix  # p(domain | row)
    exact = np.log(at[:, 1] / at[:, 0])
    told = log_p[:, 1] - log_p[:, 0]
    together = np.corrcoef(told, exact - exact.mean())[0, 1]
    assert together > 0.95, f"correlation {together:.3f}, 0 if it knew nothing"


@pytest.mark.filterwarnings("ignore:Maximum number of iterations")
def test_factors_are_as_good_as_scikit_learn_s() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(40 * rng.dirichlet(np.full(4, 0.2), 30) @ rng.dirichlet(np.full(8, 0.3), 4)).astype(float)
    ours = min(factor(counts, rng.dirichlet(np.ones(30), 4).T, rng.dirichlet(np.ones(8), 4))[2] for _ in range(5))
    theirs = NMF(4, beta_loss="kullback-leibler", solver="mu", max_iter=100, tol=0, init="random", random_state=0)
    table = counts / counts.sum()
    product = theirs.fit_transform(table) @ theirs.components_
    seen = table > 0
    divergence = (table[seen] * np.log(table[seen] / product[seen])).sum() - table.sum() + product.sum()
    none = (table[seen] * np.log(table[seen] / np.outer(table.sum(1), table.sum(0))[seen])).sum()
    assert ours < divergence + 0.02 < none / 4, f"{ours:.4f}, scikit-learn {divergence:.4f}, independence {none:.4f}"


def test_factors_are_the_shares_where_they_are_unique() -> None:
    """A cell of its own for each class, and a domain that lacks all others: then there is one answer."""
    rng = np.random.default_rng(0)
    Q = np.vstack([np.diag([0.3, 0.4, 0.5]), rng.random((5, 3))])
    Q[3:] *= (1 - Q[:3].sum(0)) / Q[3:].sum(0)
    H = np.hstack([np.diag([0.2, 0.2, 0.1]), rng.random((3, 2)) / 4])
    H /= H.sum()
    runs = [factor(Q @ H, rng.dirichlet(np.ones(8), 3).T, rng.dirichlet(np.ones(5), 3), updates=3000) for _ in range(5)]
    found, mix, left = min(runs, key=lambda run: run[2])
    order = found[:3].argmax(1)
    assert sorted(order) == [0, 1, 2] and left < 1e-4
    assert_allclose(found[:, order], Q, atol=0.02)
    assert_allclose(mix[order], H, atol=0.01)


def test_the_slope_is_that_of_the_surprise() -> None:
    """Every row drawn once; p(domain | group) moves with the labellers, which changes the sum in second order only."""
    rng = np.random.default_rng(0)
    X, of = rng.normal(size=(40, 5)).astype(np.float32), rng.integers(3, size=40)
    spaces = [np.arange(3), np.arange(3, 5)]
    weights = [rng.normal(size=(len(space) + 1, 4)).astype(np.float32) for space in spaces]

    class Once:
        def integers(self, n: int, size: int) -> NDArray[np.int_]:
            return np.arange(n)

    slopes = _towards(X, spaces, of, 3)(weights, Once())  # type: ignore[arg-type]
    held = _mixes(labelling(X, spaces, weights), of, 3)
    held /= held.sum(0)

    def loss(space: int, change: NDArray) -> float:
        moved = [w + change if s == space else w for s, w in enumerate(weights)]
        p = labelling(X.astype(float), spaces, moved)
        return -10 * float(np.log((p * held[of]).sum(1)).mean())

    for space, slope in enumerate(slopes):
        for at in ((0, 0), (1, 2), (len(slope) - 1, 3)):
            step = np.zeros(slope.shape)
            step[at] = 1e-5
            assert slope[at] == pytest.approx((loss(space, step) - loss(space, -step)) / 2e-5, abs=1e-4)


@pytest.mark.parametrize("m", [2, 4, 8])
def test_domains_help_where_classes_overlap(m: int) -> None:
    X, of = blurred()
    domains = placed(of, m, 0.5)
    with_them = right(LabelShift(6, n_margins=1).fit(X, domains=domains).labels_, of)
    without, control = (right(method.fit(X).labels_, of) for method in (LabelShift(6, n_margins=1), KMeans(6)))
    print(f"{m} domains {with_them:.3f}, none {without:.3f}, k-means {control:.3f}")
    assert with_them > max(without, control) + 0.02 and without > control - 0.02


def test_what_shifts_together_is_one_where_distances_mislead() -> None:
    X, of = striped()
    fitted = LabelShift(3, n_margins=1).fit(X, domains=mostly(of))
    control = right(KMeans(3).fit(X).labels_, of)
    assert right(fitted.labels_, of) > 0.9 > 0.7 > control, f"{right(fitted.labels_, of):.3f}, k-means {control:.3f}"
    new, truth = striped(300, seed=1)
    assert right(fitted.predict(new), truth) > 0.9


def test_domains_that_say_nothing_do_no_harm() -> None:
    X, of = blurred()
    shuffled = np.random.default_rng(0).integers(5, size=len(of))
    got = right(LabelShift(6, n_margins=1).fit(X, domains=shuffled).labels_, of)
    control = right(KMeans(6).fit(X).labels_, of)
    assert got > control - 0.03, f"{got:.3f}, k-means {control:.3f}"


def test_one_domain_is_none() -> None:
    X, _ = blurred(400)
    none, one = LabelShift(4).fit(X), LabelShift(4).fit(X, domains=["here"] * 400)
    assert_array_equal(none.labels_, one.labels_)
    assert_array_equal(none.strength_, one.strength_)


def test_domains_are_forgotten() -> None:
    X, of = blurred(400)
    again = LabelShift(4).fit(X, domains=of).fit(X)
    assert_array_equal(again.labels_, LabelShift(4).fit(X).labels_)


def test_names_are_as_good_as_numbers() -> None:
    X, of = blurred(600)
    domains = placed(of, 3, 0.5)
    number, name = (LabelShift(6, n_margins=1).fit(X, domains=d) for d in (domains, np.array(list("abc"))[domains]))
    mixed = np.array(["a", None, 3], object)[domains]
    anything = LabelShift(6, n_margins=1).fit(X, domains=mixed)
    assert_array_equal(number.labels_, name.labels_)
    assert list(name.domains_) == ["a", "b", "c"]
    assert len(anything.domains_) == 3
    assert np.abs(anything.proba(X, mixed) - anything.proba(X)).max() > 0.1


def test_shares_are_those_of_the_domains() -> None:
    X, of = striped()
    domains = mostly(of)
    fitted = LabelShift(3, n_margins=1).fit(X, domains=domains)
    true = np.zeros((3, 3))
    np.add.at(true, (domains, of), 1)
    true /= true.sum(1, keepdims=True)
    match = [fitted.labels_[of == c].tolist() for c in range(3)]
    order = [max(set(m), key=m.count) for m in match]
    assert_allclose(fitted.mixes_[:, order], true, atol=0.1)
    assert_allclose(fitted.mixes_.sum(1), 1)


def test_a_known_domain_changes_the_odds() -> None:
    X, of = blurred()
    domains = placed(of, 4, 0.3)
    fitted = LabelShift(6, n_margins=1).fit(X, domains=domains)
    unknown, known = fitted.proba(X), fitted.proba(X, domains)
    assert_array_equal(unknown.argmax(1), fitted.labels_)
    odds = unknown * (fitted.mixes_ / fitted.shares_)[domains]
    assert_allclose(known, odds / odds.sum(1, keepdims=True), atol=1e-5)
    assert right(known.argmax(1), of) > right(fitted.labels_, of) + 0.01
    assert_allclose(fitted.proba(X[:5], [99] * 5), unknown[:5], atol=1e-6)


@pytest.mark.parametrize("domains", [np.zeros(7), np.zeros((400, 2))])
def test_as_many_domains_as_images(domains: NDArray) -> None:
    with pytest.raises(PhylaError, match="400 images"):
        LabelShift(3).fit(blurred(400)[0], domains=domains)


def test_threads_change_nothing() -> None:
    X, of = blurred(600)
    one, three = (LabelShift(6, n_jobs=j).fit(X, domains=placed(of, 4, 0.5)) for j in (1, 3))
    assert_array_equal(one.strength_, three.strength_)


@pytest.mark.parametrize("n", [2, 5])
def test_few_rows_of_many_domains(n: int) -> None:
    X = np.random.default_rng(0).normal(size=(n, 3))
    fitted = LabelShift(3).fit(X, domains=np.arange(n))
    assert np.isfinite(fitted.strength_).all() and np.isfinite(fitted.mixes_).all()
