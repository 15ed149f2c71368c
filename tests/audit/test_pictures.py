"""Measuring pictures and files, and the checks of single pictures: planted faults are found, sound ones are not."""

from __future__ import annotations

import io
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from PIL import Image

from phyla.audit._extremes import extreme, single
from phyla.audit._measure import SIDE, THUMB, background, facts, gather, measure
from phyla.audit.blank import blank
from phyla.audit.blurry import blurry
from phyla.audit.bright import bright
from phyla.audit.dark import dark
from phyla.audit.low_information import low_information
from phyla.audit.odd_size import odd_size

Picture = NDArray[np.uint8]


def scene(number: int, side: int = 48) -> Picture:
    """A picture with edges of all sizes, as photos have: discs that cover each other, with some grain."""
    rng = np.random.default_rng(number)
    picture = np.full((side, side, 3), rng.integers(40, 200, 3), np.float32)
    for radius in side / np.geomspace(3, 30, 60):
        colour = tuple(float(c) for c in rng.integers(0, 256, 3))
        cv2.circle(picture, tuple(rng.integers(0, side, 2).tolist()), max(round(radius), 1), colour, -1)
    return (picture + rng.normal(0, 3, picture.shape)).clip(0, 255).astype(np.uint8)


def measured(pictures: list[Picture]) -> dict[str, NDArray[Any]]:
    return gather([measure(p) for p in pictures])


CLEAN = [scene(number) for number in range(200)]


def faded(picture: Picture, to: float, share: float) -> Picture:
    return (to + share * (picture.astype(np.float32) - to)).clip(0, 255).astype(np.uint8)


def lamps(picture: Picture) -> Picture:
    """The scene at night: little light, and lamps."""
    night = faded(picture, 0, 0.2)
    for x, y in ((8, 10), (30, 8), (40, 36)):
        cv2.circle(night, (x, y), 3, (255, 240, 200), -1)
    return night


def product(picture: Picture) -> Picture:
    """The middle of the scene on white ground."""
    white = np.full_like(picture, 252)
    white[14:34, 14:34] = picture[14:34, 14:34]
    return white


def portrait(picture: Picture) -> Picture:
    """The middle of the scene sharp, the rest soft."""
    soft = cv2.GaussianBlur(picture, (0, 0), 3)
    soft[12:36, 12:36] = picture[12:36, 12:36]
    return soft


def plain(picture: Picture) -> Picture:
    noise = np.random.default_rng(0).normal(0, 2, picture.shape)
    return (picture.mean((0, 1)) + noise).clip(0, 255).astype(np.uint8)


def slope(picture: Picture) -> Picture:
    side = len(picture)
    return np.repeat(np.tile(np.linspace(60, 180, side), (side, 1))[:, :, None], 3, axis=2).astype(np.uint8)


CHECKS = {"dark": dark, "bright": bright, "blurry": blurry, "blank": blank, "low_information": low_information}
FAULTS = {
    "dark": lambda p: faded(p, 0, 0.15),
    "bright": lambda p: faded(p, 255, 0.12),
    "blurry": lambda p: cv2.GaussianBlur(p, (0, 0), 3),
    "blank": plain,
    "low_information": slope,
}
SOUND = {
    "dark": [lamps, product, lambda p: faded(p, 0, 0.5)],
    "bright": [product, lambda p: faded(p, 255, 0.5)],
    "blurry": [portrait, lambda p: faded(p, 128, 0.3), plain],
    "blank": [slope, lambda p: faded(p, 128, 0.3)],
    "low_information": [lambda p: faded(p, 128, 0.3), product],
}


@pytest.mark.parametrize("name", CHECKS)
def test_planted_faults_are_found_and_nothing_else(name: str) -> None:
    bad = range(0, 200, 20)
    found = CHECKS[name](measured=measured([FAULTS[name](p) if i in bad else p for i, p in enumerate(CLEAN)]))
    rows = sorted(rows[0] for rows, _, _ in found)
    assert rows == list(bad), "ten planted, ten found"
    assert all(0.5 <= severity <= 1 and why.endswith(".") for _, severity, why in found)
    assert [s for _, s, _ in found] == sorted((s for _, s, _ in found), reverse=True)
    none = CHECKS[name](measured=measured(CLEAN))
    print(f"{name}: {len(found)} of 10 planted; of 200 sound ones {len(none)}")
    assert not none


@pytest.mark.parametrize("name", CHECKS)
def test_what_only_seems_a_fault_is_not_found(name: str) -> None:
    for change in SOUND[name]:
        pictures = [change(p) if i % 20 == 0 else p for i, p in enumerate(CLEAN)]
        assert not CHECKS[name](measured=measured(pictures))


