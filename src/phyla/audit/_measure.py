"""One pass over the pictures: what every check of pixels or of files goes by."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["SIDE", "THUMB", "VERSION", "background", "facts", "gather", "measure"]

VERSION = 1  # raised when the same picture gives other numbers
SIDE = 128  # pixels of the shorter side that a picture is judged at, as large as it is looked at in an overview
# Side of the thumbnail. Details of copies planted in CIFAR-10 correlate by 0.87 (1st percentile), of neighbours by
# 0.53 (99th); with 8 it would be 0.73 and 0.77.
THUMB = 16

_LOW = 8  # DCT frequencies a side that the hash keeps (pHash: Zauner, 2010)
_ODD = np.tile(np.where(np.arange(_LOW) % 2, -1, 1).astype(np.float32), (_LOW, 1))
_PERCENTILES = ("p1", "p5", "p50", "p95", "p99")
_AT_LEAST = np.array([0.01, 0.05, 0.5, 0.95, 0.99]) - 1e-9
_LEVELS = np.arange(256)
_OPPONENTS = np.array([[1, -1, 0], [0.5, 0.5, -1]], np.float32)  # red − green, yellow − blue
# Colours of the background by hue (0..180 in OpenCV), where it is neither dark nor pale.
_HUES, _HUE_ENDS = ("red", "yellow", "green", "cyan", "blue", "purple", "red"), (10, 35, 80, 95, 130, 170)
_BLUR = 5  # pixels that sharpness blurs over: 3 is fooled by grain, 9 misses slight blur in 32 x 32 pixels

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000")
_SAME = {"MPO": "JPEG"}  # a JPEG with more pictures behind it
_EXIF, _TAKEN, _CHANGED, _MAKER, _MODEL = 0x8769, 0x9003, 0x0132, 0x010F, 0x0110  # tags
_TABLE_AT_50 = 3671  # sum of the JPEG standard's example of a luminance table (annex K), which is quality 50


def measure(picture: NDArray[np.uint8]) -> dict[str, Any]:
    """Numbers that tell of a picture, uint8 (h, w, 3) RGB.

    A picture is first shrunk to `SIDE` on its shorter side, so that a large one is judged as it is looked at. About
    0.1 ms for 32 x 32 pixels and 0.4 ms for 128 x 128.

    Returns
    -------
    mean, p1, p5, p50, p95, p99 : luminance, 0..255, and its percentiles. spread : its standard deviation.
    entropy : bits of its histogram, 0..8. detail : bits a pixel that are left when each is predicted by its left
        neighbour, 0..8: about what a lossless file takes.
    sharpness : 0..1, share of the gradients' energy that blurring takes away (after Crete and others, 2007, "The blur
        effect"; of squares, so that edges count and faint noise does not). Contrast and plain areas do not matter.
    colourfulness : as Hasler and Süsstrunk (2003) measure it, 0 = grey, above 100 = gaudy.
    border : (3,) uint8, mean colour of the outer eighth: of the background, mostly.
    hash, mirrored : uint64, perceptual hash of the picture and of its mirror image.
    thumb : (THUMB, THUMB, 3) uint8.
    """
    height, width = picture.shape[:2]
    if min(height, width) > SIDE:
        scale = SIDE / min(height, width)
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    gray: NDArray[np.uint8] = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
    histogram = np.bincount(gray.ravel(), minlength=256)
    shares = histogram / gray.size
    mean = float(shares @ _LEVELS)
    percentiles = shares.cumsum().searchsorted(_AT_LEAST)
    residual = (gray[:, 1:] - gray[:, :-1]).ravel()  # modulo 256, which loses nothing
    plain, mirrored = _hashes(gray)
    return {
        "mean": mean,
        **dict(zip(_PERCENTILES, percentiles.tolist(), strict=True)),
        "spread": float(np.sqrt(shares @ (_LEVELS - mean) ** 2)),
        "entropy": _bits(shares),
        "detail": _bits(np.bincount(residual, minlength=256) / max(residual.size, 1)),
        "sharpness": _sharpness(gray),
        "colourfulness": _colourfulness(picture),
        "border": _border(picture),
        "hash": plain,
        "mirrored": mirrored,
        "thumb": cv2.resize(picture, (THUMB, THUMB), interpolation=cv2.INTER_AREA),
    }


def gather(measured: list[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    """What `measure` or `facts` told of n pictures, as arrays of n rows."""
    return {name: np.array([one[name] for one in measured]) for name in measured[0]} if measured else {}


def background(border: NDArray[np.uint8]) -> NDArray[np.str_]:
    """The name (n,) of the colour of each border (n, 3): a fact that groups should not follow.

    Chiu, Chen and Ma (2023, "Better may not be fairer") part the images of CIFAR-10 by it.
    """
    if not len(border):
        return np.array([], "<U6")
    hue, saturation, value = cv2.cvtColor(border[None], cv2.COLOR_RGB2HSV)[0].T.astype(int)
    names = np.array(_HUES)[np.searchsorted(_HUE_ENDS, hue, side="right")]
    pale = saturation < 40
    names[pale] = np.where(value[pale] > 200, "white", "grey")
    names[value < 50] = "black"
    return names


def _bits(shares: NDArray[np.float64]) -> float:
    shares = shares[shares > 0]
    return float(abs(shares @ np.log2(shares)))


def _sharpness(gray: NDArray[np.uint8]) -> float:
    pixels = gray.astype(np.float32)
    total = taken = 0.0
    for axis, kernel in ((1, (_BLUR, 1)), (0, (1, _BLUR))):
        before = np.abs(np.diff(pixels, axis=axis))
        lost = np.maximum(before - np.abs(np.diff(cv2.blur(pixels, kernel), axis=axis)), 0)
        total += float(np.vdot(before, before))
        taken += float(np.vdot(lost, lost))
    return taken / total if total else 0.0


def _colourfulness(picture: NDArray[np.uint8]) -> float:
    mean, spread = cv2.meanStdDev(cv2.transform(picture.astype(np.float32), _OPPONENTS))
    return float(np.hypot(*spread[:, 0]) + 0.3 * np.hypot(*mean[:, 0]))


def _border(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    y, x = max(height // 8, 1), max(width // 8, 1)
    whole = np.array(cv2.sumElems(picture)[:3])
    inner = picture[y : height - y, x : width - x]
    count = height * width - inner.shape[0] * inner.shape[1]
    if inner.size:
        whole -= cv2.sumElems(inner)[:3]
    return np.rint(whole / count).astype(np.uint8)


def _hashes(gray: NDArray[np.uint8]) -> tuple[np.uint64, np.uint64]:
    """Of the 64 lowest frequencies, which lie above their median; mirroring turns the sign of every other column."""
    square = cv2.resize(gray, (4 * _LOW, 4 * _LOW), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(square)[:_LOW, :_LOW]
    found = []
    for waves in (low, low * _ODD):
        middle = np.sort(waves, axis=None)[_LOW * _LOW // 2]
        found.append(np.packbits(waves > middle).view("<u8")[0])
    return found[0], found[1]


def facts(data: bytes) -> dict[str, Any]:
    """What the bytes of a picture's file tell beside its pixels. Some 50 µs; nothing is raised.

    Returns
    -------
    size : bytes. format : "JPEG", "PNG", ..., "" where none is known. quality : 1..100, that of a JPEG, from its
        quantisation table; 0 where there is none. date : "2021-05-30 12:31:05", and camera : "Maker Model", of the
        EXIF block; "" where it does not tell.
    """
    told = {"size": len(data), "format": "", "quality": 0, "date": "", "camera": ""}
    try:
        with Image.open(BytesIO(data), formats=_FORMATS) as image:
            told["format"] = _SAME.get(image.format or "", image.format or "")
            told["quality"] = _quality(getattr(image, "quantization", {}).get(0))
            exif = image.getexif()
            date = exif.get_ifd(_EXIF).get(_TAKEN) or exif.get(_CHANGED)
            told["date"] = _date(date)
            maker, model = (_text(exif.get(tag)) for tag in (_MAKER, _MODEL))
            told["camera"] = model if model.startswith(maker) else f"{maker} {model}".strip()
    except Exception:  # a hostile header makes Pillow raise nearly anything; what was told until then stands
        pass
    return told


def _text(value: Any) -> str:
    return " ".join(str(value).replace("\0", " ").split()) if value else ""


def _date(value: Any) -> str:
    found = re.match(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d:\d\d:\d\d)", _text(value))
    return "{}-{}-{} {}".format(*found.groups()) if found and found[1] != "0000" else ""


def _quality(table: Any) -> int:
    """Quality by the Independent JPEG Group's rule, from the sum of the luminance table; 0 without one."""
    if not table:
        return 0
    scale = 100 * sum(table) / _TABLE_AT_50
    return round(max(1, min(100, (200 - scale) / 2 if scale <= 100 else 5000 / scale)))
