"""Files here or elsewhere: plain `os` for local paths, fsspec for URLs, one set of functions for both."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from phyla.sources._entry import Entry
from phyla.types import UNREAD, PhylaError

# Little enough for a few threads to hold at once, and more than all but uncompressed giants need.
MAX_BYTES = 512 * 2**20

_STAMPS = ("ETag", "mtime", "LastModified", "last_modified", "updated", "created")  # as fsspec's file systems name it


def is_remote(path: str) -> bool:
    """Whether `path` is a URL."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


def escape(path: str) -> str:
    """`path` as text that can be written as UTF-8; `unescape` gives it back.

    Where a file name holds bytes that are no text, Python holds surrogates: each becomes U+FFFD and its four hex
    digits (byte E9 → "�DCE9"). A U+FFFD of the name itself becomes "�FFFD". All other names stay as they are.
    """
    return re.sub("[\ud800-\udfff\ufffd]", lambda found: f"\ufffd{ord(found[0]):04X}", path)


def unescape(uri: str) -> str:
    """The path that `escape` was given."""
    return re.sub("\ufffd(D[89A-F][0-9A-F]{2}|FFFD)", lambda found: chr(int(found[1], 16)), uri)


def absolute(path: str) -> str:
    """`path` as an absolute POSIX path, links unresolved; a URL stays as it is."""
    return path if is_remote(path) else Path(os.path.abspath(path)).as_posix()


def named_in(file: str, path: str) -> str:
    """The uri of what a list, the file at `file`, calls `path`: what is relative counts from its folder."""
    path = unescape(path)  # a uri that Phyla wrote is as good as a path
    if is_remote(path):
        return escape(path)
    if is_remote(file):
        return escape(f"{file.rpartition('/')[0]}/{path.lstrip('/')}")
    return escape(absolute(os.path.join(os.path.dirname(file), path)))


def suffix(path: str) -> str:
    """The last part of the name, in lower case, to tell kinds by: `a/Photos.TAR.gz` → `photos.tar.gz`."""
    return (urlsplit(path).path if is_remote(path) else path).rstrip("/").rpartition("/")[2].lower()


def filesystem(url: str) -> Any:
    """fsspec's file system for `url`."""
    protocol = url.partition("://")[0]
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(url)[0]
    except ImportError as error:
        missing = getattr(error.__cause__, "name", None) or error.name or "fsspec"
        package = missing.partition(".")[0]
        raise PhylaError(
            f"Reading {protocol}:// needs the package {package}, which is not installed.", f"pip install {package}"
        ) from error
    except ValueError as error:
        hint = "Check the spelling, or copy the files here."
        raise PhylaError(f"{protocol}:// is not known to fsspec.", hint) from error


def exists(path: str) -> bool:
    """Whether something lies at `path`; a broken link counts."""
    if not is_remote(path):
        return os.path.lexists(path)
    try:
        return bool(filesystem(path).exists(path))
    except PhylaError:
        raise
    except Exception as error:  # each of fsspec's many file systems lets its own library's exceptions through
        hint = "Check the address, the network and your credentials."
        raise PhylaError(f"{escape(path)} cannot be reached: {str(error) or type(error).__name__}.", hint) from error


def is_folder(path: str) -> bool:
    """Whether `path` is a folder."""
    return bool(filesystem(path).isdir(path)) if is_remote(path) else os.path.isdir(path)


def stamp(path: str) -> str:
    """Something that changes when the file at `path` does."""
    if is_remote(path):
        return _remote_entry(path, filesystem(path).info(path)).stamp
    return str(os.stat(path).st_mtime_ns)


def open_binary(path: str) -> BinaryIO:
    """`path`, open for reading and seeking."""
    return cast(BinaryIO, filesystem(path).open(path, "rb") if is_remote(path) else open(path, "rb"))


