"""What one must know of a network to use it, and the one preprocessing that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray


class Network(Protocol):
    """A network ready to run: uint8 (b, size, size, 3) → float32 (b, dim). Safe to call from many threads."""

    card: Card

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Card:
    """A network's card.

    size : side of its square input in pixels. crop : share of the shorter side that the input shows.
    mean, std : per channel on the 0..255 scale. dim : width of its features. images_per_second : measured, on the
    machine of docs/benchmarks.md. weights : where they come from. offline : works without a network.
    integer : its convolutions compute in 8-bit integers.
    """

    name: str
    size: int
    dim: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights: str
    sha256: str = ""
    licence: str = "unknown"
    crop: float = 1.0
    interpolation: str = "bicubic"
    megabytes: float = 0.0
    images_per_second: float | None = None
    offline: bool = True
    integer: bool = False

    @property
    def shorter_side(self) -> int:
        """Pixels that a picture's shorter side must have for its crop to fill the input."""
        return ceil(self.size / self.crop)


_ENLARGE = {"bicubic": cv2.INTER_CUBIC, "bilinear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST}


def fit(picture: NDArray[np.uint8], card: Card, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """The network's (size, size, 3) view of `picture` (h, w, 3): centre crop, then resize to the training size.

    The crop never takes a picture below the network's own size, so a small one is shown whole: on CIFAR-10 that
    raised a probe on lite0 from 0.858 to 0.864. Small images are enlarged to the size that the network was trained at
    ("RS benchmark", Corley et al., 2023). Enlarging interpolates as the card says. Shrinking averages areas, which does
    not alias; to no less than half, where little can, it interpolates lines: on photos of 348 pixels that takes 0.18 ms
    instead of 0.67, and five neighbours in lite0's features tell 43 classes as well (0.899, from areas 0.894).
    """
    top, left, side = seen(picture.shape[0], picture.shape[1], card)
    square = picture[top : top + side, left : left + side]
    if side > card.size:
        method = cv2.INTER_LINEAR if side <= 2 * card.size else cv2.INTER_AREA
    else:
        method = _ENLARGE[card.interpolation]
    view = cv2.resize(square, (card.size, card.size), dst=out, interpolation=method)
    return np.asarray(view, np.uint8)


def seen(h: int, w: int, card: Card) -> tuple[int, int, int]:
    """Top, left and side of the square of a picture (h, w) that the network looks at."""
    shorter = min(h, w)
    side = max(round(shorter * card.crop), min(shorter, card.size))
    return (h - side) // 2, (w - side) // 2, side
