"""`fit`, and how networks are asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from phyla import backbones, plugins
from phyla.backbones import Card, fit
from phyla.types import PhylaError

CARD = Card("net", size=32, dim=1, mean=(0, 0, 0), std=(1, 1, 1), weights="", crop=0.875)


def ramp(h: int, w: int) -> np.ndarray:
    """A picture whose red grows to the right and whose green grows downwards."""
    picture = np.zeros((h, w, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.linspace(0, 255, w), np.linspace(0, 255, h)[:, None]
    return picture


@pytest.mark.parametrize("shape", [(1, 1), (1, 99), (8, 9), (32, 32), (33, 40), (64, 640), (500, 37)])
@pytest.mark.parametrize("crop", [0.5, 0.875, 1.0])
def test_shape_and_range(shape: tuple[int, int], crop: float) -> None:
    out = fit(np.full((*shape, 3), 77, np.uint8), replace(CARD, crop=crop))
    assert out.shape == (32, 32, 3)
    assert out.dtype == np.uint8
    assert (out == 77).all()


def test_native_size_is_untouched() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_array_equal(fit(picture, CARD), picture)


def test_small_pictures_are_shown_whole() -> None:
    out = fit(ramp(16, 16), CARD)
    assert out[..., 0].min() == 0 and out[..., 0].max() == 255


def test_large_pictures_are_cropped_about_the_centre() -> None:
    red = fit(ramp(320, 320), CARD)[0, :, 0].astype(int)
    lost = 255 * (1 - CARD.crop) / 2
    assert red[0] == pytest.approx(lost, abs=6) and red[-1] == pytest.approx(255 - lost, abs=6)
    assert red[0] + red[-1] == pytest.approx(255, abs=3)


def test_mirrored_picture_gives_the_mirrored_view() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (96, 128, 3), np.uint8)
    np.testing.assert_allclose(fit(picture[:, ::-1], CARD).astype(int), fit(picture, CARD)[:, ::-1], atol=1)


@pytest.mark.parametrize("side", [64, 256])
def test_shrinking_does_not_alias(side: int) -> None:
    stripes = np.zeros((side, side, 3), np.uint8)
    stripes[:, ::2] = 254
    assert np.ptp(fit(stripes, replace(CARD, crop=1.0)).astype(int)) <= 1


def test_writes_where_it_is_told() -> None:
    out = np.zeros((2, 32, 32, 3), np.uint8)
    fit(ramp(50, 60), CARD, out[1])
    np.testing.assert_array_equal(out[1], fit(ramp(50, 60), CARD))
    assert not out[0].any()


@pytest.mark.parametrize("name", ["lite9", "resnet", "", "foo:bar", "lite:lite9"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(PhylaError) as caught:
        backbones.card(name)
    assert "lite0" in caught.value.hint


def test_cards_are_whole() -> None:
    cards = [card for card in backbones.cards() if card.name != "fake"]  # that one is the tests' own
    assert [c.name for c in cards] == [f"lite{number}{kind}" for kind in ("", "-int8") for number in range(3)]
    for card in cards:
        assert backbones.card(card.name) == card
        assert len(card.sha256) == 64 and card.dim > 0 and card.offline and 0 < card.crop <= 1


def test_every_family_describes_itself() -> None:
    assert set(plugins.names("backbones")) >= {"hf", "lite", "onnx", "openclip", "timm"}
    assert all(plugins.describe("backbones", name) for name in plugins.names("backbones"))
