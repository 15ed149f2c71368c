"""Heat maps of what a network answers to, from its last maps alone: nothing is trained and nothing goes backwards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def heat(maps: NDArray[np.floating]) -> NDArray[np.float32]:
    """Where a picture differs most from the rest of itself: maps (h, w, channels) → (h, w), 0..1.

    Eigen-CAM (Muhammad and Yeasin, 2020): the places seen along the first principal component of their channels, here
    about their mean. Without that the component is the mean itself and the map a blur: of objects pasted into a quarter
    of a picture it leaves 0.61 of the heat there, about the mean 0.88 (a map that is alike everywhere: 0.25). Its sign
    is free; the side with the stronger answers is warm. Zero everywhere where all places are alike.
    """
    h, w, c = maps.shape
    A = maps.reshape(-1, c).astype(np.float64)
    energy = (A**2).sum(1)
    A -= A.mean(0)
    # Places are few and channels many: the component is found through the products of the places.
    size, along = np.linalg.eigh(A @ A.T)
    if size[-1] <= 1e-9 * max(energy.sum(), 1e-30):
        return np.zeros((h, w), np.float32)
    warm = along[:, -1] * np.sqrt(size[-1])
    if warm @ (energy - energy.mean()) < 0:
        warm = -warm
    return scaled(warm.reshape(h, w))


def class_heat(maps: NDArray[np.floating], weights: NDArray[np.floating]) -> NDArray[np.float32]:
    """What each place adds to a class' score: maps (h, w, channels), weights (channels,) → (h, w), signed.

    Grad-CAM (Selvaraju and others, 2017) of whatever stands on features that are the mean of the maps: `weights` are
    the gradient of the score by these features, so the mean of the places is the score's linear part, exactly. Of
    several networks the parts are added up before what speaks against the class is cut off (`scaled`).
    """
    return (maps.astype(np.float64) @ weights).astype(np.float32)


def scaled(warm: NDArray[np.floating]) -> NDArray[np.float32]:
    """0..1, and 0 where it was below."""
    warm = np.maximum(warm, 0)
    return np.asarray(warm / max(float(warm.max()), 1e-30), np.float32)


def onto(heat: NDArray[np.floating], shape: tuple[int, int], seen: tuple[int, int, int]) -> NDArray[np.float32]:
    """The heat on a picture of `shape` (h, w), of which the network saw the square `seen` (top, left, side)."""
    import cv2

    top, left, side = seen
    whole = np.zeros(shape, np.float32)
    # Between the middles of places there is no more to know than a line.
    square = cv2.resize(np.asarray(heat, np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    whole[top : top + side, left : left + side] = square
    return whole
