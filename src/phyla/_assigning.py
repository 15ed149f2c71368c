"""A project assigns images that it has not seen to its groups."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import backbones, plugins, sources
from phyla._export import refuse_to_overwrite, write_rows
from phyla._progress import Progress
from phyla._searching import Searching
from phyla._spreading import spread_of
from phyla._steps import as_table, clusterer_of, images_of, restore, scan_all, usable_threads
from phyla.engine import limited
from phyla.types import UNSORTED, PhylaError


def assign(
    project: Searching, source: str | Path, to: Path | None, force: bool, threads: int | None, quiet: bool
) -> dict[str, NDArray[Any]]:
    """See `Project.predict`."""
    if to is not None:
        refuse_to_overwrite(to, force)
    threads = usable_threads(threads)
    cards = [backbones.card(name) for name in project._current("backbones")]
    made = [backbones.recipe(card, sources.DECODER_VERSION) for card in cards]
    if [f"{r.room}/{r.key}" for r in made] != project._current("features"):
        raise PhylaError(
            "This machine would describe images otherwise than the one that sorted them.",
            f"Sort again here: phyla sort --project {project.store.place}",
        )
    opened = sources.open_source(source)
    run = plugins.load("engine", "local")
    with limited(threads):
        progress = Progress(quiet)
        narrow = project._narrow
        judge = _judge(project)
        entries = sources.listed(opened)
        with progress("reading", len(entries), len(entries)) as advance:
            table = as_table(**scan_all(opened, entries, partial(run, workers=threads), advance))
        images = images_of(table, opened)
        # Of each image, and last of what is none: what the columns say.
        told = {
            "group": np.full(len(images) + 1, UNSORTED, np.int32),
            "name": np.full(len(images) + 1, "", object),
            "strength": np.zeros(len(images) + 1, np.float32),
            "left_out": np.ones(len(images) + 1, bool),
            "fault": np.full(len(images) + 1, "", object),
            "origin": np.full(len(images) + 1, "", object),
        }
        networks = [backbones.load(card, threads) for card in cards]
        with progress("looking", len(images), len(images)) as advance:
            for shard in backbones.extract(images, range(len(images)), networks, run, threads, advance):
                for broken, why in shard.faults.items():
                    told["fault"][broken] = why
                good = ~np.isnan(shard.features[0][:, 0])
                if good.any():
                    for column, values in judge(narrow([X[good] for X in shard.features])[0]).items():
                        told[column][shard.rows[good]] = values
    place = {i: row for row, i in enumerate(images.ids.tolist())}
    row = np.array([place.get(i, -1) for i in table["id"]], int)
    columns = {"uri": table["uri"]} | {name: values[row] for name, values in told.items()}
    columns["fault"] = np.array([f or told for f, told in zip(table["fault"], columns["fault"], strict=True)], object)
    if to is not None:
        write_rows(columns, to, force)
    return columns


def _judge(project: Searching) -> Callable[[NDArray[np.float32]], dict[str, NDArray[Any]]]:
    """What gives the columns of `rows` for images it has not seen, from their whitened components (n, d)."""
    recipe, agreement = project.store.recipe(project._current("groups")), project._current("agreement")
    clusterer = restore(clusterer_of(recipe, project.blocks), project.store.arrays(project._current("groups")))
    names = np.full(project.grouping.n_groups, "", object)
    for group, name in project.names.items():
        names[group] = name
    spread = project._spread
    taught = spread_of(project.store, spread, project.blocks) if spread else None

    def judge(X: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        best, strength = clusterer.assign(X)
        told = {"group": best, "name": names[best], "strength": strength, "left_out": strength < agreement}
        told["origin"] = np.where(told["name"] == "", "", "group").astype(object)
        if taught:
            told |= taught(X) | {"origin": np.full(len(X), "spread", object)}
        return told

    return judge
