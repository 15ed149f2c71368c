"""What belongs together in a project: is all of it there, and does one part fit the others?"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from phyla._opened import LOG, stages_of
from phyla.store import LANCE, Store, features_of
from phyla.types import PhylaError, Recipe

DAMAGED = "damaged"  # the folder that what was damaged is moved to
_APART = {"sums", "near", "thumbs", "tmp", "lock", DAMAGED}  # what is no file of the project, or has its own check
# Of which arrays of a stage there is a row for each image.
_ROWS = {
    "reduced": ("X", "residual"),
    "groups": ("labels_", "strength_", "fitted"),
    "map": ("points",),
    "spread": ("proba", "codes", "accepted"),
}


def is_ours(name: str) -> bool:
    first = name.partition("/")[0]
    if f"/{LANCE}/" in name:  # has checksums of its own
        return False
    return (first not in _APART or name.startswith("near/")) and first != LOG and not name.endswith(".lock")


def misfits(store: Store, listed: Iterable[str], known: Collection[str]) -> Iterator[tuple[str, str]]:
    """What phyla.json names, or a finished stage was written with, and is not there, or does not fit the rest.

    known : the files with faults that are told of already.
    """
    files = {name for name in listed if is_ours(name)}
    if "phyla.json" in known:
        return
    try:
        meta = store.read_json("phyla.json")
    except FileNotFoundError:
        yield "phyla.json", "is missing"
        return
    except PhylaError as fault:
        yield "phyla.json", said_by(fault)
        return
    stages = stages_of(store, meta)
    needed = {meta.get("images"), meta.get("audit")} - {None}
    needed |= {f"{stage}/recipe.json" for stage in stages}
    needed |= {f"{stage}/done" for stage in stages if not stage.startswith("features/")}
    lost = {name for name in needed - files if not _is_there(store, name)}
    lost |= {name for name in _lost(listed, files) if not _is_there(store, name) and _is_there(store, f"sums/{name}")}
    for name in sorted(lost):
        yield name, "is missing"
    for name in (f"{stage}/recipe.json" for stage in stages):
        if name not in lost | {*known} and not fits(store, name):
            yield name, "is of another stage"
    if meta.get("images") in files - {*known} and not store.remote:
        yield from _of_rows(store, meta, stages, files, {*known} | lost)


def said_by(fault: PhylaError) -> str:
    """What is wrong with the file that a fault is about."""
    return "is damaged: " + (fault.message.rpartition(" is damaged: ")[2] or fault.message).rstrip(".")


def _is_there(store: Store, name: str) -> bool:
    """Asked for once more: whoever works on the project may have ended since its files were listed."""
    with suppress(PhylaError):  # a stranger's name
        return store.remote.has(name) if store.remote else store.path(name).is_file()
    return False


def fits(store: Store, name: str) -> bool:
    """Whether a recipe lies where it belongs. Then it is whole: the folder's name is made of all that it says."""
    stage = name.rpartition("/")[0]
    try:
        recipe: Recipe = store.recipe(stage)
        return stage == f"{recipe.room}/{recipe.key}"
    except (PhylaError, OSError, TypeError, KeyError):
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
        if name in files or not is_ours(name):
            continue
        stage, _, leaf = name.rpartition("/")
        number = re.match(r"(\d{5})\.", leaf)
        if f"{stage}/done" in files or (number and int(number[1]) <= last.get(stage, -1)) or name in moved:
            yield name


def _of_rows(
    store: Store, meta: dict[str, Any], stages: list[str], files: set[str], known: set[str]
) -> Iterator[tuple[str, str]]:
    """Arrays that don't have a row for each image, and images that nothing describes."""
    table: dict[str, Any] = {}
    with suppress(PhylaError):  # here and below: told of with the content
        table = store.read_table(meta["images"], ("id", "row"))
    if not table:
        return
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
            except PhylaError:
                continue
            if n != len(ids) and not (len(ids) == 1 and n == 2):  # of one image two are grouped
                yield name, f"has {n:,} rows for {len(ids):,} images"
        if room != "features" or meta.get("aligned") or any(name.startswith(stage) for name in known):
            continue
        with suppress(PhylaError):
            if lacks := int((~np.isin(ids, features_of(store, stage).ids)).sum()):
                yield stage, f"lacks {lacks:,} of {len(ids):,} images"
