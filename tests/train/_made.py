"""Pictures and heads made here."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from phyla.train import Head

CLASSES = ("cat", 'dog, "the" <b>', "Übergröße\nsea")


def texture(height: int, width: int, number: int) -> np.ndarray:
    """Coloured noise whose strength falls with its frequency, as that of photographs does."""
    waves = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    waves[0, 0] = 1
    noise = np.random.default_rng([number, height, width]).normal(size=(4, height, width))
    layers = np.fft.irfft2(np.fft.rfft2(noise) / waves, s=(height, width))
    grey, *colours = layers / np.maximum(layers.std((1, 2), keepdims=True), 1e-9)
    return np.clip(127 + 44 * grey[..., None] + 33 * np.dstack(colours), 0, 255).astype(np.uint8)


def make_head(features: np.ndarray, classes: int = len(CLASSES), layers: int = 2, seed: int = 0) -> Head:
    """A head of random weights that looks along the principal components of `features`."""
    rng = np.random.default_rng(seed)
    mean = features.mean(0)
    _, values, axes = np.linalg.svd(features - mean, full_matrices=False)
    k = 6
    wide = [k, *(8,) * (layers - 1), classes]
    weights = [(rng.normal(size=pair) * 1.5, rng.normal(size=pair[1])) for pair in pairwise(wide)]
    weights[0] = (axes[:k].T / (values[:k] / np.sqrt(len(features)))) @ weights[0][0], weights[0][1]
    parts = mean, axes[:k], values[:k] / np.sqrt(len(features)), rng.uniform(0.1, 0.6, classes), rng.normal(size=(4, k))
    mean, axes, scale, radius, centers = (part.astype(np.float32) for part in parts)
    as_floats = tuple((w.astype(np.float32), b.astype(np.float32)) for w, b in weights)
    head = Head(mean, axes, scale, as_floats, radius, centers, np.zeros((4, 1), np.float32))
    return head.calibrated(head.strangeness(features), np.linspace(0.02, 0.98, 25, dtype=np.float32))
