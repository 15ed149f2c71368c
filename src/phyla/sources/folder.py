"""Every file under a folder, local or remote."""

from __future__ import annotations

from phyla.sources import _files
from phyla.sources._entry import ByPath, Entry, some
from phyla.sources.table import Table

__all__ = ["Folder"]


class Folder(ByPath):
    """A folder and all below it, one entry a file, sorted by uri.

    Links to files are followed, and links to folders unless they lead up. One `stat` a file: about 10 s a million.
    """

    def __init__(self, path: str) -> None:
        self.path = _files.absolute(path)

    @staticmethod
    def accepts(path: str) -> bool:
        return _files.is_folder(path) and not Table.accepts(path)

    def entries(self) -> list[Entry]:
        return some(sorted(_files.walk(self.path), key=lambda entry: entry.uri), _files.escape(self.path))

    def read(self, uri: str) -> bytes:
        return _files.read(_files.unescape(uri))
