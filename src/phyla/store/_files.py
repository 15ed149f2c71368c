"""The store: atomic files in a project folder, one writer at a time."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from phyla.store._faults import ANOTHER, Busy, plain, refuse_outside
from phyla.store._forms import not_an_array, not_json, not_recipe
from phyla.store._logs import Logs
from phyla.store._remote import Remote, is_remote
from phyla.store._tables import read_columns
from phyla.types import PhylaError, Recipe

FORMAT = 2
_META = "phyla.json"
_SUMS = "sums"  # the folder of the checksums: that of NAME is sums/NAME
# From each older format to the next: a function that changes the folder and returns the new phyla.json. All that is
# read must be readable before, for a project that is only looked at is not changed.
_MIGRATIONS: dict[int, Callable[[Path, dict[str, Any]], dict[str, Any]]] = {
    1: lambda folder, meta: meta,  # 2 adds checksums, to what is written from then on
}


class Store(Logs):
    """A project's folder, here or elsewhere. Reading needs no lock; writing happens inside `with store.writing():`.

    A file's name is its path in the project, with slashes. Of a project that lies elsewhere (`place` is a URL) files
    are kept in `folder`, from when they were first read or written; with `keeps` false, for workers, only in memory.
    """

    def __init__(self, place: str | Path, *, keeps: bool = True) -> None:
        self.place = str(place)
        self.remote = Remote(self.place) if is_remote(self.place) else None
        self.folder = self.remote.folder if self.remote else Path(place)
        self._keeps = keeps or self.remote is None
        self._meta: tuple[tuple[int, ...], dict[str, Any]] = (), {}
        self._is_writing = False

    def __reduce__(self) -> Any:
        """In another process, which may stand in another folder: the same place, with nothing held."""
        place = self.place if self.remote else str(self.folder.absolute())
        return partial(Store, keeps=self._keeps), (place,)

    @property
    def name(self) -> str:
        """The last part of where it lies."""
        return self.remote.url.rpartition("/")[2] if self.remote else self.folder.absolute().name

    # ---- the folder itself

    @classmethod
    def create(cls, place: str | Path) -> Store:
        """The store at `place`, made at the first `writing`. Refuses a folder that holds something else."""
        store = cls(place)
        if store.meta():
            return cls.open(place)
        try:
            leftovers = set(store.names()) - {"lock", "tmp", _SUMS}
        except OSError as fault:
            raise plain(fault, store.place, ANOTHER) from fault
        if leftovers:
            raise PhylaError(f"{place} is not empty and is no Phyla project.", ANOTHER)
        return store

    @classmethod
    def open(cls, place: str | Path) -> Store:
        """The store of an existing project. One of an older format is brought to this one when it is first written."""
        store = cls(place)
        if not store.meta():
            raise PhylaError(f"{place} is no Phyla project.", f"Make one: phyla sort PHOTOS --project {place}")
        store.refuse_format(store.meta())
        store.refuse_strange()
        return store

    def refuse_format(self, meta: Mapping[str, Any]) -> None:
        """Raise `PhylaError` where phyla.json says that the project is of a format that this Phyla does not read."""
        version = meta.get("format")
        if not isinstance(version, int) or not 1 <= version <= FORMAT:
            raise PhylaError(
                f"{self.place} has format {version!r}; this Phyla reads formats up to {FORMAT}.",
                "Update it: pip install --upgrade phyla",
            )

    def refuse_strange(self, folder: str | Path = "") -> None:
        """Raise `PhylaError` where a project has links, which writing may follow out of it, or what is no file."""
        with os.scandir(folder or self.folder) as there:
            for entry in there:
                if entry.is_symlink():
                    raise PhylaError(
                        f"{entry.path} leads out of the project.", "Put what it leads to in its place, or remove it."
                    )
                if entry.is_dir():
                    with suppress(FileNotFoundError):  # a writer has just removed it
                        self.refuse_strange(entry.path)
                elif not entry.is_file():
                    raise PhylaError(f"{entry.path} is neither a file nor a folder.", "Remove it.")

    def meta(self) -> dict[str, Any]:
        """What phyla.json says; empty in a folder where nothing has been finished. Read again when it was replaced."""
        path = self.folder / _META
        if self.remote and not self._is_writing and self.remote.is_due(_META):
            self.remote.refresh(_META, path)
        try:
            stat = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return {}
        seen = stat.st_ino, stat.st_mtime_ns, stat.st_size
        if self._meta[0] != seen:
            try:
                data = path.read_bytes()
                told = dict(json.loads(data))
                if told.get("format") in range(1, FORMAT + 1) and (why := not_json(_META, told, data)):
                    raise ValueError(why)
            except (ValueError, TypeError, RecursionError) as fault:
                raise PhylaError(f"{path} is damaged: {fault}.", "Restore it from a backup.") from fault
            self._meta = seen, told
        return dict(self._meta[1])

    def update_meta(self, **changes: Any) -> None:
        self.write_json(_META, self.meta() | {"format": FORMAT} | changes)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the project's lock. A second process is told so at once; a killed one frees it by dying."""
        import filelock

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with ExitStack() as held:
                held.enter_context(filelock.FileLock(self.folder / "lock", timeout=0))
                if self.remote:
                    held.enter_context(self.remote.lease("lock"))
                    self.remote.refresh(_META, self.folder / _META)
                # Only a writer that was killed leaves anything here.
                shutil.rmtree(self._tmp, ignore_errors=True)
                held.callback(shutil.rmtree, self._tmp, ignore_errors=True)
                self._is_writing = True
                held.callback(setattr, self, "_is_writing", False)
                for old in range(self.meta().get("format", FORMAT), FORMAT):
                    self.write_json(_META, _MIGRATIONS[old](self.folder, self.meta()) | {"format": old + 1})
                yield
        except (filelock.Timeout, TimeoutError) as busy:
            raise Busy(f"Another process is working on {self.place}.", "Wait until it ends.") from busy
        except OSError as fault:
            raise (plain(fault, self.place) if self._meta[1] else plain(fault, self.place, ANOTHER)) from fault

    # ---- files

    @property
    def _tmp(self) -> Path:
        return self.folder / "tmp"

    def has(self, name: str) -> bool:
        refuse_outside(name)
        return (self.folder / name).exists() or (self.remote is not None and self.remote.has(name))

    def path(self, name: str) -> Path:
        """Where a file lies on this machine: it is brought here if need be."""
        refuse_outside(name)
        path = self.folder / name
        if self.remote and not path.exists():
            self.remote.fetch(name, path)
        return path

    def names(self, under: str = "") -> list[str]:
        """The names of what lies directly in a folder, in order."""
        refuse_outside(under)
        if self.remote:
            return self.remote.names(under)
        folder = self.folder / under
        return sorted(os.listdir(folder)) if folder.exists() else []

    def read(self, name: str) -> bytes:
        if self.remote and not self._keeps:
            return self.remote.read(name)
        return self.path(name).read_bytes()

    def _aside(self, name: str) -> Path:
        """Where a file is written until it is whole; of its own for each of many that may write the same file."""
        self._tmp.mkdir(parents=True, exist_ok=True)
        return self._tmp / f"{name.replace('/', '_')}.{uuid4().hex}"

    @contextmanager
    def streaming(self, name: str) -> Iterator[Callable[[Any], None]]:
        """Write a file piece by piece; it gets its name, whole and durable, when the block ends without an error."""
        refuse_outside(name)
        aside = self._aside(name)
        digest = blake3()
        try:
            with aside.open("wb") as file:

                def put(piece: Any) -> None:
                    file.write(piece)
                    digest.update(piece)

                yield put
                file.flush()
                os.fsync(file.fileno())
        except BaseException:  # on a full disk it would take what little room there is
            aside.unlink(missing_ok=True)
            raise
        told, was = digest.hexdigest(16), self._noted(name)
        if was != [told]:
            self._note(name, [told, *was])  # killed before the next lines, the file is still what it was
        if self.remote:
            self.remote.upload(name, aside)
        if self._keeps:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.replace(path)
        else:
            aside.unlink()
        if was not in ([], [told]):
            self._note(name, [told])

    def _noted(self, name: str) -> list[str]:
        path = self.folder / _SUMS / name
        return path.read_text("ascii", "replace").split() if path.exists() else []

    def _note(self, name: str, sums: Sequence[str]) -> None:
        """Write down which checksums a file may have."""
        path, told = self.folder / _SUMS / name, "".join(f"{of}\n" for of in sums)
        if self.remote:
            self.remote.write(f"{_SUMS}/{name}", told.encode())
        if self._keeps:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = self._aside(f"{_SUMS}/{name}")
            aside.write_text(told, "ascii")
            aside.replace(path)

    def sums(self, name: str) -> list[str]:
        """The checksums (128-bit BLAKE3) that a file may have; none for one from before there were any.

        There are two where a process was killed while it replaced the file.
        """
        try:
            return self.read(f"{_SUMS}/{name}").decode("ascii", "replace").split()
        except (FileNotFoundError, NotADirectoryError):
            return []

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, in this order."""
        for name in names:
            refuse_outside(name)
            for gone in (name, f"{_SUMS}/{name}"):
                if self.remote:
                    self.remote.remove(gone)
                (self.folder / gone).unlink(missing_ok=True)

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Put `data` at `name`, whole or not at all, durable when this returns."""
        with self.streaming(name) as put:
            put(data)

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())

    def read_json(self, name: str) -> Any:
        """What a JSON file says, which is of the form that its name tells of."""
        data = self.read(name)
        try:
            told = json.loads(data)
            why = not_json(name, told, data)
        except (ValueError, RecursionError) as fault:
            raise self.damaged(name, fault) from fault
        if why:
            raise self.damaged(name, why)
        return told

    def array(self, name: str, *, mmap: bool = False) -> NDArray[Any]:
        """The array in a file, mapped if asked; never unpickles. It is of the form that its name tells of."""
        try:
            if self.remote and not self._keeps:
                data = self.remote.read(name)
                found, size = np.load(io.BytesIO(data), allow_pickle=False), len(data)
            else:
                path = self.path(name)
                found, size = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False), path.stat().st_size
        except OSError:
            raise
        except Exception as fault:  # a header can make NumPy raise nearly anything
            raise self.damaged(name, fault) from fault
        if not isinstance(found, np.ndarray):
            raise self.damaged(name, "it holds several arrays")
        if why := not_an_array(name, found, size, values=not mmap):
            raise self.damaged(name, why)
        return found

    def ids(self, name: str) -> NDArray[np.str_]:
        """The ids of images in a file."""
        try:
            return self.array(name).astype(str)
        except UnicodeDecodeError as fault:
            raise self.damaged(name, fault) from fault

    def write_array(self, name: str, array: NDArray[Any]) -> None:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        self.write(name, buffer.getbuffer())

    @contextmanager
    def streaming_array(self, name: str, shape: tuple[int, ...], dtype: Any) -> Iterator[Callable[[NDArray], None]]:
        """Write an array of `shape` row block by row block."""
        described = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, described)
        with self.streaming(name) as put:
            put(header.getbuffer())
            yield lambda block: put(np.ascontiguousarray(block, dtype).data.cast("B"))

    def write_table(self, name: str, columns: Mapping[str, Any]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        buffer = io.BytesIO()
        pq.write_table(pa.table(dict(columns)), buffer, compression="zstd")
        self.write(name, buffer.getbuffer())

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Columns of a table; those of `TABLES` of their types."""
        try:
            return read_columns(self.path(name), name, columns)
        except ValueError as fault:
            raise self.damaged(name, fault) from fault

    # ---- stages: one recipe, one key, one folder

    def stage(self, recipe: Recipe) -> str:
        """Name of the folder that holds what `recipe` makes; its recipe.json is written first, over a damaged one."""
        name = f"{recipe.room}/{recipe.key}"
        with suppress(FileNotFoundError, PhylaError):
            if self.recipe(name).key == recipe.key:
                return name
        self.write_json(f"{name}/recipe.json", json.loads(recipe.to_json()))
        return name

    def recipe(self, stage: str) -> Recipe:
        """How a stage was, or is to be, made."""
        told = self.read_json(f"{stage}/recipe.json")
        if why := not_recipe(told):
            raise self.damaged(f"{stage}/recipe.json", why)
        recipe = Recipe(**told | {"inputs": tuple(told["inputs"])})
        refuse_outside("/".join((recipe.room, *recipe.inputs)))
        return recipe

    def is_done(self, stage: str) -> bool:
        """Whether all that belongs to a stage is there."""
        return self.has(f"{stage}/done")

    def arrays(self, stage: str, but: Sequence[str] = ()) -> dict[str, NDArray[Any]] | None:
        """Arrays of a finished stage, by name, without some; None when it is not finished."""
        if not self.is_done(stage):
            return None
        stems = (name.removesuffix(".npy") for name in self.names(stage) if name.endswith(".npy"))
        return {stem: self.array(f"{stage}/{stem}.npy") for stem in stems if stem not in but}

    def finish(self, stage: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write a stage's arrays, then the mark that they are all there."""
        for name, array in arrays.items():
            self.write_array(f"{stage}/{name}.npy", array)
        self.write(f"{stage}/done", b"")

    def forget(self, stage: str) -> None:
        """Remove the arrays of a stage, which can be made again; what it was made by and what it told stay."""
        # First the mark: what is left of a stage without it counts for nothing.
        self.remove(f"{stage}/{name}" for name in ["done", *self.names(stage)] if name == "done" or name[-4:] == ".npy")

    def drop(self, stage: str) -> None:
        """Remove a stage."""
        self.forget(stage)
        self.remove(f"{stage}/{name}" for name in self.names(stage))
        for folder in (self.folder / stage, self.folder / _SUMS / stage):
            shutil.rmtree(folder, ignore_errors=True)

    # ---- sequences of shards, which only grow

    def shards(self, stage: str, suffix: str) -> list[str]:
        """Finished shards of a sequence, in order: 00000.suffix, 00001.suffix, … up to the first that is missing."""
        there, found = set(self.names(stage)), list[str]()
        while (name := f"{len(found):05}.{suffix}") in there:
            found.append(f"{stage}/{name}")
        return found
