"""Whether the ways to ask keep their contract, and ask better than chance."""

from __future__ import annotations

import inspect
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

import phyla.label.ask
from phyla.label._checks import checks, turns
from phyla.label.ask import _rows
from phyla.label.ask.hierarchical import hierarchical
from phyla.label.ask.sensitivity import chances, sensitivity
from phyla.label.ask.typical import typical
from phyla.neighbors import nearest_neighbors

WAYS = sorted(p.stem for p in Path(phyla.label.ask.__file__).parent.glob("*.py") if not p.stem.startswith("_"))
CLASSES = [f"class {c}" for c in range(10)]


def way(name: str):
    module = import_module(f"phyla.label.ask.{name}")
    (offered,) = module.__all__
    return getattr(module, offered)


def necessary(name: str) -> set[str]:
    parameters = list(inspect.signature(way(name)).parameters.values())[2:]
    return {p.name for p in parameters if p.default is p.empty}


def ask(name: str, n: int, have: dict, seed: int = 0) -> list[tuple[int, str]]:
    accepted = inspect.signature(way(name)).parameters
    return way(name)(n, np.random.default_rng(seed), **{k: v for k, v in have.items() if k in accepted})


def softmax(z: NDArray) -> NDArray:
    e = np.exp(z - z.max(1, keepdims=True))
    return (e / e.sum(1, keepdims=True)).astype(np.float32)


