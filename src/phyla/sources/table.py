"""The rows of a .parquet file, or of a folder of them, with the pictures in a column."""

from __future__ import annotations

import bisect
import itertools
import json
import posixpath
import re
import threading
from collections import OrderedDict
from functools import cached_property
from typing import TYPE_CHECKING

from phyla.sources import _files
from phyla.sources._entry import ByPath, Entry, some
from phyla.types import PhylaError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["Table"]

_NAMES = {"image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes", "image_data"}
_COMPANION = re.compile(r"(readme|licen[cs]e|copying)[^/]*|[^/]*\.(md|txt|json|ya?ml)", re.IGNORECASE)
# Two row groups are held always, so that threads may stand on both sides of a boundary; small ones up to this sum.
_CACHE_BYTES = 256 * 2**20


class Table(ByPath):
    """A table, one entry a row. Its picture column holds bytes, or {bytes, path} as Hugging Face writes it.

    The column is the first of a name like `image` or `jpg` that can hold pictures, or else the first that can. Where
    bytes are null, a path counts from the table's folder. Only that column is read, a row group at a time, and the
    last row groups are kept: reading in order costs about 10 µs a small picture, reading at random a row group each.
    Row groups of a few hundred MB and more cost that much memory, twice; pictures that repeat count once.
    """

    def __init__(self, path: str) -> None:
        self.path = _files.absolute(path)
        self._lock = threading.RLock()
        self._groups: OrderedDict[tuple[str, int], pa.ChunkedArray] = OrderedDict()
        self._open: tuple[str, pq.ParquetFile, str] | None = None

    @staticmethod
    def accepts(path: str) -> bool:
        if not _files.is_folder(path):
            return _files.suffix(path).endswith(".parquet")
        tables = 0
        for entry in _files.walk(path):  # ends at the first picture: cheap for a folder of those
            name = entry.uri.rpartition("/")[2]
            if name.lower().endswith(".parquet"):
                tables += 1
            elif not _COMPANION.fullmatch(name):
                return False
        return tables > 0

    def entries(self) -> list[Entry]:
        listed = []
        for file, starts in self._starts.items():
            stamp, shown = _files.stamp(file), _files.escape(file)
            listed += [Entry(f"{shown}#{row}", -1, f"{stamp}:{row}") for row in range(starts[-1])]
        return some(listed, _files.escape(self.path))

    def read(self, uri: str) -> bytes:
        file, row = self._place(uri)
        starts = self._starts[file]
        group = bisect.bisect_right(starts, row) - 1
        cells = self._group(file, group)
        try:
            cell = cells[row - starts[group]].as_py()
        except Exception as error:  # a hostile table makes pyarrow raise nearly anything
            raise PhylaError("damaged cell") from error
        cell, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        if cell is None and isinstance(path, str) and path:
            return _files.read(path if _files.is_remote(path) else posixpath.join(posixpath.dirname(file), path))
        if not isinstance(cell, bytes):
            raise PhylaError("empty cell" if cell is None else "no picture in this cell")
        return _files.within_limit(cell)

    def labels(self) -> dict[str, str] | None:
        """uri → the column `label`, by name where the file's metadata names its classes; None without the column."""
        found: dict[str, str] | None = None
        for file in self._starts:
            with self._lock:
                parquet, _ = self._parquet(file)
                if "label" not in parquet.schema_arrow.names:
                    continue
                try:
                    values = parquet.read(columns=["label"]).column(0).to_pylist()
                except Exception as error:  # as above
                    message = f"The column label of {_files.escape(file)} can't be read: {error}."
                    raise PhylaError(message, "Write it again, as text or whole numbers.") from error
                names = _class_names(parquet.schema_arrow.metadata or {})
            found, shown = found or {}, _files.escape(file)
            for row, value in enumerate(values):
                if value is None or (names and value == -1):  # -1 is Hugging Face's "no label"
                    continue
                named = names and isinstance(value, int) and 0 <= value < len(names)
                found[f"{shown}#{row}"] = names[value] if named else str(value)
        return found

    @cached_property
    def _starts(self) -> dict[str, list[int]]:
        """Each file's row groups: where they start, and last the number of rows."""
        paths = [self.path]
        if _files.is_folder(self.path):
            found = sorted(entry.uri for entry in _files.walk(self.path))
            paths = [_files.unescape(uri) for uri in found if uri.lower().endswith(".parquet")]
        rows = {}
        with self._lock:
            for path in paths:
                parquet, _ = self._parquet(path)
                meta = parquet.metadata
                counts = (meta.row_group(group).num_rows for group in range(meta.num_row_groups))
                rows[path] = list(itertools.accumulate(counts, initial=0))
        return rows

    def _place(self, uri: str) -> tuple[str, int]:
        shown, _, row = uri.rpartition("#")
        file = _files.unescape(shown)
        if file not in self._starts or not row.isdecimal() or int(row) >= self._starts[file][-1]:
            raise FileNotFoundError(uri)
        return file, int(row)

    def _group(self, file: str, group: int) -> pa.ChunkedArray:
        with self._lock:  # held while reading, so that a group is never read twice at once
            if (file, group) in self._groups:
                self._groups.move_to_end((file, group))
                return self._groups[file, group]
            parquet, column = self._parquet(file)
            try:
                cells = parquet.read_row_group(group, columns=[column]).column(0)
            except Exception as error:  # as above
                raise PhylaError(f"damaged row group {group} of the table") from error
            self._groups[file, group] = cells
            while len(self._groups) > 2 and sum(held.nbytes for held in self._groups.values()) > _CACHE_BYTES:
                self._groups.popitem(last=False)
            return cells

    def _parquet(self, file: str) -> tuple[pq.ParquetFile, str]:
        """`file`, opened, and its column of pictures. Call it with the lock held.

        The last one stays open, for footers can be long.
        """
        import pyarrow.parquet as pq

        if self._open is None or self._open[0] != file:
            if self._open:
                self._open[1].close(force=True)
                self._open = None
            try:
                with _files.open_binary(file) as footer:
                    whole = pq.ParquetFile(footer)
                    column, leaf = _picture_column(whole.schema_arrow, file)
                    metadata = whole.metadata
                # A picture that is told once and repeated a million times stays one.
                as_told = pq.ParquetFile(_files.open_binary(file), metadata=metadata, read_dictionary=[leaf])
                self._open = file, as_told, column
            except PhylaError:
                raise
            except Exception as error:  # as above
                self._open = None
                why = "is no whole Parquet file"
                if isinstance(error, OSError) and error.errno:  # pyarrow's own have no number
                    why = f"can't be read: {_files.reason(error)}"
                raise PhylaError(f"{_files.escape(file)} {why}.", "Fetch or write it again.") from error
        return self._open[1:]


