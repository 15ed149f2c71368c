"""Near-duplicates: planted copies are found, look-alikes are not, and what a finding says."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from phyla.audit import duplicates as room
from phyla.audit._align import aligned
from phyla.audit._measure import gather, measure
from phyla.audit.duplicates import duplicates, pairs
from phyla.neighbors import nearest_neighbors

Picture = NDArray[np.uint8]


def scene(number: int, side: int = 64) -> Picture:
    rng = np.random.default_rng(number)
    picture = np.full((side, side, 3), rng.integers(40, 200, 3), np.float32)
    for radius in side / np.geomspace(3, 30, 40):
        colour = tuple(float(c) for c in rng.integers(0, 256, 3))
        cv2.circle(picture, tuple(rng.integers(0, side, 2).tolist()), max(round(radius), 1), colour, -1)
    return picture.clip(0, 255).astype(np.uint8)


def again(picture: Picture) -> Picture:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=60)
    return np.asarray(Image.open(out))


COPIES = {
    "saved again": again,
    "resized": lambda p: cv2.resize(p, (44, 44), interpolation=cv2.INTER_AREA),
    "cropped": lambda p: p[5:62, 2:59],
    "brightened": lambda p: (p * 1.3).clip(0, 255).astype(np.uint8),
    "mirrored": lambda p: np.ascontiguousarray(p[:, ::-1]),
    "grey": lambda p: np.repeat(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
}
SCENES = [scene(number) for number in range(120)]


def looked_at(pictures: list[Picture]) -> dict[str, Any]:
    """What the check needs; the features are the pictures' coarse colours, which mirroring hardly changes."""
    measured = gather([measure(p) for p in pictures])
    X = np.stack([cv2.resize(p, (4, 4), interpolation=cv2.INTER_AREA) for p in pictures]).astype(np.float32)
    X = np.concatenate([X + X[:, :, ::-1], abs(X - X[:, :, ::-1])], axis=1).reshape(len(pictures), -1)
    return {"measured": measured, "neighbors": nearest_neighbors(X, min(20, len(X) - 1), "cosine")}


@pytest.mark.parametrize("kind", COPIES)
def test_planted_copies_are_found_and_nothing_else(kind: str) -> None:
    copies = [COPIES[kind](p) for p in SCENES[:20]]
    first, second, severity = pairs(**looked_at(SCENES + copies))
    found = set(zip(first.tolist(), second.tolist(), strict=True))
    right = {(i, 120 + i) for i in range(20)}
    print(f"{kind}: {len(found & right)} of 20 found, {len(found - right)} others, severity {severity.min():.2f} up")
    assert found == right
    assert ((severity >= 0.5) & (severity <= 1)).all()


def test_different_pictures_are_no_duplicates() -> None:
    assert duplicates(**looked_at(SCENES)) == []


def test_the_same_thing_in_another_colour_is_no_duplicate() -> None:
    """As packets of two flavours are; grey and coloured is one picture, red and blue are two."""
    red = [p * np.array([1, 0.4, 0.4]) for p in SCENES[:10]]
    blue = [p * np.array([0.4, 0.4, 1]) for p in SCENES[:10]]
    both = [p.astype(np.uint8) for p in red + blue]
    needs = looked_at(SCENES[10:] + both)
    assert duplicates(**needs) == []
    assert len(duplicates(**looked_at(SCENES[10:] + both[:10] + [again(p) for p in both[:10]]))) == 10


def test_more_is_asked_for_where_all_pictures_are_alike() -> None:
    """One thing from one place, again and again, as under a microscope or on a conveyor belt."""
    rng = np.random.default_rng(0)
    thing = scene(7)
    shots = [(0.75 * thing + 0.25 * scene(1000 + i) + rng.normal(0, 3, thing.shape)).clip(0, 255) for i in range(80)]
    pictures = [p.astype(np.uint8) for p in shots]
    gray = measured_gray(pictures)
    other = np.roll(np.arange(80), 1)
    _, details = aligned(gray, np.arange(80), other)
    assert np.quantile(details, 0.9) > room._DETAILS, "they would all be taken for one"
    pictures += [again(p) for p in pictures[:3]]
    found = [rows for rows, _, _ in duplicates(**looked_at(pictures))]
    assert sorted(found) == [(0, 80), (1, 81), (2, 82)]


