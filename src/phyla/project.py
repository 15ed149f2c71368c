"""A project: a folder one can reopen, and the only thing with state. Every step of the work is one method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import backbones, plugins, sources
from phyla._explaining import Explaining
from phyla._growing import Growth, Wanted, spaces_of
from phyla._progress import Progress
from phyla._searching import INDEXED, build_index
from phyla._steps import Spaces, Steps, check_seed, images_of, usable_threads
from phyla._telling import draw, score_rows
from phyla.cluster import FEWEST, compare
from phyla.engine import LOCAL, check_engine, limited
from phyla.store import kind_of_store
from phyla.types import PhylaError

__all__ = ["DEFAULT_BACKBONES", "Project", "score_rows", "sort"]

DEFAULT_BACKBONES = ("lite0", "lite1", "lite2")
EFFORTS = {"fast": ("lite0-int8",), "default": DEFAULT_BACKBONES, "best": DEFAULT_BACKBONES}


def sort(source: str | Path, project: str | Path | None = None, **options: Any) -> Project:
    """Sort the images at `source` into groups; `options` are those of `Project.sort`.

    The project is the folder `project`, by default `NAME.phyla` in the current folder.
    """
    place = sources.open_source(source).path
    if project is None:
        project = f"{Path(place.replace(chr(92), '/').rstrip('/').rpartition('/')[2]).stem or 'images'}.phyla"
    result = Project(project, create=True)
    result.sort(source, **options)
    return result


class Project(Explaining):
    """The project in `folder`.

    Raises `PhylaError` where there is none, unless `create` is true. What can be asked of it stands in `Opened`, what
    people do with it in `People`, what it is asked for reasons in `Explaining`.
    """

    # ---- the main job

    def sort(
        self,
        source: str | Path | None = None,
        *,
        backbone: Sequence[str] | None = None,
        groups: int | None = None,
        method: str | None = None,
        effort: str | None = None,
        domains: str | None = None,
        agreement: float | None = None,
        seed: int | None = None,
        anew: bool = False,
        report: bool = True,
        engine: str = LOCAL,
        store: str | None = None,
        threads: int | None = None,
        quiet: bool = True,
    ) -> dict[str, Any]:
        """Sort the images at `source` (by default where they came from last time) and write the report.

        Everything that is already there is used again: a killed run goes on where it was, and only files that are new
        or changed, by their size or their time, are read. 50,000 small images take 22 minutes of CPU time with the
        three bundled networks.

        A project that is sorted already keeps its groups, its map and its spread labels, and what is new is placed
        among them: 1,000 images among 60,000 in some 20 seconds. It is grouped anew if it is asked for other groups
        (by `groups`, `method`, `effort`, `domains` or `seed`) or with `anew`, or if fewer than half of the images are
        those that the groups were made of. Then, too, all but the number of groups is as it was unless it is given.

        Parameters
        ----------
        backbone : the networks to describe the images by; see `phyla backbones`. All that are bundled by default. With
            others than those of the project only what is new is described by them, and brought into the space of those
            before, by a sample that both have seen; all images are with `anew`.
        groups : how many; found out where it is None.
        method : the grouping method, by default "vote"; see `phyla methods`.
        effort : "fast" (one network, a quicker vote), "default", or "best" (a longer one).
        domains : "folder" tells a method that uses it (`label_shift`) which folder each image lies in: of a camera or
            a day, say, but not of a class.
        agreement : 0..1; an image with less strength is left unsorted. By default what the method says: half the votes.
        seed : two runs with one seed give one result; 0 by default.
        anew : group anew, whatever there is.
        report : draw the map and the report; without it the groups are there sooner.
        engine : "local", or "ray": processes of Ray on this machine or, as ray://HOST:10001, on a cluster whose
            nodes see the images and the project under the same names. The result is the same, byte by byte.
        store : "npy", files of arrays, by default; or "lance", where many write to one project on an object store, or
            other tools shall read what the networks say. A project keeps to one.
        threads : at most this many; all of the machine's by default.

        Returns
        -------
        dict : what `show` returns.
        """
        if groups is not None and groups < 1:
            raise PhylaError(f"{groups} groups can't be made.", "Give a whole number from 1, or leave it out.")
        check_seed(seed or 0)
        if effort is not None and effort not in EFFORTS:
            raise PhylaError(f"There is no effort {effort!r}.", f"There is: {', '.join(EFFORTS)}.")
        if domains not in (None, "folder"):
            raise PhylaError(f"There are no domains {domains!r}.", 'There is "folder": that of each image.')
        if backbone is not None and not backbone:
            raise PhylaError("Without a backbone no image can be described.", "Name one; see phyla backbones.")
        if agreement is not None and not 0 <= agreement <= 1:
            raise PhylaError(f"An agreement of {agreement} can't be reached.", "Give a number from 0 to 1.")
        meta = self.store.meta()
        wanted = Wanted.of(self.store, groups, method, effort, domains, seed, anew)
        plugins.check("cluster", wanted.method)
        check_engine(engine)
        kept = kind_of_store(self.store, store)
        if backbone is None:
            as_before = "groups" in meta and (wanted.keeps or effort is None)
            backbone = meta["backbones"] if as_before else EFFORTS[wanted.effort]
        cards = [backbones.card(name) for name in dict.fromkeys(backbone)]
        threads = usable_threads(threads)
        place = str(source) if source is not None else meta.get("source")
        if place is None:
            raise PhylaError(
                f"{self.store.place} has no images yet.", f"phyla sort PHOTOS --project {self.store.place}"
            )
        opened = sources.open_source(place)
        with ThreadPoolExecutor(1) as aside, self.store.writing(), limited(threads):
            if wanted.effort == "best" and not plugins.load("cluster", wanted.method).EFFORT:
                raise PhylaError(f"The method {wanted.method} knows no better effort.", "Leave --effort out.")
            if wanted.domains and "domains" not in signature(plugins.load("cluster", wanted.method).fit).parameters:
                raise PhylaError(
                    f"The method {wanted.method} makes no use of domains.", "Ask for --method label_shift."
                )
            if meta.get("source", opened.path) != opened.path:
                raise PhylaError(
                    f"{self.store.place} holds the images of {meta['source']}.", "Name another folder with --project."
                )
            self.store.update_meta(source=opened.path, **kept)
            steps = Steps(self.store, threads, Progress(quiet), engine)
            # Files are read while the first networks load, and pictures looked at while the method is imported, which
            # takes most of a second.
            begun = [aside.submit(steps.begin, card) for card in cards]
            loading = aside.submit(plugins.load, "cluster", wanted.method)
            table = steps.scan(opened)
            changed = self._changed(table)
            images = images_of(table, opened)
            if not len(images):
                first = next((f for f in table["fault"] if f), "")
                raise PhylaError(
                    f"None of the {len(table['uri'])} files at {place} is a readable image (the first: {first}).",
                    "Give a folder, archive or table of images.",
                )
            growth = Growth.of(self, images) if wanted.keeps else None
            why = growth and growth.too_much
            if growth and not why:
                growth.describe(steps, opened, cards, begun)
                table, images = steps.without_broken(table, images, growth.features[0])
                told = growth.place(steps, images, report)
                if report and not told["map"]:
                    told["map"] = steps.map(self._near_of(told["reduced"]), told["reduced"], wanted.seed)
                told |= {} if growth.unchanged else {"regrouped": None}
                agreement = meta["agreement"] if agreement is None else agreement
            else:
                stages = steps.extract(opened, images, cards, begun)
                table, images = steps.without_broken(table, images, stages[0])
                reduced = steps.reduce(stages, images)
                grouper = loading.result()
                recipe, known = wanted.recipe(reduced, images)
                X = Spaces(self.store, tuple(reduced))
                blocks = [self._array(r, "components_").shape[0] for r in reduced]
                told = {"features": stages, "aligned": None, "reduced": reduced}
                told |= {"effort": wanted.effort, "regrouped": why, "audit_of_other_groups": bool(meta.get("audit"))}
                told["groups"] = steps.group(X, blocks, recipe, known)
                told["map"] = steps.map(self._near_of(reduced), reduced, wanted.seed) if report else None
                agreement = grouper.AGREEMENT if agreement is None else agreement
            # Everything lies there under its own name before the one file that says what is current is replaced.
            self.store.update_meta(
                images=steps.keep(table), changed=changed, backbones=[c.name for c in cards], agreement=agreement,
                **told | {"map": told["map"] if report else None},
            )  # fmt: skip
            if len(images) >= INDEXED:
                build_index(self.store, told["reduced"], len(images), steps.run, steps.progress)
                self.prepare()
            if growth:
                growth.tidy(told)
            draw(self, steps.progress)
        return self.show()

    def _changed(self, table: Mapping[str, NDArray[Any]]) -> int:
        """How many files are others than those that lay there the last time."""
        was: dict[str, str] = {}
        with suppress(OSError, PhylaError):  # nothing was sorted yet, or that table is gone
            last = self.store.read_table(self._current("images"), ("uri", "id"))
            was = dict(zip(last["uri"].tolist(), last["id"].tolist(), strict=True))
        told = zip(table["uri"].tolist(), table["id"].tolist(), strict=True)
        return sum(bool(id) and was.get(uri, id) not in ("", id) for uri, id in told)

    # ---- what she takes away

    def export(
        self,
        to: str | Path,
        *,
        kind: str | None = None,
        images: bool = False,
        copy: bool = False,
        force: bool = False,
        quiet: bool = True,
    ) -> int:
        """Write the groups to `to`, for people or for other tools; return how many images or rows that are.

        Parameters
        ----------
        kind : "csv", "parquet" and "lance" stand at the end of the name. Others are folders: "folder", with a folder a
            group, by default; "webdataset", of .tar files; "fiftyone", as FiftyOne imports it.
        images : put the images themselves into a .parquet or a .lance; those that were removed stay away.
        copy : copies in folders instead of links. force : replace what is there, or add to a folder of folders.
        """
        from phyla._export import kind_of, spare, write_rows, write_tree

        path = Path(to)
        kind = kind_of(path, kind, images=images, copy=copy)
        spare(path, self.folder, self._current("source"), None if kind == "folder" else self._uris)
        if kind == "folder":
            return write_tree(self.rows(), self._fetch, path, copy, force)
        if kind in ("csv", "parquet") and not images:
            return write_rows(self.rows(), path, force)
        from phyla._packing import pack

        return pack(self, path, kind, images, copy, force, quiet)

    def train(
        self,
        to: str | Path | None = None,
        *,
        backbone: str | None = None,
        integer: bool = False,
        cascade: bool = False,
        budget: float | None = None,
        error: float = 0.02,
        seed: int = 0,
        force: bool = False,
        threads: int | None = None,
        quiet: bool = True,
    ) -> dict[str, Any]:
        """Teach a small classifier what the project knows, and write it to `to`, a .onnx that runs without Phyla.

        A head on each network's features is taught by the labels as they were last spread; without a spread by the
        groups. How well each does for what it costs comes back; `predict` uses what was written. Three networks take
        about two minutes for 50,000 images; another choice of them then a few seconds.

        Parameters
        ----------
        to : NAME.onnx, beside which a card, NAME.md, and an example, NAME.py, are laid; a folder for a cascade; None
            to see the choice first.
        backbone : the network; by default the fastest of those that lose no more than one point.
        integer : compute in 8-bit integers, their ranges measured on 300 of the images.
        cascade : ask the fastest network first, and the others only about images near the boundary of two classes.
        budget : the share of all networks' cost that a cascade may take; by default the least that loses a thousandth.
        error : the share of wrong ones among what is not deferred to a person. force : replace what is there.

        Returns
        -------
        dict : `students` (for each network `right`, the share that is right as far as checked answers tell,
            `agreement` with the teacher, `images_per_second`, `megabytes`, `recommended`), `together`, `cascade` and
            `written`.
        """
        from phyla._training import train

        path = None if to is None else Path(to)
        return train(self, path, backbone, integer, cascade, budget, error, seed, force, threads, quiet)

    # ---- its files

    def check(self, *, repair: bool = False, threads: int | None = None, quiet: bool = True) -> dict[str, Any]:
        """Read all that the project holds, and tell what is damaged, missing or does not fit together.

        Every file has a checksum, and every line of the log; caches that may be deleted are checked too, but for the
        small pictures. It takes as long as the disk needs to read it all.

        Parameters
        ----------
        repair : move what is damaged into `damaged/` and make it again: one changed bit of a small file is put back,
            all that was computed is computed once more, from the images where need be.

        Returns
        -------
        dict : `files` and `megabytes` read, `faults` (of each the `file`, `what` is wrong, and how it was `mended` or
            None), `unchecked` (files from before there were checksums), `leftovers` (of a run that was killed; they go
            with the next), `whole` (whether no fault is left).
        """
        from phyla._checking import check

        told = check(self.store.place, repair=repair, threads=threads, quiet=quiet)
        self._held.clear()
        return told

    # ---- new pictures, and truth

    def predict(
        self,
        source: str | Path,
        to: str | Path | None = None,
        *,
        force: bool = False,
        engine: str = LOCAL,
        threads: int | None = None,
        quiet: bool = True,
    ) -> dict[str, NDArray[Any]]:
        """Assign the images at `source`, which the project need not have seen, to its groups.

        Returns the columns of `rows`, in the order of `source`, and writes them to `to` (.csv or .parquet). Runs at the
        speed of extraction; nothing of the project changes. `engine` : who looks at them; as for `sort`.
        """
        from phyla._assigning import assign

        return assign(self, source, None if to is None else Path(to), force, engine, threads, quiet)

    def score(self, truth: str | Path) -> dict[str, Any]:
        """Compare the groups with known classes; see `score_rows`."""
        return score_rows(self.rows(), truth)

    def compare(
        self, *, methods: Sequence[str] | None = None, threads: int | None = None, quiet: bool = True
    ) -> dict[str, Any]:
        """Rank the networks, the numbers of axes and the grouping methods, without labels.

        Every way groups up to 3,000 images anew, into as many groups as there are now; the project stays as it is.
        Three networks and eight methods take about a minute on two cores.

        Parameters
        ----------
        methods : the grouping methods; by default eight quick ones that need nothing but the images.
        threads : at most this many; all of the machine's by default.

        Returns
        -------
        dict : what `phyla.cluster.compare` returns, and `project`.
        """
        reduced, groups, n = self._current("reduced"), self.grouping.n_groups, len(self.images)
        for method in methods or ():
            plugins.check("cluster", method)
        if n < FEWEST or groups < 2:
            raise PhylaError(
                f"{n} images in {groups} group{'s' * (groups > 1)} can't be judged.",
                f"At least {FEWEST} images in 2 groups can: phyla sort --project {self.store.place} -k 2",
            )
        threads, progress = usable_threads(threads), Progress(quiet)
        with limited(threads):
            told = compare(
                self.X, self.blocks, [self.store.recipe(of).method for of in spaces_of(self.store, reduced)], groups,
                np.concatenate([np.sqrt(self._array(r, "explained_variance_")) for r in reduced]), methods,
                n_jobs=threads, progress=lambda total: progress("comparing", total, total),
            )  # fmt: skip
        return told | {"project": self.store.place}
