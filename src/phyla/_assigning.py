"""A project assigns images that it has not seen to its groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import backbones, sources
from phyla._export import refuse_to_overwrite, write_rows
from phyla._growing import Narrow
from phyla._progress import Progress
from phyla._searching import Searching
from phyla._spreading import spread_of
from phyla._steps import as_table, clusterer_of, images_of, restore, scan_all, usable_threads
from phyla._tasks import Look
from phyla.engine import check_engine, limited, open_engine
from phyla.types import UNSORTED, PhylaError

Judge = Callable[[NDArray[np.float32]], dict[str, NDArray[Any]]]


def assign(
    project: Searching,
    source: str | Path,
    to: Path | None,
    force: bool,
    engine: str,
    threads: int | None,
    quiet: bool,
) -> dict[str, NDArray[Any]]:
    """See `Project.predict`."""
    if to is not None:
        refuse_to_overwrite(to, force)
    check_engine(engine)
    threads = usable_threads(threads)
    cards = [backbones.card(name) for name in project._current("backbones")]
    made = [backbones.recipe(card, sources.DECODER_VERSION) for card in cards]
    if [f"{r.room}/{r.key}" for r in made] != project._current("features"):
        raise PhylaError(
            "This machine would describe images otherwise than the one that sorted them.",
            f"Sort again here: phyla sort --project {project.store.place}",
        )
    opened, progress = sources.open_source(source), Progress(quiet)
    with limited(threads):
        entries = sources.listed(opened)
        with progress("reading", len(entries), len(entries)) as advance:
            table = as_table(**scan_all(opened, entries, partial(open_engine(engine), workers=threads), advance))
        images = images_of(table, opened)
        look = Look(opened, partial(_load, cards), partial(_told, project._narrow, judge(project)))
        with progress("looking", len(images), len(images)) as advance:
            shards = list(look.over(images.uris, images.ids, engine, threads, advance))
    # Of each image, and last of what is none: what the columns say.
    told = {name: np.concatenate([*(shard[name] for shard in shards), none]) for name, none in _nothing(1).items()}
    place = {i: row for row, i in enumerate(images.ids.tolist())}
    row = np.array([place.get(i, -1) for i in table["id"]], int)
    columns = {"uri": table["uri"]} | {name: values[row] for name, values in told.items()}
    columns["fault"] = np.array([f or told for f, told in zip(table["fault"], columns["fault"], strict=True)], object)
    if to is not None:
        write_rows(columns, to, force)
    return columns


def _load(cards: Sequence[backbones.Card], threads: int) -> list[backbones.Network]:
    return [backbones.load(card, threads) for card in cards]


def _nothing(n: int) -> dict[str, NDArray[Any]]:
    """What the columns say of what is no picture."""
    return {
        "group": np.full(n, UNSORTED, np.int32),
        "name": np.full(n, "", object),
        "strength": np.zeros(n, np.float32),
        "left_out": np.ones(n, bool),
        "fault": np.full(n, "", object),
        "origin": np.full(n, "", object),
    }


def _told(narrow: Narrow, judged: Judge, features: list[NDArray[Any]], fault: NDArray[Any]) -> dict[str, NDArray[Any]]:
    told, good = _nothing(len(fault)) | {"fault": fault}, fault == ""
    if good.any():
        for column, values in judged(narrow([X[good] for X in features])[0]).items():
            told[column][good] = values
    return told


def judge(project: Searching) -> Judge:
    """What gives the columns of `rows` for images it has not seen, from their whitened components (n, d)."""
    recipe, agreement = project.store.recipe(project._current("groups")), project._current("agreement")
    clusterer = restore(clusterer_of(recipe, project.blocks), project.store.arrays(project._current("groups")))
    names = project.names
    spread = project._spread
    taught = spread_of(project.store, spread, project.blocks) if spread else None

    def told(X: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        best, strength = clusterer.assign(X)
        named = np.array([names.get(group, "") for group in best.tolist()], object)  # also of groups without images now
        columns = {"group": best, "name": named, "strength": strength, "left_out": strength < agreement}
        columns["origin"] = np.where(columns["name"] == "", "", "group").astype(object)
        if taught:
            columns |= taught(X) | {"origin": np.full(len(X), "spread", object)}
        return columns

    return told
