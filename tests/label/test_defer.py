"""Whether what is accepted is as wrong as stated, however the answers were asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from phyla.label._checks import checks, turns
from phyla.label.defer import Defer, held_out


def believed(
    n: int = 20_000, sure: float = 1.0, seed: int = 0, c: int = 4
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """proba (n, c) and the truth: at `sure` 1 calibrated, above too sure, below not sure enough."""
    rng = np.random.default_rng(seed)
    logits = 3.5 * rng.normal(size=(n, c))
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    truth = (p.cumsum(1) < rng.random((n, 1))).sum(1).clip(max=c - 1)
    said = p**sure
    return (said / said.sum(1, keepdims=True)).astype(np.float32), truth.astype(np.int32)


def asked(proba: NDArray, truth: NDArray, n_unsure: int, n_checks: int) -> NDArray[np.int32]:
    labels = np.full(len(truth), -1, np.int32)
    top = np.sort(proba, axis=1)
    rows = np.r_[np.argsort(top[:, -1] - top[:, -2])[:n_unsure], np.argsort(turns(proba))[:n_checks]]
    labels[rows] = truth[rows]
    return labels


def wrong(fitted: Defer, proba: NDArray, truth: NDArray) -> float:
    return float((proba.argmax(1) != truth)[fitted.accept(proba)].mean())


@pytest.mark.parametrize("target", [0.02, 0.05])
def test_the_error_of_new_rows_is_the_one_stated(target: float) -> None:
    got, stated, deviations, shares = [], [], [], []
    for seed in range(8):
        proba, truth = believed(seed=seed)
        new, new_truth = believed(seed=seed + 50)
        fitted = Defer(target).fit(proba, asked(proba, truth, 100, 150))
        got.append(wrong(fitted, new, new_truth))
        stated.append(fitted.error_)
        deviations.append(fitted.deviation_)
        shares.append([fitted.accept(new).mean(), fitted.coverage_])
    off = np.abs(np.subtract(got, stated)).mean()
    print(f"stated {np.mean(stated):.4f}, true {np.mean(got):.4f}, off by {off:.4f}, said {np.mean(deviations):.4f}")
    assert np.allclose(stated, target, atol=1e-3)
    assert np.mean(got) == pytest.approx(target, rel=0.3)
    assert off < 1.3 * np.mean(deviations)
    assert np.mean(got) < 0.4 * (new.argmax(1) != new_truth).mean(), "all new rows are as wrong"
    assert np.allclose(*np.transpose(shares), atol=0.02)
    assert np.mean(shares) > 0.25


@pytest.mark.parametrize("sure", [1.6, 0.6])
def test_checks_correct_what_is_too_sure_or_not_enough(sure: float) -> None:
    off, plain, deviations = [], [], []
    for seed in range(6):
        proba, truth = believed(sure=sure, seed=seed)
        fitted = Defer(0.03).fit(proba, asked(proba, truth, 100, 400))
        off.append(abs(wrong(fitted, proba, truth) - fitted.error_))
        order = np.argsort(-proba.max(1))  # the control takes `proba` at its word
        taken = order[: np.searchsorted(np.cumsum(1 - proba.max(1)[order]) / np.arange(1, len(order) + 1), 0.03)]
        plain.append(abs((proba.argmax(1) != truth)[taken].mean() - 0.03))
        deviations.append(fitted.deviation_)
    print(f"off by {np.mean(off):.4f}, without checks {np.mean(plain):.4f}; stated deviation {np.mean(deviations):.4f}")
    assert np.mean(off) < 0.6 * np.mean(plain)
    assert np.mean(off) < 2 * np.mean(deviations)


def test_nothing_is_stated_without_checks() -> None:
    """Unsure answers are no sample of what is accepted; taken for one they would state too large an error."""
    proba, truth = believed()
    labels = asked(proba, truth, 300, 0)
    assert len(checks(proba, labels)) < 15
    fitted = Defer(0.02).fit(proba, labels)
    assert np.isnan(fitted.error_) and np.isnan(fitted.deviation_)
    assert (fitted.accept(proba) == (proba.max(1) >= 0.5)).all()
    assert fitted.coverage_ == fitted.accept(proba).mean()
    naive = (proba.argmax(1) == truth)[labels >= 0].mean()
    assert naive < 0.6 < 0.8 < 1 - wrong(fitted, proba, truth)


def test_the_radius_is_the_rule() -> None:
    proba, truth = believed()
    fitted = Defer(0.02).fit(proba, asked(proba, truth, 50, 150))
    label, far = proba.argmax(1), 1 - proba.max(1)
    clear = abs(far - fitted.radius_[label]) > 1e-6
    assert ((far <= fitted.radius_[label]) == fitted.accept(proba))[clear].all()
    error = fitted.error(proba)
    assert error[fitted.accept(proba)].max() <= error[~fitted.accept(proba)].min() + 1e-6
    assert error[fitted.accept(proba)].mean() == pytest.approx(fitted.error_, abs=1e-6)
    assert error[fitted.accept(proba)].mean() <= 0.02


def test_a_class_that_is_often_wrong_has_a_smaller_radius() -> None:
    proba, truth = believed()
    mistaken = (proba.argmax(1) == 2) & (np.random.default_rng(0).random(len(truth)) < 0.25)
    truth = np.where(mistaken, 3, truth).astype(np.int32)
    radius = Defer(0.05).fit(proba, asked(proba, truth, 0, 400)).radius_
    assert radius[2] < 0.7 * np.delete(radius, 2).min()


def test_the_paper_s_radius_says_nothing_of_the_error() -> None:
    """The control: up to the nearest confirmed mistake. Its error is what the answers happen to be, not a target."""
    errors = []
    for n_checks in (40, 640):
        proba, truth = believed()
        rows = np.argsort(turns(proba))[:n_checks]
        label, far = proba.argmax(1), 1 - proba.max(1)
        mistake = label[rows] != truth[rows]
        radius = np.array([min(far[rows[mistake & (label[rows] == c)]], default=1.0) for c in range(4)])
        errors.append((label != truth)[far < radius[label]].mean())
    print(f"wrong among the accepted: {errors[0]:.4f} with 40 answers, {errors[1]:.4f} with 640")
    assert errors[0] > 2 * errors[1]


def test_edges() -> None:
    proba, truth = believed(50)
    none = np.full(50, -1, np.int32)
    assert Defer(0.0).fit(proba, truth).accept(proba).sum() == 0
    assert Defer(1.0).fit(proba, truth).accept(proba).all()
    for labels in (none, truth, np.where(np.arange(50) == 3, truth, -1)):
        fitted = vars(Defer(0.1).fit(proba, labels.astype(np.int32)))
        unknown = {name for name in fitted if name.endswith("_") and not np.isfinite(fitted[name]).all()}
        assert unknown == (set() if labels is truth else {"error_", "deviation_"})
    one = np.ones((5, 1), np.float32)
    assert Defer().fit(one, np.zeros(5, np.int32)).accept(one).all()
    always_wrong = Defer(0.02).fit(proba, ((proba.argmax(1) + 1) % 4).astype(np.int32))
    assert always_wrong.accept(proba).sum() == 0
    with pytest.raises(ValueError, match="target=2"):
        Defer(2)


def test_a_restored_object_accepts_the_same() -> None:
    proba, truth = believed(2000)
    fitted, restored = Defer(0.05).fit(proba, asked(proba, truth, 20, 50)), Defer(0.05)
    for name, value in vars(fitted).items():
        if name.endswith("_"):
            assert isinstance(value, (np.ndarray, float, int))
            setattr(restored, name, value)
    assert (restored.accept(proba) == fitted.accept(proba)).all()


def test_no_answer_is_seen_by_what_is_held_out() -> None:
    """What is learnt here says what it was told, and else class 0."""

    def learn(many: Sequence[NDArray[np.int32]]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for number, labels in enumerate(many):
            assert set(labels[labels >= 0]) == {0, 1, 2}, "a class has lost all its answers"
            yield number, np.eye(3, dtype=np.float32)[np.maximum(labels, 0)]

    labels = np.full(40, -1, np.int32)
    labels[:14] = [0, 0, 1, 1, 2, 1, 0, 1, 0, 1, 0, 0, 1, 1]
    model, proba, apart, kept = held_out(learn, labels, np.random.default_rng(0))
    assert model == 0, "the model is that of all answers"
    assert (proba.argmax(1) == np.maximum(labels, 0)).all()
    assert (apart.argmax(1) == 0)[kept >= 0].all()
    assert kept[4] == -1, "the only answer of its class cannot be held out"
    assert (kept[:14] >= 0).sum() == 13
    assert (kept[kept >= 0] == labels[kept >= 0]).all()


def test_other_new_classes_without_some_answers_are_all_alike() -> None:
    """The last labellings lack answers, and there two new classes are found instead of one."""

    def learn(many: Sequence[NDArray[np.int32]]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for number, labels in enumerate(many):
            found = np.r_[0.1, 0.2, 0.7] if number == 0 else np.r_[0.1, 0.2, 0.3, 0.4]
            yield number, np.tile(found.astype(np.float32), (len(labels), 1))

    labels = np.where(np.arange(20) < 8, np.arange(20) % 2, -1).astype(np.int32)
    _, _, apart, _ = held_out(learn, labels, np.random.default_rng(0))
    assert np.allclose(apart, [0.1, 0.2, 0.7])


def test_what_a_teacher_says_is_as_good_as_checks() -> None:
    """From how probably each row is right, the radii keep the error among what is accepted."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 3))
    truth = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    said = np.exp(1.7 * logits)  # too sure
    said = (said / said.sum(1, keepdims=True)).astype(np.float32)
    real = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    half = slice(0, 10_000)
    defer = Defer(0.05).fit_right(said[half], real[half].max(1))
    new = slice(10_000, None)
    taken = defer.accept(said[new])
    wrong = float((said[new].argmax(1) != truth[new])[taken].mean())
    naive = float((said[new].argmax(1) != truth[new])[said[new].max(1) > 0.95].mean())
    print(f"wrong among the accepted: {wrong:.4f}; where it says more than 0.95: {naive:.4f}")
    assert abs(wrong - 0.05) < 0.015 and abs(defer.error_ - 0.05) < 0.005 and 0.15 < taken.mean() < 0.95
