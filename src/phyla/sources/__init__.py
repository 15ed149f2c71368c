"""Sources: where pictures lie, and how their bytes become pixels.

A source is one public file that offers one class through `__all__`:

- `accepts(path) -> bool`, static and cheap: can this class read what lies at `path`? No two should say yes.
- `__init__(path)`: remembers the path; nothing is read yet.
- `entries() -> list[Entry]`: everything found, with unique uris, in an order that depends on the content alone:
  by uri in a folder, as stored in an archive, a table or a manifest. What is not a picture, or cannot be read, is
  an entry too, so that no file drops out of a count unseen; `scan` then says what is wrong with it. Left out are
  hidden files, the clutter of desktops (`Thumbs.db`, `desktop.ini`, `__MACOSX`) and Phyla projects.
- `read(uri) -> bytes`: called from several threads at once, mostly in order. Raises OSError or `PhylaError`.
- It can be pickled, by its path: workers in other processes read it too.
- `labels() -> dict[str, str] | None`, only where labels can lie beside the pictures: uri → class.

A uri is `FILE`, `FILE#MEMBER` (archive) or `FILE#ROW` (table, from 0); FILE is an absolute POSIX path or a URL. Uris
can always be written as UTF-8: see `phyla.sources._files.escape` for names that could not.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from blake3 import blake3

from phyla import plugins
from phyla.sources import _files
from phyla.sources._decode import DECODER_VERSION, decode, inspect
from phyla.sources._entry import Entry, Source
from phyla.sources._waiting import apart, waiting
from phyla.types import PhylaError

__all__ = [
    "DECODER_VERSION", "Entry", "Source", "decode", "fetch", "id_of", "inspect", "listed", "match", "open_source",
    "scan",
]  # fmt: skip

_READABLE = (
    "a folder, .tar (.gz, .bz2, .xz), .zip, .parquet or .arrow (a file or a folder of them), or .csv or .jsonl of paths"
)


def open_source(path: str | Path) -> Source:
    """The source that can read `path`: local, or a URL that fsspec understands.

    Raises `PhylaError` where nothing lies there, nothing can read it, or the package for its protocol is missing.
    """
    path = _files.absolute(str(path))
    return apart(_files.escape(path), lambda: _opened(path))


def _opened(path: str) -> Source:
    if not _files.exists(path):
        raise PhylaError(f"There is nothing at {_files.escape(path)}.", "Check the spelling, and that it is mounted.")
    for name in plugins.names("sources"):
        source = plugins.load("sources", name)
        if source.accepts(path):
            return source(path)
    raise PhylaError(f"{_files.escape(path)} is of no kind that can be read.", f"Give {_READABLE}.")


def listed(source: Source) -> list[Entry]:
    """The entries of `source`. A place that gives nothing for long is told of, and can be interrupted."""
    return apart(source.path, source.entries)


def fetch(source: Source, uri: str) -> bytes:
    """The bytes at `uri`. What gives nothing for long is told of."""
    with waiting(uri):
        return source.read(uri)


def id_of(data: bytes) -> str:
    """What an image is known by: the 128-bit BLAKE3 of its file's bytes."""
    return blake3(data).hexdigest(16)


def scan(source: Source, entries: Iterable[Entry]) -> dict[str, list[Any]]:
    """Read each entry once and tell what it is.

    Returns the columns `uri`, `id` (128-bit BLAKE3 of the bytes, "" if they could not be read), `width` and `height`
    (as stored, 0 if unknown), and `fault` (None, or why this is no usable picture). Only the picture's header is
    looked at: damage further in shows when it is decoded. A few µs per picture beside reading it.
    """
    table: dict[str, list[Any]] = {"uri": [], "id": [], "width": [], "height": [], "fault": []}
    for entry in entries:
        digest, width, height, fault = "", 0, 0, None
        try:
            data = fetch(source, entry.uri)
            digest = id_of(data)
            width, height = inspect(data)
        except (OSError, PhylaError) as error:
            fault = _files.reason(error)
        for column, value in zip(table.values(), (entry.uri, digest, width, height, fault), strict=True):
            column.append(value)
    return table


def match(uris: list[str], labels: dict[str, str]) -> list[str | None]:
    """The label of each uri; None where there is none.

    A uri matches the whole of another, or else the longest end of path parts that they share, if only one has it: so
    `train/cat/1.jpg` finds `/data/train/cat/1.jpg`, and two different `1.jpg` find nothing by their name alone.
    """

    def ends(uri: str) -> list[str]:
        return [uri[i:] for i in [0, *(i + 1 for i, c in enumerate(uri) if c == "/")] if uri[i:]]

    by_end: dict[str, set[str]] = {}
    for uri in labels:
        for end in ends(uri):
            by_end.setdefault(end, set()).add(uri)
    found: list[str | None] = []
    for uri in uris:
        shared = next((by_end[end] for end in ends(uri) if end in by_end), set())
        found.append(labels[next(iter(shared))] if len(shared) == 1 else None)
    return found
