"""Images' vectors as looking at a project needs them: on the disk, a block in memory at a time. Who is near whom."""

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
from phyla._progress import Progress
from phyla._steps import Spaces, usable_threads
from phyla.cluster import leading
from phyla.engine import LOCAL, open_engine
from phyla.neighbors import nearest_neighbors
from phyla.store import Store, plain
from phyla.types import PhylaError, Recipe

_BLOCK = 1 << 16  # rows of vectors held at a time
_NEIGHBORS = 20  # of each image, as TypiClust (Hacohen et al., 2022) takes
_VERSION = 3  # of the neighbours: raised when other numbers come of the same rows
_AMONG, _FEW = 10_000, 10  # of a large collection: images that those to ask about are found among, neighbours of each


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
        with self._reading:
            if not self._fits(path, blocks) and self._elsewhere is None:
                with suppress(OSError):
                    _write_blocks(self.folder, f"near/{name}.npy", len(self.images), blocks())
            if not self._fits(path, blocks):
                path = self._write_elsewhere(path.name, blocks)
        return np.load(path, mmap_mode="r")  # mapped anew each time: what was touched does not pile up

    def _fits(self, path: Path, blocks: Callable[[], Iterator[NDArray[np.floating]]]) -> bool:
        """Whether it is there, and neither of another kind nor damaged; a file is looked at once."""

        def fits() -> bool:
            with suppress(ValueError, OSError):
                kept = np.load(path, mmap_mode="r")
                return bool(kept.dtype == np.float16 and kept.shape == (len(self.images), next(blocks()).shape[1]))
            return False

        with suppress(OSError):
            there = path.stat()
            return self._keep(f"{path.name} fits", (there.st_ino, there.st_mtime_ns), fits)
        return False

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

    # ---- neighbours

    def neighbors(
        self, threads: int | None = None, engine: str = LOCAL, quiet: bool = True
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Indices and distances of each image's 20 nearest, found once. 50,000 images take 9 s of CPU."""
        reduced = tuple(self._current("reduced"))
        recipe = Recipe("neighbors", "euclidean", {"k": _NEIGHBORS}, reduced, _VERSION)
        if (arrays := self._found_before(recipe)) is None:
            X = Spaces(self.store, reduced, near=True)
            k = min(_NEIGHBORS, len(X) - 1)
            if k < 1:
                return np.zeros((len(X), 0), np.int32), np.zeros((len(X), 0), np.float32)
            with Progress(quiet)("finding neighbours", len(X), len(X)) as advance:
                found = nearest_neighbors(X, k, "euclidean", usable_threads(threads), open_engine(engine), advance)
            arrays = dict(zip(("indices", "distances"), found, strict=True))
            self._keep_stage(recipe, arrays)
        return arrays["indices"], arrays["distances"]

    def _neighbors_of_some(self, threads: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """`neighbors`, for asking: of many images those of some of each group, among these; others have none near."""
        n, best = len(self.grouping.best), self.grouping.best
        recipe = Recipe("neighbors", "some", {"k": _FEW, "among": _AMONG}, (self._current("groups"),), 2)
        if (arrays := self._found_before(recipe)) is None:
            order = np.random.default_rng(0).permutation(n)
            order = order[np.argsort(best[order], kind="stable")]
            rank = np.arange(n) - np.searchsorted(best[order], best[order])  # of a row among those of its group
            rows = np.sort(order[np.argsort(rank, kind="stable")[:_AMONG]])
            indices, distances = nearest_neighbors(self._vectors_of(rows), _FEW, n_jobs=threads)
            arrays = {"rows": rows, "others": rows[indices].astype(np.int32), "distances": distances}
            self._keep_stage(recipe, arrays)
        indices = np.repeat(np.arange(n, dtype=np.int32)[:, None], _FEW, 1)
        distances = np.full((n, _FEW), np.inf, np.float32)
        indices[arrays["rows"]], distances[arrays["rows"]] = arrays["others"], arrays["distances"]
        return indices, distances

    def _keep_stage(self, recipe: Recipe, arrays: dict[str, NDArray[Any]]) -> None:
        """Keep what was found, if it can be: reading needs no lock."""
        with suppress(PhylaError), self.store.writing():
            self.store.finish(self.store.stage(recipe), arrays)

    def _found_before(self, recipe: Recipe) -> dict[str, NDArray[Any]] | None:
        stage = f"{recipe.room}/{recipe.key}"
        arrays = self.store.arrays(stage)
        for name in {"rows", "others", "indices"} & (arrays or {}).keys():
            if arrays and arrays[name].max(initial=0) >= len(self.grouping.best):
                raise self.store.damaged(f"{stage}/{name}.npy", "it tells of images that are not there")
        return arrays


def _write_blocks(folder: Path, name: str, n: int, blocks: Iterator[NDArray[np.floating]]) -> None:
    """Where a store of its own keeps it: of a project that lies elsewhere, on this machine."""
    first = next(blocks)
    with Store(folder).streaming_array(name, (n, first.shape[1]), "<f2") as put:
        for block in chain([first], blocks):
            put(block)
