"""Few answers → all images: what every way owes, and what each adds to a probe of the answers alone."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.base import clone

import phyla.label.spread
from phyla.label.spread import _spreader as shared

# `discover` gives more classes than there are answers of; it is tested by itself.
NAMES = sorted({p.stem for p in Path(phyla.label.spread.__file__).parent.glob("[!_]*.py")} - {"discover"})


def way(name: str) -> Any:
    module = import_module(f"phyla.label.spread.{name}")
    (offered,) = module.__all__
    return getattr(module, offered)


def blobs(
    n: int = 400, d: int = 12, c: int = 4, apart: float = 3.0, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Classes on a few directions of their own, among others without meaning."""
    rng = np.random.default_rng(seed)
    centres = apart * np.linalg.qr(np.random.default_rng(9).normal(size=(d, d)))[0][:c]
    of = (np.arange(n) % c).astype(np.int32)
    return (centres[of] + rng.normal(size=(n, d))).astype(np.float32), of


def asked(of: NDArray[np.int32], each: int, seed: int = 0) -> NDArray[np.int32]:
    """`each` random answers a class; −1 elsewhere."""
    rng = np.random.default_rng(seed)
    y = np.full(len(of), -1, np.int32)
    for code in np.unique(of):
        y[rng.choice(np.flatnonzero(of == code), each, replace=False)] = code
    return y


def right(method: Any, X: NDArray[np.float32], of: NDArray[np.int32]) -> float:
    return float((method.predict(X) == of).mean())


def fitted_numbers(method: Any) -> dict[str, Any]:
    return {k: v for k, v in vars(method).items() if k.endswith("_")}


@pytest.mark.parametrize("name", NAMES)
class TestWay:
    def test_has_a_version_and_says_what_it_is(self, name: str) -> None:
        assert isinstance(way(name).VERSION, int)
        assert ":" in (import_module(f"phyla.label.spread.{name}").__doc__ or "").partition("\n")[0]

    @pytest.mark.parametrize("grouped", [False, True])
    def test_probabilities_of_all_rows_and_of_new_ones(self, name: str, grouped: bool) -> None:
        X, of = blobs()
        before = X.copy()
        fitted = way(name)(blocks=(8, 4)).fit(X, asked(of, 3), of if grouped else None)
        assert_array_equal(X, before)
        for rows in (X, blobs(50, seed=3)[0], X[:1]):
            proba = fitted.predict_proba(rows)
            assert proba.dtype == np.float32 and proba.shape == (len(rows), 4)
            assert_allclose(proba.sum(1), 1, atol=1e-5)
            assert proba.min() >= 0

    def test_a_row_is_told_by_itself(self, name: str) -> None:
        X, of = blobs(200)
        fitted = way(name)().fit(X, asked(of, 3))
        every = fitted.predict_proba(X)
        for row in (0, 17, 199):
            assert_allclose(fitted.predict_proba(X[row : row + 1])[0], every[row], atol=1e-4)

    def test_same_seed_same_bytes_for_any_number_of_threads(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shared, "_PART", 64)
        X, of = blobs(400, d=6)  # of several parts
        y = asked(of, 5)
        one, three = (way(name)(n_jobs=j, random_state=2).fit(X, y, of).predict_proba(X) for j in (1, 3))
        assert one.tobytes() == three.tobytes()

    def test_the_arrays_are_all_there_is_to_save(self, name: str) -> None:
        X, of = blobs(120)
        fitted = way(name)(blocks=(6, 6)).fit(X, asked(of, 2), of)
        restored = clone(fitted)
        for attribute, value in fitted_numbers(fitted).items():
            assert isinstance(value, np.ndarray | int | float | np.number), attribute
            setattr(restored, attribute, value)
        assert_array_equal(restored.predict_proba(X), fitted.predict_proba(X))
        assert set(vars(fitted)) - set(fitted.get_params()) == set(fitted_numbers(fitted))

    @pytest.mark.filterwarnings("error::RuntimeWarning")
    @pytest.mark.parametrize("grouped", [False, True])
    def test_little_to_go_by(self, name: str, grouped: bool) -> None:
        X, _ = blobs(30, d=5)
        flat, steady = np.full((20, 4), 2, np.float32), X.copy()
        steady[:, 1] = 0
        cases = [
            (X, np.where(np.arange(30) == 4, 0, -1)),  # one class, one answer
            (X, np.where(np.arange(30) < 4, np.arange(30), -1)),  # one answer a class
            (X[:2], np.array([0, 1])),  # nothing left to tell
            (X[:2], np.array([0, -1])),
            (X, np.arange(30) % 3),  # all is known
            (flat, np.where(np.arange(20) < 2, np.arange(20), -1)),  # identical rows
            (np.zeros_like(flat), np.where(np.arange(20) < 3, np.arange(20), -1)),
            (steady, np.where(np.arange(30) < 6, np.arange(30) % 2, -1)),
            (X, np.where(np.arange(30) == 2, 2, -1)),  # two classes without an answer
        ]
        for rows, y in cases:
            groups = np.arange(len(rows), dtype=np.int32) % 3 - 1 if grouped else None
            proba = way(name)().fit(rows, y, groups).predict_proba(rows)
            assert proba.shape == (len(rows), y.max() + 1)
            assert np.isfinite(proba).all()
            assert_allclose(proba.sum(1), 1, atol=1e-5)

    def test_what_cannot_be_is_refused(self, name: str) -> None:
        X, of = blobs(40)
        with pytest.raises(ValueError, match="no answer"):
            way(name)().fit(X, np.full(40, -1))
        with pytest.raises(ValueError, match="40 rows, but 39"):
            way(name)().fit(X, of[:39])
        with pytest.raises(ValueError, match="blocks add up to 5"):
            way(name)(blocks=(5,)).fit(X, of)
        with pytest.raises(ValueError, match="finite"):
            way(name)().fit(np.where(X > 0, X, np.nan), of)
        with pytest.raises(ValueError, match="fitted to 12"):
            way(name)().fit(X, of).predict_proba(X[:, :5])

    def test_few_answers_tell_most(self, name: str) -> None:
        X, of = blobs(600)
        new, truth = blobs(400, seed=1)
        share = right(way(name)().fit(X, asked(of, 5)), new, truth)
        print(f"{name}: {share:.3f} of new rows right with 5 answers a class, 0.25 by chance")
        assert share > 0.75
        permuted = np.random.default_rng(0).permutation(of)
        assert right(way(name)().fit(X, asked(permuted, 5)), new, truth) < 0.6


