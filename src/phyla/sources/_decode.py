"""The bytes of a picture → its size, or its pixels."""

from __future__ import annotations

import logging
import re
import struct
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from phyla.types import PhylaError

__all__ = ["DECODER_VERSION", "MAX_PIXELS", "decode", "inspect"]

DECODER_VERSION = 1  # raised whenever decoded pixels change; goes into recipes

# A 500-megapixel RGB picture takes 1.5 GB: above the largest camera sensors and common slide scans, below what a
# laptop's memory holds. A few KB of a hostile PNG can claim thousands of times more.
MAX_PIXELS = 500_000_000
_GIANT = 50_000_000  # from here on one at a time: with what Pillow holds of it, up to 18 bytes a pixel (WebP)
_STRIP = 4_000_000  # pixels converted together: of a float TIFF that takes 34 bytes each

# Pillow's own limit lies at 179 megapixels, with an error at twice that, and can only be moved for the process. It
# holds for a picture within an icon too. Its remarks on odd metadata would come once a file, and say nothing that
# `fault` does not.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())  # printed only where the program has set up logging

# The most frequent first. Left out: EPS (runs Ghostscript), metafiles, stubs without a decoder, and formats whose
# only signature is that some bytes look plausible.
_FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "ICO", "ICNS", "CUR", "DIB"),
    *("QOI", "DDS", "PSD", "SGI", "PCX", "FITS"),
)
_JPEG = b"\xff\xd8\xff"
_giants = threading.Lock()
_SIGNATURES = (_JPEG, b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")
_UNSUPPORTED = {
    **{brand: "HEIC" for brand in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc")},
    **{b"<svg": "SVG", b"%PDF": "PDF", b"%!PS": "PostScript", b"\xff\x0a": "JPEG XL", b"JXL ": "JPEG XL"},
}


def inspect(data: bytes) -> tuple[int, int]:
    """Width and height of a picture, from its header alone: about 2 µs for a JPEG, 20 to 50 for the rest.

    Raises `PhylaError` with a short reason: empty file, not an image, unsupported, too large, truncated, damaged.
    """
    if header := _jpeg_header(data):
        return _check_size(*header[:2])
    with _pillow(data) as image:
        return image.size


def decode(data: bytes, at_least: int) -> NDArray[np.uint8]:
    """Pixels of a picture, uint8 (h, w, 3) RGB, upright as its EXIF orientation says; of several frames, the first.

    A JPEG whose sides are at least twice `at_least` is decoded at a fraction of its size (a DCT scaling: faster, and
    free of aliasing), the shorter side never under `at_least`; 0 asks for full size. Transparency is laid on white,
    more than 8 bits are scaled to 8 by range. The same bytes always give the same pixels.

    Raises `PhylaError` with a short reason, as `inspect` does.
    """
    width, height = inspect(data)
    with _giants if width * height > _GIANT else nullcontext():
        return _decode(data, at_least)


def _decode(data: bytes, at_least: int) -> NDArray[np.uint8]:
    is_jpeg = data.startswith(_JPEG)
    pixels = _decode_turbo(data, at_least) if is_jpeg else None
    if pixels is not None:
        return _upright(pixels, _exif(data))
    with _pillow(data) as image:
        if is_jpeg:
            image.draft(None, (at_least, at_least) if at_least else image.size)
        image.load()
        # Pillow itself turns TIFF upright, and gives the Exif of the rest as it is stored.
        exif = _exif(data) if is_jpeg else image.info.get("exif")
        return _upright(_to_rgb(image), exif if isinstance(exif, bytes) else b"")  # a PNG's text may be called so


def _decode_turbo(data: bytes, at_least: int) -> NDArray[np.uint8] | None:
    """A JPEG by libjpeg-turbo; None if Pillow should try."""
    header = _jpeg_header(data)
    if not header or header[2] in {"CMYK", "YCCK"}:
        return None
    _check_size(*header[:2])
    try:
        # Scales between 1 and 1/2 lack fast code: 3/4 takes 1.6 times as long as full size.
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGB", fastdct=False, fastupsample=False, min_height=at_least, min_width=at_least, min_factor=2
        )
        return pixels
    except ValueError as error:
        if "premature end" in str(error).lower():
            raise PhylaError("truncated") from error
        # Other complaints are mostly harmless, as stray bytes between segments: Pillow tells them from damage.
        return None


def _jpeg_header(data: bytes) -> tuple[int, int, str] | None:
    """Width, height and colour space of a JPEG; None where libjpeg-turbo does not understand it."""
    if not data.startswith(_JPEG):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError):  # KeyError: a chroma subsampling that simplejpeg has no name for
        return None
    return width, height, colours


def _check_size(width: int, height: int) -> tuple[int, int]:
    if width < 1 or height < 1:
        raise PhylaError("damaged: no pixels")
    if width * height > MAX_PIXELS:
        raise PhylaError(f"too large: {width} x {height} pixels")
    return width, height


