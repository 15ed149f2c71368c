"""The bundled networks' numbers: as they were when written down, and as the reference implementation computes them."""

from __future__ import annotations

import numpy as np
import pytest

from phyla import backbones
from phyla.backbones import fit
from phyla.backbones._openvino import best_precision
from phyla.backbones.lite import _weights_file

# The first eight features of `picture(300, 400)` in f32.
FIRST = {
    "lite0": (0, 0, 1.1655, 0.007883, 0, 0, 0, 0.28669),
    "lite1": (0.036678, 0, 0, 0, 0, 0.46723, 0.007149, 0.31859),
    "lite2": (0, 0, 0.19137, 0.2666, 0, 0.17602, 0, 0),
}
NAMES = sorted(FIRST)


def picture(h: int, w: int, number: int = 0) -> np.ndarray:
    """A picture made by formula: slopes, waves and a disc, others for each number."""
    y, x = np.mgrid[0:h, 0:w] / max(h, w)
    a = number + 1.0
    red = 0.5 + 0.3 * np.sin(11 * a * x + 3 * y) + 0.2 * (x - y)
    green = 0.4 + 0.4 * np.cos(7 * x * y * a + number) * y
    blue = 0.2 + 0.6 * ((x - 0.4) ** 2 + (y - 0.3 - 0.05 * number) ** 2 < 0.04) + 0.1 * np.sin(40 * a * (x + y))
    return np.clip(np.rint(255 * np.dstack([red, green, blue])), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_first_features(name: str) -> None:
    card = backbones.card(name)
    got = backbones.load(card, 1, "f32")(fit(picture(300, 400), card)[None])[0, :8]
    np.testing.assert_allclose(got, FIRST[name], rtol=1e-3, atol=1e-5)


def texture(size: int, number: int) -> np.ndarray:
    """Coloured noise whose strength falls with its frequency, as that of photographs does."""
    waves = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    waves[0, 0] = 1
    noise = np.random.default_rng(number).normal(size=(4, size, size))
    layers = np.fft.irfft2(np.fft.rfft2(noise) / waves, s=(size, size))
    grey, *colours = layers / layers.std((1, 2), keepdims=True)
    return np.clip(127 + 44 * grey[..., None] + 33 * np.dstack(colours), 0, 255).astype(np.uint8)


def pictures_of(size: int, half: int) -> np.ndarray:
    """`half` smooth pictures and as many textures."""
    smooth = [picture(size, size, number) for number in range(half)]
    return np.stack(smooth + [texture(size, number) for number in range(half)])


def cosines(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    return (got * want).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)


@pytest.mark.parametrize("name", NAMES)
def test_in_integers_is_near_the_same_in_floats(name: str) -> None:
    exact, integer = backbones.card(name), backbones.card(f"{name}-int8")
    pictures = pictures_of(exact.size, half=6)
    want = backbones.load(exact, 1, "f32")(pictures)
    cosine, control = (cosines(backbones.load(card, 1)(pictures), want) for card in (integer, exact))
    # On photographs 0.991 to 0.995 in the mean; other pictures of these are what a wrong scale would make of them.
    others = cosines(np.roll(want, 1, axis=0), want)
    told = f"{name}-int8 {cosine.round(3)}, {name} {control.round(3)}, of two pictures {others.round(2)}"
    assert cosine[6:].mean() >= 0.98 and cosine[:6].min() >= 0.8, told
    # That it does compute in integers.
    assert cosine.mean() < control.mean(), told


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_reference(name: str) -> None:
    torch = pytest.importorskip("torch")
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    card = backbones.card(name)
    half = 6
    pictures = pictures_of(card.size, half)
    weights = str(_weights_file(card))
    net = reference.EfficientNet.from_pretrained(f"efficientnet-{name}", weights_path=weights).eval()
    with torch.inference_mode():
        x = (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() - 127) / 128
        want = net.extract_features(x).mean((2, 3)).numpy()
    got = backbones.load(card, 1, "f32")(pictures)
    # Relative to each picture's largest feature: some are all but zero.
    error = (np.abs(got - want).max(1) / want.max(1)).max()
    assert error <= 1e-3, f"{name} in f32 is off by {error:.1e} of the largest feature"
    if best_precision() == "bf16":
        got = backbones.load(card, 1, "bf16")(pictures)
        cosine = cosines(got, want)
        # PyTorch's own bf16 strays as far on smooth pictures, which excite few features (0.983 to 0.992 at worst).
        assert cosine[half:].mean() >= 0.999, f"{name} in bf16, textures: cosines to the reference {cosine[half:]}"
        assert cosine[:half].min() >= 0.98, f"{name} in bf16, smooth pictures: cosines to the reference {cosine[:half]}"
