"""The store: atomic files in a project folder, one writer at a time."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.types import PhylaError, Recipe

FORMAT = 1
_PATIENCE = 10.0  # seconds that a log is waited for
_META = "phyla.json"
# From each older format to the next: a function that changes the folder and returns the new phyla.json.
_MIGRATIONS: dict[int, Callable[[Path, dict[str, Any]], dict[str, Any]]] = {}


def read_array(path: Path, *, mmap: bool = False) -> NDArray[Any]:
    """The array at `path`; never unpickles."""
    try:
        return np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except (ValueError, EOFError) as fault:
        raise _damaged(path, fault) from fault


class Busy(PhylaError):
    """Somebody else is writing."""


class Store:
    """A project's folder. Reading needs no lock; writing happens inside `with store.writing():`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._meta: tuple[tuple[int, ...], dict[str, Any]] = (), {}

    # ---- the folder itself

    @classmethod
    def create(cls, folder: Path) -> Store:
        """The store in `folder`, made at the first `writing`. Refuses a folder that holds something else."""
        store = cls(folder)
        if store._meta_path.exists():
            return cls.open(folder)
        try:
            leftovers = {p.name for p in folder.iterdir()} - {"lock", "tmp"} if folder.exists() else set()
        except OSError as fault:
            raise _plain(fault, folder) from fault
        if leftovers:
            raise PhylaError(f"{folder} is not empty and is no Phyla project.", "Name another folder with --project.")
        return store

    @classmethod
    def open(cls, folder: Path) -> Store:
        """The store of an existing project, brought to this version's format where it is older."""
        store = cls(folder)
        if not store._meta_path.exists():
            raise PhylaError(f"{folder} is no Phyla project.", f"Make one: phyla sort PHOTOS --project {folder}")
        version = store.meta().get("format")
        if not isinstance(version, int) or version > FORMAT:
            raise PhylaError(
                f"{folder} has format {version!r}; this Phyla reads formats up to {FORMAT}.",
                "Update it: pip install --upgrade phyla",
            )
        if version < FORMAT:
            with store.writing():
                for old in range(version, FORMAT):
                    store.write_json(_META, _MIGRATIONS[old](folder, store.meta()))
        return store

    @property
    def _meta_path(self) -> Path:
        return self.folder / _META

    def meta(self) -> dict[str, Any]:
        """What phyla.json says; empty in a folder where nothing has been finished. Read again when it was replaced."""
        try:
            stat = self._meta_path.stat()
        except FileNotFoundError:
            return {}
        seen = stat.st_ino, stat.st_mtime_ns, stat.st_size
        if self._meta[0] != seen:
            try:
                self._meta = seen, json.loads(self._meta_path.read_text(encoding="utf-8"))
            except ValueError as fault:
                raise PhylaError(f"{self._meta_path} is damaged: {fault}.", "Restore it from a backup.") from fault
        return dict(self._meta[1])

    def update_meta(self, **changes: Any) -> None:
        self.write_json(_META, {"format": FORMAT, **self.meta(), **changes})

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the project's lock. A second process is told so at once; a killed one frees it by dying."""
        import filelock

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.folder / "lock", timeout=0)
            with lock:
                # Only a writer that was killed leaves anything here.
                shutil.rmtree(self._tmp, ignore_errors=True)
                yield
                shutil.rmtree(self._tmp, ignore_errors=True)
        except filelock.Timeout as busy:
            raise Busy(
                f"Another process is working on {self.folder}.", "Wait until it ends, or name another --project."
            ) from busy
        except OSError as fault:
            raise _plain(fault, self.folder) from fault

    # ---- files

    @property
    def _tmp(self) -> Path:
        return self.folder / "tmp"

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Put `data` at `name`, whole or not at all, durable when this returns."""
        path = self.folder / name
        aside = self._tmp / name.replace("/", "_")
        aside.parent.mkdir(exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())

    def read_json(self, name: str) -> Any:
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except ValueError as fault:
            raise _damaged(self.folder / name, fault) from fault

    def write_array(self, name: str, array: NDArray[Any]) -> None:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        self.write(name, buffer.getbuffer())

    def write_table(self, name: str, columns: Mapping[str, Any]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        buffer = io.BytesIO()
        pq.write_table(pa.table(dict(columns)), buffer, compression="zstd")
        self.write(name, buffer.getbuffer())

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.folder / name) as file:  # `pq.read_table` would load pyarrow.dataset
                table = file.read(None if columns is None else list(columns))
        except ValueError as fault:  # pyarrow's ArrowInvalid is one
            raise _damaged(self.folder / name, fault) from fault
        return {column: table[column].to_numpy() for column in table.column_names}

    # ---- stages: one recipe, one key, one folder

    def stage(self, recipe: Recipe) -> str:
        """Name of the folder that holds what `recipe` makes; its recipe.json is written first."""
        name = f"{recipe.room}/{recipe.key}"
        if not (self.folder / name / "recipe.json").exists():
            self.write_json(f"{name}/recipe.json", json.loads(recipe.to_json()))
        return name

    def recipe(self, stage: str) -> Recipe:
        """How a stage was, or is to be, made."""
        told = self.read_json(f"{stage}/recipe.json")
        return Recipe(**told | {"inputs": tuple(told["inputs"])})

    def arrays(self, stage: str) -> dict[str, NDArray[Any]] | None:
        """Arrays of a finished stage, by name; None when it is not finished."""
        folder = self.folder / stage
        if not (folder / "done").exists():
            return None
        return {path.stem: read_array(path) for path in sorted(folder.glob("*.npy"))}

    def finish(self, stage: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write a stage's arrays, then the mark that they are all there."""
        for name, array in arrays.items():
            self.write_array(f"{stage}/{name}.npy", array)
        self.write(f"{stage}/done", b"")

    # ---- sequences of shards, which only grow

    def shards(self, stage: str, suffix: str) -> list[Path]:
        """Finished shards of a sequence, in order: 00000.suffix, 00001.suffix, … up to the first that is missing."""
        found: list[Path] = []
        while (path := self.folder / stage / f"{len(found):05}.{suffix}").exists():
            found.append(path)
        return found

    # ---- logs, which only grow

    @contextmanager
    def appending(self, name: str) -> Iterator[None]:
        """Hold the log `name`. Others wait: a line takes a moment, even while somebody is `writing` for hours."""
        import filelock

        try:
            with filelock.FileLock(self.folder / f"{name}.lock", timeout=_PATIENCE):
                yield
        except filelock.Timeout as busy:
            raise Busy(f"Another process is writing {self.folder / name}.", "Try again in a moment.") from busy
        except OSError as fault:
            raise _plain(fault, self.folder) from fault

    def append(self, name: str, value: Mapping[str, Any]) -> None:
        """Add one line of JSON to a log, durable when this returns. A torn last line of a killed writer is dropped."""
        path = self.folder / name
        with path.open("ab+") as file:
            if size := file.tell():
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write(json.dumps(value, sort_keys=True, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def log(self, name: str, start: int = 0) -> tuple[list[dict[str, Any]], int]:
        """The whole lines of a log from byte `start` on, and where they end."""
        path = self.folder / name
        if not path.exists():
            return [], 0
        with path.open("rb") as file:
            file.seek(start)
            whole = file.read()
        whole = whole[: whole.rfind(b"\n") + 1]
        return [json.loads(line) for line in whole.split(b"\n") if line], start + len(whole)

    def log_size(self, name: str) -> int:
        path = self.folder / name
        return path.stat().st_size if path.exists() else 0


def _damaged(path: Path, fault: Exception) -> PhylaError:
    return PhylaError(f"{path} is damaged: {fault}.", "Remove it and run the same command again.")


def _plain(fault: OSError, folder: Path) -> PhylaError:
    match fault.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return PhylaError(f"The disk of {folder} is full.", "Free some space and run the same command again.")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return PhylaError(f"{folder} can't be written to.", "Name another folder with --project.")
    return PhylaError(f"{fault.filename or folder}: {fault.strerror or fault}.", "Run the same command again.")
