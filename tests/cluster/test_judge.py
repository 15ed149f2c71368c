"""The figures, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from phyla.cluster import score, typicality

NONE = np.zeros(6, bool)


def test_perfect_under_other_names() -> None:
    told = score([5, 5, 9, 9, 0, 0], NONE, list("aabbcc"))
    assert told == pytest.approx(
        {"accuracy": 1, "accuracy_many_to_one": 1, "nmi": 1, "ari": 1, "coverage": 1, "accuracy_sorted": 1}
    )


def test_by_hand() -> None:
    # Groups against classes: 0 = {a, a, b}, 1 = {b, b, b} → matched 0–a and 1–b: 5 of 6.
    told = score([0, 0, 0, 1, 1, 1], NONE, list("aabbbb"))
    assert told["accuracy"] == pytest.approx(5 / 6)
    assert told["accuracy_many_to_one"] == pytest.approx(5 / 6)
    # Pairs: 2 together in both, of 6 by groups and 7 by classes, 15 in all: (4 − 42/15) / (6.5 − 42/15).
    assert told["ari"] == pytest.approx((4 - 2.8) / (6.5 - 2.8))
    # I = ½·log(4/3)… written out: H(g) = log 2; H(c) = −⅓ log ⅓ − ⅔ log ⅔; mean of both below.
    joint = {(0, 0): 2 / 6, (0, 1): 1 / 6, (1, 1): 3 / 6}
    groups, classes = {0: 0.5, 1: 0.5}, {0: 1 / 3, 1: 2 / 3}
    mutual = sum(p * np.log(p / groups[g] / classes[c]) for (g, c), p in joint.items())
    entropy = [-sum(p * np.log(p) for p in d.values()) for d in (groups, classes)]
    assert told["nmi"] == pytest.approx(mutual / np.mean(entropy))


def test_a_class_split_in_two_costs_one_to_one_only() -> None:
    told = score([0, 0, 1, 1, 2, 2], NONE, list("aaaabb"))
    assert told["accuracy"] == pytest.approx(4 / 6)
    assert told["accuracy_many_to_one"] == 1


def test_more_classes_than_groups() -> None:
    told = score([0, 0, 0, 0, 0, 0], NONE, list("aabbcc"))
    assert told["accuracy"] == pytest.approx(2 / 6)
    assert told["nmi"] == pytest.approx(0) and told["ari"] == pytest.approx(0)


def test_left_out_images_count_in_accuracy_and_not_in_accuracy_sorted() -> None:
    left_out = np.array([False, False, True, False, False, False])
    told = score([0, 0, 0, 1, 1, 1], left_out, list("aabbbb"))
    assert told["accuracy"] == pytest.approx(5 / 6)
    assert told["accuracy_sorted"] == 1
    assert told["coverage"] == pytest.approx(5 / 6)
    assert score([0, 0, 0, 1, 1, 1], ~NONE, list("aabbbb"))["accuracy_sorted"] == 0


def test_truth_of_any_type() -> None:
    numbers = score([0, 0, 0, 1, 1, 1], NONE, [3, 3, 7, 7, 7, 7])
    assert numbers == score([0, 0, 0, 1, 1, 1], NONE, list("aabbbb"))


def test_typical_is_near_its_own_mean() -> None:
    X = np.array([[0, 0], [2, 0], [4, 0], [10, 10], [10, 12]], np.float32)
    near = typicality(X, np.array([1, 1, 1, 0, 0], np.int32))
    np.testing.assert_allclose(near, [-2, 0, -2, -1, -1])
    assert near.dtype == np.float32


def test_one_of_a_kind_is_typical_of_itself() -> None:
    near = typicality(np.array([[3.0, 4], [0, 0]], np.float32), np.array([4, 2], np.int32))
    np.testing.assert_array_equal(near, 0)
