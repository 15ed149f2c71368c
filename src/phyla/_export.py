"""Groups as files: a table, written and read back, or a folder a group."""

from __future__ import annotations

import csv
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from phyla.store import Busy, plain
from phyla.types import UNSORTED, PhylaError

_LONGEST_NAME = 200  # bytes; file systems allow 255, and a number may be added
_LONGEST_SUFFIX = 10


def refuse_to_overwrite(path: Path, force: bool) -> None:
    """Raise `PhylaError` where `path` is there already, or can't be a table."""
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise PhylaError(f"{path} is neither a .csv nor a .parquet.", "End its name in one of these.")
    if path.exists() and not force:
        raise PhylaError(f"{path} is there already.", "Give another name, or --force to replace it.")


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A hidden folder beside `path` to write in until all is there; what keeps the disk from that is told plainly.

    Two at once are refused. It is gone at the end; what a killed run leaves of it goes with the next to the same place.
    """
    import filelock

    folder = Path(os.path.abspath(path))
    folder = folder.with_name(f".{folder.name}.phyla")
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
def whole_folder(folder: Path, force: bool) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` once all is there; `folder` itself where that holds something."""
    is_there = folder.exists()
    place = folder / "whole" if is_there else folder  # what is laid aside may be no further than a rename away
    is_full = is_there and any(path.name != f".{place.name}.phyla" for path in folder.iterdir())
    if is_full and not force:
        raise PhylaError(f"{folder} is not empty.", "Name another folder, or give --force to add to it.")
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
    with beside(path) as folder:
        aside = folder / "rows"
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
        aside.replace(path)
    return len(rows["uri"])


def read_rows(path: Path) -> dict[str, NDArray[Any]]:
    """The columns uri, group, name and left_out of a table that `write_rows` wrote."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    if not path.exists():
        raise PhylaError(f"There is no {path}.", "Check the spelling.")
    try:
        if path.suffix.lower() == ".csv":
            quoted = pa_csv.ParseOptions(newlines_in_values=True)
            as_text = pa_csv.ConvertOptions(column_types={"uri": pa.string(), "name": pa.string()})
            table = pa_csv.read_csv(path, parse_options=quoted, convert_options=as_text)
        else:
            table = pq.read_table(path)
        kinds = {"uri": object, "group": int, "name": object, "left_out": bool}
        return {column: table[column].to_numpy().astype(kind) for column, kind in kinds.items()}
    except (KeyError, ValueError, TypeError, pa.ArrowException) as fault:
        raise PhylaError(
            f"{path} is not a table that predict or export wrote: {fault}.", "It needs uri, group, name and left_out."
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
        file, _, part = uri.partition("#")
        original = Path(uri) if Path(uri).is_file() else None
        try:
            data = b"" if original and not copy else read(uri)
        except (OSError, PhylaError):  # gone since: the others still come
            lost.append(uri)
            continue
        leaf = _safe(Path(uri).name if original else Path(part).name if "." in part else f"{Path(file).stem}-{part}")
        suffix = "" if original or "." in leaf else _suffix(data)
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


def _suffix(data: bytes) -> str:
    import io

    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        return f".{(picture.format or 'bin').lower()}".replace("jpeg", "jpg")
