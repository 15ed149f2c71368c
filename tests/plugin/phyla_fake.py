"""A backbone as another package would offer it, too simple to take time: colours and how they change over a picture."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from phyla.backbones import Card
from phyla.types import PhylaError

__all__ = ["Fake"]

_CARD = Card("fake", 16, 12, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "none", licence="Apache-2.0")
_STEPS = 16  # grey values that look alike: so noise is no axis of its own, which whitening would blow up


_TURNED = replace(_CARD, name="fake:turned", dim=10)  # sees the same, and says it in other words


class Network:
    card = _CARD

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(float(os.environ.get("PHYLA_FAKE_SECONDS", "0")))
        x = pictures.astype(np.float32)
        left, top = x[:, :, :8].mean((1, 2)), x[:, :8].mean((1, 2))
        mean = x.mean((1, 2))
        told = np.hstack([mean, x.std((1, 2)), left - mean, top - mean])
        return np.round(told / _STEPS).astype(np.float32)

    def texts(self, words: Sequence[str]) -> NDArray[np.float32]:
        """A text is near pictures of the colours that it names."""
        colours = [[255 * (colour in text.split()) for colour in ("red", "green", "blue")] for text in words]
        pictures = np.repeat(np.array(colours, np.uint8)[:, None], 16 * 16, axis=1).reshape(-1, 16, 16, 3)
        return self(pictures) if len(words) else np.zeros((0, 12), np.float32)


class Turned(Network):
    card = _TURNED

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        turn = np.random.default_rng(3).normal(size=(12, 10)).astype(np.float32)
        return 5 + super().__call__(pictures) @ turn


class Fake:
    @staticmethod
    def cards() -> list[Card]:
        return [_CARD]

    @staticmethod
    def card(name: str) -> Card:
        if name == "turned":
            return _TURNED
        raise PhylaError(f"There is no backbone {name!r} of the family fake.", "Ask for fake.")

    @staticmethod
    def precision() -> str:
        return "f32"

    @staticmethod
    def load(card: Card, threads: int, precision: str) -> Network:
        return Turned() if card == _TURNED else Network()
