"""The members of a .zip or .tar archive (.tar.gz, .tar.bz2, .tar.xz too), read in place."""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO, cast

from phyla.sources import _files
from phyla.sources._entry import ByPath, Entry, some
from phyla.types import PhylaError

__all__ = ["Archive"]

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
_UNPACK: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
# What the standard library raises on damaged archives, beside OSError.
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, NotImplementedError)


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    where: Any  # offset in a tar's stream, or a ZipInfo
    fault: str = ""


class Archive(ByPath):
    """An archive, one entry a file in it, in the order stored. Nothing is ever unpacked to disk.

    A zip and a plain tar are read anywhere at once. A compressed tar can only be unpacked forwards: each reading
    thread unpacks it once from the start (about 100 MB/s for gzip) and once again whenever it steps back. Pack
    pictures, which are compressed already, into a plain tar. Directories, links and devices are no entries (a hard
    link is: it is a file); a second member of the same name gets the uri `FILE#MEMBER#2`.
    """

    def __init__(self, path: str) -> None:
        self.path = _files.absolute(path)
        self._pack = _Zip(self.path) if _files.suffix(self.path).endswith(".zip") else _Tar(self.path)

    @staticmethod
    def accepts(path: str) -> bool:
        return _files.suffix(path).endswith((*_TARS, ".zip")) and not _files.is_folder(path)

    def entries(self) -> list[Entry]:
        stamp = _files.stamp(self.path)
        listed = [Entry(uri, m.size, f"{stamp}:{row}") for row, (uri, m) in enumerate(self._index.items())]
        return some(listed, _files.escape(self.path))

    def read(self, uri: str) -> bytes:
        if uri not in self._index:
            raise FileNotFoundError(uri)
        member = self._index[uri]
        if member.fault:
            raise PhylaError(member.fault)
        if member.size > _files.MAX_BYTES:
            raise PhylaError(_files.over_limit(member.size))
        try:
            data = self._pack.read(member)
        except _DAMAGE as error:
            raise PhylaError("damaged in the archive") from error
        if len(data) < member.size:
            raise PhylaError("truncated in the archive")
        return data

    @cached_property
    def _index(self) -> dict[str, _Member]:
        index: dict[str, _Member] = {}
        try:
            for member in self._pack.members():
                if any(map(_files.is_clutter, member.name.split("/"))):
                    continue
                uri = first = f"{_files.escape(self.path)}#{_files.escape(member.name)}"
                copy = 1
                while uri in index:
                    copy += 1
                    uri = f"{first}#{copy}"
                index[uri] = member
        except _DAMAGE as error:
            raise PhylaError(
                f"{_files.escape(self.path)} is damaged, or not the kind of archive its name says: {error}.",
                "Fetch or pack it again.",
            ) from error
        return index


class _Zip:
    def __init__(self, path: str) -> None:
        self._path, self._lock = path, threading.Lock()

    @cached_property
    def _zip(self) -> zipfile.ZipFile:
        file = _files.open_binary(self._path)
        weakref.finalize(self, file.close)
        return zipfile.ZipFile(file)

    def members(self) -> Iterator[_Member]:
        for info in self._zip.infolist():
            if not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16):
                yield _Member(info.filename, info.file_size, info, "encrypted" if info.flag_bits & 1 else "")

    def read(self, member: _Member) -> bytes:
        with self._lock:  # ZipFile locks each read, but not its count of open members
            file = self._zip.open(member.where)
        try:
            return file.read(member.size)
        finally:
            with self._lock:
                file.close()


class _Tar:
    def __init__(self, path: str) -> None:
        self._path, self._thread = path, threading.local()

    def _stream(self) -> BinaryIO:
        """This thread's own handle on the unpacked tar; it stays open as long as the source."""
        if not hasattr(self._thread, "stream"):
            stream = _files.open_binary(self._path)
            weakref.finalize(self, stream.close)
            head = stream.read(6)
            stream.seek(0)
            for magic, unpack in _UNPACK.items():
                if head.startswith(magic):
                    stream = cast(BinaryIO, unpack(stream))
                    weakref.finalize(self, stream.close)
            self._thread.stream = stream
        return cast(BinaryIO, self._thread.stream)

    def members(self) -> Iterator[_Member]:
        stream = self._stream()
        stream.seek(0)
        files: dict[str, _Member] = {}
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # or a million of them would fill the memory
                if info.isreg():
                    fault = "a sparse file" if info.issparse() else ""
                    member = _Member(info.name, info.size, info.offset_data, fault)
                elif info.islnk() and info.linkname in files:
                    member = _Member(info.name, files[info.linkname].size, files[info.linkname].where)
                else:
                    continue
                files[info.name] = member
                yield member
            # tarfile takes a broken header in the middle for the end: all that follows would be missing unseen.
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise tarfile.ReadError(f"broken header after {len(files)} members")

    def read(self, member: _Member) -> bytes:
        stream = self._stream()
        stream.seek(member.where)
        return stream.read(member.size)
