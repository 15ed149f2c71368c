"""Every file under a folder, local or remote."""

from __future__ import annotations

import re

from phyla.sources import _files
from phyla.sources._entry import ByPath, Entry, some
from phyla.sources.manifest import Manifest
from phyla.sources.table import Table

__all__ = ["Folder"]


_TELLS = re.compile(r"(.*/)?metadata\.(csv|jsonl)")


class Folder(ByPath):
    """A folder and all below it, one entry a file, sorted by uri.

    A metadata.csv or metadata.jsonl, as an `imagefolder` of Hugging Face has them, is no entry: it tells labels.
    Links to files are followed, and links to folders unless they lead up. One `stat` a file: about 10 s a million.
    """

    def __init__(self, path: str) -> None:
        self.path = _files.absolute(path)

    @staticmethod
    def accepts(path: str) -> bool:
        return _files.is_folder(path) and not Table.accepts(path)

    def entries(self) -> list[Entry]:
        found = sorted(_files.walk(self.path), key=lambda entry: entry.uri)
        return some([entry for entry in found if not _TELLS.fullmatch(entry.uri)], _files.escape(self.path))

    def read(self, uri: str) -> bytes:
        return _files.read(_files.unescape(uri))

    def labels(self) -> dict[str, str] | None:
        """uri → the column `label` of a metadata.csv or metadata.jsonl in any folder; None where there is none."""
        found: dict[str, str] = {}
        for entry in sorted(_files.walk(self.path), key=lambda entry: entry.uri):
            if _TELLS.fullmatch(entry.uri):
                found |= Manifest(_files.unescape(entry.uri)).labels() or {}
        return found or None
