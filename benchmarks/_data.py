"""Where the measured collections lie, and smaller or larger ones made from them."""

from __future__ import annotations

import io
import os
import sys
import zipfile
from pathlib import Path

DATA = Path(os.environ.get("PHYLA_DATA", Path(__file__).parents[2] / "shared" / "data"))
MEGAPIXELS = {"1 megapixel": (1152, 864, 600), "12 megapixels": (4000, 3000, 480)}


def need(name: str) -> Path:
    """The file `name` of the data folder; ends the benchmark, saying so, where it is missing."""
    if not (DATA / name).exists():
        sys.exit(f"skipped: {DATA / name} is missing (set PHYLA_DATA to the folder that holds it)")
    return DATA / name


def cifar_part(folder: Path, n: int) -> Path:
    """The first n training images of CIFAR-10 as a Parquet file."""
    import pyarrow.parquet as pq

    path = folder / f"cifar-{n}.parquet"
    pq.write_table(pq.read_table(need("cifar10-train.parquet")).slice(0, n), path, row_group_size=1000)
    return path


def cifar_pngs(folder: Path, n: int) -> Path:
    """The first n training images of CIFAR-10 as PNG files."""
    import pyarrow.parquet as pq
    from PIL import Image

    out = folder / "cifar-png"
    out.mkdir()
    for row, data in enumerate(pq.read_table(need("cifar10-train.parquet")).slice(0, n)["image"].to_pylist()):
        Image.open(io.BytesIO(data)).save(out / f"{row:05}.png")
    return out


def grocery(folder: Path) -> Path:
    """The grocery photos as files."""
    out = folder / "grocery"
    zipfile.ZipFile(need("grocery-photos.zip")).extractall(out)
    return out


def large_jpegs(folder: Path, photos: Path, width: int, height: int, n: int) -> Path:
    """n of the photos, blown up to width × height and saved as JPEG files of quality 90."""
    from PIL import Image

    out = folder / f"jpeg-{width}"
    out.mkdir()
    for number, path in enumerate(sorted(photos.rglob("*.jpg"))[:n]):
        Image.open(path).convert("RGB").resize((width, height)).save(out / f"{number:04}.jpg", quality=90)
    return out
