"""Groups as files: a table, written and read back, or a folder a group."""

from __future__ import annotations

import csv
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from phyla.store import Busy, plain
from phyla.types import UNSORTED, PhylaError

# What each kind takes beside --force; a name ends in that of a file, or of a dataset of Lance.
KINDS: dict[str, tuple[str, ...]] = {
    "csv": (), "parquet": ("images",), "lance": ("images",),
    "folder": ("copy",), "webdataset": (), "fiftyone": ("copy",),
}  # fmt: skip
_ENDINGS = ("csv", "parquet", "lance")
_EMPTY = {"uri": "", "group": UNSORTED, "name": "", "left_out": True}  # column → what an empty cell of it means
_LONGEST_NAME = 200  # bytes; file systems allow 255, and a number may be added
_LONGEST_SUFFIX = 10
_SUFFIXES = {"jpeg": "jpg", "mpo": "jpg", "jpeg2000": "jp2"}  # an MPO is a JPEG with more pictures behind


def kind_of(path: Path, kind: str | None, **options: bool) -> str:
    """What is to be written at `path`: what its name ends in, else `kind`, else a folder.

    Raises `PhylaError` where the two differ, or where one of the `options` means nothing to it.
    """
    ending = path.suffix.lower().removeprefix(".")
    told = ending if ending in _ENDINGS else None
    if kind is not None and kind not in KINDS:
        raise PhylaError(f"There is no export to {kind!r}.", f"There is: {', '.join(KINDS)}.")
    if kind in _ENDINGS and told is None:
        raise PhylaError(f"{path} does not end in .{kind}.", f"Call it {path}.{kind}.")
    if kind and told not in (None, kind):
        raise PhylaError(f"{path} ends in .{told}, which {kind} does not.", "Leave --to out, or give another name.")
    kind = kind or told or "folder"
    for option in (name for name, given in options.items() if given and name not in KINDS[kind]):
        takers = [name for name, takes in KINDS.items() if option in takes]
        raise PhylaError(f"{kind} makes no use of --{option}.", f"It is for {' and '.join(takers)}.")
    return kind


def spare(path: Path, project: Path, source: str, uris: Iterable[str] | None) -> None:
    """Raise `PhylaError` where `path` lies in the project, or is what that was sorted from.

    Also where it holds some of that, its `uris`; None if what `path` holds is to stay.
    """
    of_source = (source, os.path.realpath(source))
    for own in {os.path.abspath(path), os.path.realpath(path)}:
        if any(Path(own).is_relative_to(of(project)) for of in (os.path.abspath, os.path.realpath)):
            raise PhylaError(f"{path} lies in the project.", "Give another name.")
        held = () if uris is None else (*of_source, *uris)
        if own in of_source or any(of == own or of.startswith((f"{own}/", f"{own}#")) for of in held):
            raise PhylaError(f"{path} is, or holds, what the project was sorted from.", "Give another name.")


def refuse_to_overwrite(path: Path, force: bool) -> None:
    """Raise `PhylaError` where `path` is there already, or can't be a table."""
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise PhylaError(f"{path} is neither a .csv nor a .parquet.", "End its name in one of these.")
    if path.exists() and not force:
        raise PhylaError(f"{path} is there already.", "Give another name, or --force to replace it.")


