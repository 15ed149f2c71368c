"""What a source lists, and what every source can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from phyla.types import PhylaError

__all__ = ["ByPath", "Entry", "Source", "some"]


@dataclass(frozen=True)
class Entry:
    """One thing a source found: where it lies, its bytes (-1: unknown before reading), and what changes with it."""

    uri: str
    size: int
    stamp: str


class Source(Protocol):
    """What `phyla.sources` says of a source, for type checkers."""

    path: str

    def __init__(self, path: str) -> None: ...

    @staticmethod
    def accepts(path: str) -> bool: ...

    def entries(self) -> list[Entry]: ...

    def read(self, uri: str) -> bytes: ...


class ByPath:
    """A source that is sent to another process by its path: what it holds open stays here."""

    path: str

    def __reduce__(self) -> tuple[type[ByPath], tuple[str]]:
        return type(self), (self.path,)


def some(entries: list[Entry], where: str) -> list[Entry]:
    """`entries`, or a `PhylaError` when there are none."""
    if not entries:
        raise PhylaError(
            f"{where} holds no files to sort.",
            "Hidden files and folders that hold a phyla.json (a Phyla project) are left out; give the folder, "
            "archive or table that holds the pictures.",
        )
    return entries
