"""The map's parts: colours, the raster of dots, and where each group's label goes."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["HEIGHT", "WIDTH", "dots", "fit", "medoid", "palette", "place"]

WIDTH, HEIGHT = 1600, 1000
_MARGIN = 56
_GREY = (150, 152, 158)
Points = NDArray[np.float64]


def palette(count: int) -> NDArray[np.uint8]:
    """(count, 3) sRGB colours that stand out on white as on black, each as far as can be from those before it.

    Candidates lie on rings of OKLCH (Ottosson 2020, "A perceptual color space for image processing"). Cost: 2 ms.
    """
    hue, light, chroma = (
        a.ravel() for a in np.meshgrid(np.deg2rad(np.arange(25, 385, 9)), [0.66, 0.56, 0.76], [0.16, 0.09])
    )
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    lab = np.stack([light, a, b], axis=1)
    chosen, gap = [0], np.linalg.norm(lab - lab[0], axis=1)
    while len(chosen) < min(count, len(lab)):
        chosen.append(int(np.argmax(gap)))
        gap = np.minimum(gap, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
    lms = lab @ np.array([[1, 1, 1], [0.3963377774, -0.1055613458, -0.0894841775],
                          [0.2158037573, -0.0638541728, -1.2914855480]])  # fmt: skip
    linear = lms**3 @ np.array([[4.0767416621, -1.2684380046, -0.0041960863],
                                [-3.3077115913, 2.6097574011, -0.7034186147],
                                [0.2309699292, -0.3413193965, 1.7076147010]])  # fmt: skip
    linear = linear.clip(0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255 * srgb[np.resize(chosen, count)]), np.uint8)


def fit(points: NDArray[np.float32]) -> Points:
    """Stretch points, (n, 2), over the map: (n, 2) pixels. Axes of a map have no unit, so each fills its side."""
    xy = np.nan_to_num(points.astype(np.float64))
    low, span = xy.min(axis=0), np.ptp(xy, axis=0)
    unit = np.where(span > 0, (xy - low) / np.where(span > 0, span, 1), 0.5)
    return np.asarray(_MARGIN + unit * (np.array([WIDTH, HEIGHT]) - 2 * _MARGIN))


def medoid(xy: Points) -> Points:
    """The point of xy, (n, 2), nearest to their median: a mean may fall into the white between two islands."""
    return np.asarray(xy[np.argmin(np.linalg.norm(xy - np.median(xy, axis=0), axis=1))])


def dots(xy: Points, codes: NDArray[np.intp], colours: NDArray[np.uint8]) -> bytes:
    """Draw a dot at each xy in its code's colour, grey where the code is -1, on a transparent WebP.

    Where dots overlap their colours mix, so no drawing order hides a group. Cost: a second at most for 60k dots.
    """
    radius = float(np.clip(260 / np.sqrt(max(len(xy), 1)), 2.0, 7.0))
    column, row = np.floor(xy).astype(np.intp).T
    weight = np.where(codes < 0, 0.35, 1.0)
    ink = [*(np.vstack([colours, [_GREY]])[codes].T * weight), weight]
    layers = np.zeros((4, HEIGHT * WIDTH))
    reach = np.arange(-int(radius) - 1, int(radius) + 2)
    for dy, dx in np.stack(np.meshgrid(reach, reach), axis=-1).reshape(-1, 2):
        # A disc with a soft edge one pixel wide; the margin keeps every disc inside the frame.
        if (cover := np.clip(radius + 0.5 - np.hypot(dx, dy), 0, 1)) > 0:
            cell = (row + dy) * WIDTH + column + dx
            for layer, amount in zip(layers, ink, strict=True):
                np.add.at(layer, cell, cover * amount)
    rgba = np.vstack([layers[:3] / np.maximum(layers[3], 1e-6), 255 * (1 - np.exp(-1.4 * layers[3]))])
    picture = Image.fromarray(np.rint(rgba).clip(0, 255).astype(np.uint8).T.reshape(HEIGHT, WIDTH, 4))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80, method=4)
    return buffer.getvalue()


def place(anchors: Points, sizes: Points, xy: Points) -> Points:
    """Centres, (g, 2), for labels of `sizes` (g, 2) that belong to `anchors` (g, 2), the most important first.

    Each label takes the spot near its anchor that costs least: far costs, hiding dots costs more, and covering a
    label that already has its place costs most.
    """
    angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    rings = np.concatenate([[[0.0, 0.0]], *(r * np.stack([np.cos(angles), np.sin(angles)], 1)
                                            for r in range(30, 241, 30))])  # fmt: skip
    # Dots inside a rectangle, by four look-ups in a summed-area table of 10-pixel cells.
    cells, *_ = np.histogram2d(xy[:, 0], xy[:, 1], (WIDTH // 10, HEIGHT // 10), ((0, WIDTH), (0, HEIGHT)))
    table = np.pad(cells.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    limit = np.array([WIDTH, HEIGHT])
    centres = np.zeros_like(anchors)
    for g, (anchor, size) in enumerate(zip(anchors, sizes, strict=True)):
        spots = np.clip(anchor + rings, size / 2 + 4, limit - size / 2 - 4)
        (x0, y0), (x1, y1) = (np.rint((spots + side * size / 2).T / 10).astype(int) for side in (-1, 1))
        hidden = (table[x1, y1] - table[x0, y1] - table[x1, y0] + table[x0, y0]) / len(xy)
        apart = np.abs(spots[:, None] - centres[:g]) - (size + sizes[:g]) / 2 - 5
        covered = (np.minimum(apart, 0).prod(axis=2) * (apart < 0).all(axis=2)).sum(axis=1) / size.prod()
        far = np.linalg.norm(spots - anchor, axis=1) / 180  # hiding a whole group is worth a way of 180 pixels
        centres[g] = spots[np.argmin(far + len(anchors) * hidden + 50 * covered)]
    return centres
