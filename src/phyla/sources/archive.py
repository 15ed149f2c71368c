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
# Bytes of a long name, or of what a pax header adds: a few KB, but packed GBs may claim to be one.
_LONGEST_HEADER = 2**20


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
        except OSError:
            raise
        except Exception as error:  # a hostile archive makes the standard library raise nearly anything
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
        except PhylaError:
            raise
        except Exception as error:  # as above
            what = "is damaged, or not the kind of archive its name says"
            if isinstance(error, OSError) and error.errno:
                what, error = "can't be read", OSError(_files.reason(error))
            told = str(error) or type(error).__name__
            raise PhylaError(f"{_files.escape(self.path)} {what}: {told}.", "Fetch or pack it again.") from error
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
            if info.filename and not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16):
                fault = "encrypted" if info.flag_bits & 1 else ""
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    # Of the others the standard library unpacks all at once, whatever size the member says it has.
                    fault = fault or "compressed by another method than deflate"
                yield _Member(info.filename, info.file_size, info, fault)

    def read(self, member: _Member) -> bytes:
        with self._lock:  # ZipFile locks each read, but not its count of open members
            file = self._zip.open(member.where)
        try:
            return file.read(member.size)
        finally:
            with self._lock:
                file.close()


class _Headers:
    """A tar's stream as tarfile may read it: no header is long."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.seek, self.tell = stream, stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._stream.read(size)


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
        with tarfile.open(fileobj=cast(BinaryIO, _Headers(stream)), mode="r:") as tar:
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