# Ways that look at rows without an answer have to gain by it, where one answer a class says where classes lie only
# roughly.
@pytest.mark.parametrize("name", ["anchored", "laplacian", "mixup", "repri", "stkr", "transport"])
def test_unanswered_rows_help(name: str) -> None:
    found = []
    for seed in range(5):
        X, of = blobs(800, d=20, apart=3.5, seed=seed)
        y = asked(of, 1, seed)
        few = np.flatnonzero(y >= 0)
        groups = of if name == "mixup" else None
        # The control sees the answered rows alone.
        found.append((right(way(name)().fit(X, y, groups), X, of), right(way("probe")().fit(X[few], y[few]), X, of)))
    ours, probe = np.mean(found, axis=0)
    print(f"{name}: {ours:.3f}, a probe of the answers alone {probe:.3f}")
    assert ours > probe + 0.02


class TestAnchored:
    def test_groups_and_answers_do_better_than_either(self) -> None:
        X, of = blobs(1500, apart=2.5)
        rng = np.random.default_rng(0)
        groups = np.where(rng.random(1500) < 0.3, rng.integers(4, size=1500), of).astype(np.int32)
        y = asked(of, 3)
        named = np.array([3, 1, 0, 2])[groups]  # what a group is called is for the answers to say
        ours = right(way("anchored")().fit(X, y, named), X, of)
        probe, alone = right(way("probe")().fit(X, y), X, of), float((groups == of).mean())
        print(f"anchored {ours:.3f}, groups {alone:.3f}, probe {probe:.3f}")
        assert ours > max(probe, alone) + 0.02

    def test_a_group_of_two_classes_is_told_apart(self) -> None:
        X, of = blobs(1200, apart=4)
        merged = np.where(of == 3, 2, of).astype(np.int32)
        share = right(way("anchored")().fit(X, asked(of, 5), merged), X, of)
        print(f"two classes in one group: {share:.3f}; the groups alone at most 0.75")
        assert share > 0.9

    def test_more_groups_than_classes(self) -> None:
        X, of = blobs(1200, apart=4)
        many = of * 5 + np.arange(1200, dtype=np.int32) // 4 % 5
        assert right(way("anchored")().fit(X, asked(of, 2), many), X, of) > 0.9

    def test_a_group_without_answers_takes_the_class_that_is_left(self) -> None:
        X, of = blobs(400, apart=4)
        y = asked(of, 1)
        groups = of.copy()
        groups[y == 1] = 0  # the one answer of class 1 lies in the group of class 0
        assert not (y[groups == 1] >= 0).any()
        share = right(way("anchored")().fit(X, y, groups), X[of < 2], of[of < 2])
        print(f"a group without an answer beside one of two: {share:.3f}")
        assert share > 0.95

    def test_leaving_out_in_closed_form_is_leaving_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = import_module("phyla.label.spread.anchored")
        monkeypatch.setattr(module, "_RIDGES", (0.5,))
        rng = np.random.default_rng(0)
        x, label = rng.normal(size=(40, 5)).astype(np.float32), rng.random((40, 3)).astype(np.float32)
        said = module._Ridge(x, label, 1).left_out(label)
        for row in (0, 13):
            rest = np.arange(40) != row
            weights = np.linalg.solve(x[rest].T @ x[rest] + 0.5 * np.eye(5), x[rest].T @ label[rest])
            assert_allclose(said[row], x[row] @ weights, atol=1e-4)

    def test_several_at_once_are_as_one_by_one(self) -> None:
        X, of = blobs(500)
        y = asked(of, 6)
        less = np.where(np.arange(500) % 3 > 0, y, -1)
        for (model, _), labels in zip(way("anchored")().fits(X, [y, less], of), (y, less), strict=True):
            alone = way("anchored")().fit(X, labels, of)
            assert vars(model).keys() == vars(alone).keys()
            assert_allclose(model.predict_proba(X), alone.predict_proba(X), atol=1e-3)

    def test_rows_learnt_from_are_as_sure_as_new_ones(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(import_module("phyla.label.spread.anchored"), "_SAMPLE", 700)  # the others are not learnt
        X, of = blobs(900, d=60, apart=2.5)
        new, _ = blobs(900, d=60, apart=2.5, seed=1)
        ((model, said),) = way("anchored")().fits(X, [asked(of, 20)])
        sure = [proba.max(1).mean() for proba in (said, model.predict_proba(new), model.predict_proba(X))]
        print(f"sure of rows as if new {sure[0]:.3f}, of new ones {sure[1]:.3f}, of those learnt from {sure[2]:.3f}")
        assert abs(sure[0] - sure[1]) < 0.5 * (sure[2] - sure[1])
        assert (said == model.predict_proba(X)).all(1).sum() == 200

    def test_labels_move_around_an_answer_and_nowhere_else(self) -> None:
        view = shared.directions(np.eye(6, dtype=np.float32)[[0, 0, 1, 2]] * 2, np.array([6]), 6)
        answers = shared.one_hot(np.array([1], np.int32), 2)
        before = np.tile(np.float32([0.9, 0.1]), (4, 1))
        after = shared.Residuals(view, np.array([0]), answers, np.random.default_rng(0), 1).mended(before)
        assert_array_equal(after[0], after[1])
        assert after[0, 1] > after[2, 1] > 0.1
        assert after[0, 1] - 0.1 > 5 * (after[2, 1] - 0.1)


class TestNearestMean:
    def test_answers_and_classes_added_are_as_if_given_at_once(self) -> None:
        X, of = blobs()
        y = asked(of, 4)
        first = np.where((y < 2) & (np.arange(400) < 200), y, -1)
        grown = way("nearest_mean")().fit(X, first)
        assert grown.predict_proba(X).shape[1] == 2
        grown.learn_more(X, np.where(first < 0, y, -1))
        assert_allclose(grown.predict_proba(X), way("nearest_mean")().fit(X, y).predict_proba(X), atol=1e-5)


class TestProbe:
    def test_is_logistic_regression(self) -> None:
        from sklearn.linear_model import LogisticRegression

        X, of = blobs(90, d=4, apart=1.5)
        x = shared.with_one(X)
        weights = shared.logistic(x, shared.one_hot(of, 4), 0.1)
        theirs = LogisticRegression(C=1 / (0.1 * 90), fit_intercept=False, tol=1e-8, max_iter=1000).fit(x, of)
        assert_allclose(shared.softmax(x @ weights), theirs.predict_proba(x), atol=2e-3)


class TestRare:
    def test_blending_serves_rare_classes(self) -> None:
        gains = []
        for seed in range(6):
            rng = np.random.default_rng(seed)
            X, of = blobs(2000, d=20, apart=2.5, seed=seed)
            keep = rng.random(2000) < np.array([1, 0.5, 0.1, 0.05])[of]
            X, of = X[keep], of[keep]
            y = np.full(len(of), -1, np.int32)
            for code, each in enumerate((20, 10, 2, 2)):
                y[rng.choice(np.flatnonzero(of == code), each, replace=False)] = code
            blended, plain = (way("daso")(blend=b).fit(X, y).predict(X) for b in (True, False))
            recall = [np.mean([(p[of == c] == c).mean() for c in range(4)]) for p in (blended, plain)]
            gains.append(recall)
        ours, plain = np.mean(gains, axis=0)
        print(f"mean recall of classes 20:1: blended {ours:.3f}, plain pseudo-labels {plain:.3f}")
        assert ours > plain + 0.02
