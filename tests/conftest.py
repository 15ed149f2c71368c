"""Small collections with known classes, a network that takes no time, and the real data where it is there."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Tests run side by side, a process a core: more threads of linear algebra would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image

from phyla.project import Project, sort

# As Phyla does for itself: here a test may import scikit-learn first, and OpenMP reads this once.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

PLUGIN = Path(__file__).parent / "plugin"
sys.path.insert(0, str(PLUGIN))  # where an installed package offers the backbone `fake`

FUZZED = int(os.environ.get("PHYLA_FUZZ", 10))  # made inputs of each kind; benchmarks/fuzz.py asks for many more

COLOURS = {"red": (200, 50, 50), "green": (50, 190, 60), "blue": (50, 60, 200), "grey": (120, 120, 120)}


def paint(path: Path, colour: str, number: int, size: tuple[int, int] = (24, 24)) -> Path:
    """Write the picture `number` of a class: its colour, brighter or darker, with noise."""
    rng = np.random.default_rng([number, *colour.encode()])
    pixels = np.array(COLOURS[colour]) + rng.uniform(-35, 35) + rng.normal(0, 8, (size[1], size[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def make_photos() -> Callable[..., Path]:
    """(folder, each) → `folder` with `each` pictures of three colours, named CLASS_NUMBER.png."""

    def make(folder: Path, each: int = 40, colours: tuple[str, ...] = ("red", "green", "blue"), start: int = 0) -> Path:
        for colour in colours:
            for number in range(start, start + each):
                paint(folder / f"{colour}_{number:03}.png", colour, number)
        return folder

    return make


@pytest.fixture(scope="session")
def photos(make_photos: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pictures of each of three colours. To be read only."""
    return make_photos(tmp_path_factory.mktemp("collection") / "photos")


@pytest.fixture(scope="session")
def PHYLA_DATA() -> Path:
    """The folder of real collections; the test is skipped where it is missing."""
    folder = Path(os.environ.get("PHYLA_DATA", Path(__file__).parents[2] / "shared/data"))
    if not folder.is_dir():
        pytest.skip("needs the folder that PHYLA_DATA names (default: ../shared/data)")
    return folder


QUICK: dict[str, Any] = {"backbone": ["fake"], "groups": 3, "threads": 1, "report": False}  # a sort within 0.3 s


@pytest.fixture(scope="session")
def sorted_project(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """`photos`, sorted into three groups, with a report. To be read only."""
    return sort(photos, tmp_path_factory.mktemp("projects") / "project", **QUICK | {"report": True})


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`s3://BUCKET` of an S3 API that is served on this machine, with credentials for it in the environment."""
    pytest.importorskip("s3fs", reason="needs s3fs: pip install 'phyla[test]'")
    server = pytest.importorskip("moto.server", reason="needs moto: pip install 'phyla[test]'")
    import boto3

    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    told = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    told |= {"AWS_DEFAULT_REGION": "us-east-1", "PHYLA_CACHE": str(tmp_path_factory.mktemp("cache"))}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket"
    running.stop()


@pytest.fixture
def project(sorted_project: Project, tmp_path: Path) -> Project:
    """A copy of `sorted_project` to change."""
    return Project(shutil.copytree(sorted_project.folder, tmp_path / "project"))


@pytest.fixture(scope="session")
def examples() -> int:
    """How many inputs of each kind a fuzzing test makes."""
    return FUZZED
