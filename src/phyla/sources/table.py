"""The rows of a .parquet or .arrow file, or of a folder of them, with the pictures in a column."""

from __future__ import annotations

import bisect
import itertools
import posixpath
import re
import threading
from collections import OrderedDict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from phyla.sources import _files
from phyla.sources._columns import SUFFIXES, Columns, no_pictures, open_columns
from phyla.sources._entry import ByPath, Entry, some
from phyla.types import PhylaError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Table"]

_COMPANION = re.compile(r"(readme|licen[cs]e|copying)[^/]*|[^/]*\.(md|txt|json|ya?ml)", re.IGNORECASE)
_CACHE = re.compile(r"cache-[^/]*\.arrow")  # what `datasets` has computed of the tables beside it
# Two row groups are held always, so that threads may stand on both sides of a boundary; small ones up to this sum.
_CACHE_BYTES = 256 * 2**20


class Table(ByPath):
    """A table, one entry a row. Its picture column holds bytes, or {bytes, path} as Hugging Face writes it.

    A folder may be what `save_to_disk` of `datasets` wrote, or lies on the Hugging Face Hub: all its parts are read.
    The column is the first of a name like `image` or `jpg` that can hold pictures, or else the first that can. Where
    bytes are null, a path counts from the table's folder. Only that column is read, a row group at a time, and the
    last row groups are kept: reading in order costs about 10 µs a small picture, reading at random a row group each.
    Row groups of a few hundred MB and more cost that much memory, twice; pictures that repeat count once. A record
    batch of Arrow is a row group, too.
    """

    def __init__(self, path: str) -> None:
        self.path = _files.absolute(path)
        self._lock = threading.RLock()
        self._groups: OrderedDict[tuple[str, int], pa.ChunkedArray | pa.Array] = OrderedDict()
        self._open: tuple[str, Columns] | None = None

    @staticmethod
    def accepts(path: str) -> bool:
        if not _files.is_folder(path):
            return _files.suffix(path).endswith(SUFFIXES)
        tables = 0
        for entry in _files.walk(path):  # ends at the first picture: cheap for a folder of those
            name = entry.uri.rpartition("/")[2]
            if _is_table(name):
                tables += 1
            elif not _COMPANION.fullmatch(name) and not _CACHE.fullmatch(name):
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
        """uri → the column `label`, or else the first that Hugging Face calls one; None without such a column.

        By name where the file's metadata names its classes. A table without pictures tells in its column `uri` whose
        labels they are. Raises `PhylaError` where one is given two.
        """
        found: dict[str, str] | None = None
        for file in self._tables:
            shown = _files.escape(file)
            with self._lock:
                columns = self._columns(file)
                if not columns.picture and "uri" not in columns.schema.names:
                    raise no_pictures(columns.schema, file)
                if (column := columns.label) is None:
                    continue
                values, names = _all(columns, column, shown), columns.classes
                if columns.picture:
                    uris = [f"{shown}#{row}" for row in range(len(values))]
                else:
                    told = _all(columns, "uri", shown)
                    if None in told or "" in told:
                        raise PhylaError(f"A row of {shown} has no uri.", "Mend it or take it out.")
                    uris = [_files.named_in(file, str(uri)) for uri in told]
            found = found or {}
            for uri, value in zip(uris, values, strict=True):
                if value in (None, "") or (names and value == -1):  # -1 is Hugging Face's "no label"
                    continue
                named = names and isinstance(value, int) and 0 <= value < len(names)
                label = names[value] if named else str(value)
                if found.setdefault(uri, label) != label:
                    raise PhylaError(f"{shown} labels {uri} both {found[uri]} and {label}.", "Keep one.")
        return found

    @cached_property
    def _tables(self) -> list[str]:
        if not _files.is_folder(self.path):
            return [self.path]
        found = sorted(entry.uri for entry in _files.walk(self.path))
        return [_files.unescape(uri) for uri in found if _is_table(uri.rpartition("/")[2])]

    @cached_property
    def _starts(self) -> dict[str, list[int]]:
        """Each file's row groups: where they start, and last the number of rows."""
        rows = {}
        with self._lock:
            for file in self._tables:
                columns = self._columns(file)
                if not columns.picture:
                    raise no_pictures(columns.schema, file)
                rows[file] = list(itertools.accumulate(columns.counts, initial=0))
        return rows

    def _place(self, uri: str) -> tuple[str, int]:
        shown, _, row = uri.rpartition("#")
        file = _files.unescape(shown)
        if file not in self._starts or not row.isdecimal() or int(row) >= self._starts[file][-1]:
            raise FileNotFoundError(uri)
        return file, int(row)

    def _group(self, file: str, group: int) -> pa.ChunkedArray | pa.Array:
        with self._lock:  # held while reading, so that a group is never read twice at once
            if (file, group) in self._groups:
                self._groups.move_to_end((file, group))
                return self._groups[file, group]
            columns = self._columns(file)
            try:
                cells = columns.read(group, columns.picture)
            except Exception as error:  # as above
                raise PhylaError(f"damaged row group {group} of the table") from error
            self._groups[file, group] = cells
            while len(self._groups) > 2 and sum(held.nbytes for held in self._groups.values()) > _CACHE_BYTES:
                self._groups.popitem(last=False)
            return cells

    def _columns(self, file: str) -> Columns:
        """`file`, opened. Call it with the lock held. The last one stays open, for footers can be long."""
        if self._open is None or self._open[0] != file:
            if self._open:
                self._open[1].close()
                self._open = None
            self._open = file, open_columns(file)
        return self._open[1]


def _all(columns: Columns, column: str, shown: str) -> list[Any]:
    """The cells of a column of the file that is `shown` so."""
    try:
        parts = (columns.read(part, column) for part in range(len(columns.counts)))
        return [value for cells in parts for value in cells.to_pylist()]
    except Exception as error:  # as above
        message = f"The column {column} of {shown} can't be read: {error}."
        raise PhylaError(message, "Write it again, as text or whole numbers.") from error


def _is_table(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not _CACHE.fullmatch(name)
