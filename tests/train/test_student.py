"""Students of an ensemble, and cascades of them."""

from __future__ import annotations

import numpy as np
import pytest

from phyla.train import Student, gap, together, windows

Data = tuple[np.ndarray, np.ndarray, np.ndarray]


def softmax(logits: np.ndarray) -> np.ndarray:
    share = np.exp(logits - logits.max(1, keepdims=True))
    return (share / share.sum(1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def corners() -> Data:
    """Features that no plane divides, a teacher that is sure of them, and the truth: of four corners two a class."""
    rng = np.random.default_rng(0)
    corner = rng.integers(4, size=1500)
    flat = np.stack([2 * (corner % 2) - 1, 2 * (corner // 2) - 1], 1) + rng.normal(0, 0.25, (1500, 2))
    X = (flat @ rng.normal(size=(2, 12)) + 5 + rng.normal(0, 0.05, (1500, 12))).astype(np.float32)
    truth = (corner % 2) ^ (corner // 2)
    return X, softmax(4.0 * np.eye(2)[truth]), truth


def right(student: Student, X: np.ndarray, truth: np.ndarray) -> float:
    return float((student.predict_proba(X).argmax(1) == truth).mean())


def test_it_learns_what_no_plane_divides(corners: Data) -> None:
    from sklearn.linear_model import LogisticRegression

    X, proba, truth = corners
    learnt, new = slice(0, 1000), slice(1000, None)
    student = Student(hidden=128).fit(X[learnt], proba[learnt])
    plane = LogisticRegression(max_iter=500).fit(X[learnt], truth[learnt]).score(X[new], truth[new])
    found = right(student, X[new], truth[new])
    print(f"right: {found:.3f}, a plane {plane:.3f}")
    assert found > 0.95 and plane < 0.7


def test_it_is_as_sure_as_its_teacher(corners: Data) -> None:
    X, proba, _ = corners
    student = Student(hidden=128).fit(X, proba)
    said = student.predict_proba(X[student.apart_])
    untempered = student.loss_
    assert np.isclose(-(proba[student.apart_] * np.log(said)).sum(1).mean(), student.loss_, atol=1e-4)
    for heat in (0.7, 1.4):  # another temperature is no better
        other = softmax(np.log(said) * heat)
        assert -(proba[student.apart_] * np.log(other)).sum(1).mean() > untempered
    assert 0.8 < student.agreement_ <= 1


def test_a_soup_is_no_worse_than_its_first_ingredient(corners: Data) -> None:
    X, proba, _ = corners
    soup = Student(hidden=32, ingredients=3, random_state=1).fit(X, proba)
    assert 1 <= soup.kept_ <= 3
    assert Student(hidden=32, ingredients=1).fit(X, proba).kept_ == 1


def test_a_seed_gives_the_same_bytes_whatever_the_kind_of_float(corners: Data) -> None:
    X, proba, _ = corners
    first, second = (Student(hidden=16, ingredients=2).fit(X.astype(np.float16), proba) for _ in range(2))
    other = Student(hidden=16, ingredients=2, random_state=1).fit(X.astype(np.float16), proba)
    assert all(
        (a == b).all() for p, q in zip(first.layers_, second.layers_, strict=True) for a, b in zip(p, q, strict=True)
    )
    assert (first.layers_[0][0] != other.layers_[0][0]).any()


def test_hints_and_generations_keep_the_shape(corners: Data) -> None:
    X, proba, truth = corners
    hints = np.random.default_rng(0).normal(size=(len(X), 5)).astype(np.float32)
    student = Student(hidden=32, ingredients=1, generations=2).fit(X, proba, hints)
    assert [w.shape for w, _ in student.layers_] == [(12, 32), (32, 2)]
    assert right(student, X, truth) > 0.8


def test_progress_is_told_of_every_step(corners: Data) -> None:
    X, proba, _ = corners
    done: list[int] = []
    student = Student(hidden=8)
    student.fit(X, proba, advance=done.append)
    assert sum(done) == student.steps(len(X))


@pytest.mark.parametrize("n", [2, 3, 7])
def test_a_handful_of_rows_is_learnt(n: int) -> None:
    X = np.arange(n * 4, dtype=np.float32).reshape(n, 4)
    proba = softmax(3.0 * np.eye(2)[np.arange(n) % 2])
    assert np.isfinite(Student(hidden=8).fit(X, proba).predict_proba(X)).all()


# ---- cascades


@pytest.fixture(scope="module")
def stages() -> tuple[list[np.ndarray], np.ndarray]:
    """Three networks' answers, each better than the one before, and the truth as what a class is worth."""
    rng = np.random.default_rng(0)
    truth = np.eye(4)[rng.integers(4, size=3000)]
    said = [softmax(strength * truth + rng.normal(0, 1, truth.shape)) for strength in (2.0, 2.5, 3.0)]
    return said, truth.astype(np.float32)


def cost_and_right(said: list[np.ndarray], worth: np.ndarray, costs: list[float], marks: tuple[float, ...]) -> tuple:
    """One image after the other."""
    cost = gained = 0.0
    for row in range(len(worth)):
        heard = [said[0][row : row + 1]]
        cost += costs[0]
        for stage, mark in enumerate(marks):
            if gap(together(heard))[0] >= mark:
                break
            heard.append(said[stage + 1][row : row + 1])
            cost += costs[stage + 1]
        gained += worth[row, together(heard)[0].argmax()]
    return cost / len(worth) / sum(costs), gained / len(worth)


def test_what_a_cascade_costs_and_gets_right_is_what_asking_in_turn_does(stages: tuple) -> None:
    said, worth = stages
    costs = [1.0, 2.0, 4.0]
    cascade, _ = windows(said, worth, costs, 0.5)
    cost, gained = cost_and_right(said, worth, costs, cascade.windows)
    assert np.isclose(cost, cascade.cost) and np.isclose(gained, cascade.right)


def test_half_the_cost_buys_nearly_all(stages: tuple) -> None:
    said, worth = stages
    cascade, curve = windows(said, worth, [1.0, 2.0, 4.0], 0.5)
    alone = float((worth[np.arange(len(worth)), said[0].argmax(1)]).mean())
    by_chance = alone + (cascade.right_of_all - alone) * (0.5 - 1 / 7) / (1 - 1 / 7)  # as many, drawn by lot
    print(f"half the cost {cascade.right:.4f}, drawn by lot {by_chance:.4f}, all {cascade.right_of_all:.4f}")
    assert cascade.cost <= 0.5 and cascade.right > (by_chance + cascade.right_of_all) / 2
    costs, gained = np.array(curve).T
    assert (np.diff(costs) > 0).all() and (np.diff(gained) > 0).all()


def test_without_a_budget_it_loses_a_thousandth_at_most(stages: tuple) -> None:
    said, worth = stages
    cascade, _ = windows(said, worth, [1.0, 2.0, 4.0])
    assert cascade.right >= cascade.right_of_all - 0.001 and cascade.cost < 1
    assert cascade.share[0] == 1 >= cascade.share[1] >= cascade.share[2]


def test_a_budget_below_the_first_network_asks_it_alone(stages: tuple) -> None:
    said, worth = stages
    cascade, _ = windows(said, worth, [1.0, 2.0, 4.0], 0.01)
    assert cascade.windows[0] == 0 and np.isclose(cascade.cost, 1 / 7)


def test_one_network_is_a_cascade_of_its_own(stages: tuple) -> None:
    said, worth = stages
    cascade, _ = windows(said[:1], worth, [1.0])
    assert cascade.windows == () and cascade.cost == 1 and cascade.right == cascade.right_of_all
