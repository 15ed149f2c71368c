"""Near-duplicates planted among real pictures, found again: recall, precision and time.

    python benchmarks/duplicates.py [cifar|photos] [--project FOLDER] [--threads 2] [--pictures FILE.png]

500 pictures are drawn at random (200 of the photos) and a copy of each is added, in even parts: saved again as JPEG
of quality 60, resized (by 0.75 or by 1.5), cut to 90 % of its sides, or brightened by 1.3. A pair that is found
counts as right if one is the copy of the other. Collections hold near-duplicates of their own: another pair counts as
natural where the pixels of 64 x 64 correlate by more than 0.9 after OpenCV has fitted an affine map between them, which
has nothing to do with how the check aligns. Precision is told with these as wrong and with these set aside; the control
is how many pairs of nearest neighbours that were not found are as alike. `--project` is a Phyla project of the
collection, without the copies: a copy of it is used, so that only the planted pictures are looked at by the networks.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
from _data import need
from numpy.typing import NDArray
from PIL import Image

from phyla import backbones, plugins, sources
from phyla._progress import Progress
from phyla._steps import Steps, images_of, limited
from phyla.audit._measure import SIDE, gather, measure
from phyla.audit.duplicates import duplicates, pairs
from phyla.cluster import leading
from phyla.engine import cores
from phyla.neighbors import nearest_neighbors
from phyla.project import DEFAULT_BACKBONES, Project
from phyla.types import Images

KINDS = ("re-encoded", "resized", "cropped", "brightened")
NATURAL = 0.9


def changed(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """A near-duplicate of a picture, as a file."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = picture.size
    out = io.BytesIO()
    if kind == "re-encoded":
        picture.save(out, "JPEG", quality=60)
        return out.getvalue()
    if kind == "resized":
        factor = rng.choice([0.75, 1.5])
        picture = picture.resize((round(width * factor), round(height * factor)), Image.Resampling.BICUBIC)
    elif kind == "cropped":
        w, h = round(width * 0.9), round(height * 0.9)
        left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
        picture = picture.crop((left, top, left + w, top + h))
    else:
        picture = Image.fromarray((np.asarray(picture) * 1.3).clip(0, 255).astype(np.uint8))
    picture.save(out, "PNG") if max(width, height) < 64 else picture.save(out, "JPEG", quality=90)
    return out.getvalue()


def collection(what: str) -> list[bytes]:
    if what == "cifar":
        import pyarrow.parquet as pq

        return pq.read_table(need("cifar10-train.parquet"))["image"].to_pylist()
    import zipfile

    with zipfile.ZipFile(need("grocery-photos.zip")) as photos:
        return [photos.read(name) for name in sorted(photos.namelist()) if name.endswith(".jpg")]


def planted(what: str, seed: int = 0) -> tuple[list[bytes], NDArray[np.int_]]:
    """The collection with the copies behind it, and the row that each copy is of."""
    rng = np.random.default_rng(seed)
    data = collection(what)
    of = np.sort(rng.choice(len(data), 500 if what == "cifar" else 200, replace=False))
    return data + [changed(data[row], KINDS[i % 4], rng) for i, row in enumerate(of)], of


def described(images: Images, steps: Steps) -> NDArray[np.float32]:
    """The leading axes of the bundled networks' features."""
    cards = [backbones.card(name) for name in DEFAULT_BACKBONES]
    stages = steps.reduce(steps.extract(images, cards), images)
    spaces = [steps.store.arrays(stage)["X"] for stage in stages]
    return leading(np.hstack(spaces), [x.shape[1] for x in spaces])


def alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Correlation of two pictures, or of one and the other's mirror image, after an affine map; 0 where none fits."""
    side = 64
    a, b = (
        cv2.resize(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), (side, side), interpolation=cv2.INTER_AREA)
        for p in (one, other)
    )
    best = 0.0
    for start in (b, np.ascontiguousarray(b[:, ::-1])):
        try:
            found, _ = cv2.findTransformECC(a, start, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE)
            best = max(best, found)
        except cv2.error:  # it did not settle
            continue
    return best


