"""What is taken away through the page, piece by piece: a table, a folder a class in a .zip, a .tar to train from."""

from __future__ import annotations

import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phyla._export import _safe, suffix_of, write_rows
from phyla._packing import Pack, collection, put_sample
from phyla.types import UNSORTED, PhylaError

if TYPE_CHECKING:
    from phyla._opened import Opened

FORMATS = {
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "zip": "application/zip",
    "tar": "application/x-tar",
}
_PIECE = 1 << 18


def take_away(project: Opened, kept: NDArray[np.bool_], format: str) -> Iterator[bytes]:
    """The bytes of a file of those rows of `project.rows()` that are `kept`."""
    if format == "tar":
        yield from _samples(project, kept)
        return
    rows = {name: column[kept] for name, column in project.rows().items()}
    if format == "zip":
        yield from _zipped(rows, project._fetch)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"phyla.{format}"
        write_rows(rows, path, force=True)
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece


class _Pieces:
    """A file that only grows, and gives away what was written."""

    def __init__(self) -> None:
        self.held = bytearray()

    def write(self, data: bytes) -> int:
        self.held += data
        return len(data)

    def flush(self) -> None: ...

    def take(self) -> bytes:
        data, self.held = bytes(self.held), bytearray()
        return data


def packed(folder: Path) -> Iterator[bytes]:
    """The bytes of a .zip of all files in `folder`, as they are: weights hardly shrink."""
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            with path.open("rb") as file, archive.open(path.relative_to(folder).as_posix(), "w") as entry:
                while piece := file.read(_PIECE):
                    entry.write(piece)
                    yield pieces.take()
    yield pieces.take()


def _zipped(rows: Mapping[str, NDArray[Any]], read: Callable[[str], bytes]) -> Iterator[bytes]:
    """A folder a class; images of no class lie by their groups, those that were left out in `unsorted`."""
    pieces, taken = _Pieces(), set[str]()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        columns = (rows[column].tolist() for column in ("uri", "group", "name", "left_out"))
        for uri, group, name, left_out in zip(*columns, strict=True):
            if group == UNSORTED:  # not readable
                continue
            try:
                data = read(uri)
            except (OSError, PhylaError):  # gone since: the others still come
                continue
            place = _safe(name) if name else "unsorted" if left_out else f"group {group}"
            file, _, part = uri.partition("#")
            leaf = _safe(Path(part).name if "." in part else f"{Path(file).stem}-{part}" if part else Path(file).name)
            stem, suffix = (Path(leaf).stem, Path(leaf).suffix) if "." in leaf else (leaf, suffix_of(data))
            target, number = f"{place}/{stem}{suffix}", 1
            while target.casefold() in taken:
                number += 1
                target = f"{place}/{stem} ({number}){suffix}"
            taken.add(target.casefold())
            archive.writestr(target, data)
            if len(pieces.held) >= _PIECE:
                yield pieces.take()
    yield pieces.take()


def _samples(project: Opened, kept: NDArray[np.bool_]) -> Iterator[bytes]:
    """One shard of a WebDataset, with the keys and the classes that `Project.export` gives."""
    columns, classes, there = collection(project)
    numbers = np.flatnonzero(kept[there])
    rows = Pack({name: column[numbers] for name, column in columns.items()}, classes, lambda: iter(())).rows()
    pieces = _Pieces()
    with tarfile.open(fileobj=pieces, mode="w|", format=tarfile.USTAR_FORMAT) as shard:  # type: ignore[call-overload]
        for number, row in zip(numbers.tolist(), rows, strict=True):
            with suppress(OSError, PhylaError):  # gone since: the others still come
                put_sample(shard, number, row, project._fetch(row["uri"]))
            if len(pieces.held) >= _PIECE:
                yield pieces.take()
    yield pieces.take()