def collection(
    sizes: tuple[int, ...] = (60, 40, 30, 20), d: int = 5, apart: float = 5, seed: int = 0
) -> tuple[dict, NDArray]:
    """What is known of Gaussian classes of these sizes, and the truth; the groups are the nearest of their centres."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    centres = apart * np.linalg.qr(rng.normal(size=(d, d)))[0][: len(sizes)] / np.sqrt(2)
    X = (centres[truth] + rng.normal(size=(len(truth), d))).astype(np.float32)
    return known(X, centres), truth


def known(X: NDArray, centres: NDArray) -> dict:
    away = cdist(X, centres) ** 2
    order = np.sqrt(np.sort(away, axis=1))
    return {
        "X": X,
        "groups": away.argmin(1).astype(np.int32),
        "strength": (1 - order[:, 0] / np.maximum(order[:, min(1, len(centres) - 1)], 1e-9)).astype(np.float32),
        "labels": np.full(len(X), -1, np.int32),
        "proba": softmax(-away / 2),
        "neighbors": near(X),
        "classes": CLASSES[: len(centres)],
    }


def near(X: NDArray) -> tuple[NDArray, NDArray]:
    k = min(20, len(X) - 1)
    return nearest_neighbors(X, k) if k else (np.zeros((len(X), 0), np.int32), np.zeros((len(X), 0), np.float32))


@pytest.mark.parametrize("name", WAYS)
class TestContract:
    def test_asks_n_different_rows_without_answers(self, name: str) -> None:
        have, truth = collection()
        have["labels"][::3] = truth[::3]
        asked = ask(name, 12, have)
        rows = [row for row, _ in asked]
        assert len(set(rows)) == len(rows) == 12
        assert (have["labels"][rows] < 0).all()
        assert all(type(row) is int and type(why) is str and len(why) > 5 for row, why in asked)

    def test_all_are_asked_once_where_n_is_larger(self, name: str) -> None:
        have, truth = collection((15, 10, 5))
        have["labels"][:7] = truth[:7]
        assert sorted(row for row, _ in ask(name, 100, have)) == list(range(7, 30))

    def test_nothing_is_asked_where_all_is_answered(self, name: str) -> None:
        have, truth = collection((15, 10, 5))
        have["labels"][:] = truth
        assert ask(name, 5, have) == []

    def test_nothing_is_asked_where_nothing_is_wanted(self, name: str) -> None:
        assert ask(name, 0, collection((15, 10, 5))[0]) == []

    def test_one_seed_one_answer(self, name: str) -> None:
        have, truth = collection()
        have["labels"][:3] = truth[:3]
        assert ask(name, 10, have) == ask(name, 10, have)

    def test_inputs_stay(self, name: str) -> None:
        have, truth = collection()
        have["labels"][:3] = truth[:3]
        before = {key: np.copy(value) for key, value in have.items() if isinstance(value, np.ndarray)}
        ask(name, 10, have)
        assert all(np.array_equal(have[key], value) for key, value in before.items())

    def test_one_row(self, name: str) -> None:
        have = known(np.ones((1, 3), np.float32), np.ones((1, 3)))
        assert [row for row, _ in ask(name, 4, have)] == [0]

    @pytest.mark.parametrize("rows", [2, 30])
    def test_equal_rows(self, name: str, rows: int) -> None:
        have = known(np.ones((rows, 3), np.float32), np.array([[0.0, 0, 0], [2, 2, 2]]))
        have["labels"][0] = 0
        asked = [row for row, _ in ask(name, 5, have)]
        assert len(set(asked)) == len(asked) == min(5, rows - 1)
        assert 0 not in asked

    def test_group_numbers_may_have_gaps(self, name: str) -> None:
        have, _ = collection()
        have["groups"] = (3 * have["groups"] + 2).astype(np.int32)
        assert len(ask(name, 9, have)) == 9

    def test_what_is_necessary_is_enough(self, name: str) -> None:
        have, truth = collection()
        have["labels"][::9] = truth[::9]
        assert len(ask(name, 8, {k: have[k] for k in necessary(name)})) == 8


RARE = (300, 250, 200, 12, 10, 8)


def nearest_answer(X: NDArray, answered: list[int], truth: NDArray) -> float:
    """Mean over the classes of the share that the nearest answer labels rightly."""
    said = truth[answered][cdist(X, X[answered]).argmin(1)]
    return float(np.mean([(said == truth)[truth == c].mean() for c in np.unique(truth)]))


@pytest.mark.parametrize("name", ["auto", "typical", "hierarchical", "csval"])
def test_first_answers_beat_chance_where_classes_are_rare(name: str) -> None:
    got, chance = [], []
    for seed in range(5):
        have, truth = collection(RARE, d=8, apart=9, seed=seed)
        del have["proba"]
        for result, asker in ((got, name), (chance, "random")):
            rows = [row for row, _ in ask(asker, 12, have, seed)]
            result.append(nearest_answer(have["X"], rows, truth))
    print(f"{name} {np.mean(got):.3f}, random {np.mean(chance):.3f}")
    assert np.mean(got) > np.mean(chance) + 0.15, f"{name} {np.mean(got):.3f}, random {np.mean(chance):.3f}"


def linear(X: NDArray, rows: list[int], truth: NDArray) -> float:
    """How much of X a logistic regression on these rows labels rightly."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit(X[rows], truth[rows]).score(X, truth)


@pytest.mark.parametrize(("name", "least"), [("auto", 0.01), ("uncertain", 0.01), ("margin", 0.005), ("influence", 0)])
def test_later_answers_beat_chance_at_the_borders(name: str, least: float) -> None:
    """The classes are cut by other lines than the groups, and images far from these lines say little."""
    from sklearn.linear_model import LogisticRegression

    got, chance = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(800, 6)).astype(np.float32)
        truth = (X[:, 0] > 1.2).astype(int) + (X[:, 1] + X[:, 2] > 1.5)
        have = known(X, rng.normal(size=(4, 6)))
        for result, asker in ((got, name), (chance, "random")):
            rows = [int(r) for c in range(3) for r in np.flatnonzero(truth == c)[:14]]
            have["groups"] = np.zeros(800, np.int32)
            for _ in range(5):
                have["labels"][:] = -1
                have["labels"][rows] = truth[rows]
                have["proba"] = LogisticRegression().fit(X[rows], truth[rows]).predict_proba(X).astype(np.float32)
                rows += [row for row, _ in ask(asker, 8, have, seed)]
            result.append(linear(X, rows, truth))
    print(f"{name} {np.mean(got):.3f}, random {np.mean(chance):.3f}")
    assert np.mean(got) > np.mean(chance) + least, f"{name} {np.mean(got):.3f}, random {np.mean(chance):.3f}"


