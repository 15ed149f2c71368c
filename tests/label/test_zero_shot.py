"""Naming by words: weighted prompts against even ones, names of groups, and refinement against the raw words."""

from __future__ import annotations

import numpy as np
import pytest

from phyla.label.zero_shot import (
    TEMPLATES,
    class_vectors,
    name_groups,
    prompt_weights,
    refine,
    zero_shot,
)

CLASSES, WIDTH, BAD = 12, 64, 6


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def world(seed: int, n: int = 1500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (n, d), texts (c, p, d) of ten prompts and truth (n,).

    As such networks have it, pictures and texts lie in cones of their own. The last six prompts say little of the
    class: in half of them each class is near all pictures by a degree of its own, the others are noise.
    """
    rng = np.random.default_rng(seed)
    meaning = rng.normal(size=(CLASSES, WIDTH))
    picture, text = rng.normal(size=(2, WIDTH)) * 3
    truth = rng.integers(CLASSES, size=n)
    images = picture + meaning[truth] + 1.3 * rng.normal(size=(n, WIDTH))
    texts = text + 0.8 * (meaning[:, None] + 1.2 * rng.normal(size=(CLASSES, 10, WIDTH)))
    noise = rng.normal(size=(CLASSES, BAD, WIDTH))
    texts[:, -BAD:] = text + 0.1 * meaning[:, None] + noise
    texts[:, -BAD // 2 :] += rng.normal(size=(CLASSES, BAD // 2, 1)) * picture
    return unit(images), unit(texts), truth


def accuracy(proba: np.ndarray, truth: np.ndarray) -> float:
    return float((proba.argmax(1) == truth).mean())


def test_weighted_prompts_beat_even_ones() -> None:
    even, weighted = [], []
    for seed in range(3):
        images, texts, truth = world(seed)
        weights = prompt_weights(images, texts)
        assert weights.sum() == pytest.approx(1, abs=1e-5)
        assert weights[-BAD:].sum() < 0.1  # control: 0.6 if all count alike
        even.append(accuracy(zero_shot(images, class_vectors(texts)), truth))
        weighted.append(accuracy(zero_shot(images, class_vectors(texts, weights)), truth))
    print("even", np.round(even, 3), "weighted", np.round(weighted, 3))
    assert np.mean(weighted) > np.mean(even) + 0.05


def test_a_prompt_near_all_pictures_does_not_win() -> None:
    images, texts, _ = world(0)
    texts = texts[:, :4]
    texts[:, 3] = unit(images.mean(0) + 0.01 * texts[:, 3])
    raw = (images @ texts.reshape(-1, WIDTH).T).reshape(len(images), *texts.shape[:2]).max(1).mean(0)
    assert raw.argmax() == 3  # control: the largest logit alone would choose it
    assert prompt_weights(images, texts).argmin() == 3


def test_prompt_weights_by_hand() -> None:
    rng = np.random.default_rng(0)
    images, texts, background = (unit(rng.normal(size=s)) for s in ((5, 8), (3, 2, 8), (4, 8)))
    want = []
    for p in range(2):
        logits = 100 * images @ texts[:, p].T
        usual = (logits.mean(0) + (100 * background @ texts[:, p].T).mean(0)) / 2
        want.append((logits - usual).max(1).mean())
    want = np.exp(np.array(want) - max(want))
    np.testing.assert_allclose(prompt_weights(3 * images, 2 * texts, background), want / want.sum(), atol=1e-5)


def test_refinement_beats_the_words() -> None:
    raw, refined, taught = [], [], []
    for seed in range(3):
        images, texts, truth = world(seed)
        classes = class_vectors(texts[:, :1])
        labels = np.where(np.arange(len(truth)) < 60, truth, -1).astype(np.int32)
        rest = labels < 0
        raw.append(accuracy(zero_shot(images, classes)[rest], truth[rest]))
        refined.append(accuracy(refine(images, classes)[rest], truth[rest]))
        proba = refine(images, classes, labels)
        assert (proba[~rest].argmax(1) == truth[~rest]).all()
        taught.append(accuracy(proba[rest], truth[rest]))
    print("raw", np.round(raw, 3), "refined", np.round(refined, 3), "with five labels", np.round(taught, 3))
    assert np.mean(refined) > np.mean(raw) + 0.05
    assert np.mean(taught) >= np.mean(refined)


def test_refinement_keeps_sureness_and_rows() -> None:
    images, texts, _ = world(1)
    classes = class_vectors(texts)
    before, after = zero_shot(images, classes), refine(images, classes)
    np.testing.assert_allclose(after.sum(1), 1, atol=1e-5)
    assert after.max(1).mean() == pytest.approx(before.max(1).mean(), abs=0.01)
    np.testing.assert_allclose(refine(images, classes, rounds=0), before, atol=1e-4)
    np.testing.assert_array_equal(refine(images, classes), after)


def test_groups_get_names() -> None:
    proba = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9]], np.float32)
    named = name_groups(proba, np.array([0, 0, 1, 3, -1], np.int32))
    np.testing.assert_array_equal(named.name[[0, 1, 3]], [0, 1, 0])  # one class may be two groups
    np.testing.assert_allclose(named.sureness, [0.8, 0.8, 0, 0.6], atol=1e-6)
    np.testing.assert_allclose(named.proba[0], [0.8, 0.2], atol=1e-6)


def test_edges() -> None:
    images, texts, _ = world(2, n=3)
    one = texts[:1]
    np.testing.assert_allclose(refine(images, class_vectors(one)), 1)
    np.testing.assert_allclose(prompt_weights(images[:0], texts), 0.1, atol=1e-6)
    assert refine(images[:0], class_vectors(texts)).shape == (0, CLASSES)
    assert np.isfinite(refine(images, class_vectors(texts))).all()  # fewer images than classes
    assert np.isfinite(refine(np.zeros((4, WIDTH), np.float32), class_vectors(texts))).all()
    assert name_groups(np.zeros((0, 2), np.float32), np.zeros(0, np.int32)).name.shape == (0,)


def test_templates() -> None:
    assert len(set(TEMPLATES)) == len(TEMPLATES) >= 20
    assert all(t.format("cat").count("cat") == 1 for t in TEMPLATES)
