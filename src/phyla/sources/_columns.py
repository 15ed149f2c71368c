"""Files of columns, read a part at a time: the row groups of Parquet, the record batches of Arrow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from phyla.sources import _files
from phyla.types import PhylaError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".arrow")
_NAMES = {"image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes", "image_data"}
_NEW = b"\xff\xff\xff\xff"  # opens each message of a stream, since Arrow 0.15


class Columns(Protocol):
    """`schema` : all columns. `picture` : that of pictures, "" without one. `label` : that of labels, if any.

    `classes` : the names of its numbers. `counts` : rows of each part.
    """

    schema: pa.Schema
    picture: str
    label: str | None
    classes: list[str]
    counts: list[int]

    def read(self, part: int, column: str) -> pa.Array | pa.ChunkedArray: ...

    def close(self) -> None: ...


def open_columns(path: str) -> Columns:
    """The file at `path`, by the end of its name. Raises `PhylaError` where that does not open."""
    kind = "Arrow" if _files.suffix(path).endswith(".arrow") else "Parquet"
    try:
        return _Arrow(path) if kind == "Arrow" else _Parquet(path)
    except PhylaError:
        raise
    except Exception as error:  # a hostile table makes pyarrow raise nearly anything
        why = f"is no whole {kind} file"
        if isinstance(error, OSError) and error.errno:  # pyarrow's own have no number
            why = f"can't be read: {_files.reason(error)}"
        raise PhylaError(f"{_files.escape(path)} {why}.", "Fetch or write it again.") from error


class _Parquet:
    def __init__(self, path: str) -> None:
        import pyarrow.parquet as pq

        with _files.open_binary(path) as footer:
            whole = pq.ParquetFile(footer)
            self.schema = whole.schema_arrow
            self.picture, leaf = _picture_column(self.schema)
            self.label, self.classes = _label_column(self.schema)
            metadata = whole.metadata
        self.counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        # A picture that is told once and repeated a million times stays one.
        repeated = [leaf] if leaf else None
        self._file = pq.ParquetFile(_files.open_binary(path), metadata=metadata, read_dictionary=repeated)

    def read(self, part: int, column: str) -> pa.ChunkedArray:
        return self._file.read_row_group(part, columns=[column]).column(0)

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
            self.picture, _ = _picture_column(self.schema)
            self.label, self.classes = _label_column(self.schema)
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


def no_pictures(schema: pa.Schema, file: str) -> PhylaError:
    listed = ", ".join(f"{part.name} ({part.type})" for part in schema)
    return PhylaError(
        f"{_files.escape(file)} has no column of pictures. It has: {listed}.",
        "Pictures lie in a column of bytes, best named image.",
    )


def _picture_column(schema: pa.Schema) -> tuple[str, str]:
    """The column of pictures, and the place of the bytes in it; "" without one."""
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
    return "", ""


def _label_column(schema: pa.Schema) -> tuple[str | None, list[str]]:
    """The column of labels, and its classes as Hugging Face's `ClassLabel` or a plain list, `classes`, names them."""
    metadata = schema.metadata or {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        named = {name: of["names"] for name, of in features.items() if isinstance(of, dict) and "names" in of}
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ):  # someone else's metadata, of another shape
        named = {}
    column = next((name for name in ("label", *named) if name in schema.names), None)
    if column and isinstance(names := named.get(column), list):
        return column, [str(name) for name in names]
    plain = metadata.get(b"classes", b"").decode(errors="replace").split(",")
    return column, [name.strip() for name in plain if name.strip()]
