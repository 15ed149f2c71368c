"""Wrong labels are found, with the chance that they are wrong, and better than by what the checks are made of."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score as auroc

from phyla import plugins
from phyla.audit import _mislabel
from phyla.audit._trained import margins
from phyla.neighbors import nearest_neighbors

default, area, small, centres = (
    import_module(f"phyla.audit.{name}") for name in ("mislabelled", "margin_area", "small_loss", "sub_centres")
)
NAMES = ["ant", "bee", "cow", "dog", "eel"]
C = len(NAMES)


def blobs(n: int = 1500, d: int = 40, apart: float = 2.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes in the first axes of d."""
    rng = np.random.default_rng(seed)
    centres = np.zeros((C, d))
    centres[:, :8] = apart * rng.standard_normal((C, min(d, 8))) / np.sqrt(2)
    y = rng.integers(C, size=n).astype(np.int32)
    return (centres[y] + rng.standard_normal((n, d))).astype(np.float32), y


def planted(y: np.ndarray, kind: str, share: float = 0.1, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    other = (y + rng.integers(1, C, len(y))) % C if kind == "any" else np.array([1, 0, 2, 3, 4])[y]
    labels = np.where(rng.random(len(y)) < share, other, y).astype(np.int32)
    return labels, labels != y


def near(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return nearest_neighbors(X, 20)


def judge(X: np.ndarray, labels: np.ndarray, **more: Any) -> _mislabel.Judged:
    return default.judge(X, labels, C, near(X), None, more.get("n_jobs", 1))


def test_left_out_is_what_a_fit_without_the_row_says() -> None:
    X, y = blobs(120, 6)
    told = _mislabel.left_out(X, y, C)
    best = np.inf
    for penalty in _mislabel._PENALTIES:
        A = np.column_stack([X, np.ones(len(X))])
        again = np.stack(
            [
                Ridge(float(penalty) * len(X), fit_intercept=False)
                .fit(np.delete(A, row, 0), np.eye(C)[np.delete(y, row)])
                .predict(A[row : row + 1])[0]
                for row in range(0, len(X), 10)
            ]
        )
        best = min(best, float(np.abs(again - told[::10]).max()))
    assert best < 1e-4


def test_rows_without_a_label_are_predicted_and_not_judged() -> None:
    X, y = blobs()
    labels, bad = planted(y, "any")
    labels[::2] = -1
    judged = judge(X, labels)
    assert (judged.wrong[::2] == 0).all()
    assert auroc(bad[1::2], judged.wrong[1::2]) > 0.9
    assert (judged.proba[::2].argmax(1) == y[::2]).mean() > 0.85
    np.testing.assert_allclose(judged.proba.sum(1), 1, atol=1e-4)


def test_the_channel_learns_who_is_taken_for_whom() -> None:
    X, y = blobs(4000, apart=1.6)
    labels, bad = planted(y, "pair", 0.2)
    view = _mislabel.left_out(X, labels, C)
    judged = _mislabel.channel([view], labels, (_mislabel.OF_REGRESSION,))
    assert abs(judged.confusion[0, 1] - 0.2) < 0.05 and abs(judged.confusion[1, 0] - 0.2) < 0.05
    assert judged.confusion[2:, 2:].diagonal().min() > 0.85
    got, control = auroc(bad, judged.wrong), auroc(bad, -margins(view, labels))
    print(f"AUROC of labels of two classes exchanged: channel {got:.3f}, margin {control:.3f}")
    assert got > control + 0.01


def test_mistakes_that_are_all_as_likely_are_taken_for_such() -> None:
    X, y = blobs(3000)
    labels, _ = planted(y, "any")
    off = judge(X, labels).confusion[~np.eye(C, dtype=bool)]
    assert np.ptp(off) < 1e-9 and abs(off.sum() / C - 0.1) < 0.03


def test_the_severity_is_the_chance_that_the_label_is_wrong() -> None:
    X, y = blobs(8000, apart=1.6)
    labels, bad = planted(y, "any")
    wrong = judge(X, labels).wrong
    for low, high in ((0.02, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)):
        rows = (wrong > low) & (wrong <= high)
        print(low, high, rows.sum(), wrong[rows].mean().round(3), bad[rows].mean().round(3))
        assert abs(wrong[rows].mean() - bad[rows].mean()) < 0.12


def test_better_than_a_vote_of_neighbours() -> None:
    X, y = blobs(4000)
    labels, bad = planted(y, "any")
    got = auroc(bad, judge(X, labels).wrong)
    vote = _mislabel.vote(near(X)[0], labels, C)
    control = auroc(bad, -margins(vote, labels))
    print(f"AUROC: mislabelled {got:.3f}, neighbours {control:.3f}")
    assert got > control + 0.005 and got > 0.98


def test_few_labels() -> None:
    X, y = blobs(1000, apart=3)
    found = []
    for seed in range(8):
        labels, bad = planted(y, "any", seed=seed)
        told = np.random.default_rng(seed).permutation(1000)[:60]
        few = np.full(1000, -1, np.int32)
        few[told] = labels[told]
        if bad[told].any():
            found.append(auroc(bad[told], judge(X, few).wrong[told]))
    print(f"AUROC with 60 labels of 1,000: {np.mean(found):.3f}")
    assert np.mean(found) > 0.85


def test_findings() -> None:
    X, y = blobs(apart=4)
    labels = y.copy()
    labels[7] = (y[7] + 1) % C
    found = default.mislabelled(X=X, labels=labels, classes=NAMES, neighbors=near(X))
    rows, severity, why = found[0]
    assert rows == (7,) and severity > 0.9
    assert why == f"It is labelled {NAMES[labels[7]]}, but looks like {NAMES[y[7]]}."
    assert [f[1] for f in found] == sorted((f[1] for f in found), reverse=True) and found[-1][1] >= 0.5
    assert len(found) < 10


def test_the_area_under_the_margin_and_its_threshold_rows() -> None:
    X, y = blobs(3000, apart=3)
    labels, bad = planted(y, "any")
    score = area.severity(X, labels, C, None, 1)
    caught = score >= 0.5
    print(
        f"AUROC {auroc(bad, score):.3f}; found of the wrong {caught[bad].mean():.2f}, right {caught[~bad].mean():.2f}"
    )
    assert auroc(bad, score) > 0.93
    assert caught[bad].mean() > 0.8 > 0.25 > caught[~bad].mean()
    clean = area.severity(X, y, C, None, 1)
    assert (clean >= 0.5).mean() < 0.25


def test_two_betas_part_two_kinds_of_losses() -> None:
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.beta(2, 20, 900), rng.beta(8, 4, 100)]).astype(np.float32)
    chance = small.of_the_larger(losses)
    assert (chance[:900] < 0.5).mean() > 0.98 and (chance[900:] > 0.5).mean() > 0.9
    assert (np.diff(chance[np.argsort(losses)]) >= 0).all()