def picture_of(images: Images, rows: list[tuple[int, int]], path: Path) -> None:
    """Pairs of pictures side by side, eight a line."""
    cells = []
    for pair in rows:
        both = np.hstack([cv2.resize(images.open(row, 64), (64, 64), interpolation=cv2.INTER_AREA) for row in pair])
        cells.append(cv2.copyMakeBorder(both, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=(255, 255, 255)))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % 8)
    lines = [np.hstack(cells[i : i + 8]) for i in range(0, len(cells), 8)]
    Image.fromarray(np.vstack(lines)).save(path)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("collection", choices=("cifar", "photos"), nargs="?", default="cifar")
    arguments.add_argument("--project", type=Path)
    arguments.add_argument("--threads", type=int, default=cores())
    arguments.add_argument("--pictures", type=Path, help="draw pairs found that were not planted, least alike first")
    args = arguments.parse_args()
    import pyarrow as pa
    import pyarrow.parquet as pq

    data, of = planted(args.collection)
    first_copy = len(data) - len(of)
    with tempfile.TemporaryDirectory() as temporary, limited(args.threads):
        place, folder = Path(temporary) / "pictures.parquet", Path(temporary) / "project"
        pq.write_table(pa.table({"image": data}), place, row_group_size=1000)
        if args.project:
            shutil.copytree(args.project, folder)
        project = Project(folder, create=not args.project)
        source = sources.open_source(place)
        with project.store.writing():
            steps = Steps(project.store, args.threads, Progress(quiet=True))
            images = images_of(steps.scan(source), source)
            row = {int(uri.rpartition("#")[2]): i for i, uri in enumerate(images.uris)}  # exact copies are one row
            X = described(images, steps)

        def look(start: int) -> list[dict]:
            return [measure(images.open(i, SIDE)) for i in range(start, min(start + 64, len(images)))]

        started = perf_counter()
        run = plugins.load("engine", "local")
        measured = gather([told for part in run(look, range(0, len(images), 64), args.threads) for told in part])
        seconds = {"measuring": perf_counter() - started}
        started = perf_counter()
        near = nearest_neighbors(X, 20, n_jobs=args.threads)
        seconds["neighbours"] = perf_counter() - started
        started = perf_counter()
        groups = duplicates(measured=measured, neighbors=near, n_jobs=args.threads)
        seconds["duplicates"] = perf_counter() - started
        one, other, severity = pairs(measured=measured, neighbors=near, n_jobs=args.threads)

        copies = {(row[o], row[first_copy + i]): KINDS[i % 4] for i, o in enumerate(of.tolist()) if o in row}
        found = list(zip(one.tolist(), other.tolist(), strict=True))
        known = set(found)
        right = [pair in copies for pair in found]
        for kind in KINDS:
            those = [pair for pair, name in copies.items() if name == kind]
            print(f"{kind}: {np.mean([pair in known for pair in those]):.3f} of {len(those)} found", flush=True)
        extra = [(pair, s) for pair, ok, s in zip(found, right, severity, strict=True) if not ok]
        judged = np.array([alike(images.open(a, 64), images.open(b, 64)) for (a, b), _ in extra])
        natural = int((judged > NATURAL).sum())
        rng = np.random.default_rng(0)
        rows = rng.integers(len(images), size=1000)
        control = [
            (int(r), int(near[0][r, 0])) for r in rows if tuple(sorted((int(r), int(near[0][r, 0])))) not in known
        ]
        by_chance = np.mean([alike(images.open(a, 64), images.open(b, 64)) > NATURAL for a, b in control])
        n_right = sum(right)
        print(
            f"{args.collection}: {len(images)} pictures, {len(copies)} copies: recall {n_right / len(copies):.3f}; "
            f"{len(found)} pairs in {len(groups)} groups, precision raw {n_right / len(found):.3f}, natural set aside "
            f"{n_right / (n_right + len(extra) - natural):.3f} ({natural} natural, {len(extra) - natural} others; "
            f"of neighbours not found {by_chance:.3f} are as alike)"
        )
        # A copy of a picture that has natural copies is right with all of them.
        print(f"all pairs that are alike count as right: {(n_right + natural) / len(found):.3f}")
        print("; ".join(f"{what} {s:.1f} s" for what, s in seconds.items()), f"in {args.threads} threads")
        if args.pictures and extra:
            order = np.argsort(judged)[:96]
            picture_of(images, [extra[i][0] for i in order], args.pictures)


if __name__ == "__main__":
    main()
