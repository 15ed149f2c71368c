"""Pictures for the page: small ones, and whole ones as a browser can show them."""

from __future__ import annotations

import io
from math import ceil

import numpy as np
from numpy.typing import NDArray

from phyla import sources
from phyla.sources import Source
from phyla.types import Images

_ENLARGED = 4  # times that a small picture is made larger; a browser would show its pixels as squares, or a blur
_QUALITY = 82
_WHOLE_SIDE, _WHOLE_BYTES = 2048, 8 << 20  # what is larger comes smaller
# What browsers show, by how its bytes begin.
_SHOWN = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}


def thumbnail(images: Images, row: int, side: int) -> bytes:
    """The whole picture as WebP that fits into a square of `side` pixels. About 1 ms beside decoding."""
    width, height = int(images.width[row]), int(images.height[row])
    wanted = ceil(side * min(width, height) / max(width, height, 1))  # of the shorter side
    pixels = images.open(row, max(wanted, 1))
    height, width = pixels.shape[:2]
    scale = min(side / max(height, width), _ENLARGED)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return _webp(_resized(pixels, size) if size != (width, height) else pixels)


def for_browser(source: Source, uri: str) -> tuple[bytes, str]:
    """A picture's own bytes where a browser shows them and they are not too many, else as WebP; and their type."""
    data = sources.fetch(source, uri)
    kind = next((kind for begin, kind in _SHOWN.items() if data.startswith(begin)), None)
    if kind == "image/webp" and data[8:12] != b"WEBP":
        kind = None
    if kind and len(data) <= _WHOLE_BYTES:
        return data, kind
    pixels = sources.decode(data, _WHOLE_SIDE)
    height, width = pixels.shape[:2]
    scale = _WHOLE_SIDE / max(height, width)
    if scale < 1:
        pixels = _resized(pixels, (max(round(width * scale), 1), max(round(height * scale), 1)))
    return _webp(pixels), "image/webp"


def _resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    import cv2

    way = cv2.INTER_AREA if size[0] < pixels.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size, interpolation=way), np.uint8)


def _webp(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=_QUALITY, method=2)
    return buffer.getvalue()
