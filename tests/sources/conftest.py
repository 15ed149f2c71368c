"""Small pictures, and the real collections some tests read."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def picture() -> Callable[[int], bytes]:
    """A number → the PNG of a small picture that no other number gives."""

    def make(number: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(np.full((3, 5, 3), number, np.uint8)).save(file, "PNG")
        return file.getvalue()

    return make


@pytest.fixture
def remote() -> Iterator[str]:
    """The URL of an empty folder on fsspec's in-memory file system."""
    system = fsspec.filesystem("memory")
    system.mkdir("/bucket")
    yield "memory://bucket"
    system.rm("/bucket", recursive=True)


@pytest.fixture(scope="session")
def data() -> Callable[[str], Path]:
    """A file of the collections in PHYLA_DATA; the test is skipped where it is missing."""
    folder = Path(os.environ.get("PHYLA_DATA", Path(__file__).parents[2].parent / "shared/data"))

    def find(name: str) -> Path:
        if not (folder / name).exists():
            pytest.skip(f"needs {name} in the folder PHYLA_DATA names")
        return folder / name

    return find