def test_what_most_are_like_is_no_fault() -> None:
    night = [faded(p, 0, 0.15) for p in CLEAN]
    assert not dark(measured=measured(night))
    assert len(dark(measured=measured(night[:5] + CLEAN[5:]))) == 5, "the same pictures among lighter ones"


def test_severity_is_half_where_it_is_worth_a_look_and_almost_one_where_it_is_sure() -> None:
    usual = np.random.default_rng(0).normal(0, 1, 1000)
    got = extreme(np.append(usual, [20, 30, 25]), 20, 30)[-3:]
    assert_allclose(got, [0.5, 0.95, 1 / (1 + 19**-0.5)], atol=1e-9)
    assert extreme(usual, 2, 3).max() < 0.9, "beyond 3, but not beyond what is usual: 2.5 standard deviations are 0.5"
    assert_allclose(extreme(-np.append(usual, 20), -20, -30)[-1], 0.5, atol=1e-9)
    assert extreme(np.full(5, 40.0), 20, 30).max() < 0.1, "all alike"


def test_findings_come_most_severe_first() -> None:
    found = single(np.array([0.2, 0.6, 0.9, 0.5]), lambda row: f"row {row}")
    assert found == [((2,), 0.9, "row 2"), ((1,), 0.6, "row 1"), ((3,), 0.5, "row 3")]


@pytest.mark.parametrize("check", [*CHECKS.values()])
def test_nothing_is_found_in_nothing(check: Any) -> None:
    empty = {name: values[:0] for name, values in measured(CLEAN[:1]).items()}
    assert check(measured=empty) == []
    assert odd_size(width=np.array([], int), height=np.array([], int)) == []


def test_odd_sizes() -> None:
    rng = np.random.default_rng(0)
    width = rng.choice([640, 800, 1024], 300)
    height = width * 3 // 4
    width, height = np.where(rng.random(300) < 0.3, (height, width), (width, height))  # some stand
    assert not odd_size(width=width, height=height), "standing or lying, and a range of cameras"
    width[:3], height[:3] = (32, 6000, 3000), (32, 4500, 300)
    found = {rows[0]: (severity, why) for rows, severity, why in odd_size(width=width, height=height)}
    assert set(found) == {0, 1, 2}
    assert "usual here is the area of" in found[0][1] and found[0][0] > found[1][0]
    assert "its sides are as 1 to 10.0, usual here is 1 to 1.3" in found[2][1]
    assert "32 x 32 pixels" in found[0][1]


# ---- what they go by


def test_luminance_is_that_of_the_histogram() -> None:
    told, gray = measure(CLEAN[0]), cv2.cvtColor(CLEAN[0], cv2.COLOR_RGB2GRAY)
    assert_allclose([told["mean"], told["spread"]], [gray.mean(), gray.std()], rtol=1e-9)
    for name in ("p1", "p5", "p50", "p95", "p99"):
        assert told[name] == np.quantile(gray, int(name[1:]) / 100, method="inverted_cdf")


def test_information_of_what_is_known() -> None:
    rng = np.random.default_rng(0)
    noise = np.repeat(rng.integers(0, 256, (128, 128, 1), dtype=np.uint8), 3, axis=2)
    told = measure(noise)
    assert_allclose([told["entropy"], told["detail"]], [8, 8], atol=0.05)
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = 255
    assert_allclose(measure(halves)["entropy"], 1)
    assert measure(halves)["detail"] < 0.2
    sizes = [len(zlib.compress(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).tobytes(), 9)) for p in CLEAN[:50]]
    details = measured(CLEAN[:50])["detail"]
    assert np.corrcoef(sizes, details)[0, 1] > 0.5, "what compresses badly has more detail"


def test_sharpness_falls_with_blur_and_minds_neither_contrast_nor_plain_ground() -> None:
    picture = scene(1, 128)
    blurred = [measure(cv2.GaussianBlur(picture, (0, 0), s))["sharpness"] for s in (0.7, 1.5, 3)]
    sharp = measure(picture)["sharpness"]
    assert sharp > blurred[0] > blurred[1] > blurred[2]
    assert_allclose(measure(faded(picture, 128, 0.4))["sharpness"], sharp, atol=0.02)
    half = picture.copy()
    half[:64] = 128
    assert abs(measure(half)["sharpness"] - sharp) < 0.1


