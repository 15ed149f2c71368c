"""What is taken away through the page: a table, or a folder a class in a .zip, piece by piece."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from phyla._export import _safe, suffix_of, write_rows
from phyla.types import UNSORTED, PhylaError

FORMATS = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet", "zip": "application/zip"}
_PIECE = 1 << 18


def take_away(rows: Mapping[str, NDArray[Any]], read: Callable[[str], bytes], format: str) -> Iterator[bytes]:
    """The bytes of a file of these `rows` (see `Opened.rows`)."""
    if format == "zip":
        yield from _zipped(rows, read)
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