def _picture_column(schema: pa.Schema, file: str) -> tuple[str, str]:
    """The column of pictures, and the place of the bytes in it."""
    import pyarrow.types as kinds

    def is_bytes(kind: pa.DataType) -> bool:
        if kinds.is_dictionary(kind):
            kind = kind.value_type
        if kinds.is_null(kind):  # a struct whose bytes are all null may have lost their type
            return False
        tests = (kinds.is_binary, kinds.is_large_binary, kinds.is_fixed_size_binary, kinds.is_binary_view)
        return any(test(kind) for test in tests)

    def holds_bytes(kind: pa.DataType) -> bool:
        if kinds.is_struct(kind):
            return any(part.name == "bytes" and is_bytes(part.type) for part in kind)
        return is_bytes(kind)

    fit = [part.name for part in schema if holds_bytes(part.type)]
    for name in (*(name for name in fit if name.lower() in _NAMES), *fit):
        inside = ".bytes" if kinds.is_struct(schema.field(schema.get_all_field_indices(name)[0]).type) else ""
        return str(name), f"{name}{inside}"
    listed = ", ".join(f"{part.name} ({part.type})" for part in schema)
    raise PhylaError(
        f"{_files.escape(file)} has no column of pictures. It has: {listed}.",
        "Pictures lie in a column of bytes, best named image.",
    )


def _class_names(metadata: dict[bytes, bytes]) -> list[str]:
    """Class names in a schema's metadata: Hugging Face's `ClassLabel`, or a plain list under `classes`."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        names = features.get("label", {}).get("names")
    except (ValueError, AttributeError, RecursionError):  # someone else's metadata, of another shape
        names = None
    if isinstance(names, list):
        return [str(name) for name in names]
    return [name.strip() for name in metadata.get(b"classes", b"").decode(errors="replace").split(",") if name.strip()]