@contextmanager
def _pillow(data: bytes) -> Iterator[Image.Image]:
    """The picture opened by Pillow, of a size that is allowed; all that goes wrong in here is a `PhylaError`."""
    if not data:
        raise PhylaError("empty file")
    try:
        with Image.open(BytesIO(data), formats=_FORMATS) as image:
            _check_size(*image.size)
            yield image
    except PhylaError:
        raise
    except Exception as error:  # a hostile file makes Pillow's decoders raise nearly anything
        raise PhylaError(_reason(data, error)) from error


def _reason(data: bytes, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        claimed = re.search(r"\d+", str(error))
        return f"too large: {claimed[0]} pixels" if claimed else "too large"
    if isinstance(error, MemoryError):
        return "too large for the memory"
    if isinstance(error, UnidentifiedImageError) and not data.startswith(_SIGNATURES):
        kind = next((kind for mark, kind in _UNSUPPORTED.items() if mark in data[:256]), None)
        return f"unsupported format: {kind}" if kind else "not an image"
    text = str(error).lower()
    cut = any(word in text for word in ("truncated", "unexpected end", "not enough"))
    return "truncated" if cut or isinstance(error, EOFError) else "damaged"


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Strip by strip: beside the picture itself, only its bytes are held whole."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    step = max(_STRIP // width, 1)
    strips = [(0, top, width, min(top + step, height)) for top in range(0, height, step)]
    is_gray = image.mode[0] in "IF"  # I, I;16, I;16B, F
    low, high = _limits(np.asarray(image.crop(strip)) for strip in strips) if is_gray else (0.0, 0.0)
    for strip in strips:
        part = image.crop(strip) if len(strips) > 1 else image
        if is_gray:
            pixels[strip[1] : strip[3]] = _to_8_bit(np.asarray(part), low, high)[..., None]
            continue
        if part.has_transparency_data:
            over = part.convert("RGBA")
            part = Image.alpha_composite(Image.new("RGBA", part.size, "white"), over)
        pixels[strip[1] : strip[3]] = np.asarray(part if part.mode == "RGB" else part.convert("RGB"))
    return pixels


def _limits(strips: Iterable[NDArray[np.generic]]) -> tuple[float, float]:
    """Which gray values become 0 and 255: the usual range that holds all, or else their own."""
    least, most, kind = np.inf, -np.inf, "u"
    for values in strips:
        kind = values.dtype.kind
        if kind == "u" and values.dtype.itemsize == 2:
            return 0.0, 65535.0
        finite = values[np.isfinite(values)].astype(np.float64)
        if finite.size:
            least, most = min(least, float(finite.min())), max(most, float(finite.max()))
    low, high = (least, most) if most >= least else (0.0, 0.0)
    return (0.0, 1.0 if kind == "f" and high <= 1 else 255.0) if low >= 0 and high <= 255 else (low, high)


def _to_8_bit(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    gray = values.astype(np.float64)
    scaled = (np.nan_to_num(gray, nan=low, posinf=high, neginf=low) - low) * (255 / (high - low) if high > low else 0)
    return np.rint(scaled).astype(np.uint8)


def _upright(pixels: NDArray[np.uint8], exif: bytes) -> NDArray[np.uint8]:
    """`pixels` turned and mirrored as the EXIF orientation says, C-contiguous."""
    match _orientation(exif):
        case 2:
            pixels = pixels[:, ::-1]
        case 3:
            pixels = pixels[::-1, ::-1]
        case 4:
            pixels = pixels[::-1]
        case 5:
            pixels = pixels.transpose(1, 0, 2)
        case 6:
            pixels = pixels[::-1].transpose(1, 0, 2)
        case 7:
            pixels = pixels[::-1, ::-1].transpose(1, 0, 2)
        case 8:
            pixels = pixels[:, ::-1].transpose(1, 0, 2)
    return np.ascontiguousarray(pixels)


def _exif(jpeg: bytes) -> bytes:
    """The Exif segment of a JPEG, found by hopping from segment to segment; empty if there is none."""
    at = 2
    while jpeg[at : at + 1] == b"\xff" and jpeg[at + 1 : at + 2] not in {b"", b"\xda", b"\xd9"}:
        if jpeg[at + 1] == 0xFF:  # fill byte
            at += 1
            continue
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] == 0xE1 and jpeg[at + 4 : at + 10] == b"Exif\0\0":
            return jpeg[at + 4 : end]
        at = end
    return b""


def _orientation(exif: bytes) -> int:
    """Orientation 1..8 of an Exif block; 1 if it has none, or is broken, which spoils no picture."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, at)
            if tag == 0x0112:
                (value,) = struct.unpack_from(f"{order}H" if kind == 3 else f"{order}I", tiff, at + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:  # cut off
        return 1
    return 1
