"""Putting back what is known of what was damaged: a bit, a checksum, a recipe, a line of the log.

What was damaged is kept aside.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from blake3 import blake3

from phyla import backbones, sources
from phyla._checking import (
    Found,
    bits_between,
    counted,
    every,
    flipped_back,
    is_lines,
    lines_of,
    numbered,
    sum_of,
)  # fmt: skip
from phyla._opened import LOG, Opened
from phyla._steps import digest, recipe_of_axes, recipe_of_map
from phyla._structure import DAMAGED, fits
from phyla.store import Store, read_line
from phyla.types import PhylaError, Recipe

_BIT = "the one changed bit was put back"
_SUM = "it is what its name says, so its checksum was made anew"
_WRITTEN = "written anew: its name is made of what it says"
_COPY = "put back from the copy that this machine keeps"
_MOST_LOST = 100_000  # lines that a log is filled up with; a stranger's may lack any number
_STRANGE = 4  # ids of a shard in which a changed bit is looked for: it is in one
_HEADER = 128  # bytes before the values in an .npy of one axis
# What lies in the folder that this machine keeps of a project elsewhere, and is no copy.
_NO_COPIES = ("tmp", "near", "thumbs", "lock", LOG, f"{LOG}.lock")


# ---- files


def move(store: Store, name: str, to: str) -> None:
    """Move a file, or all in a folder."""
    if store.remote:
        for each in store.remote.every(name) or [name]:
            store.remote.copy(each, to + each.removeprefix(name))
            store.remote.remove(each)
            (store.folder / each).unlink(missing_ok=True)
    else:
        (store.folder / to).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(store.folder / name, store.folder / to)


def aside(store: Store, name: str) -> str:
    """Move what is damaged away, never over another; its name now."""
    target = free(store, name)
    move(store, name, target)
    return target


def keep_copy(store: Store, name: str) -> None:
    """Keep a damaged file of a few KB, before it is replaced."""
    target = free(store, name)
    if store.remote:
        store.remote.copy(name, target)
    else:
        (store.folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(store.folder / name, store.folder / target)


def free(store: Store, name: str) -> str:
    target, number = f"{DAMAGED}/{name}", 1
    while store.has(target):
        number += 1
        target = f"{DAMAGED}/{name} ({number})"
    return target


def use_copies(store: Store, faults: Found, digests: Mapping[str, str]) -> None:
    """What this machine keeps of a project elsewhere: put back what is whole, and forget what lies otherwise there."""
    if not store.remote:
        return
    shutil.rmtree(store.folder / "sums", ignore_errors=True)
    here, damaged = Store(store.folder), {fault.file: fault for fault in faults}
    for name in every(here):
        if name.partition("/")[0] in _NO_COPIES or (digest := sum_of(here, name)) == digests.get(name):
            continue
        if name in damaged and digest in store.sums(name):
            if name in digests:
                keep_copy(store, name)
            store.write(name, here.read(name))
            damaged[name].mended = _COPY
        else:
            (store.folder / name).unlink()


def put_back(store: Store, name: str) -> str | None:
    """Put back the one bit that was changed, or a recipe; how, or None where that can't be."""
    with suppress(OSError, PhylaError):  # it is missing, or a folder
        sums, data = store.sums(name), store.read(name)
        where = _strange(store, data) if name.endswith(".ids.npy") else None
        mended = flipped_back(data, lambda trial: blake3(trial).hexdigest(16) in sums, where) if sums else None
        if mended is not None:
            keep_copy(store, name)
            store.write(name, mended)
            return _BIT
    if name.endswith("/recipe.json") and fits(store, name):
        store._note(name, [sum_of(store, name)])
        return _SUM
    if name.endswith("/recipe.json") and (recipe := _known(store, name.rpartition("/")[0])):
        if store.has(name):
            keep_copy(store, name)
        store.stage(recipe)
        return _WRITTEN
    return None


def _known(store: Store, stage: str) -> Recipe | None:
    """How a stage is made, if that is as the current ones are made: its name says of which recipe it is."""
    return next((of for of in _current(store) if stage == f"{of.room}/{of.key}"), None)


def _current(store: Store) -> Iterator[Recipe]:
    """How features, axes and the map are made today, unless they have grown. What else there is somebody has chosen."""
    meta: dict[str, Any] = {}
    with suppress(PhylaError):  # phyla.json may be damaged, too
        meta = store.meta()
    for name in dict.fromkeys([*(card.name for card in backbones.cards()), *meta.get("backbones", ())]):
        with suppress(PhylaError, OSError):  # one from elsewhere may not be there any more
            yield backbones.recipe(backbones.card(name), sources.DECODER_VERSION)
    if "groups" not in meta:
        return
    with suppress(PhylaError, OSError):
        told = digest(Opened(store.place).images.ids)
        yield from (recipe_of_axes(stage, told) for stage in meta["features"])
    with suppress(PhylaError, OSError):
        yield recipe_of_map(meta["reduced"], store.recipe(meta["groups"]).seed)