def read(path: str) -> bytes:
    """All bytes of a file of at most `MAX_BYTES`. Raises OSError or `PhylaError`."""
    if is_remote(path):
        try:
            data: bytes = filesystem(path).cat_file(path, start=0, end=MAX_BYTES + 1)
        except (OSError, PhylaError):
            raise
        except Exception as error:  # as above
            raise PhylaError(f"{UNREAD}could not be fetched: {str(error) or type(error).__name__}") from error
        return within_limit(data)
    try:
        found = os.stat(path)
    except ValueError as error:  # NUL, or half a character
        raise PhylaError("no name of a file") from error
    if stat.S_ISDIR(found.st_mode):
        os.listdir(path)  # was listed because it could not be opened: say why
        raise PhylaError("a folder")
    if not stat.S_ISREG(found.st_mode):
        raise PhylaError("not a regular file")  # opening a pipe would wait for ever
    if found.st_size > MAX_BYTES:
        raise PhylaError(over_limit(found.st_size))
    with open(path, "rb", buffering=0) as file:
        return within_limit(file.readall())


def over_limit(size: int) -> str:
    """Why a file of `size` bytes is not read."""
    return f"too large a file: {size / 2**20:.0f} MiB, of at most {MAX_BYTES // 2**20}"


def within_limit(data: bytes) -> bytes:
    """`data`, if it is no more than `MAX_BYTES`."""
    if len(data) > MAX_BYTES:
        raise PhylaError(over_limit(len(data)))
    return data


def reason(error: OSError | PhylaError) -> str:
    """Why a file could not be read, in a few words."""
    if isinstance(error, PhylaError):
        return error.message
    if isinstance(error, FileNotFoundError):
        return "missing"
    if isinstance(error, PermissionError):
        return "permission denied"
    return (error.strerror or str(error) or type(error).__name__).lower()


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is hidden or a desktop's own."""
    return (name.startswith(".") and name not in {".", ".."}) or name in {"Thumbs.db", "desktop.ini", "__MACOSX"}


def walk(folder: str) -> Iterator[Entry]:
    """All files under `folder`, without clutter and Phyla projects, lazily and in no order to rely on.

    A folder reached a second time through a link is not listed again, so links cannot loop. What cannot be opened
    or found (a denied folder, a broken link) is an entry of unknown size.
    """
    return _walk_remote(folder) if is_remote(folder) else _walk_local(folder)


def _walk_local(top: str) -> Iterator[Entry]:
    seen: set[str] = set()
    folders, links = [top], list[str]()
    while folders or links:
        # Links come last: what they lead to is listed under its own path if it lies in the collection.
        folder = folders.pop() if folders else links.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as found:
                inside = sorted(found, key=lambda item: item.name, reverse=True)
        except OSError:
            yield Entry(escape(Path(folder).as_posix()), -1, "")
            continue
        if any(item.name == "phyla.json" for item in inside):
            continue
        place = Path(folder).as_posix().rstrip("/")
        for item in inside:
            if is_clutter(item.name):
                continue
            try:
                is_dir, state = item.is_dir(), item.stat()
            except OSError:
                is_dir, state = False, None
            if not is_dir:
                size, mtime = (state.st_size, str(state.st_mtime_ns)) if state else (-1, "")
                yield Entry(escape(f"{place}/{item.name}"), size, mtime)
            elif not item.is_symlink():
                folders.append(item.path)
            elif not (real + os.sep).startswith(os.path.join(os.path.realpath(item.path), "")):  # not one above
                links.append(item.path)


def _walk_remote(top: str) -> Iterator[Entry]:
    system = filesystem(top)
    found: dict[str, dict[str, Any]] = system.find(top, detail=True)
    projects = {name.rpartition("/")[0] + "/" for name in found if name.rpartition("/")[2] == "phyla.json"}
    root = system._strip_protocol(top).rstrip("/")
    for name in sorted(found):
        inside = name.removeprefix(root).strip("/")
        parents = [name[: end + 1] for end in range(len(name)) if name[end] == "/"] if projects else []
        if not any(map(is_clutter, inside.split("/"))) and projects.isdisjoint(parents):
            yield _remote_entry(system.unstrip_protocol(name), found[name])


def _remote_entry(url: str, info: dict[str, Any]) -> Entry:
    size = info.get("size")
    stamp = next((str(info[name]) for name in _STAMPS if info.get(name)), "")
    return Entry(escape(url), -1 if size is None else int(size), stamp)
