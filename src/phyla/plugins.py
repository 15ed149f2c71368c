"""A name → the one thing that a file, or an installed package, offers.

A room's public file `cluster/kmeans.py` is the method `kmeans`: its docstring's first line describes it, and its
`__all__` holds the one thing it offers. Files that start with an underscore are private. Other packages add to a
room with an entry point in the group `phyla.ROOM`. A room within a room is called `label.ask`.
"""

from __future__ import annotations

import ast
import difflib
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from phyla.types import PhylaError

__all__ = ["check", "describe", "load", "names"]

_CALLED = {
    "audit": "check",
    "cluster": "grouping method",
    "engine": "engine",
    "label.ask": "way of asking",
    "label.spread": "way of spreading labels",
    "neighbors": "way to find neighbours",
    "reduce": "compression",
    "backbones": "family of networks",
}


@cache
def _files(room: str) -> dict[str, Path]:
    folder = Path(__file__).parent.joinpath(*room.split("."))
    return {p.stem: p for p in sorted(folder.glob("*.py")) if not p.stem.startswith("_")}


@cache
def _entry_points(room: str) -> dict[str, metadata.EntryPoint]:
    return {e.name: e for e in metadata.entry_points(group=f"phyla.{room}")}


def names(room: str) -> list[str]:
    """Names of everything `room` offers, found without importing it."""
    return sorted({*_files(room), *_entry_points(room)})


def describe(room: str, name: str) -> str:
    """First line of the docstring of `name`, read without importing it."""
    if path := _files(room).get(name):
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        return doc.partition("\n")[0]
    return f"from the package {_entry_points(room)[name].value.partition(':')[0]}"


def check(room: str, name: str) -> None:
    """Raise `PhylaError`, with the nearest names and the whole list, where `room` offers no `name`."""
    if name not in names(room):
        near = difflib.get_close_matches(name, names(room), n=2)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        there = f"{hint}There is: {', '.join(names(room))}."
        raise PhylaError(f"There is no {_CALLED.get(room, room)} {name!r}.", there)


def load(room: str, name: str) -> Any:
    """Import and return what `name` offers. Raises what `check` does."""
    check(room, name)
    if name in _files(room):
        module = import_module(f"phyla.{room}.{name}")
        (offered,) = module.__all__
        return getattr(module, offered)
    return _entry_points(room)[name].load()