def measured_gray(pictures: list[Picture]) -> NDArray[np.float32]:
    return gather([measure(p) for p in pictures])["thumb"].astype(np.float32) @ room._LUMINANCE


def test_blank_pictures_are_not_each_others_duplicates() -> None:
    rng = np.random.default_rng(0)
    blanks = [(128 + rng.normal(0, 1, (64, 64, 3))).astype(np.uint8) for _ in range(10)]
    assert duplicates(**looked_at(SCENES + blanks)) == []


def test_a_group_says_where_it_lies_and_how_it_is_labelled() -> None:
    needs = looked_at([*SCENES, again(SCENES[3]), COPIES["resized"](SCENES[3]), again(SCENES[5])])
    folder = np.array(["train"] * 120 + ["test", "train", "train"])
    labels = np.full(123, -1, np.int32)
    labels[[3, 120]] = 0, 1
    labels[[5, 122]] = 1
    found = duplicates(**needs, folder=folder, labels=labels, classes=["cat", "dog"])
    assert {rows: why for rows, _, why in found} == {
        (3, 120, 121): "3 pictures are nearly the same, in test and train, labelled cat and dog.",
        (5, 122): "2 pictures are nearly the same.",
    }
    assert found[0][1] >= found[1][1]


def test_features_or_hash_alone_would_not_find_all() -> None:
    """Crops are far apart in the hash; what was saved again coarsely is far apart in features."""
    crops = [COPIES["cropped"](p) for p in SCENES[:20]]
    hashes = gather([measure(p) for p in SCENES[:20] + crops])["hash"]
    assert np.median(np.bitwise_count(hashes[:20] ^ hashes[20:])) > room._BITS
    needs = looked_at(SCENES + [again(p) for p in SCENES[:20]])
    rng = np.random.default_rng(0)
    lost = np.stack([rng.permutation(140)[:20] for _ in range(140)]).astype(np.int32)  # features that tell nothing
    needs["neighbors"] = lost, needs["neighbors"][1]
    assert len(pairs(**needs)[0]) == 20


def test_aligning_undoes_a_crop() -> None:
    gray = np.stack([cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in SCENES[:40]]).astype(np.float32)
    thumbs = np.stack([cv2.resize(g, (16, 16), interpolation=cv2.INTER_AREA) for g in gray])
    cut = np.stack([cv2.resize(g[6:, :58], (16, 16), interpolation=cv2.INTER_AREA) for g in gray])
    both = np.concatenate([thumbs, cut])
    rows = np.arange(40)
    before = np.array([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(thumbs, cut, strict=True)])
    there, back = aligned(both, rows, rows + 40), aligned(both, rows + 40, rows)
    pixels, details = np.maximum(there[0], back[0]), np.maximum(there[1], back[1])
    print(f"pixels {before.mean():.2f} before, {pixels.mean():.2f} after; details {details.mean():.2f}")
    assert pixels.min() > 0.93 and details.min() > room._DETAILS and before.mean() < 0.85
    same = aligned(both, rows, rows)
    np.testing.assert_allclose(same, 1, atol=1e-5)
    assert len(aligned(both, rows[:0], rows[:0])[0]) == 0


def test_the_answer_does_not_depend_on_threads() -> None:
    needs = looked_at(SCENES + [COPIES["cropped"](p) for p in SCENES[:20]])
    assert duplicates(**needs) == duplicates(**needs, n_jobs=3)


def test_hashes_are_found_through_tables_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 400, dtype=np.uint64)
    hashes[200:] = hashes[:200]
    for _ in range(4):
        hashes[200:] ^= np.uint64(1) << rng.integers(0, 64, 200, dtype=np.uint64)
    flat = room._near_hashes(hashes, hashes, 1)
    monkeypatch.setattr(room, "_FLAT", 10)
    tables = room._near_hashes(hashes, hashes, 1)
    assert set(zip(*map(np.ndarray.tolist, flat), strict=True)) == set(
        zip(*map(np.ndarray.tolist, tables), strict=True)
    )
    assert len(flat[0]) == 800, "itself and the other"


def test_two_pictures_and_one() -> None:
    assert duplicates(**looked_at([SCENES[0], SCENES[1]])) == []
    assert len(duplicates(**looked_at([SCENES[0], again(SCENES[0])]))) == 1
    one = gather([measure(SCENES[0])])
    assert duplicates(measured=one, neighbors=(np.empty((1, 0), np.int32), np.empty((1, 0), np.float32))) == []
