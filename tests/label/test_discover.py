"""Classes that nobody named: their number and their images, against k-means that is told the number."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from phyla.label.spread.discover import Discover, _claimed, _merges, _mixture, _Start

KNOWN, NEW = 4, 4


def blobs(
    seed: int, spread: float = 1.6, n: int = 1600, apart: float = 0.9
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X (n, 40), truth, and y with ten labels of each known class.

    Known classes lie side by side in pairs, which distances alone would not part.
    """
    rng = np.random.default_rng(seed)
    truth = rng.integers(KNOWN + NEW, size=n)
    centre = rng.normal(size=(KNOWN + NEW, 40)) * 2
    centre[[1, 3]] = centre[[0, 2]] + rng.normal(size=(2, 40)) * apart
    X = centre[truth] + spread * rng.normal(size=(n, 40))
    y = np.full(n, -1, np.int32)
    for j in range(KNOWN):
        y[np.flatnonzero(truth == j)[:10]] = j
    return X.astype(np.float32), truth, y


def accuracies(found: np.ndarray, truth: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Of unlabelled images of old classes, and of new ones after the best matching."""
    old, new = (truth < KNOWN) & (y < 0), truth >= KNOWN
    table = np.zeros((max(found.max() + 1 - KNOWN, 1), NEW))
    inside = new & (found >= KNOWN)
    np.add.at(table, (found[inside] - KNOWN, truth[inside] - KNOWN), 1)
    return float((found[old] == truth[old]).mean()), float(
        table[linear_sum_assignment(-table)].sum() / max(new.sum(), 1)
    )


def matched(groups: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The control's groups, as many as there are classes: each known class takes the one with most of its labels."""
    table = np.zeros((groups.max() + 1, KNOWN))
    np.add.at(table, (groups[y >= 0], y[y >= 0]), 1)
    code = np.full(len(table), -1)
    code[linear_sum_assignment(-table)[0]] = linear_sum_assignment(-table)[1]
    code[code < 0] = KNOWN + np.arange((code < 0).sum())
    return code[groups]


@pytest.mark.parametrize("grouped", [False, True])
def test_beats_kmeans_that_knows_the_number(grouped: bool) -> None:
    ours, control, counts = [], [], []
    for seed in range(4):
        X, truth, y = blobs(seed, apart=0.6)
        groups = KMeans(KNOWN + NEW, n_init=3, random_state=seed).fit(X).labels_
        model = Discover(random_state=seed).fit(X, y, groups if grouped else None)
        counts.append(model.n_new_)
        ours.append(accuracies(model.predict(X), truth, y))
        control.append(accuracies(matched(groups, y), truth, y))
    print("found", counts, "ours", np.round(ours, 2).tolist(), "k-means", np.round(control, 2).tolist())
    assert abs(np.mean(counts) - NEW) <= 0.5
    assert np.mean(ours) > np.mean(control) + 0.03


def test_new_rows_and_all_axes() -> None:
    X, truth, y = blobs(0)
    seen = np.arange(len(X)) < 1000
    model = Discover(NEW).fit(X[seen], y[seen])
    assert model.n_new_ == NEW
    proba = model.predict_proba(X[~seen])
    assert proba.shape == (600, KNOWN + NEW) and proba.dtype == np.float32
    np.testing.assert_allclose(proba.sum(1), 1, atol=1e-5)
    old, new = accuracies(proba.argmax(1), truth[~seen], np.full(600, -1))
    assert min(old, new) > 0.9
    one = np.concatenate([model.predict_proba(X[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(one, model.predict_proba(X[:5]), atol=1e-5)


def test_as_sure_as_right() -> None:
    X, truth, y = blobs(3, spread=3.0)
    model = Discover(NEW).fit(X, y, truth)  # a perfect grouping, so that only sureness is looked at
    proba = model.predict_proba(X)
    old = truth < KNOWN
    assert abs(proba[old].max(1).mean() - (proba.argmax(1) == truth)[old].mean()) < 0.05


def test_the_mixture_is_linear_discriminant_analysis() -> None:
    rng = np.random.default_rng(0)
    part = rng.integers(3, size=200)
    X = (rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)) + part[:, None]).astype(np.float32)
    weights, bias = _mixture(X, part, 3)
    logits = X @ weights + bias
    rest = (X - np.stack([X[part == j].mean(0) for j in range(3)])[part]).astype(np.float64)
    own = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Shrunk(rest)).fit(X, part)
    want = own.decision_function(X)
    np.testing.assert_allclose(logits - logits[:, :1], want - want[:, :1], rtol=1e-3, atol=1e-2)


class Shrunk(LedoitWolf):
    """One covariance for all classes, where scikit-learn would take the mean of one a class."""

    def __init__(self, rest: np.ndarray) -> None:
        super().__init__(assume_centered=True)
        self.rest = rest

    def fit(self, X: np.ndarray, y: None = None) -> Shrunk:
        super().fit(self.rest)
        return self


def test_merges_follow_ward_and_spare_known_classes() -> None:
    # On a line: known classes at 0 and 1, new parts at 4, 5 and 7.
    place = np.array([0, 1, 4, 5, 7])
    fine = np.repeat(np.arange(5), 10)
    Z = np.repeat(place, 10)[:, None].astype(np.float32)
    y = np.full(50, -1)
    y[[0, 10]] = [0, 1]
    home = np.arange(5)
    assert _claimed(y, 2, fine, 5)[1].tolist() == [0, 1, 2, 3, 4]
    ends = [part[::10].tolist() for part in _merges(Z, y, 2, _Start(fine, home, 5, 0, None))]
    # 4 and 5 join; 0 and 1, as near, may not; then 7 to them; at the end all that is new goes to the nearest known.
    assert ends == [[0, 1, 2, 3, 4], [0, 1, 2, 2, 3], [0, 1, 2, 2, 2], [0, 1, 1, 1, 1]]
    # Parts of one group come first, however far.
    kin = _Start(fine, np.array([0, 1, 2, 3, 2]), 5, 0, None)
    parts = [part[::10].tolist() for part in _merges(Z, y, 2, kin)]
    assert parts[1] == [0, 1, 2, 3, 2]


def test_groups_can_be_split_where_labels_say_so() -> None:
    X, truth, y = blobs(1)
    groups = np.where(truth == 3, 2, truth)  # classes 2 and 3, both known, in one group
    found = Discover(NEW).fit(X, y, groups).predict(X)
    assert (found == truth)[truth == 3].mean() > 0.9


def test_restored_and_repeatable() -> None:
    X, _, y = blobs(2, n=400)
    X = np.concatenate([X, X], axis=1)
    model = Discover(blocks=(40, 40)).fit(X, y)
    again = Discover(blocks=(40, 40), n_jobs=2).fit(X, y)
    restored = Discover(blocks=(40, 40))
    for name, value in vars(model).items():
        if name.endswith("_") or name == "n_features_in_":
            assert isinstance(value, int | float | np.ndarray)
            setattr(restored, name, value)
    assert model.predict_proba(X).tobytes() == again.predict_proba(X).tobytes() == restored.predict_proba(X).tobytes()
    soft = np.eye(3, dtype=np.float32)[np.arange(400) % 3]
    hard = Discover(blocks=(40, 40)).fit(X, y, soft.argmax(1)).predict_proba(X)
    np.testing.assert_array_equal(Discover(blocks=(40, 40)).fit(X, y, soft).predict_proba(X), hard)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(
    ("X", "y"),
    [
        (np.arange(2.0)[:, None], [0, -1]),
        (np.arange(2.0)[:, None], [0, 1]),
        (np.ones((30, 3)), [0, 1, 2, 3] + [-1] * 26),
        (np.zeros((40, 2)), [0] * 40),
        (np.random.default_rng(0).normal(size=(60, 5)), [0] + [-1] * 59),
        (np.random.default_rng(0).normal(size=(60, 5)) * [1, 0, 0, 0, 1], [0, 1, 2, 3] * 15),
        (np.random.default_rng(0).normal(size=(60, 90)), [0, 1, 2, 3, 4] + [-1] * 55),
    ],
)
def test_edges(X: np.ndarray, y: list[int], grouped: bool) -> None:
    groups = np.arange(len(X)) % 3 if grouped else None
    before = X.copy()
    model = Discover().fit(X, y, groups)
    proba = model.predict_proba(X)
    assert proba.shape == (len(X), max(y) + 1 + model.n_new_)
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(X, before)
    if -1 not in y:
        assert model.n_new_ == 0


def test_says_what_is_wrong() -> None:
    X = np.zeros((4, 2))
    with pytest.raises(ValueError, match="labelled row"):
        Discover().fit(X, [-1] * 4)
    with pytest.raises(ValueError, match="labelled row"):
        Discover().fit(X, [0, 2, -1, -1])
    with pytest.raises(ValueError, match="blocks add up to 3"):
        Discover(blocks=(1, 2)).fit(X, [0, 1, -1, -1])
    with pytest.raises(ValueError, match="groups has 3 rows"):
        Discover().fit(X, [0, 1, -1, -1], [0, 0, 1])
