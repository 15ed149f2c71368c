"""Tables of a project, which may be a stranger's: their columns, their types, and no more memory than they can need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_columns"]

# room → column → its type; only faults may be missing.
TABLES: dict[str, dict[str, str]] = {
    "images": dict.fromkeys(("uri", "id", "fault"), "string") | dict.fromkeys(("width", "height", "row"), "integer"),
    "scan": dict.fromkeys(("uri", "stamp", "id", "fault"), "string")
    | dict.fromkeys(("size", "width", "height"), "integer"),
}
_DENSE = 16  # bytes of a file a row from which on no text of it can be repeated much: an id alone takes 16
_MOST = 64  # rows a byte of a file: of each the uri differs, which takes two


def read_columns(path: Path, name: str, columns: Sequence[str] | None) -> dict[str, NDArray[Any]]:
    """Some columns of the table at `path`, which is the file `name` of a project. Raises ValueError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:  # `pq.read_table` would load pyarrow.dataset
            rows, size, types = file.metadata.num_rows, path.stat().st_size, file.schema_arrow
        if rows > _MOST * size:
            raise ValueError(f"it claims {rows:,} rows")
        wanted = types.names if columns is None else list(columns)
        if why := _unlike(name, types, TABLES.get(name.partition("/")[0], {}) if columns is None else columns):
            raise ValueError(why)
        # A text may stand there once for many rows: then it is held once.
        shared = [] if rows * _DENSE <= size else [of for of in wanted if pa.types.is_string(types.field(of).type)]
        with pq.ParquetFile(path, read_dictionary=shared) as file:
            table = file.read(wanted)
        form = TABLES.get(name.partition("/")[0], {})
        if gaps := [of for of in wanted if of in form and of != "fault" and table[of].null_count]:
            raise ValueError(f"its column {gaps[0]} has gaps")
        return {of: _shared(table[of]) if of in shared else table[of].to_numpy() for of in wanted}
    except (pa.ArrowException, OverflowError) as fault:
        raise ValueError(str(fault).partition("\n")[0]) from fault


def _unlike(name: str, types: Any, columns: Iterable[str]) -> str | None:
    """Why a schema can't be that of (these columns of) the file `name`."""
    import pyarrow as pa

    form = TABLES.get(name.partition("/")[0], {})
    is_a = {"integer": pa.types.is_integer, "string": lambda kind: pa.types.is_string(kind)}
    for column in columns:
        if types.names.count(column) != 1:
            return f"it has no column {column}"
        kind, wanted = types.field(column).type, form.get(column)
        is_empty = column == "fault" and pa.types.is_null(kind)  # of a table without a fault
        if wanted and not is_empty and not is_a[wanted](kind):
            return f"its column {column} holds {kind}"
    return None


def _shared(column: Any) -> NDArray[Any]:
    """(n,) texts, or None, of a column that was read as a dictionary."""
    parts = [np.zeros(0, object)]
    for chunk in column.chunks:
        known = np.array([*chunk.dictionary.to_pylist(), None], object)
        parts.append(known[chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False)])
    return np.concatenate(parts)
