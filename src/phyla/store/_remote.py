"""A project that lies elsewhere (S3, or what else fsspec reaches), and the folder here that keeps what is read."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep, time
from typing import Any
from uuid import uuid4

from phyla.types import PhylaError

_LEASE = 60.0  # seconds that a lock outlives the process that held it; clocks may differ by half of that
_RENEWED = 15.0  # seconds between its renewals
_FRESH = 1.0  # seconds that what may change is taken for unchanged
_PAUSE = 0.2  # seconds between two looks at a lock


def is_remote(place: str) -> bool:
    """Whether `place` is a URL."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", place) is not None


class Remote:
    """The files below `url`. An object appears whole or not at all, so nothing is written aside and renamed.

    A request each: `has`, `read`, `write`, `remove`, `names` (one for each thousand names). `folder` is where the store
    keeps copies here, in $PHYLA_CACHE or the user's cache; it may be deleted whenever nobody works on the project.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        cache = os.environ.get("PHYLA_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "phyla")
        name = re.sub("[^A-Za-z0-9._-]+", "-", self.url.rpartition("/")[2])[-40:]
        self.folder = Path(cache).expanduser() / f"{name}-{sha256(self.url.encode()).hexdigest()[:12]}"
        self._looked: dict[str, float] = {}

    @cached_property
    def _files(self) -> tuple[Any, str]:
        """fsspec's file system, and the path in it."""
        protocol = self.url.partition("://")[0]
        try:
            from fsspec.core import url_to_fs

            system, root = url_to_fs(self.url, use_listings_cache=False)
            return system, str(root).rstrip("/")
        except ImportError as error:
            missing = getattr(error.__cause__, "name", None) or error.name or "fsspec"
            package = missing.partition(".")[0]
            raise PhylaError(
                f"A project at {protocol}:// needs the package {package}, which is not installed.",
                f"pip install {package}",
            ) from error
        except ValueError as error:
            raise PhylaError(f"{protocol}:// is not known to fsspec.", "Keep the project in a folder.") from error

    @contextmanager
    def _reached(self) -> Iterator[tuple[Any, str]]:
        """Faults of the many file systems, each with its library's own exceptions, as ours."""
        try:
            yield self._files
        except (FileNotFoundError, FileExistsError, PhylaError):
            raise
        except Exception as fault:
            raise PhylaError(
                f"{self.url} can't be reached: {str(fault) or type(fault).__name__}.",
                "Check the address, the network and your credentials, then run the same command again.",
            ) from fault

    def has(self, name: str) -> bool:
        with self._reached() as (system, root):
            return bool(system.exists(f"{root}/{name}"))

    def read(self, name: str) -> bytes:
        with self._reached() as (system, root):
            return bytes(system.cat_file(f"{root}/{name}"))

    def write(self, name: str, data: bytes) -> None:
        with self._reached() as (system, root):
            system.pipe_file(f"{root}/{name}", data)

    def upload(self, name: str, path: Path) -> None:
        with self._reached() as (system, root):
            system.put_file(str(path), f"{root}/{name}")

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that must not be there yet; False if it is."""
        with self._reached() as (system, root):
            try:
                system.pipe_file(f"{root}/{name}", data, mode="create")
            except FileExistsError:
                return False
        return True

    def remove(self, name: str) -> None:
        with self._reached() as (system, root), suppress(FileNotFoundError):
            system.rm_file(f"{root}/{name}")

    def names(self, under: str = "") -> list[str]:
        """Of the files and folders directly under a folder."""
        with self._reached() as (system, root):
            try:
                found = system.ls(f"{root}/{under}".rstrip("/"), detail=False)
            except FileNotFoundError:
                return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found if path.rstrip("/") != root)

    def every(self, under: str = "") -> dict[str, int]:
        """Every file below a folder, by its name, and its bytes. A request for each thousand."""
        with self._reached() as (system, root):
            try:
                found = system.find(f"{root}/{under}".rstrip("/"), detail=True)
            except FileNotFoundError:
                return {}
        return {path[len(root) + 1 :]: int(told["size"] or 0) for path, told in sorted(found.items())}

    def copy(self, name: str, to: str) -> None:
        """Copy a file, over there."""
        with self._reached() as (system, root):
            system.cp_file(f"{root}/{name}", f"{root}/{to}")

    def fetch(self, name: str, path: Path) -> None:
        """Bring a file here. Raises FileNotFoundError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            with self._reached() as (system, root):
                system.get_file(f"{root}/{name}", str(aside))
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    # ---- what may change

    def is_due(self, name: str) -> bool:
        """Whether it is time to look again at a file that may change."""
        now = monotonic()
        if now - self._looked.get(name, -_FRESH) < _FRESH:
            return False
        self._looked[name] = now
        return True

    def refresh(self, name: str, path: Path) -> None:
        """Bring a file here that may have changed, or drop its copy."""
        try:
            data = self.read(name)
        except FileNotFoundError:
            path.unlink(missing_ok=True)
            return
        if not path.exists() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f".{path.name}.{uuid4().hex}")
            aside.write_bytes(data)
            aside.replace(path)

    # ---- locks

    @contextmanager
    def lease(self, name: str, patience: float = 0.0) -> Iterator[None]:
        """Hold the lock `name`. Raises TimeoutError. A killed process frees it after a minute."""
        me, until = f"{socket.gethostname()} {os.getpid()} {uuid4().hex}", monotonic() + patience
        while not self._takes(name, me):
            if monotonic() >= until:
                raise TimeoutError(name)
            sleep(_PAUSE)
        done = Event()
        renewal = Thread(target=self._renew, args=(name, me, done), daemon=True)
        renewal.start()
        try:
            yield
        finally:
            done.set()
            renewal.join()
            if self._holder(name)[0] == me:
                self.remove(name)

    def _takes(self, name: str, me: str) -> bool:
        told = json.dumps({"by": me, "until": time() + _LEASE}).encode()
        if self.create(name, told):
            return True
        if self._holder(name)[1] > time():
            return False
        self.remove(name)
        return self.create(name, told)

    def _holder(self, name: str) -> tuple[str, float]:
        """Who holds a lock, and until when; nobody, until 0."""
        try:
            told = json.loads(self.read(name))
            return str(told["by"]), float(told["until"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return "", 0.0

    def _renew(self, name: str, me: str, done: Event) -> None:
        while not done.wait(_RENEWED):
            with suppress(PhylaError):  # out of reach: the next time, or the lease runs out
                if self._holder(name)[0] == me:
                    self.write(name, json.dumps({"by": me, "until": time() + _LEASE}).encode())
