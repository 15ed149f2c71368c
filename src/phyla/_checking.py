"""Is all of a project there, and as it was written? What is damaged is named, and made again where it can be."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from phyla._opened import LOG, stages_of
from phyla._progress import Progress
from phyla.store import LANCE, LanceFeatures, Store, features_of, read_line
from phyla.types import PhylaError, Recipe

DAMAGED = "damaged"  # the folder that what was damaged is moved to
_PIECE = 1 << 20  # bytes read at a time
_MB = 1_000_000
_BITS_TRIED = 1 << 14  # bytes of a file of which every bit is tried: 16 KB take a second of one core
_APART = {"sums", "near", "thumbs", "tmp", "lock", DAMAGED}  # what is no file of the project, or has its own check
# Of which arrays of a stage there is a row for each image.
_ROWS = {
    "reduced": ("X", "residual"),
    "groups": ("labels_", "strength_", "fitted"),
    "map": ("points",),
    "spread": ("proba", "codes", "accepted"),
}


@dataclass
class Fault:
    """A file (its name in the project), what is wrong with it, and what was done about it, if that was enough."""

    file: str
    what: str
    mended: str | None = None


Found = list[Fault]


def check(place: str | Path, *, repair: bool = False, threads: int | None = None, quiet: bool = True) -> dict[str, Any]:
    """See `Project.check`; here the project need not open."""
    store = Store(place, keeps=False)
    if not store.has("phyla.json") and not store.sums("phyla.json"):
        raise PhylaError(f"{place} is no Phyla project.", f"Make one: phyla sort PHOTOS --project {place}")
    if not store.remote:
        store.refuse_strange()
    progress = Progress(quiet)
    listed = every(store)
    files, unchecked = [name for name in listed if _is_ours(name)], list[str]()
    digests: dict[str, str] = {}
    faults = list(_of_sums(store, {name: listed[name] for name in files}, unchecked, digests, progress))
    faults += _of_log(store)
    faults += _of_lance(store, listed)
    known = {fault.file for fault in faults}
    faults += [fault for fault in _of_structure(store, listed, known) if fault.file not in known]
    faults += _of_content(store, files, {fault.file for fault in faults})
    if repair and (faults or store.remote):
        from phyla._repairing import mend

        mend(store, faults, digests, threads, progress)
        if any(fault.file == "phyla.json" and fault.mended for fault in faults):  # now it is known what it names
            known = {fault.file for fault in faults}
            later = [fault for fault in _of_structure(store, listed, known, True) if fault.file not in known]
            mend(store, later, {}, threads, progress)
            faults += later
    return {
        "files": len(files),
        "megabytes": round(sum(listed[name] for name in files) / _MB, 1),
        "faults": [asdict(fault) for fault in faults],
        "unchecked": unchecked,
        "leftovers": [name for name in listed if name.startswith("tmp/")],
        "whole": all(fault.mended for fault in faults),
        "project": store.place,
    }


# ---- what lies there


def every(store: Store, under: str = "") -> dict[str, int]:
    """Every file of a project, or of a folder in it, by name, and its bytes."""
    if store.remote:
        return store.remote.every(under)
    found = {}
    for folder, _, names in os.walk(store.folder / under):
        for name in names:
            path = Path(folder, name)
            with suppress(OSError):  # a file that a writer has just renamed
                found[path.relative_to(store.folder).as_posix()] = path.stat().st_size
    return dict(sorted(found.items()))


def _is_ours(name: str) -> bool:
    first = name.partition("/")[0]
    if f"/{LANCE}/" in name:  # has checksums of its own
        return False
    return (first not in _APART or name.startswith("near/")) and first != LOG and not name.endswith(".lock")


def _of_lance(store: Store, listed: Iterable[str]) -> Iterator[Fault]:
    """Datasets with images that are not what their checksums say, or that can't be read."""
    parts = (name.partition(f"/{LANCE}/") for name in listed if name.startswith("features/"))
    for stage in sorted({stage for stage, found, _ in parts if found}):
        try:
            unread, wrong = LanceFeatures(store, stage).damaged()
        except PhylaError as fault:
            yield Fault(f"{stage}/{LANCE}", fault.message)
            continue
        if unread or wrong:
            what = [f"{len(wrong):,} images are not what their checksums say"] * bool(wrong)
            what += [f"{len(unread):,} of its parts can't be read"] * bool(unread)
            yield Fault(f"{stage}/{LANCE}", " and ".join(what))


