"""Strange pictures are found, alone or in company; and what else the looks of groups and classes tell."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score as auroc

from phyla import plugins
from phyla.audit import _outliers
from phyla.neighbors import nearest_neighbors

default, unknown, both, apart = (
    import_module(f"phyla.audit.{name}") for name in ("outlier", "unknown_class", "ambiguous", "separability")
)

default_judge = import_module("phyla.audit.mislabelled").judge


def groups(n: int = 1500, d: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three groups that differ in the first axes; all axes of about unit variance."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n).astype(np.int32)
    X = rng.standard_normal((n, d)).astype(np.float32)
    X[:, :8] = 0.3 * X[:, :8] + 1.5 * rng.standard_normal((3, 8)).astype(np.float32)[y]
    return X, y


def near(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return nearest_neighbors(np.ascontiguousarray(X[:, :32]), 20)


def strange(X: np.ndarray, ways: tuple[str, ...] = default.DEFAULT, **more: Any) -> np.ndarray:
    told = {"residual": None, "groups": None, "blocks": None, "n_jobs": 1} | more
    return default.severity(default.strangeness(X, near(X), ways=ways, **told))


def planted(kind: str) -> tuple[np.ndarray, np.ndarray]:
    X, _ = groups()
    rng = np.random.default_rng(1)
    bad = np.zeros(len(X), bool)
    bad[: 6 if kind == "alone" else 30] = True
    if kind == "alone":
        X[bad] *= 1.5
    elif kind == "company":  # of one look, wide in what hardly varies
        X[bad, :32] = X[0, :32] + 0.3 * rng.standard_normal((bad.sum(), 32))
        X[bad, 32:] *= 1.25
    else:  # all alike: too short rather than too long
        X[bad] = X[0] * 0.7 + 0.02 * rng.standard_normal((bad.sum(), X.shape[1]))
    return X.astype(np.float32), bad


@pytest.mark.parametrize("kind", ["alone", "company", "alike"])
def test_planted_pictures_are_strange(kind: str) -> None:
    X, bad = planted(kind)
    got, control = auroc(bad, strange(X)), auroc(bad, near(X)[1].mean(1))
    print(f"AUROC of strange pictures, {kind}: outlier {got:.3f}, distance to neighbours {control:.3f}")
    assert got > 0.95
    if kind != "alone":
        assert got > control + 0.2


def test_the_company_that_a_picture_keeps() -> None:
    X, bad = planted("company")
    score = _outliers.unlike(X, None)
    got, control = auroc(bad, _outliers.company(score, near(X)[0])), auroc(bad, score)
    print(f"AUROC of low-variance axes: with neighbours {got:.3f}, without {control:.3f}")
    assert got > control + 0.01
    values, indices = np.array([3.0, 0, 6]), np.array([[1, 2], [0, 2], [0, 1]], np.int32)
    np.testing.assert_allclose(_outliers.company(values, indices), [3, 3, 3])


def test_what_the_axes_leave_out_counts() -> None:
    X, _ = groups()
    residual = np.random.default_rng(0).chisquare(50, len(X)).astype(np.float32) / 50
    residual[:10] += 2
    bad = np.arange(len(X)) < 10
    assert auroc(bad, strange(X, residual=residual)) > 0.97 > 0.8 > auroc(bad, strange(X))


def test_ordinary_collections_have_few_findings() -> None:
    X, _ = groups(4000)
    assert len(default.outlier(X=X, neighbors=near(X))) < 0.03 * len(X)


def test_findings_are_sorted_and_say_why() -> None:
    X, bad = planted("alone")
    found = default.outlier(X=X, neighbors=near(X))
    severities = [severity for _, severity, _ in found]
    assert severities == sorted(severities, reverse=True) and 0.5 <= severities[-1] <= severities[0] <= 1
    assert len({rows[0] for rows, _, _ in found[:6]} & set(np.flatnonzero(bad))) >= 5
    assert all(why.split(":")[0] in default.WAYS.values() for _, _, why in found)


def test_distance_to_prototypes_is_that_to_the_nearest() -> None:
    X, _ = groups(60, 8)
    told = _outliers.from_prototypes(X, np.where(np.arange(60) < 8, 0, -1).astype(np.int32), np.random.default_rng(0))
    np.testing.assert_allclose(told, cdist(X, X[:8]).min(1) ** 2, atol=1e-3)  # eight rows are the eight prototypes


def test_random_projections_see_what_is_far_out() -> None:
    X, _ = groups()
    X[:5] *= 2
    score = _outliers.outlying(X, np.random.default_rng(0))
    assert set(np.argsort(-score)[:5]) == set(range(5))
    # Of a normal distribution the deviation is on average √(2/π) widths, and the median deviation 0.6745 of them.
    normal = np.random.default_rng(0).standard_normal((4000, 50)).astype(np.float32)
    assert abs(_outliers.outlying(normal, np.random.default_rng(0)).mean() - np.sqrt(2 / np.pi) / 0.6745) < 0.02


def test_energy_and_largest_logit() -> None:
    logits = np.array([[1, 0, 0], [0.4, 0.3, 0.3], [1, 1, 0]], np.float32)
    assert _outliers.max_logit(logits).argmax() == 1
    np.testing.assert_allclose(_outliers.energy(logits), -np.log(np.exp(8 * logits).sum(1)), rtol=1e-5)


def test_the_fence() -> None:
    score = np.arange(101, dtype=np.float32)
    severity = _outliers.by_fence(score)
    assert severity[0] == 0 and (np.diff(severity) > 0).all() and severity[-1] < 0.5
    assert _outliers.by_fence(np.append(score, 150))[-1] == pytest.approx(0.5, abs=0.01)
    assert _outliers.by_fence(np.append(score, 300))[-1] == pytest.approx(0.75, abs=0.01)


def test_a_class_that_no_label_names() -> None:
    X, y = groups()
    labels = np.where(y == 2, -1, y).astype(np.int32)
    labels[::3] = -1
    keep = (y != 2) | (np.arange(len(y)) % 10 == 0)
    new = (y == 2)[keep]
    energy = unknown.severity(X[keep], labels[keep], 2, None, 1)
    largest = unknown.severity(X[keep], labels[keep], 2, None, 1, by_largest=True)
    print(f"AUROC of a new class: energy {auroc(new, energy):.3f}, largest logit {auroc(new, largest):.3f}")
    assert min(auroc(new, energy), auroc(new, largest)) > 0.8


def test_two_classes_fit() -> None:
    X, y = groups()
    others = np.array([np.flatnonzero(y == (c + 1) % 3)[0] for c in range(3)])
    X[:20] = (X[:20] + X[others[y[:20]]]) / 2
    told = near(X)
    score = both.severity(default_judge(X, y, 3, told, None, 1).proba)
    print(f"AUROC of pictures between two classes: {auroc(np.arange(len(X)) < 20, score):.3f}")
    assert auroc(np.arange(len(X)) < 20, score) > 0.9
    found = both.ambiguous(X=X, labels=y, classes=["a", "b", "c"], neighbors=told)
    assert found and all(rows[0] < 20 for rows, _, _ in found)
    assert found[0][2].startswith("It may be ")


def test_groups_that_run_into_others() -> None:
    X, y = groups()
    assert apart.separability(groups=y, neighbors=near(X)) == []
    split = np.where(y == 2, 2 + np.random.default_rng(5).integers(2, size=len(y)), y).astype(np.int32)
    found = apart.separability(groups=split, neighbors=near(X))
    assert {why.split("group ")[1].split()[0] for _, _, why in found} == {"2", "3"}
    assert all((split[list(rows)] >= 2).all() for rows, _, _ in found)


@pytest.mark.parametrize("d", [2, 6])
def test_dimension(d: int) -> None:
    flat = np.random.default_rng(0).random((4000, d)).astype(np.float32)
    X = np.hstack([flat, np.zeros((4000, 5), np.float32)])
    assert np.mean(apart.dimension(nearest_neighbors(X, 20)[1])) == pytest.approx(d, rel=0.12)


def test_imbalance() -> None:
    check = plugins.load("audit", "imbalance")
    groups = np.repeat([0, 1, 2, 3], [1000, 600, 100, 10]).astype(np.int32)
    found = check(groups=groups)
    assert [(len(rows), round(severity, 3)) for rows, severity, _ in found] == [(10, 1.0), (100, 0.5)]
    assert found[0][2] == "group 3 has 10, 100 times fewer than group 0."
    named = check(groups=groups, labels=np.where(groups == 2, -1, groups), classes=["a", "b", "c", "d"])
    assert [why for _, _, why in named] == ["d has 10, 100 times fewer than a."]


@pytest.mark.parametrize("case", ["two rows", "constant", "one column", "all but one alike"])
def test_small_and_odd_collections(case: str) -> None:
    X, y = groups(100)
    if case == "two rows":
        X, y = X[:2], y[:2]
    elif case == "constant":
        X = np.ones_like(X)
    elif case == "one column":
        X = np.ascontiguousarray(X[:, :1])
    else:
        X = np.ones_like(X)
        X[0] += 1
    needs: dict[str, Any] = {
        "X": X, "groups": y, "labels": y, "classes": ["a", "b", "c"],
        "neighbors": nearest_neighbors(X, min(20, len(X) - 1)),
    }  # fmt: skip
    takes = {
        "outlier": ["X", "neighbors", "groups"],
        "unknown_class": ["X", "labels", "classes"],
        "ambiguous": ["X", "labels", "classes", "neighbors"],
        "separability": ["groups", "neighbors"],
        "imbalance": ["groups", "labels", "classes"],
    }
    for name, own in takes.items():
        more = {"ways": list(default.WAYS)} if name == "outlier" else {}
        for rows, severity, why in plugins.load("audit", name)(**{need: needs[need] for need in own}, **more):
            assert 0 <= min(rows) <= max(rows) < len(X) and 0.5 <= severity <= 1 and why


def test_the_same_for_any_number_of_threads() -> None:
    X, _ = planted("company")
    _, y = groups()
    one, two = (strange(X, tuple(default.WAYS), groups=y, n_jobs=jobs) for jobs in (1, 2))
    assert (one == two).all()
    with pytest.raises(ValueError, match="need groups"):
        strange(X, ("energy",))
    with pytest.raises(ValueError, match="not known"):
        strange(X, ("looks",))
