"""Lines of a log: JSON, each with a checksum, added one at a time."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

__all__ = ["add_line", "read_line", "written"]

_SUM = b', "sum": "'  # what comes before the checksum


def written(value: Mapping[str, Any]) -> bytes:
    """The line that says `value`."""
    return _with_sum(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()) + b"\n"


def _with_sum(line: bytes) -> bytes:
    """A line with its checksum for its last entry."""
    return line[:-1] + _SUM + blake3(line).hexdigest(4).encode() + b'"}'


def read_line(line: bytes) -> dict[str, Any] | None:
    """What a line says; None for a damaged one. Lines from before there were checksums have none."""
    try:
        told = dict(json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None
    text, mark, _ = line.rpartition(_SUM)
    if told.pop("sum", None) is None:  # or it has one, but not under its name any more
        return None if re.search(rb'"[0-9a-f]{8}"}$', line) else told
    return told if mark and line == _with_sum(text + b"}") else None


def add_line(path: Path, line: bytes) -> None:
    """Add a line to a file, durable when this returns, after its last whole one."""
    with path.open("ab+") as file:
        if size := file.tell():
            file.seek(size - 1)
            if file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
