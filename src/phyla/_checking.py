"""Is all of a project there, and as it was written? What is damaged is named, and made again where it can be."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from phyla._opened import LOG
from phyla._progress import Progress
from phyla._structure import is_ours, misfits
from phyla.store import LANCE, LanceFeatures, Store, read_line
from phyla.types import PhylaError

_PIECE = 1 << 20  # bytes read at a time
_MB = 1_000_000
_MOST_TOLD = 1000  # missing lines of a log elsewhere that are named; a stranger's may lack any number
_BITS_TRIED = 1 << 14  # bytes of a file of which every bit is tried: 16 KB take a second of one core


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
    _refuse_newer(store)
    if not store.remote:
        store.refuse_strange()
    progress = Progress(quiet)
    listed = every(store)
    files, unchecked = [name for name in listed if is_ours(name)], list[str]()
    digests: dict[str, str] = {}
    faults = list(_of_sums(store, {name: listed[name] for name in files}, unchecked, digests, progress))
    faults = _with_others(store, listed, faults)
    if repair and (faults or store.remote):
        from phyla._repairing import mend

        faults = mend(store, faults, digests, threads, progress)
    return {
        "files": len(files),
        "megabytes": round(sum(listed[name] for name in files) / _MB, 1),
        "faults": [asdict(fault) for fault in faults],
        "unchecked": unchecked,
        "leftovers": [name for name in listed if name.startswith("tmp/")],
        "whole": all(fault.mended for fault in faults),
        "project": store.place,
    }


def _refuse_newer(store: Store) -> None:
    """As opening it does; but a phyla.json that is not what its checksum says is a fault to tell of."""
    with suppress(OSError, ValueError, TypeError, RecursionError):
        data, sums = store.read("phyla.json"), store.sums("phyla.json")
        if not sums or blake3(data).hexdigest(16) in sums:
            store.refuse_format(dict(json.loads(data)))


def again(store: Store, faults: Found) -> Found:
    """What is wrong by now: of the checksums only those are looked at that `faults` are about."""
    listed = every(store)
    names = {fault.file.removeprefix("sums/") for fault in faults} & listed.keys()
    read = {name: listed[name] for name in sorted(names) if is_ours(name)}
    return _with_others(store, listed, list(_of_sums(store, read, [], {}, Progress(True))))


def _with_others(store: Store, listed: dict[str, int], faults: Found) -> Found:
    """The faults of checksums, and all others."""
    known = {fault.file for fault in faults}
    faults += _of_log(store, known)
    faults += _of_lance(store, listed)
    known = {fault.file for fault in faults}
    faults += [Fault(name, what) for name, what in misfits(store, listed, known) if name not in known]
    known = {fault.file for fault in faults}
    if not store.remote and "phyla.json" not in known:
        # What can't be what its name says, though its checksum fits: a stranger makes that fit.
        from phyla._sound import unsound

        faults += [Fault(name, what) for name, what in unsound(store, filter(is_ours, listed), known)]
    return faults


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
    if not is_formed or any(bits_between(line, wanted) == 1 for line in lines):
        return f"sums/{name}"
    return name


def bits_between(one: bytes, other: bytes) -> int:
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


def _of_log(store: Store, known: Collection[str]) -> Iterator[Fault]:
    # Asked for first: meanwhile people may say more.
    n = 0 if "phyla.json" in known else counted(store)
    if store.remote:
        there = {int(name[:8]) for name in store.names(LOG) if re.fullmatch(r"\d{8}\.json", name)}
        for number in range(max(max(there, default=-1) + 1, min(n, len(there) + _MOST_TOLD))):
            name = f"{LOG}/{number:08}.json"
            line = store.read(name) if number in there else b""
            if read_line(line.rstrip(b"\n")) is None:
                yield Fault(name, "is damaged" if line else "is missing")
        return
    lines, rest = lines_of(store)
    told = [read_line(line) for line in lines]
    for number, said in enumerate(told, 1):
        if said is None:
            yield Fault(LOG, f"line {number} is damaged")
    # What a killed writer leaves is no whole line, and was never acknowledged; but a line may have lost its end.
    if rest and flipped_back(rest, is_lines) is not None:
        yield Fault(LOG, f"line {len(lines) + 1} is damaged")
    elif None not in told and (lacks := numbered(filter(None, told), n) - len(told)):
        yield Fault(LOG, f"lacks {lacks:,} of {lacks + len(told):,} lines" if lines else "is missing")


def counted(store: Store) -> int:
    """How many edits there were at the last spread or audit."""
    with suppress(PhylaError, OSError):  # phyla.json is told of apart
        meta = store.read_json("phyla.json")
        return max(meta.get("spread_edits", 0), meta.get("audit_edits", 0))
    return 0


def numbered(told: Iterable[dict[str, Any]], n: int = 0) -> int:
    """How many lines a log has had by the numbers in it, and at least n."""
    had = 0
    for line in told:
        had = max(had, seq if type(seq := line.get("seq")) is int else 0) + 1
    return max(had, n)


def is_lines(data: bytes) -> bool:
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