def _hidden(path: Path) -> Path:
    whole = Path(os.path.abspath(path))
    return whole.with_name(f".{whole.name}.phyla")


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A hidden folder beside `path` to write in until all is there; what keeps the disk from that is told plainly.

    Two at once are refused. It is gone at the end; what a killed run leaves of it goes with the next to the same place.
    """
    import filelock

    folder = _hidden(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / "lock", timeout=0):
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except filelock.Timeout as busy:
        raise Busy(f"Another process is writing {path}.", "Wait until it ends, or give another name.") from busy
    except OSError as fault:
        raise plain(fault, str(path), "Give another name.") from fault


@contextmanager
def put_at(path: Path) -> Iterator[Path]:
    """A place beside `path` for a file or a folder, which replaces `path` once it is whole and durable."""
    with beside(path) as folder:
        new, old = folder / "new", folder / "old"
        if old.exists() and not path.exists():  # a run was killed between the two last steps
            old.replace(path)
        for left in (new, old):
            if left.is_file():
                left.unlink()
            shutil.rmtree(left, ignore_errors=True)
        yield new
        if new.is_file():
            with new.open("rb+") as opened:
                os.fsync(opened.fileno())
        elif hasattr(os, "sync"):
            os.sync()  # all at once: one by one 10,000 small files take 40 s
        if was := path.is_dir():
            path.replace(old)
        try:
            new.replace(path)
        except BaseException:
            if was:
                old.replace(path)
            raise


@contextmanager
def whole_folder(folder: Path, force: bool) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` once all is there; `folder` itself where that holds something."""
    is_there = folder.exists()
    place = folder / "whole" if is_there else folder  # what is laid aside may be no further than a rename away
    is_full = is_there and any(path.name != f".{place.name}.phyla" for path in folder.iterdir())
    if is_full and not force:
        raise PhylaError(f"{folder} is not empty.", "Name another folder, or give --force to add to it.")
    if is_there and _hidden(folder).exists():
        with beside(folder):  # a run was killed when all was there but this
            pass
    with beside(place) as aside:
        if is_full:
            yield folder
            return
        made = aside / "whole"
        shutil.rmtree(made, ignore_errors=True)  # of a run that was killed
        made.mkdir()
        yield made
        if is_there:
            for path in made.iterdir():
                path.replace(folder / path.name)
        else:
            made.replace(folder)


def write_rows(rows: Mapping[str, NDArray[Any]], path: Path, force: bool) -> int:
    """Write columns to a .csv or .parquet, aside first and then renamed. Returns the number of rows."""
    refuse_to_overwrite(path, force)
    with put_at(path) as aside:
        if path.suffix.lower() == ".csv":
            with aside.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(rows)
                told = {k: v.astype(int) if v.dtype == bool else v for k, v in rows.items()}
                told["strength"] = told["strength"].astype(float).round(4)
                writer.writerows(zip(*(column.tolist() for column in told.values()), strict=True))
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.table(dict(rows)), aside)
    return len(rows["uri"])


