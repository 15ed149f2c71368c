"""An image's vector as looking at a project needs it: on the disk, a block in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla._opened import Opened
from phyla.cluster import leading
from phyla.store import Store, plain

_BLOCK = 1 << 16  # rows of vectors held at a time


@dataclass(frozen=True)
class Vectors:
    """X (n, d) float32 that lies on the disk: rows of it are read when asked for, or all where NumPy needs an array."""

    of: Near

    def __len__(self) -> int:
        return len(self.of._vectors)

    def __getitem__(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        return self.of._vectors_of(rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.of._vectors.astype(dtype or np.float32)


class Near(Opened):
    """A project whose vectors lie on the disk, in `near/`, which may be deleted."""

    _elsewhere: TemporaryDirectory[str] | None = None  # what `near/` can't take

    @property
    def _name_of_vectors(self) -> str:
        return sha256(repr(self._current("reduced")).encode()).hexdigest()[:12]

    @property
    def _vectors(self) -> NDArray[np.float16]:
        """(n, d) `near` in half precision, on the disk: of a million images only what is looked at is in memory."""
        reduced = self._current("reduced")

        def blocks() -> Iterator[NDArray[np.floating]]:
            for start in range(0, len(self.images), _BLOCK):
                spaces = (self.store.array(f"{stage}/X.npy", mmap=True) for stage in reduced)
                yield np.hstack([leading(X[start : start + _BLOCK], (X.shape[1],)) for X in spaces])

        return self._on_disk(self._name_of_vectors, blocks)

    def _on_disk(self, name: str, blocks: Callable[[], Iterator[NDArray[np.floating]]]) -> NDArray[np.float16]:
        """The rows of `blocks` in half precision, made once and kept beside the project: it may be deleted.

        Made aside, and renamed: whoever makes it makes the same, so it needs no lock. Where the project can't be
        written to, it lies in a folder that goes with this process.
        """
        path = self.folder / "near" / f"{name}.npy"
        if not path.exists():
            with self._reading:
                if self._elsewhere is None and not path.exists():
                    with suppress(OSError):
                        _write_blocks(self.folder, f"near/{name}.npy", len(self.images), blocks())
                if not path.exists():
                    path = self._write_elsewhere(path.name, blocks)
        return np.load(path, mmap_mode="r")  # mapped anew each time: what was touched does not pile up

    def _write_elsewhere(self, name: str, blocks: Callable[[], Iterator[NDArray[np.floating]]]) -> Path:
        place = gettempdir()
        try:
            self._elsewhere = self._elsewhere or TemporaryDirectory(prefix="phyla-")
            folder = Path(place := self._elsewhere.name)
            path = folder / name
            if not path.exists():
                _write_blocks(folder, name, len(self.images), blocks())
        except OSError as fault:
            raise plain(fault, place, "Have TMPDIR name a folder with room.") from fault
        return path

    @property
    def _read_when_asked(self) -> Vectors:
        return Vectors(self)

    def _vectors_of(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        return self._vectors[rows].astype(np.float32)

    def _blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for start in range(0, len(self.images), _BLOCK):
            yield start, self._vectors[start : start + _BLOCK].astype(np.float32)


def _write_blocks(folder: Path, name: str, n: int, blocks: Iterator[NDArray[np.floating]]) -> None:
    """Where a store of its own keeps it: of a project that lies elsewhere, on this machine."""
    first = next(blocks)
    with Store(folder).streaming_array(name, (n, first.shape[1]), "<f2") as put:
        for block in chain([first], blocks):
            put(block)
