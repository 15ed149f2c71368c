"""Heat maps: what they are by definition, and that they lie where the thing is."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from phyla import backbones, sources
from phyla.explain import class_heat, heat, onto, scaled
from phyla.types import PhylaError

PICTURES, SIDE = 24, 224


def test_heat_is_the_first_principal_component() -> None:
    maps = np.random.default_rng(0).gamma(1.0, size=(5, 6, 40))
    maps[1:3, 2:5] += 3 * np.random.default_rng(1).gamma(1.0, size=40)
    places = maps.reshape(30, 40)
    _, _, axes = np.linalg.svd(places - places.mean(0), full_matrices=False)
    along = (places - places.mean(0)) @ axes[0]
    along *= np.sign(along[np.linalg.norm(places, axis=1).argmax()])
    np.testing.assert_allclose(heat(maps), (along.clip(0) / along.max()).reshape(5, 6), atol=1e-6)
    assert heat(maps)[1:3, 2:5].min() > 0.3 > heat(maps)[4].max()
    np.testing.assert_allclose(heat(maps[:, ::-1]), heat(maps)[:, ::-1], atol=1e-6)


def test_where_all_is_alike_there_is_no_heat() -> None:
    assert not heat(np.full((4, 4, 8), 2.5)).any() and not heat(np.zeros((4, 4, 8))).any()
    assert not scaled(np.full((3, 3), -1.0)).any()


def test_the_parts_of_a_class_add_up_to_its_score() -> None:
    rng = np.random.default_rng(0)
    maps, weights = rng.normal(size=(7, 7, 50)), rng.normal(size=50)
    parts = class_heat(maps, weights)
    assert parts.mean() == pytest.approx(maps.mean((0, 1)) @ weights, abs=1e-5)
    assert (parts < 0).any() and scaled(parts).min() == 0 and scaled(parts).max() == 1


def test_the_heat_lies_on_what_was_seen() -> None:
    card = backbones.card("lite0")
    shape = (300, 400)
    top, left, side = backbones.seen(*shape, card)
    assert (top, left, side) == (19, 69, 262)
    whole = onto(np.ones((7, 7)), shape, (top, left, side))
    assert whole[top : top + side, left : left + side].min() == 1 and whole.sum() == side * side
    picture = np.zeros((*shape, 3), np.uint8)
    picture[top : top + side, left : left + side] = 200
    assert backbones.fit(picture, card).min() == 200
    assert backbones.seen(32, 32, card) == (0, 0, 32)  # a small picture is seen whole


def test_maps_are_what_the_features_are_the_means_of() -> None:
    card = backbones.card("lite0")
    pictures = np.random.default_rng(0).integers(0, 255, (3, card.size, card.size, 3)).astype(np.uint8)
    maps = backbones.maps(card, 1, "f32")(pictures)
    assert maps.shape == (3, 7, 7, card.dim)
    np.testing.assert_allclose(maps.mean((1, 2)), backbones.load(card, 1, "f32")(pictures), atol=1e-5)


def test_a_network_without_maps_says_so() -> None:
    with pytest.raises(PhylaError, match="fake can't show where it looks") as told:
        backbones.maps(backbones.card("fake"), 1)
    assert "lite0" in told.value.hint


def test_the_heat_is_where_the_thing_is(PHYLA_DATA: Path) -> None:
    """Pictures of CIFAR-10 in a quarter of a blurred ground; the controls are an even map and one of the middle."""
    if not (path := PHYLA_DATA / "cifar10-test.parquet").exists():
        pytest.skip("needs cifar10-test.parquet in the folder that PHYLA_DATA names")
    source, rng = sources.open_source(path), np.random.default_rng(0)
    entries = source.entries()
    network = backbones.maps(backbones.card("lite0"), 1)
    half = SIDE // 2
    hits, mass = 0, 0.0
    for number in rng.permutation(len(entries))[:PICTURES]:
        ground = rng.integers(60, 200, (14, 14, 3)).astype(np.uint8)
        picture = cv2.resize(ground, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        down, across = rng.integers(2, size=2)
        quarter = np.s_[down * half : (down + 1) * half, across * half : (across + 1) * half]
        thing = sources.decode(source.read(entries[number].uri), 32)
        picture[quarter] = cv2.resize(thing, (half, half), interpolation=cv2.INTER_CUBIC)
        found = onto(heat(network(picture[None])[0]), (SIDE, SIDE), (0, 0, SIDE))
        y, x = np.unravel_index(found.argmax(), found.shape)
        hits += (y // half, x // half) == (down, across)
        mass += float(found[quarter].sum() / found.sum()) / PICTURES
    print(f"hottest place in the right quarter: {hits / PICTURES:.2f}; heat in it: {mass:.3f}; even or middle: 0.25")
    assert hits / PICTURES >= 0.9 and mass >= 0.75
