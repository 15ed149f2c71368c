"""A .csv or .jsonl file that lists paths of pictures, one a line, maybe with a label."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from functools import cached_property

from phyla.sources import _files
from phyla.sources._entry import ByPath, Entry, some
from phyla.types import PhylaError

__all__ = ["Manifest"]

_NAMES = ("uri", "path", "file", "filename", "file_name", "filepath", "image")
_JSON = (".jsonl", ".ndjson")
_Row = tuple[int, object, object]  # line, path, label


class _Unusable(Exception):
    """A line, and what is wrong with it."""


class Manifest(ByPath):
    """A list of paths or URLs, one entry each in the order listed; a path listed again is the same entry.

    CSV: the column `uri`, `path`, `file`, `filename` or `image`, or else the first; without a header if the first
    cell is a file. JSON lines: the same keys, or plain strings. Relative paths count from the manifest's folder.
    """

    def __init__(self, path: str) -> None:
        self.path = _files.absolute(path)

    @staticmethod
    def accepts(path: str) -> bool:
        return _files.suffix(path).endswith((".csv", *_JSON)) and not _files.is_folder(path)

    def entries(self) -> list[Entry]:
        own = _files.stamp(self.path)
        listed = []
        for uri in self._labels:
            path = _files.unescape(uri)
            try:
                # A URL is not asked for its size: one question a picture would take longer than reading some of them.
                state = None if _files.is_remote(path) else os.stat(path)
                listed.append(Entry(uri, state.st_size, str(state.st_mtime_ns)) if state else Entry(uri, -1, own))
            except OSError:  # listed all the same; reading it will say why
                listed.append(Entry(uri, -1, ""))
        return some(listed, _files.escape(self.path))

    def read(self, uri: str) -> bytes:
        return _files.read(_files.unescape(uri))

    def labels(self) -> dict[str, str] | None:
        """uri → `label`; None if no line has one. Raises `PhylaError` where a path has two, or one is no text."""
        for uri, labels in self._labels.items():
            if re.search("[\ud800-\udfff]", "".join(labels)):
                what = f"{_files.escape(self.path)} labels {uri} {_files.escape(labels[0])!r}, which is no text"
                raise PhylaError(f"{what}.", "Save the list as UTF-8.")
            if len(labels) > 1:
                raise PhylaError(f"{_files.escape(self.path)} labels {uri} both {' and '.join(labels)}.", "Keep one.")
        return {uri: labels[0] for uri, labels in self._labels.items() if labels} or None

    @cached_property
    def _labels(self) -> dict[str, list[str]]:
        """uri → its different labels, in the order listed."""
        with _files.open_binary(self.path) as file:
            # Names of files may hold bytes that are no text: they pass through as surrogates.
            text = file.read().decode("utf-8-sig", errors="surrogateescape")
        found: dict[str, list[str]] = {}
        rows = _json_rows(text) if _files.suffix(self.path).endswith(_JSON) else self._csv_rows(text)
        try:
            for line, path, label in rows:
                if not isinstance(path, str) or not _can_be_a_name(path):
                    raise _Unusable(line, "it names no file")
                labels = found.setdefault(_files.named_in(self.path, path), [])
                named = "" if label is None else str(label)
                if named and named not in labels:
                    labels.append(named)
        except _Unusable as fault:
            line, why = fault.args
            raise PhylaError(
                f"Line {line} of {_files.escape(self.path)} cannot be used: {why}.", "Mend it or take it out."
            ) from fault
        return found

    def _csv_rows(self, text: str) -> Iterator[_Row]:
        first = [cell.strip('" \r').lower() for cell in re.split("[,;\t]", text.partition("\n")[0])]
        known = next((name for name in _NAMES if name in first), None)
        # Another delimiter needs a known header as its witness, for names of files hold semicolons too.
        delimiter = next((mark for mark in ",;\t" if mark in text.partition("\n")[0]), ",") if known else ","
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        header: list[str] | None = None
        path = 0
        try:
            for cells in reader:
                if not any(cells):
                    continue
                if header is None:
                    header = [cell.strip().lower() for cell in cells]
                    path = header.index(known) if known in header else 0
                    if known in header or not self._names_file(cells[0]):
                        continue
                    header = []
                label = header.index("label") if "label" in header else len(cells)
                yield reader.line_num, (cells[path] if path < len(cells) else ""), "".join(cells[label : label + 1])
        except csv.Error as error:
            raise _Unusable(reader.line_num, str(error)) from error

    def _names_file(self, cell: str) -> bool:
        """Whether a first cell is a path, not a header: by its look, or because the file is there."""
        return re.search(r"\.[A-Za-z0-9]{2,5}$", cell) is not None or (
            not _files.is_remote(self.path) and os.path.lexists(_files.unescape(_files.named_in(self.path, cell)))
        )


def _can_be_a_name(path: str) -> bool:
    try:
        return bool(path) and b"\0" not in os.fsencode(_files.unescape(path))
    except UnicodeEncodeError:  # JSON can spell half characters, which no file system takes
        return False


def _json_rows(text: str) -> Iterator[_Row]:
    for line, written in enumerate(text.split("\n"), 1):  # splitlines would also split inside of strings
        if not written.strip():
            continue
        try:
            item = json.loads(written)
        except (ValueError, RecursionError) as error:
            raise _Unusable(line, f"it is not JSON ({error})") from error
        if isinstance(item, dict):
            yield line, next((item[name] for name in _NAMES if name in item), None), item.get("label")
        else:
            yield line, item, None