def read_rows(path: Path) -> dict[str, NDArray[Any]]:
    """The columns uri, group, name and left_out of a table that a project or a classifier wrote.

    A classifier knows no groups: the class of an image is its name, and its group 0.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    if not path.is_file():
        raise PhylaError(f"There is no file {path}.", "Check the spelling.")
    try:
        if path.suffix.lower() == ".csv":
            quoted = pa_csv.ParseOptions(newlines_in_values=True)
            as_text = pa_csv.ConvertOptions(column_types=dict.fromkeys(("uri", "name", "class"), pa.string()))
            table = pa_csv.read_csv(path, parse_options=quoted, convert_options=as_text)
        else:
            table = pq.read_table(path)
        if "class" in table.column_names and "group" not in table.column_names:
            group = pc.if_else(pc.equal(table["class"], ""), UNSORTED, 0)
            told = {"uri": table["uri"], "group": group, "name": table["class"], "left_out": table["defer"]}
            table = pa.table(told)
        cells = {column: table[column].cast(pa.scalar(empty).type) for column, empty in _EMPTY.items()}
        rows = {column: cells[column].fill_null(empty).to_numpy() for column, empty in _EMPTY.items()}
        if not all(rows["uri"]):
            raise ValueError("a row has no uri")
        return rows
    except Exception as fault:  # a hostile table makes pyarrow raise nearly anything
        if isinstance(fault, OSError) and fault.errno:  # pyarrow's own have no number
            raise
        raise PhylaError(
            f"{path} is not a table that predict or export wrote: {fault}.",
            "It needs uri, group, name and left_out; that of a classifier uri, class and defer.",
        ) from fault


def _safe(name: str) -> str:
    """`name` as one plain part of a path on any system; a long one is cut before its suffix."""
    plain = re.sub(r'[\x00-\x1f<>:"/\\|?*�]+', "_", name).strip(" .")
    suffix = Path(plain).suffix if len(Path(plain).suffix.encode()) <= _LONGEST_SUFFIX else ""
    stem = plain.removesuffix(suffix).encode()[: _LONGEST_NAME - _LONGEST_SUFFIX].decode(errors="ignore")
    return f"{stem.strip()}{suffix}" or "_"


def write_tree(
    rows: Mapping[str, NDArray[Any]], read: Callable[[str], bytes], folder: Path, copy: bool, force: bool
) -> int:
    """Put every readable file in `folder`/GROUP/, the left-out ones in `folder`/unsorted/, the removed ones nowhere.

    Returns how many. Files on this disk are linked unless `copy`; rows of tables and members of archives are always
    written out. Two files of one name get a number. Nothing that is already there is replaced, or written twice. What
    can't be read any more is left out, and told of.
    """
    with whole_folder(folder, force) as whole:
        return _fill(rows, read, whole, copy)


def _fill(rows: Mapping[str, NDArray[Any]], read: Callable[[str], bytes], folder: Path, copy: bool) -> int:
    taken: set[Path] = set()
    lost: list[str] = []
    places: dict[str | int, str] = {UNSORTED: "unsorted"}  # folder of each class: groups of one name are one
    for uri, group, name, left_out, origin in zip(
        *(rows[c].tolist() for c in ("uri", "group", "name", "left_out", "origin")), strict=True
    ):
        if group < 0 or origin == "removed":
            continue
        of = UNSORTED if left_out else name or group
        if of not in places:
            label = _safe(name or f"group {group}")
            is_free = label.casefold() not in {other.casefold() for other in places.values()}
            places[of] = label if is_free else f"{label} (group {group})"
        place = folder / places[of]
        place.mkdir(parents=True, exist_ok=True)
        original = Path(uri) if os.path.isfile(uri) else None  # False, too, where no file can be called so
        try:
            data = b"" if original and not copy else read(uri)
        except (OSError, PhylaError):  # gone since: the others still come
            lost.append(uri)
            continue
        leaf = leaf_of(uri, original is not None)
        suffix = "" if original or "." in leaf else suffix_of(data)
        target = place / f"{leaf}{suffix}"
        number = 1
        link = original.absolute() if original and not copy else None
        while target in taken or (os.path.lexists(target) and not _is(target, link, data)):
            number += 1
            target = place / f"{Path(leaf).stem} ({number}){Path(leaf).suffix}{suffix}"
        taken.add(target)
        if not os.path.lexists(target):
            if link:
                target.symlink_to(link)
            else:
                aside = target.with_name(f".{target.name}.part")
                aside.write_bytes(data)
                aside.replace(target)
    if lost:
        logging.getLogger("phyla").warning(
            "phyla: %s can't be read any more and is left out, with %d others.", lost[0], len(lost) - 1
        )
    return len(taken)


def _is(path: Path, link: Path | None, data: bytes) -> bool:
    """Whether there lies what an earlier run wrote."""
    if link or path.is_symlink():
        return path.is_symlink() and Path(os.readlink(path)) == link
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def leaf_of(uri: str, is_file: bool) -> str:
    """A file's name for an image: its own, or its member's, or that of its table and its row."""
    file, _, part = uri.partition("#")
    return _safe(Path(uri).name if is_file else Path(part).name if "." in part else f"{Path(file).stem}-{part}")


def suffix_of(data: bytes) -> str:
    """The usual suffix of a picture's format."""
    import io

    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        format = (picture.format or "bin").lower()
    return f".{_SUFFIXES.get(format, format)}"
