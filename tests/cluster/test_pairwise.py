"""Answers about pairs: what follows from them, what they weigh, and what they change."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from phyla.cluster import score
from phyla.cluster.kmeans import KMeans
from phyla.cluster.pairwise import Pairwise, components, of_pairs
from phyla.cluster.vote import Vote
from phyla.types import PhylaError


def right(labels: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    return score(labels, np.zeros(len(labels), bool), truth)["accuracy"]


def blurred(n: int = 1200, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    """Six classes that overlap, along an axis that tells nothing; the same classes for every seed."""
    centres = 1.3 * np.random.default_rng(0).normal(size=(6, 10))
    rng = np.random.default_rng(seed)
    of = np.arange(n) % 6
    X = centres[of] + rng.normal(size=(n, 10))
    X[:, 9] = 2.2 * rng.normal(size=n)
    return X.astype(np.float32), of


def asked(of: NDArray[np.int_], m: int, seed: int = 0) -> dict[str, NDArray[np.int_]]:
    """True answers on m random pairs."""
    pairs = np.random.default_rng(seed).integers(len(of), size=(m, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    alike = of[pairs[:, 0]] == of[pairs[:, 1]]
    return {"same": pairs[alike], "different": pairs[~alike]}


def made(k: int = 6) -> Pairwise:
    return Pairwise(k, n_voters=6, n_margins=1)


def test_without_answers_it_is_vote() -> None:
    X, _ = blurred()
    vote = Vote(6, n_voters=6, n_margins=1).fit(X)
    for fitted in (made().fit(X), made().fit(X, same=[], different=np.empty((0, 2), int))):
        assert_array_equal(fitted.labels_, vote.labels_)
        assert_array_equal(fitted.strength_, vote.strength_)
        assert fitted.agreed_ == 1


def test_answers_tell_which_classes_were_merged() -> None:
    X, of = blurred()
    new, truth = blurred(seed=1)
    got = {m: right(made().fit(X, **asked(of, m)).predict(new), truth) for m in (100, 500, 2000)}
    without, control = (right(method.fit(X).predict(new), truth) for method in (made(), KMeans(6)))
    print(f"right of new images by answers {got}, none {without:.3f}, k-means {control:.3f}")
    assert got[2000] > 0.9 > without + 0.05
    assert got[2000] > got[500] > control


def test_the_slope_is_that_of_the_surprise() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(4), (2, 6))
    alike = np.arange(6) % 2 == 0

    def loss(both: NDArray) -> float:
        met = (both[:6] * both[6:]).sum(1)
        return float(-np.log(np.where(alike, met, 1 - met)).sum())

    both, slope = np.vstack([p, q]), of_pairs(p, q, alike)
    for at in np.ndindex(both.shape):
        step = np.zeros(both.shape)
        step[at] = 1e-6
        assert slope[at] == pytest.approx((loss(both + step) - loss(both - step)) / 2e-6, rel=1e-5)


def test_a_hopeless_answer_pulls_no_harder_than_any() -> None:
    sure = np.eye(2)[[0]]
    assert np.abs(of_pairs(sure, sure[:, ::-1], np.array([True]))).max() <= 20
    assert np.abs(of_pairs(sure, sure, np.array([False]))).max() <= 20


def test_what_is_the_same_as_a_third_is_the_same() -> None:
    of = components(np.array([[0, 1], [1, 2], [5, 4]]), np.array([[0, 5], [3, 2]]), 6)
    assert of[0] == of[1] == of[2] and of[4] == of[5]
    assert len(set(of)) == 3


def test_answers_that_contradict_each_other_are_named() -> None:
    X, _ = blurred(60)
    with pytest.raises(PhylaError, match="images 7 and 3 are said to be different"):
        made().fit(X, same=[[3, 5], [5, 7]], different=[[1, 2], [7, 3]])
    with pytest.raises(PhylaError, match="images 4 and 4"):
        made().fit(X, different=[[4, 4]])


@pytest.mark.parametrize("pairs", [[[0, 60]], [[-1, 2]], [0, 1], [[0, 1, 2]], [[0.5, 1.0]]])
def test_pairs_of_rows_are_wanted(pairs: list) -> None:
    with pytest.raises(PhylaError, match="same has"):
        made().fit(blurred(60)[0], same=pairs)


def test_answers_are_forgotten() -> None:
    X, of = blurred()
    assert_array_equal(made().fit(X, **asked(of, 200)).fit(X).labels_, made().fit(X).labels_)


def test_the_groups_agree_with_the_answers() -> None:
    X, of = blurred()
    answers = asked(of, 2000)
    fitted = made().fit(X, **answers)
    same, different = answers["same"].T, answers["different"].T
    label = fitted.labels_
    kept = np.append(label[same[0]] == label[same[1]], label[different[0]] != label[different[1]])
    assert fitted.agreed_ == pytest.approx(kept.mean())
    assert fitted.agreed_ > 0.9
    assert (np.diff(np.bincount(label)) <= 0).all(), "the largest group first"


def test_threads_change_nothing() -> None:
    X, of = blurred(300)
    one, three = (Pairwise(6, n_voters=4, n_jobs=j).fit(X, **asked(of, 100)) for j in (1, 3))
    assert_array_equal(one.strength_, three.strength_)


def test_a_few_wrong_answers_do_little() -> None:
    X, of = blurred()
    answers = asked(of, 2000)
    wrong = made().fit(
        X, same=answers["same"], different=np.vstack([answers["different"], _apart(answers["same"], of)])
    )
    assert right(wrong.labels_, of) > right(made().fit(X).labels_, of) + 0.1


def _apart(same: NDArray[np.int_], of: NDArray[np.int_]) -> NDArray[np.int_]:
    """Pairs of one class that are asked about nowhere else, to be called different."""
    free = np.setdiff1d(np.flatnonzero(of == 0), same)
    return free[: len(free) // 2 * 2].reshape(-1, 2)


@pytest.mark.parametrize("n", [2, 4])
def test_few_rows(n: int) -> None:
    X = np.random.default_rng(0).normal(size=(n, 3))
    fitted = made(2).fit(X, different=[[0, 1]])
    assert np.isfinite(fitted.strength_).all()
    assert_allclose(fitted.strength_, fitted.assign(X)[1])