def test_the_other_half_judges() -> None:
    """A label learned by heart can't be told: judged by the classifier that saw it, each of few rows looks right."""
    X, y = blobs(400, 300, apart=3)
    labels, bad = planted(y, "any", 0.15)
    score, instead = small.severity(X, labels, C, (300,), 1)
    own = np.column_stack([X, np.ones(len(X))]).astype(np.float32)
    fitted = margins(own @ np.linalg.lstsq(own, np.eye(C)[labels], rcond=None)[0], labels)
    got, control = auroc(bad, score), auroc(bad, -fitted)
    print(f"AUROC: the other half {got:.3f}, its own {control:.3f}")
    assert got > control + 0.05
    assert (instead[bad] == y[bad]).mean() > 0.6


def test_a_class_of_two_kinds_needs_sub_centres() -> None:
    rng = np.random.default_rng(0)
    kinds = 3 * rng.standard_normal((4, 12)).astype(np.float32)
    kind = rng.integers(4, size=1200)
    X = (kinds[kind] + rng.standard_normal((1200, 12))).astype(np.float32)
    y = (kind // 2).astype(np.int32)
    flip = rng.random(1200) < 0.1
    score, _ = centres.severity(X, np.where(flip, 1 - y, y).astype(np.int32), 2, None)
    print(f"AUROC of two classes of two kinds each: {auroc(flip, score):.3f}")
    Z = X / np.linalg.norm(X, axis=1, keepdims=True)
    found = centres.trained(Z, y, 2, rng)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), 1, rtol=1e-4)
    best = (Z @ found).reshape(-1, 2, 3).max(2).argmax(1)
    assert (best == y).mean() > 0.9


CHECKS = ["mislabelled", "margin_area", "small_loss", "sub_centres"]


@pytest.mark.parametrize("name", CHECKS)
def test_the_same_for_any_number_of_threads_and_nothing_is_changed(name: str) -> None:
    X, y = blobs(5000, 20)
    labels, _ = planted(y, "any")
    needs = {"X": X, "labels": labels, "classes": NAMES} | ({"neighbors": near(X)} if name == "mislabelled" else {})
    before = X.copy(), labels.copy()
    one, two = (plugins.load("audit", name)(**needs, n_jobs=jobs) for jobs in (1, 2))
    assert one == two and len(one) > 100
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(labels, before[1])


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("case", ["two rows", "one class", "no label", "constant", "a class without a row"])
def test_small_and_odd_collections(name: str, case: str) -> None:
    X, y = blobs(60, 5)
    classes = NAMES
    if case == "two rows":
        X, y = X[:2], np.array([0, 1], np.int32)
    elif case == "one class":
        y, classes = np.zeros_like(y), NAMES[:1]
    elif case == "no label":
        y = np.full_like(y, -1)
    elif case == "constant":
        X = np.ones_like(X)
    else:
        y[y == 2] = 3
    needs: dict[str, Any] = {"X": X, "labels": y, "classes": classes}
    if name == "mislabelled":
        needs["neighbors"] = nearest_neighbors(X, min(20, len(X) - 1))
    for rows, severity, why in plugins.load("audit", name)(**needs):
        assert 0 <= rows[0] < len(X) and 0.5 <= severity <= 1 and why