def test_a_large_picture_is_judged_as_it_is_looked_at() -> None:
    large = scene(1, 500)
    small = measure(cv2.resize(large, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    for name, value in measure(large).items():
        assert_allclose(value, small[name], err_msg=name)


def test_colourfulness_is_that_of_hasler_and_suesstrunk() -> None:
    picture = CLEAN[3]
    red, green, blue = (picture[..., c].astype(float) for c in range(3))
    rg, yb = red - green, (red + green) / 2 - blue
    expected = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    assert_allclose(measure(picture)["colourfulness"], expected, rtol=1e-5)
    assert measure(np.repeat(picture[..., :1], 3, axis=2))["colourfulness"] == 0


def test_border_is_the_mean_of_the_outer_eighth() -> None:
    picture = np.full((64, 64, 3), (200, 30, 30), np.uint8)
    picture[8:-8, 8:-8] = 0
    assert measure(picture)["border"].tolist() == [200, 30, 30]


def test_backgrounds_have_the_names_that_people_use() -> None:
    told = {
        "red": (200, 30, 30), "yellow": (230, 210, 40), "green": (40, 160, 50), "cyan": (60, 200, 200),
        "blue": (90, 140, 220), "purple": (130, 40, 180), "white": (240, 240, 235), "grey": (128, 130, 126),
        "black": (20, 10, 15),
    }  # fmt: skip
    assert background(np.array([*told.values()], np.uint8)).tolist() == [*told]
    assert background(np.array([(200, 20, 60)], np.uint8)).tolist() == ["red"], "hues go round"
    assert len(background(np.empty((0, 3), np.uint8))) == 0


def test_the_hash_survives_what_does_not_change_a_picture() -> None:
    rng = np.random.default_rng(0)
    told = measured(CLEAN)
    assert told["hash"].dtype == told["mirrored"].dtype == np.uint64
    bits = {}
    out = []
    for p in CLEAN[:40]:
        file = io.BytesIO()
        Image.fromarray(p).save(file, "JPEG", quality=60)
        out.append(np.asarray(Image.open(file)))
    bits["saved again"] = np.bitwise_count(measured(out)["hash"] ^ told["hash"][:40])
    larger = [cv2.resize(p, (96, 96), interpolation=cv2.INTER_CUBIC) for p in CLEAN[:40]]
    bits["resized"] = np.bitwise_count(measured(larger)["hash"] ^ told["hash"][:40])
    others = np.bitwise_count(told["hash"] ^ told["hash"][rng.permutation(200)])
    others = others[others > 0]
    print({name: b.max() for name, b in bits.items()}, "others", others.min())
    assert max(b.max() for b in bits.values()) <= 8 < others.min()
    mirror = measured([np.ascontiguousarray(p[:, ::-1]) for p in CLEAN])
    assert np.bitwise_count(mirror["hash"] ^ told["mirrored"]).max() <= 2


def test_any_shape_can_be_measured() -> None:
    for shape in ((1, 1), (1, 300), (300, 2), (2, 3), (129, 1000)):
        told = measure(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
        assert all(np.isfinite(np.asarray(v, float)).all() for v in told.values())
        assert told["thumb"].shape == (THUMB, THUMB, 3)
    picture = scene(0, 2 * SIDE)
    before = picture.copy()
    measure(picture)
    assert (picture == before).all()


# ---- files


def saved(format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(CLEAN[0]).save(out, format, **options)
    return out.getvalue()


def test_facts_of_a_file() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0132] = "NIKON\0", "NIKON D90", "2020:01:01 00:00:00"
    exif.get_ifd(0x8769)[0x9003] = "2021:05:30 12:31:05"
    data = saved("JPEG", quality=83, exif=exif)
    told = facts(data)
    assert told == {
        "size": len(data), "format": "JPEG", "quality": 83, "date": "2021-05-30 12:31:05", "camera": "NIKON D90"
    }  # fmt: skip
    assert facts(saved("PNG")) | {"size": 0} == {"size": 0, "format": "PNG", "quality": 0, "date": "", "camera": ""}
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0132] = "NIKON", "D90", "2020:01:01 00:00:00"
    told = facts(saved("PNG", exif=exif))
    assert (told["date"], told["camera"]) == ("2020-01-01 00:00:00", "NIKON D90")


@pytest.mark.parametrize("quality", [20, 50, 75, 95])
def test_quality_of_a_jpeg(quality: int) -> None:
    assert abs(facts(saved("JPEG", quality=quality))["quality"] - quality) <= 1


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("data", [b"", b"no picture", b"\xff\xd8\xff", saved("JPEG")[:60], b"II*\0" + b"\xff" * 40])
def test_a_broken_file_raises_nothing(data: bytes) -> None:
    assert facts(data)["size"] == len(data)