def sum_of(store: Store, name: str, advance: Callable[[int], object] = lambda n: None) -> str:
    """The checksum of a file as it lies there."""
    digest = blake3()
    if store.remote:
        advance(len(data := store.read(name)))
        digest.update(data)
        return digest.hexdigest(16)
    with (store.folder / name).open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            advance(len(piece))
    return digest.hexdigest(16)


# ---- checksums


def _of_sums(
    store: Store, files: dict[str, int], unchecked: list[str], digests: dict[str, str], progress: Progress
) -> Iterator[Fault]:
    """Files that are not what their checksums say. Those without one are read as what they are."""
    total = sum(files.values()) // _MB + 1
    done = 0
    with progress("checking", total, total, "MB") as advance:

        def read(n: int) -> None:
            nonlocal done
            before, done = done // _MB, done + n
            advance(done // _MB - before)

        for name in files:
            try:
                digests[name] = digest = sum_of(store, name, read)
                said = _read(store, f"sums/{name}") or b""
            except FileNotFoundError:  # a writer has just removed it
                continue
            except OSError as fault:
                yield Fault(name, f"can't be read: {fault.strerror or fault}")
                continue
            if not said.strip(b"\0"):  # an empty one is what losing power leaves
                unchecked += [name] if not name.startswith("near/") else []
                if why := _unreadable(store, name):
                    yield Fault(name, why)
            elif wrong := (_compared(name, digest, said) and _again(store, name)):
                yield Fault(wrong, "is not what its checksum says" if wrong == name else "is a damaged checksum")


def _again(store: Store, name: str) -> str | None:
    """What is damaged, looked at once more: a writer may have replaced the file between the first two looks."""
    try:
        return _compared(name, sum_of(store, name), store.read(f"sums/{name}"))
    except FileNotFoundError:
        return None


def _read(store: Store, name: str) -> bytes | None:
    with suppress(FileNotFoundError):
        return store.read(name)
    return None


def _compared(name: str, digest: str, said: bytes) -> str | None:
    """What is damaged: the file, its checksums, or nothing. There are two of a file that was being replaced."""
    wanted, width = digest.encode() + b"\n", len(digest) + 1
    if said == wanted:
        return None
    lines = [said[i : i + width] for i in range(0, len(said), width)]
    if len(lines) > 1 and wanted in lines:
        return None
    is_formed = all(re.fullmatch(rb"[0-9a-f]{32}\n", line) for line in lines) and lines
    if not is_formed or any(_bits_between(line, wanted) == 1 for line in lines):
        return f"sums/{name}"
    return name


def _bits_between(one: bytes, other: bytes) -> int:
    if len(one) != len(other):
        return 8 * max(len(one), len(other))
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


def _unreadable(store: Store, name: str) -> str | None:
    """Why a file can't be what its name says, as far as can be told without a checksum."""
    try:
        if name.endswith(".json"):
            store.read_json(name)
        elif name.endswith(".npy"):
            store.array(name, mmap=True)
        elif name.endswith(".parquet"):
            store.read_table(name)
    except PhylaError as fault:
        return fault.message.rpartition("is damaged: ")[2].rstrip(".") or fault.message
    except (OSError, SyntaxError, ValueError) as fault:
        return str(fault)
    return None


# ---- what people said


def lines_of(store: Store) -> tuple[list[bytes], bytes]:
    """The whole lines of the log, and what comes after the last: of a writer that was killed, say."""
    whole = _read(store, LOG) or b""
    *lines, rest = whole.split(b"\n")
    return lines, rest


def _of_log(store: Store) -> Iterator[Fault]:
    if store.remote:
        there = {int(name[:8]) for name in store.names(LOG) if re.fullmatch(r"\d{8}\.json", name)}
        for number in range(max(there, default=-1) + 1):
            name = f"{LOG}/{number:08}.json"
            line = store.read(name) if number in there else b""
            if read_line(line.rstrip(b"\n")) is None:
                yield Fault(name, "is damaged" if line else "is missing")
        return
    lines, rest = lines_of(store)
    for number, line in enumerate(lines, 1):
        if read_line(line) is None:
            yield Fault(LOG, f"line {number} is damaged")
    # What a killed writer leaves is no whole line, and was never acknowledged; but a line may have lost its end.
    if rest and flipped_back(rest, _is_lines) is not None:
        yield Fault(LOG, f"line {len(lines) + 1} is damaged")


def _is_lines(data: bytes) -> bool:
    """Whether these are whole lines, each with a checksum."""
    return data.endswith(b"\n") and all(b'"sum": "' in line and read_line(line) for line in data[:-1].split(b"\n"))


def flipped_back(data: bytes, is_right: Callable[[bytes], bool], where: Sequence[int] | None = None) -> bytes | None:
    """`data` with the one bit changed that makes it right; None where there is no such bit, or too much to try.

    where : the bytes that it may be in, if that is known.
    """
    if where is None and len(data) > _BITS_TRIED:
        return None
    trial = bytearray(data)
    for i in range(len(trial)) if where is None else where:
        for bit in range(8):
            trial[i] ^= 1 << bit
            if is_right(bytes(trial)):
                return bytes(trial)
            trial[i] ^= 1 << bit
    return None


# ---- what belongs together


def _of_structure(store: Store, listed: Iterable[str], known: set[str], mended: bool = False) -> Iterator[Fault]:
    """What phyla.json names, or a finished stage was written with, and is not there, or does not fit the rest."""
    files = {name for name in listed if _is_ours(name)}
    if "phyla.json" not in files:
        yield Fault("phyla.json", "is missing")
        return
    if "phyla.json" in known and not mended:
        return
    meta = store.read_json("phyla.json")
    stages = stages_of(store, meta)
    for name in (meta.get("images"), meta.get("audit")):
        if name and name not in files:
            yield Fault(name, "is missing")
    for stage in stages:
        if f"{stage}/recipe.json" not in files:
            yield Fault(f"{stage}/recipe.json", "is missing")
        elif f"{stage}/recipe.json" not in known and not _fits(store, stage):
            yield Fault(f"{stage}/recipe.json", "is of another stage")
        if not stage.startswith("features/") and f"{stage}/done" not in files:
            yield Fault(f"{stage}/done", "is missing")
    lost = set(_lost(listed, files))
    for name in sorted(lost):
        yield Fault(name, "is missing")
    if meta.get("images") in files - known and not store.remote:
        yield from _of_rows(store, meta, stages, files, known | lost)


def _of_content(store: Store, files: list[str], known: set[str]) -> Iterator[Fault]:
    """What can't be what its name says, though its checksum fits: a stranger makes that fit."""
    from phyla._sound import unsound

    if not store.remote and "phyla.json" in files and "phyla.json" not in known:
        yield from (Fault(name, what) for name, what in unsound(store, files, known))


def _fits(store: Store, stage: str) -> bool:
    try:
        recipe: Recipe = store.recipe(stage)
        return stage == f"{recipe.room}/{recipe.key}"
    except (PhylaError, TypeError, KeyError):
        return False


def _lost(listed: Iterable[str], files: set[str]) -> Iterator[str]:
    """Files that have a checksum, and that nobody has reason to remove.

    Those of finished stages and within sequences, and what a repair that was killed had moved away.
    """
    last: dict[str, int] = {}
    for name in files:
        if number := re.fullmatch(r"(.*)/(\d{5})\.(npy|parquet|id\.npy)", name):
            last[number[1]] = max(last.get(number[1], -1), int(number[2]))
    moved = {name.removeprefix(f"{DAMAGED}/") for name in listed if name.startswith(f"{DAMAGED}/")}
    for name in (name.removeprefix("sums/") for name in listed if name.startswith("sums/")):
        if name in files or not _is_ours(name):
            continue
        stage, _, leaf = name.rpartition("/")
        number = re.match(r"(\d{5})\.", leaf)
        if f"{stage}/done" in files or (number and int(number[1]) <= last.get(stage, -1)) or name in moved:
            yield name


def _of_rows(
    store: Store, meta: dict[str, Any], stages: list[str], files: set[str], known: set[str]
) -> Iterator[Fault]:
    """Arrays that don't have a row for each image, and images that nothing describes."""
    table = store.read_table(meta["images"], ("id", "row"))
    rows, first = np.unique(table["row"], return_index=True)
    ids = table["id"][first[rows >= 0]].astype(str)
    for stage in stages:
        room = stage.partition("/")[0]
        for leaf in _ROWS.get(room, ()):
            name = f"{stage}/{leaf}.npy"
            if name not in files - known:
                continue
            try:
                n = store.array(name, mmap=True).shape[0]
            except PhylaError:  # told of with the content
                continue
            if n != len(ids) and not (len(ids) == 1 and n == 2):  # of one image two are grouped
                yield Fault(name, f"has {n:,} rows for {len(ids):,} images")
        if room != "features" or meta.get("aligned") or any(name.startswith(stage) for name in known):
            continue
        if lacks := int((~np.isin(ids, features_of(store, stage).ids)).sum()):
            yield Fault(stage, f"lacks {lacks:,} of {len(ids):,} images")
