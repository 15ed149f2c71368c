"""Confounders: planted ones are found and named, chance and mere classes are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from phyla.audit.confounders import _around, _coded, _gain, confounders, examine
from phyla.neighbors import nearest_neighbors

N = 1200


def collection(pull: float, seed: int = 0) -> tuple[NDArray[np.intp], NDArray[np.str_], Any]:
    """Four classes, three cameras that leave a trace of strength `pull` in the features; and the neighbours there."""
    rng = np.random.default_rng(seed)
    of, camera = rng.integers(4, size=N), rng.integers(3, size=N)
    X = rng.normal(size=(N, 8)).astype(np.float32)
    X[np.arange(N), of] += 5
    X[np.arange(N), 4 + camera] += pull
    names = np.array(["Canon", "Nikon", "Sony"])[camera]
    return of, names, nearest_neighbors(X, 10)


@pytest.mark.parametrize("name", ["camera", "folder", "date", "size"])
def test_groups_that_follow_a_confounder_are_found(name: str) -> None:
    rng = np.random.default_rng(0)
    of, camera, near = collection(8)
    codes = np.unique(camera, return_inverse=True)[1]
    groups = np.where(rng.random(N) < 0.93, codes, of)  # what grouping by such features gives
    given = {
        "camera": camera,
        "folder": camera,
        "date": np.array(["2021-05-30 12:00:00", "2021-06-01 08:30:00", "2022-01-01 00:00:00"])[codes],
        "size": np.array([1e4, 1e5, 1e6])[codes] * rng.uniform(0.8, 1.2, N),
    }[name]
    found = confounders(groups=groups, facts={name: given, "format": np.array(["PNG"] * N)}, neighbors=near)
    assert len({rows for rows, _, _ in found}) >= 3
    for rows, severity, why in found:
        assert 0.5 <= severity <= 1 and len(np.unique(groups[list(rows)])) == 1
        assert f"the {name} " in why and "better than chance" in why
        assert ("where folders are classes" in why) == (name == "folder")
    shuffled = {name: given[rng.permutation(N)]}
    assert confounders(groups=groups, facts=shuffled, neighbors=near) == []


def test_a_confounder_that_only_touches_one_group() -> None:
    rng = np.random.default_rng(1)
    of, camera, near = collection(0)
    camera[of == 2] = np.where(rng.random((of == 2).sum()) < 0.95, "Phone", camera[of == 2])
    found = confounders(groups=of, facts={"camera": camera}, neighbors=near, names=["cat", "dog", "cow", "hen"])
    ((rows, severity, why),) = found
    assert set(of[list(rows)]) == {2} and set(camera[list(rows)]) == {"Phone"}
    assert "of cow have the camera Phone, of the rest 0%" in why
    assert severity >= 0.5


def test_folders_that_are_the_named_classes_are_left_out() -> None:
    of, _, near = collection(0)
    folder = np.array(["cats", "dogs", "cows", "hens"])[of]
    facts = {"folder": folder}
    told = confounders(groups=of, facts=facts, neighbors=near)
    assert told and all("where folders are classes" in why for _, _, why in told)
    labels = np.where(np.arange(N) % 10 == 0, of, -1)
    assert confounders(groups=of, facts=facts, neighbors=near, labels=labels) == []
    other = np.where(labels >= 0, np.random.default_rng(5).integers(4, size=N), -1)
    assert confounders(groups=of, facts=facts, neighbors=near, labels=other), "labels say that folders are no classes"


def test_gain_is_zero_by_chance_one_without_error_and_minds_both_directions() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(6, size=3000), rng.integers(2, size=3000)
    assert _gain(a, b) < 0.1 and _gain(b, a) < 0.1
    many = rng.integers(1000, size=3000)
    assert _gain(many, b) < 0.1, "three pictures a value, each value unlike the others: told by heart it would be 0.5"
    assert _gain(a, a) == 1
    assert _gain(a, a % 2) == 1 and _gain(a % 2, a) < 0.5
    half = np.where(rng.random(3000) < 0.5, a % 2, b)
    assert_allclose(_gain(half, a % 2), 0.5, atol=0.06)  # a quarter is wrong where chance has a half


def test_robustness_and_signature_are_what_counting_one_by_one_gives() -> None:
    rng = np.random.default_rng(0)
    groups, codes = rng.integers(3, size=60), rng.integers(-1, 3, size=60)
    near = np.stack([rng.permutation(np.delete(np.arange(60), i))[:5] for i in range(60)]).astype(np.int32)
    group_only = fact_only = agree = pairs = 0
    expected = 0.0
    for i in range(60):
        for j in near[i]:
            if codes[i] < 0 or codes[j] < 0:
                continue
            same_group, same_fact = groups[i] == groups[j], codes[i] == codes[j]
            group_only += same_group and not same_fact
            fact_only += same_fact and not same_group
            if same_group:
                pairs += 1
                agree += same_fact
                peers = codes[(groups == groups[i]) & (codes >= 0)]
                n = np.bincount(peers)
                expected += (n * (n - 1)).sum() / (len(peers) * (len(peers) - 1))
    signature, robustness = _around(groups, codes, near)
    assert_allclose(robustness, group_only / (group_only + fact_only))
    chance = expected / pairs
    assert_allclose(signature, max((agree / pairs - chance) / (1 - chance), 0))


def test_a_trace_in_the_features_shows_as_a_signature_and_less_robustness() -> None:
    told = []
    for pull in (0.0, 3.0, 8.0):
        of, camera, near = collection(pull)
        (fact,) = examine(of, {"camera": camera}, near)
        told.append((fact.signature, fact.robustness))
    print("signature, robustness:", np.round(told, 2).tolist())
    (s0, r0), (s3, r3), (s8, r8) = told
    assert s0 < 0.1 < s3 < s8 and s8 > 0.9
    assert r0 > 0.8 > r8 and r0 > r3 > r8


def test_values_of_facts() -> None:
    values, bounds, codes = _coded("camera", np.array(["A"] * 6 + [""] * 3 + ["rare"] * 2 + ["B"] * 7))
    assert values.tolist() == ["A", "B"] and codes.tolist() == [0] * 6 + [-1] * 5 + [1] * 7 and bounds is None
    values, bounds, codes = _coded("size", np.append(np.arange(80.0), np.nan))
    assert len(values) == 8 and codes[-1] == -1 and values[0] == "0 to 9" and np.bincount(codes[:-1]).max() <= 11
    assert bounds is not None and bounds[0].tolist() == [0, 9]
    values, _, _ = _coded("quality", np.array([60] * 10 + [90] * 10))
    assert values.tolist() == ["60", "90"]
    assert _coded("date", np.array(["2020-01-01 10:00:00"] * 5 + ["2020-01-01 11:00:00"] * 5))[0].tolist() == [
        "2020-01-01"
    ]


def test_nothing_known_nothing_found() -> None:
    of, _, near = collection(0)
    empty = {"camera": np.array([""] * N), "date": np.array([""] * N), "quality": np.zeros(N)}
    assert confounders(groups=of, facts=empty, neighbors=near) == []
    one = confounders(groups=np.zeros(N, int), facts={"camera": np.array(["A", "B"] * (N // 2))}, neighbors=near)
    assert one == []
