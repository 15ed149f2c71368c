"""Bytes → pixels: every format and mode, and every way to be broken."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from phyla.sources import decode, inspect
from phyla.types import PhylaError

RNG = np.random.default_rng(0)
# Smooth, so that lossy formats stay near, and unsymmetric, so that a wrong turn shows.
RAMP = np.stack(np.broadcast_arrays(np.arange(40)[:, None] * 6, np.arange(64) * 3, 90), axis=-1).astype(np.uint8)


def saved(pixels: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000", "QOI"])
def test_lossless_formats_give_the_pixels_back(kind: str) -> None:
    noise = RNG.integers(0, 256, (40, 64, 3), dtype=np.uint8)
    data = saved(noise, kind, **({"lossless": True} if kind == "WEBP" else {}))
    pixels = decode(data, 0)
    assert inspect(data) == (64, 40)
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and pixels.flags.writeable
    np.testing.assert_array_equal(pixels, noise)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}])
def test_jpeg(options: dict[str, object]) -> None:
    data = saved(RAMP, "JPEG", **options)
    assert inspect(data) == (64, 40)
    assert np.abs(decode(data, 0).astype(int) - RAMP).mean() < 6


def test_gray_jpeg_becomes_rgb() -> None:
    pixels = decode(saved(RAMP[..., 0].copy(), "JPEG"), 0)
    assert pixels.shape == (40, 64, 3) and (pixels[..., 0] == pixels[..., 2]).all()


def test_cmyk_jpeg_goes_through_pillow() -> None:
    data = saved(Image.fromarray(RAMP).convert("CMYK"), "JPEG", quality=95)
    assert inspect(data) == (64, 40)
    assert np.abs(decode(data, 0).astype(int) - RAMP).mean() < 6
    assert decode(saved(Image.new("CMYK", (800, 600)), "JPEG"), 100).shape == (150, 200, 3)


@pytest.mark.parametrize("size", [(1000, 700), (701, 1403), (300, 260), (519, 521), (90, 2000)])
@pytest.mark.parametrize("at_least", [64, 260])
def test_a_jpeg_is_never_scaled_under_what_was_asked(size: tuple[int, int], at_least: int) -> None:
    shape = decode(saved(Image.new("RGB", size), "JPEG"), at_least).shape
    assert min(shape[:2]) >= min(at_least, *size)
    assert min(shape[:2]) <= max(2 * at_least, 2) or shape[1::-1] == size
    assert abs(shape[1] / shape[0] - size[0] / size[1]) < 0.05 * size[0] / size[1]


def test_zero_asks_for_full_size() -> None:
    assert decode(saved(Image.new("RGB", (1600, 1200)), "JPEG"), 0).shape == (1200, 1600, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("WEBP", "RGB")])
def test_exif_orientation(orientation: int, kind: str, mode: str) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a camera", orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(Image.fromarray(RAMP).convert(mode), kind, exif=exif, **options)
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_allclose(decode(data, 0).astype(int), np.asarray(wanted).astype(int), atol=2)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_tiff_is_turned_once(orientation: int) -> None:
    pixels = decode(saved(RAMP, "TIFF", tiffinfo={0x0112: orientation}), 0)
    np.testing.assert_array_equal(pixels, np.rot90(RAMP, {1: 0, 3: 2, 6: -1}[orientation]))


@pytest.mark.parametrize(
    "exif", [b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff\x12\x01\x03", b"?"]
)
def test_broken_exif_spoils_no_picture(exif: bytes) -> None:
    assert decode(saved(RAMP, "JPEG", exif=b"Exif\0\0" + exif), 0).shape == RAMP.shape


def test_16_bit_gray_is_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 64 * 40).reshape(40, 64).astype(np.uint16)
    wanted = np.rint(values / 257).astype(int)
    for kind in ("PNG", "TIFF"):
        pixels = decode(saved(values, kind), 0)
        assert pixels.min() == 0 and pixels.max() == 255
        np.testing.assert_array_equal(pixels[..., 1], wanted)


def test_other_ranges_are_scaled_by_their_own() -> None:
    ramp = np.linspace(0, 1, 64 * 40).reshape(40, 64)
    wide = decode(saved((ramp * 100000 - 5000).astype(np.int32), "TIFF"), 0)
    assert wide.min() == 0 and wide.max() == 255
    for scale in (1, 255, 4000):
        assert np.ptp(decode(saved((ramp * scale).astype(np.float32), "TIFF"), 0)) == 255
    assert decode(saved(np.full((4, 4), 7, np.int32), "TIFF"), 0).max() == 7
    assert decode(saved(np.full((4, 4), np.nan, np.float32), "TIFF"), 0).max() == 0
    assert decode(saved(np.array([[np.nan, np.inf], [0, 900]], np.float32), "TIFF"), 0)[..., 0].tolist() == [
        [0, 255],
        [0, 255],
    ]


def test_transparency_lies_on_white() -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2] = (200, 10, 10, 255)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        pixels = decode(saved(rgba, kind, **options), 0)
        assert (pixels[0, 0] == (200, 10, 10)).all() and (pixels[3, 3] == 255).all()
    assert (decode(saved(Image.new("LA", (4, 4), (0, 0)), "PNG"), 0) == 255).all()
    assert (decode(saved(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3)), 0) == 255).all()


def test_palette_and_one_bit() -> None:
    few = np.repeat(np.repeat(RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8), 8, 0), 8, 1)
    palette = Image.fromarray(few).quantize(16)
    np.testing.assert_array_equal(decode(saved(palette, "PNG"), 0), np.asarray(palette.convert("RGB")))
    clear = decode(saved(palette, "PNG", transparency=palette.getpixel((0, 0))), 0)
    assert (clear[0, 0] == 255).all()
    bits = Image.fromarray(RNG.integers(0, 2, (8, 9), dtype=np.uint8) * 255).convert("1")
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(decode(saved(bits, kind), 0)[..., 0], np.asarray(bits.convert("L")))


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_of_several_frames_the_first(kind: str, options: dict[str, object]) -> None:
    red, blue = Image.new("RGB", (20, 10), "red"), Image.new("RGB", (20, 10), "blue")
    pixels = decode(saved(red, kind, save_all=True, append_images=[blue], **options), 0)
    assert pixels.shape == (10, 20, 3) and (pixels == (255, 0, 0)).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_truncation_never_passes(kind: str) -> None:
    data = saved(RNG.integers(0, 256, (120, 160, 3), dtype=np.uint8), kind)
    for part in (0.05, 0.5, 0.9):
        with pytest.raises(PhylaError) as caught:
            decode(data[: int(part * len(data))], 64)
        assert caught.value.message in {"truncated", "damaged"}


def test_truncated_jpegs_are_called_so() -> None:
    data = saved(RNG.integers(0, 256, (120, 160, 3), dtype=np.uint8), "JPEG")
    for cut in (data[: len(data) // 2], data[: len(data) // 2] + b"\xff\xd9"):
        with pytest.raises(PhylaError, match="truncated"):
            decode(cut, 0)


def test_harmless_oddities_of_jpegs_pass() -> None:
    data = saved(RAMP, "JPEG")
    whole = decode(data, 0)
    stray = data.replace(b"\xff\xda", b"stray\xff\xda", 1)  # libjpeg warns of these bytes, and skips them
    for odd in (data + b"appended", stray):
        assert np.abs(decode(odd, 0).astype(int) - whole).max() <= 3


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest resets the room's own filter
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty file"),
        (b"just some text", "not an image"),
        (bytes(500), "not an image"),
        (b"\xff\xd8\xff\xe0", "damaged"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"\0\0\0\x18ftypheic", "unsupported format: HEIC"),
        (b'<?xml version="1.0"?><svg xmlns="x"/>', "unsupported format: SVG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported format: PostScript"),
        (png_header(60000, 60000), "too large"),
        (png_header(30000, 20000), "too large: 600000000 pixels"),
        (png_header(0, 5), "damaged"),
    ],
)
def test_faults_have_short_reasons(data: bytes, why: str) -> None:
    for ask in (inspect, lambda data: decode(data, 64)):
        with pytest.raises(PhylaError) as caught:
            ask(data)
        assert caught.value.message.startswith(why)
        assert len(caught.value.message) < 60


def test_a_jpeg_that_claims_too_much_is_not_decoded() -> None:
    data = bytearray(saved(RAMP, "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65000, 65000)
    for ask in (inspect, lambda data: decode(data, 64)):
        with pytest.raises(PhylaError, match="too large"):
            ask(bytes(data))


def test_nothing_is_printed(tmp_path: Path) -> None:
    """Libraries' remarks on odd files, from Python or C, stay out of the user's sight."""
    cut = saved(RAMP, "TIFF", compression="tiff_lzw")[:-200]
    for number, data in enumerate((png_header(20000, 20000), cut, saved(RAMP, "PNG")[:-30], saved(RAMP, "WEBP")[:90])):
        (tmp_path / str(number)).write_bytes(data)
    program = (
        "import sys, pathlib\nfrom phyla.sources import open_source, scan, decode\nfrom phyla.types import PhylaError\n"
        "source = open_source(sys.argv[1])\nscan(source, source.entries())\n"
        "for entry in source.entries()[1:]:\n"
        "    try: decode(source.read(entry.uri), 0)\n    except PhylaError: print('fault')\n"
    )
    ran = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    assert ran.stderr == "" and ran.stdout == "fault\n" * 3


def test_the_same_bytes_give_the_same_pixels() -> None:
    data = saved(RNG.integers(0, 256, (600, 800, 3), dtype=np.uint8), "JPEG")
    np.testing.assert_array_equal(decode(data, 100), decode(data, 100))