def _strange(store: Store, ids: bytes) -> list[int]:
    """The bytes of a file of ids that are in its header, or in an id that no file was ever found to have."""
    known: set[bytes] = set()
    for shard in store.shards("scan", "parquet"):
        with suppress(PhylaError, NotImplementedError):  # it may be damaged, too
            known.update(str(id).encode() for id in store.read_table(shard, ("id",))["id"])
    width = max(map(len, known), default=len(ids))
    rows = [row for row in range(_HEADER, len(ids), width) if ids[row : row + width] not in known][:_STRANGE]
    return [at for row in (range(_HEADER), *(range(row, row + width) for row in rows)) for at in row if at < len(ids)]


def mend_sum(store: Store, name: str) -> str | None:
    """Make a checksum anew where it is what is damaged, not the file: it is a bit away, or the file proves itself."""
    of = name.removeprefix("sums/")
    digest = sum_of(store, of)
    if bits_between(store.read(name), digest.encode() + b"\n") == 1:
        how = _BIT
    elif _proves_itself(store, of):
        how = _SUM
    else:
        return None
    store._note(of, [digest])
    return how


def _proves_itself(store: Store, name: str) -> bool:
    if name.endswith("/recipe.json"):
        return fits(store, name)
    with suppress(PhylaError, OSError):
        return name == "phyla.json" and bool(store.read_json(name))
    return False


# ---- what people said


def _nothing(number: int) -> bytes:
    """A line that says nothing, in the place of one that can't be mended."""
    return b'{"at": "", "by": "", "classes": [], "ids": [], "op": "lost", "seq": %d}' % number


def mend_log(store: Store, faults: Found) -> None:
    """Put back the bits of damaged lines. One that can't be mended gives its place to a line that says nothing."""
    if not faults:
        return
    lines, rest = lines_of(store)
    told: list[bytes] = []
    lost = 0

    def fill(n: int) -> None:
        """Others that are gone give their places to such lines, too, up to the n-th."""
        nonlocal lost
        gone = range(len(told), n)
        if len(gone) <= _MOST_LOST:
            told.extend(map(_nothing, gone))
            lost += len(gone)

    for is_whole, run in groupby([*lines, *([rest] if rest else [])], lambda line: read_line(line) is not None):
        part = list(run)
        if is_whole:
            for line in part:
                fill(numbered([read_line(line) or {}]) - 1)
                told.append(line)
            continue
        joined = b"\n".join(part)
        is_end = bool(rest) and part[-1] is rest
        # The end of a line may be what is damaged, so that two are one, or the last has none.
        mended = flipped_back(joined if is_end else joined + b"\n", is_lines)
        if mended is not None:
            told += mended[:-1].split(b"\n")
            continue
        for line in part:
            if is_end and line is rest:  # of a writer that was killed
                continue
            lost += 1
            told.append(_nothing(len(told)))
    fill(counted(store))
    kept = free(store, LOG)
    if store.has(LOG):
        keep_copy(store, LOG)
    written = store.folder / "tmp" / LOG
    written.parent.mkdir(exist_ok=True)
    with written.open("wb") as file:
        file.write(b"".join(line + b"\n" for line in told))
        file.flush()
        os.fsync(file.fileno())
    written.replace(store.folder / LOG)
    for fault in faults:
        if not lost:
            fault.mended = _BIT
        else:
            fault.what += f"; {lost} can't be mended and say nothing now" + ", all others are kept" * (lost < len(told))
            fault.mended = f"the log as it was is {kept}" if store.has(kept) else "there is a log again"


def mend_lines(store: Store, faults: Found) -> None:
    """The same of a project elsewhere, where each line is a file."""
    assert store.remote
    here = (store.folder / LOG).read_bytes().split(b"\n") if (store.folder / LOG).exists() else []
    for fault in faults:
        number, data, line = int(Path(fault.file).stem), b"", None
        with suppress(FileNotFoundError):
            data = store.remote.read(fault.file)
            line, fault.mended = flipped_back(data, is_lines), _BIT
        if line is None and any((read_line(of) or {}).get("seq") == number for of in here[number : number + 1]):
            line, fault.mended = here[number] + b"\n", _COPY
        if line is None:
            fault.what += " and can't be mended; it says nothing now, all others are kept"
            line, fault.mended = _nothing(number) + b"\n", f"the line as it was is in {DAMAGED}"
        if data:
            keep_copy(store, fault.file)
        store.remote.write(fault.file, line)
    if faults:
        (store.folder / LOG).unlink(missing_ok=True)  # it is read anew
