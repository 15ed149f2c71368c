"""Files of columns, read a part at a time: the row groups of Parquet, the record batches of Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from phyla.sources import _files
from phyla.types import PhylaError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".arrow")
# What pyarrow raises on damaged files, beside OSError; its ArrowInvalid is a ValueError.
DAMAGE = (ValueError, KeyError, EOFError, MemoryError, NotImplementedError)
_NEW = b"\xff\xff\xff\xff"  # opens each message of a stream, since Arrow 0.15


class Columns(Protocol):
    """`schema` : of the columns. `counts` : rows of each part."""

    schema: pa.Schema
    counts: list[int]

    def read(self, part: int, column: str) -> pa.Array | pa.ChunkedArray: ...

    def close(self) -> None: ...


def open_columns(path: str) -> Columns:
    """The file at `path`, by the end of its name; `PhylaError` where it is not what that says."""
    kind = "Arrow" if _files.suffix(path).endswith(".arrow") else "Parquet"
    try:
        return _Arrow(path) if kind == "Arrow" else _Parquet(path)
    except DAMAGE as error:
        raise PhylaError(f"{_files.escape(path)} is no whole {kind} file.", "Fetch or write it again.") from error


class _Parquet:
    def __init__(self, path: str) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(_files.open_binary(path))
        self.schema: pa.Schema = self._file.schema_arrow
        meta = self._file.metadata
        self.counts = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]

    def read(self, part: int, column: str) -> pa.ChunkedArray:
        return self._file.read_row_group(part, columns=[column])[column]

    def close(self) -> None:
        self._file.close(force=True)


class _Arrow:
    """A stream, as `datasets` writes it, or a file of Arrow; each batch is read from its own place.

    Where they are is found by a walk over all: of a remote file that reads everything, of a local one little more than
    what stands before each batch.
    """

    def __init__(self, path: str) -> None:
        import pyarrow as pa

        # What a stranger's file says of its lengths is checked against the map, before anything is allocated for it.
        walked = self._opened(path) if _files.is_remote(path) else pa.memory_map(path)
        try:
            self._is_file = walked.read(6) == b"ARROW1"
            walked.seek(0)
            if self._is_file:
                reader = pa.ipc.open_file(walked)
                self.schema = reader.schema
                self.counts = [reader.get_batch(at).num_rows for at in range(reader.num_record_batches)]
            else:
                self.schema = _schema_of(walked)
                found = list(self._walk(walked))
                self._starts, self.counts = [start for start, _ in found], [rows for _, rows in found]
            _names(self.schema)
        except OSError as error:
            raise ValueError(str(error)) from error
        finally:
            walked.close()
        self._path = path

    @staticmethod
    def _opened(path: str) -> Any:
        import pyarrow as pa

        return pa.PythonFile(_files.open_binary(path), mode="r")

    def _walk(self, file: Any) -> Iterator[tuple[int, int]]:
        import pyarrow as pa

        while True:
            start = file.tell()
            try:
                message = pa.ipc.read_message(file)
            except EOFError:
                return
            if message.type != "record batch":
                raise ValueError(f"a {message.type} in the middle")
            yield start, pa.ipc.read_record_batch(message, self.schema).num_rows

    @cached_property
    def _file(self) -> Any:
        return self._opened(self._path)

    def read(self, part: int, column: str) -> pa.Array:
        import pyarrow as pa

        if self._is_file:
            batch = pa.ipc.open_file(self._file).get_batch(part)
        else:
            self._file.seek(self._starts[part])
            message = pa.ipc.read_message(self._file)
            if message.type != "record batch":  # the file is another by now
                raise ValueError(f"a {message.type}")
            batch = pa.ipc.read_record_batch(message, self.schema)
        cells = batch[column]
        cells.validate(full=True)  # or a stranger's offsets would lead anywhere
        return cells

    def close(self) -> None:
        if "_file" in self.__dict__:
            self._file.close()


def _schema_of(file: Any) -> pa.Schema:
    import pyarrow as pa

    if file.read(4) != _NEW:
        raise ValueError("no stream of Arrow")
    file.seek(0)
    message = pa.ipc.read_message(file)
    if message.type != "schema":  # then pyarrow has not verified it, and reading it may crash
        raise ValueError(f"a {message.type} in the beginning")
    return pa.ipc.read_schema(message)


def _names(columns: Iterable[pa.Field]) -> None:
    """Raise ValueError where a name is no text, which pyarrow finds only when it is asked for it."""
    for column in columns:
        _ = column.name
        _names(column.type.field(at) for at in range(column.type.num_fields))
