"""Can what lies in a project be what it says? Checksums can't tell: a stranger makes them fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla._growing import narrowing
from phyla._opened import Opened, stages_of
from phyla._spreading import spread_of
from phyla._steps import clusterer_of, restore
from phyla._structure import said_by
from phyla.store import Store, dims_of, not_an_array
from phyla.types import PhylaError

_READ = (".npy", ".json", ".parquet")
_APART = {"sums", "tmp", "damaged", "thumbs"}


@contextmanager
def blaming(place: str | Path) -> Iterator[None]:
    """An unexpected fault is ours, unless what the project at `place` holds can't be what we wrote."""
    try:
        yield
    except (PhylaError, OSError):
        raise
    except Exception as fault:
        if why := blame(place):
            raise why from fault
        raise


def blame(place: str | Path) -> PhylaError | None:
    """What to tell instead of an unexpected fault, if the project at `place` is one that no run of Phyla leaves."""
    try:
        if not Store(place).meta():
            return None  # no project: a table say, or one whose first run came to nothing
        store = Store.open(place)
        files = [f.relative_to(store.folder).as_posix() for f in store.folder.rglob("*") if f.is_file()]
        found = next(unsound(store, sorted(files)), None)
    except PhylaError as fault:
        return fault
    except OSError:
        return None
    if found is None:
        return None
    return PhylaError(f"{store.place}/{found[0]} {found[1]}.", f"phyla check {store.place} --repair")


def unsound(store: Store, files: Iterable[str], but: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """Files that are not of their form, or don't fit the others, and what is wrong with each; but for known faults."""
    meta = store.meta()
    ours = [name for name in files if name.endswith(_READ) and "/" in name and name.partition("/")[0] not in _APART]
    ours = [name for name in ours if name not in but]
    n = None
    if meta.get("images") in ours:
        try:
            n = len(Opened(store.place).images)
        except PhylaError as fault:
            yield meta["images"], said_by(fault)
    current = stages_of(store, meta)
    wrong = bool(but)
    for stage, names in groupby(ours, lambda name: "/".join(name.split("/")[:2])):
        found = list(_of_stage(store, list(names), n if stage in current else None))
        wrong = wrong or bool(found and stage in current)
        yield from found
    if n is not None and not wrong and meta.get("groups"):
        yield from _of_use(store, meta)


def _of_stage(store: Store, names: list[str], n: int | None) -> Iterator[tuple[str, str]]:
    """Of the files of one stage. n : the images, where it has a row for each."""
    axes: dict[str, int] = {} if n is None else {"n": n}
    for name in names:
        stage, _, leaf = name.rpartition("/")
        try:
            if leaf == "recipe.json":
                store.recipe(stage)
            elif leaf.endswith(".json"):
                store.read_json(name)
            elif leaf.endswith(".parquet"):
                store.read_table(name)
            else:
                array = store.array(name, mmap=True)
                if why := not_an_array(name, array, store.path(name).stat().st_size):
                    raise store.damaged(name, why)
                for axis, length in zip(dims_of(name) or (), array.shape, strict=False):
                    of = f"{axis} {leaf[:5]}" if axis == "r" else axis
                    if not axis.isdecimal() and axes.setdefault(of, length) != length and not (axis == "n" and n == 1):
                        raise store.damaged(name, f"it holds {array.dtype} {array.shape}, which others don't fit")
        except FileNotFoundError:  # a writer has just removed it
            continue
        except PhylaError as fault:
            yield name, said_by(fault)


def _of_use(store: Store, meta: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Of what was learnt: it is used on a picture that says nothing."""
    project = Opened(store.place)
    wide: list[NDArray[np.float32]] = []
    reduced, groups, spread = meta["reduced"], meta["groups"], project._spread
    blank = np.zeros((1, sum(project.blocks)), np.float32)

    def narrowed() -> Any:
        for stage in meta["features"]:
            first = next((f"{stage}/{name}" for name in store.names(stage) if re.fullmatch(r"\d{5}\.npy", name)), None)
            if first is None:  # in Lance, which has its own types
                return
            wide.append(np.zeros((1, store.array(first, mmap=True).shape[1]), np.float32))
        narrowing(store, reduced, meta["features"], meta.get("aligned"))(wide)

    def assigned() -> Any:
        clusterer = restore(clusterer_of(store.recipe(groups), project.blocks), store.arrays(groups))
        clusterer.assign(blank)

    def spreading() -> Any:
        if spread:
            spread_of(store, spread, project.blocks)(blank)
            codes, names = store.array(f"{spread}/codes.npy"), store.read_json(f"{spread}/classes.json")
            if codes.max() >= len(names) or store.array(f"{spread}/proba.npy", mmap=True).shape[1] != len(names):
                raise ValueError("it knows other classes")

    tried: list[tuple[str, Callable[[], Any]]] = [
        (f"{reduced[0]}/components_.npy", narrowed),
        (f"{groups}/labels_.npy", assigned),
        (f"{spread}/proba.npy", spreading),
    ]
    for name, use in tried:
        try:
            use()
        except PhylaError as fault:
            yield name, said_by(fault)
        except Exception as fault:  # of a method that was given what it can't have learnt
            yield name, f"can't be used: {str(fault) or type(fault).__name__}"