class TestTypical:
    def test_one_a_group_largest_first(self) -> None:
        have, _ = collection()
        rows = [row for row, _ in ask("typical", 4, have)]
        sizes = np.bincount(have["groups"])
        assert have["groups"][rows].tolist() == np.argsort(-sizes).tolist()

    def test_is_of_its_groups_class(self) -> None:
        right = []
        for seed in range(20):
            have, truth = collection((80, 60, 40, 40), apart=3, seed=seed)
            rows = [row for row, _ in ask("typical", 4, have)]
            majority = [np.bincount(truth[have["groups"] == g]).argmax() for g in have["groups"][rows]]
            right.append(np.mean(truth[rows] == majority))
        pure = np.mean([truth[have["groups"] == g].tolist().count(g) / (have["groups"] == g).sum() for g in range(4)])
        print(f"typical {np.mean(right):.3f}, any image {pure:.3f}")
        assert np.mean(right) > 0.95 > pure + 0.1

    def test_typicality_is_the_papers_where_a_group_is_alone(self) -> None:
        X = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
        distances = np.sort(cdist(X, X), axis=1)[:, 1:21]
        got = _rows.typicality(near(X), np.zeros(50, np.int32))
        assert np.allclose(got, 1 / distances.mean(1), rtol=1e-4)

    def test_groups_with_an_answer_wait(self) -> None:
        have, _ = collection()
        have["labels"][np.flatnonzero(have["groups"] == 0)[:3]] = 0
        rows = [row for row, _ in ask("auto", 3, have)]
        assert sorted(have["groups"][rows]) == [1, 2, 3]

    def test_a_second_image_of_a_cell_is_no_neighbour_of_the_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every image is there three times, and the copies of the most typical one are as typical."""
        monkeypatch.setattr("phyla.label.ask.typical._MOST", 20)
        rng = np.random.default_rng(0)
        X = np.repeat(rng.normal(size=(600, 5)), 3, axis=0) + 1e-3 * rng.normal(size=(1800, 5))
        have = known(X.astype(np.float32), np.zeros((1, 5)))
        rows = [row for row, _ in typical(60, rng, **pick(have, "X groups labels neighbors"))]
        assert len({row // 3 for row in rows}) == 60


def pick(have: dict, names: str) -> dict:
    return {name: have[name] for name in names.split()}


def test_unsure_images_of_one_kind_are_asked_about_once() -> None:
    """One crowd lies nearer to the border than all else, and is as good as one image."""
    have, _ = collection((200, 200), apart=4)
    crowd = have["X"][7] + 0.01 * np.random.default_rng(1).normal(size=(40, 5))
    X = np.vstack([have["X"], crowd]).astype(np.float32)
    proba = np.vstack([have["proba"], np.full((40, 2), 0.5)]).astype(np.float32)
    have |= {"X": X, "labels": np.full(len(X), -1, np.int32), "proba": proba}
    diverse, plain = ([row for row, _ in ask(name, 20, have)] for name in ("uncertain", "margin"))
    print(f"of the crowd {sum(row >= 400 for row in diverse)}, by margin alone {sum(row >= 400 for row in plain)}")
    assert sum(row >= 400 for row in plain) == 20
    assert sum(row >= 400 for row in diverse) < 10


def test_entropy_and_margin_are_what_they_say() -> None:
    proba = np.array([[0.5, 0.5, 0], [0.4, 0.3, 0.3], [0.9, 0.1, 0], [0.6, 0.2, 0.2]], np.float32)
    more = {"labels": np.full(4, -1, np.int32), "proba": proba, "classes": ["cat", "dog", "owl"]}
    assert [row for row, _ in ask("margin", 4, more)] == [0, 1, 3, 2]
    assert [row for row, _ in ask("entropy", 4, more)] == [1, 3, 0, 2]
    assert ask("margin", 1, more)[0][1] == "between cat and dog"


def test_csval_asks_every_group_alike_and_the_crowded_first() -> None:
    have, _ = collection((200, 100, 50, 20), apart=8)
    rows = [row for row, _ in ask("csval", 20, have)]
    assert np.bincount(have["groups"][rows]).tolist() == [5, 5, 5, 5]
    distances = have["neighbors"][1].mean(1)
    for g in range(4):
        own = have["groups"] == g
        first = next(row for row in rows if own[row])
        assert distances[first] <= np.quantile(distances[own], 0.1)


class TestSensitivity:
    def test_chances_are_the_losses_at_the_centres_plus_distances(self) -> None:
        rng = np.random.default_rng(0)
        squared, cell, loss = rng.random(30), rng.integers(0, 3, 30), rng.random(30)
        chance = chances(squared, cell, loss)
        by_hand = np.array([loss[cell == cell[i]].mean() + loss.sum() / squared.sum() * squared[i] for i in range(30)])
        assert np.allclose(chance, by_hand / by_hand.sum(), rtol=1e-4)
        assert np.allclose(chances(np.zeros(4), np.zeros(4, int)), 0.25)

    def test_the_weighted_mean_loss_is_within_the_bound(self) -> None:
        """A loss of slope λ in squared distance: ε of it and ε·λ·Φ, ε = 1/√draws; plain draws are further off."""
        rng = np.random.default_rng(0)
        X = rng.normal(size=(2000, 4)) * np.where(rng.random((2000, 1)) < 0.02, 12, 1)
        cell, centers = _rows.cells(X.astype(np.float32), 20, rng)
        squared = np.square(X - centers[cell]).sum(1)
        loss = 0.05 + 0.5 * squared * rng.random(2000)  # λ = 0.5, a twentieth at the centres
        chance, draws, off, plain = chances(squared, cell), 400, [], []
        for _ in range(300):
            rows = rng.choice(2000, draws, p=chance)
            off.append(abs((loss[rows] / (2000 * chance[rows])).mean() - loss.mean()))
            plain.append(abs(loss[rng.choice(2000, draws)].mean() - loss.mean()))
        bound = (loss.mean() + 0.5 * squared.mean()) / np.sqrt(draws)
        print(f"off by {np.mean(off):.4f}, plain draws by {np.mean(plain):.4f}, bound {bound:.4f}")
        assert np.mean(off) < bound
        assert np.mean(off) < 0.8 * np.mean(plain)

    def test_far_images_are_drawn_more_often(self) -> None:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(400, 3)).astype(np.float32)
        X[:20] *= 6
        labels = np.full(400, -1, np.int32)
        drawn = [r for seed in range(20) for r, why in sensitivity(20, np.random.default_rng(seed), X=X, labels=labels)]
        assert np.mean(np.array(drawn) < 20) > 4 * 20 / 400


class TestHierarchical:
    def test_few_images_of_a_kind_take_their_turn(self) -> None:
        """Of 2,000 images in one place and 4 × 60 elsewhere, chance finds eleven of the rest in a hundred."""
        rng = np.random.default_rng(0)
        truth = np.repeat(np.arange(5), (2000, 60, 60, 60, 60))
        X = (20 * np.eye(5)[truth] + rng.normal(size=(2240, 5))).astype(np.float32)
        labels = np.full(2240, -1, np.int32)
        rows = [row for row, _ in hierarchical(50, np.random.default_rng(0), X=X, labels=labels)]
        shares = np.bincount(truth[rows], minlength=5) / 50
        print(f"shares {shares.round(2)}, of the collection {(np.bincount(truth) / 2240).round(2)}")
        assert shares[1:].sum() > 2 * (240 / 2240)

    def test_answers_count_as_questions(self) -> None:
        have, truth = collection((100, 100), apart=20)
        have["labels"][np.flatnonzero(truth == 0)[:10]] = 0
        rows = [row for row, _ in ask("hierarchical", 10, have)]
        assert (truth[rows] == 1).all()


def test_influence_is_that_of_the_gradients() -> None:
    """Against the definition: every row's and every class's gradient, flattened, through the whole curvature."""
    have, truth = collection((20, 15, 10), d=3, apart=3)
    answered, free = np.arange(0, 45, 5), np.setdiff1d(np.arange(45), np.arange(0, 45, 5))
    have["labels"][answered] = truth[answered]
    X = np.hstack([have["X"] / np.linalg.norm(have["X"], axis=1, keepdims=True), np.ones((45, 1))])
    p = have["proba"].astype(float)

    def loss(weights: NDArray) -> float:
        logits = np.log(p) + X @ weights.reshape(4, 3)
        return (np.log(np.exp(logits).sum(1)) - logits[np.arange(45), truth])[answered].mean()

    gradient = np.array([(loss(1e-5 * e) - loss(-1e-5 * e)) / 2e-5 for e in np.eye(12)])
    shared = sum((p[i] * (1 - p[i])).mean() * np.outer(X[i], X[i]) for i in range(45)) / 45
    inverse = np.kron(np.linalg.inv(shared + 0.1 * np.trace(shared) / 4 * np.eye(4)), np.eye(3))
    gain = [gradient @ inverse @ np.outer(X[i], p[i] - np.eye(3)[p[i].argmax()]).ravel() for i in range(45)]
    assert ask("influence", 1, have)[0][0] == free[np.array(gain)[free].argmax()]


class TestAuto:
    def test_forty_in_one_go_without_answers(self) -> None:
        have, _ = collection((1000, 800, 600, 400))
        del have["proba"]
        rows = [row for row, _ in ask("auto", 40, have)]
        assert len(set(have["groups"][rows[:4]])) == 4
        assert have["strength"][rows[4:]].mean() < have["strength"].mean() - 0.1

    def test_checks_take_their_share_one_by_one_or_together(self) -> None:
        have, truth = collection((100, 80, 60, 40))
        assert not any(why.startswith("drawn") for _, why in ask("auto", 40, have))
        have["labels"][::7] = truth[::7]  # forty
        together = [why.startswith("drawn") for _, why in ask("auto", 20, have)]
        assert sum(together) == 4, "a fifth of those beyond the first forty"
        assert not any(a and b for a, b in pairwise(together))
        single = []
        for _ in range(20):
            ((row, why),) = ask("auto", 1, have)
            have["labels"][row] = truth[row]
            single.append(why.startswith("drawn"))
        assert sum(single) == 4

    def test_checks_are_known_again_among_the_answers(self) -> None:
        have, truth = collection((1000, 800, 600, 400), apart=3)
        have["labels"][[0, 1000, 1800, 2400]] = truth[[0, 1000, 1800, 2400]]
        drawn = []
        for _ in range(4):
            asked = ask("auto", 25, have)
            drawn += [row for row, why in asked if why.startswith("drawn")]
            rows = [row for row, _ in asked]
            have["labels"][rows] = truth[rows]
        found = set(checks(have["proba"], have["labels"]).tolist())
        assert len(found & set(drawn)) >= 0.9 * len(drawn)
        assert len(found) <= 1.6 * len(drawn)  # a few others come within the draws by chance


def test_turns_draw_by_doubt() -> None:
    best = np.repeat([0.6, 0.9, 0.99], 4000)
    proba = np.column_stack([best, 1 - best]).astype(np.float32)
    first = np.argsort(turns(proba))[:300]
    share = np.bincount(first // 4000, minlength=3) / 300
    wanted = np.sqrt([0.24, 0.09, 0.0099])
    assert np.allclose(share, wanted / wanted.sum(), atol=0.07)
