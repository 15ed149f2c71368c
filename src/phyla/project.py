"""A project: a folder one can reopen, and the only thing with state. Every step of the work is one method."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import backbones, plugins, sources
from phyla._progress import Progress
from phyla._steps import COMPONENTS, Steps, as_table, clusterer_of, images_of, limited, open_picture, restore, scan_all
from phyla.cluster import EVIDENCE, FEWEST, compare, leading, score, typicality
from phyla.label import group_names
from phyla.store import Store, read_array
from phyla.types import UNSORTED, Edit, Grouping, Images, PhylaError, Recipe

__all__ = ["DEFAULT_BACKBONES", "Project", "score_rows", "sort"]

DEFAULT_BACKBONES = ("lite0", "lite1", "lite2")
EFFORTS = {"fast": DEFAULT_BACKBONES[:1], "default": DEFAULT_BACKBONES, "best": DEFAULT_BACKBONES}
_LOG = "edits.jsonl"
_NAMED_BY = 100  # typical images that a group's name is remembered by


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


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads(asked: int | None) -> int:
    if asked is not None and asked < 1:
        raise PhylaError(f"{asked} threads can't work.", "Give a whole number from 1, or leave it out.")
    return asked or cores()


class Project:
    """The project in `folder`.

    Raises `PhylaError` where there is none, unless `create` is true.
    """

    def __init__(self, folder: str | Path, *, create: bool = False) -> None:
        path = Path(folder)
        self.store = Store.create(path) if create else Store.open(path)
        self.folder = path

    # ---- the main job

    def sort(
        self,
        source: str | Path | None = None,
        *,
        backbone: Sequence[str] | None = None,
        groups: int | None = None,
        method: str = "vote",
        effort: str = "default",
        domains: str | None = None,
        agreement: float | None = None,
        seed: int = 0,
        report: bool = True,
        threads: int | None = None,
        quiet: bool = True,
    ) -> dict[str, Any]:
        """Sort the images at `source` (by default where they came from last time) and write the report.

        Everything that is already there is used again: a killed run goes on where it was, and only new or changed files
        are read. 50,000 small images take 22 minutes of CPU time with the three bundled networks.

        Parameters
        ----------
        backbone : the networks to describe the images by; see `phyla backbones`. All that are bundled by default.
        groups : how many; found out where it is None.
        method : the grouping method; see `phyla methods`.
        effort : "fast" (one network, a quicker vote), "default", or "best" (a longer one).
        domains : "folder" tells a method that uses it (`label_shift`) which folder each image lies in: of a camera or
            a day, say, but not of a class.
        agreement : 0..1; an image with less strength is left unsorted. By default what the method says: half the votes.
        seed : two runs with one seed give one result.
        report : draw the map and the report; without it the groups are there sooner.
        threads : at most this many; all of the machine's by default.

        Returns
        -------
        dict : what `show` returns.
        """
        if groups is not None and groups < 1:
            raise PhylaError(f"{groups} groups can't be made.", "Give a whole number from 1, or leave it out.")
        if not 0 <= seed < 2**32:
            raise PhylaError(f"{seed} can't be a seed.", "Give a whole number from 0 to 4294967295.")
        if effort not in EFFORTS:
            raise PhylaError(f"There is no effort {effort!r}.", f"There is: {', '.join(EFFORTS)}.")
        if domains not in (None, "folder"):
            raise PhylaError(f"There are no domains {domains!r}.", 'There is "folder": that of each image.')
        backbone = EFFORTS[effort] if backbone is None else backbone
        if not backbone:
            raise PhylaError("Without a backbone no image can be described.", "Name one; see phyla backbones.")
        plugins.check("cluster", method)
        if agreement is not None and not 0 <= agreement <= 1:
            raise PhylaError(f"An agreement of {agreement} can't be reached.", "Give a number from 0 to 1.")
        cards = [backbones.card(name) for name in dict.fromkeys(backbone)]
        threads = _threads(threads)
        meta = self.store.meta()
        place = str(source) if source is not None else meta.get("source")
        if place is None:
            raise PhylaError(f"{self.folder} has no images yet.", f"phyla sort PHOTOS --project {self.folder}")
        opened = sources.open_source(place)
        with ThreadPoolExecutor(1) as aside, self.store.writing(), limited(threads):
            # Importing it takes most of a second, in which a hundred pictures can be read.
            loading = aside.submit(plugins.load, "cluster", method)
            if effort == "best" and not loading.result().EFFORT:
                raise PhylaError(f"The method {method} knows no better effort.", "Leave --effort out.")
            if domains and "domains" not in signature(loading.result().fit).parameters:
                raise PhylaError(f"The method {method} makes no use of domains.", "Ask for --method label_shift.")
            if meta.get("source", opened.path) != opened.path:
                raise PhylaError(
                    f"{self.folder} holds the images of {meta['source']}.", "Name another folder with --project."
                )
            self.store.update_meta(source=opened.path)
            steps = Steps(self.store, threads, Progress(quiet))
            table = steps.scan(opened)
            images = images_of(table, opened)
            if not len(images):
                first = next((f for f in table["fault"] if f), "")
                raise PhylaError(
                    f"None of the {len(table['uri'])} files at {place} is a readable image (the first: {first}).",
                    "Give a folder, archive or table of images.",
                )
            stages = steps.extract(images, cards)
            table, images = steps.without_broken(table, images, stages[0])
            reduced = steps.reduce(stages, images)
            X = np.hstack([self._array(r, "X") for r in reduced])
            blocks = [self._array(r, "components_").shape[0] for r in reduced]
            grouper = loading.result()
            params = {"n_clusters": groups} | grouper.EFFORT.get(effort, {})
            told = {"domains": _folders(images)} if domains else {}
            inputs = (
                *reduced,
                *(f"{name} {sha256(repr(v.tolist()).encode()).hexdigest()}" for name, v in told.items()),
            )
            recipe = Recipe("groups", method, params, inputs, grouper.VERSION, seed)
            stage = steps.group(X, blocks, recipe, told)
            points = steps.map(leading(X, blocks), reduced, seed) if report else None
            # Everything lies there under its own name before the one file that says what is current is replaced.
            self.store.update_meta(
                images=steps.keep(table), backbones=[c.name for c in cards], features=stages, reduced=reduced,
                groups=stage, agreement=grouper.AGREEMENT if agreement is None else agreement, map=points,
                effort=effort,
            )  # fmt: skip
            for stale in ("_table", "images", "_source"):
                self.__dict__.pop(stale, None)
            self._report(steps.progress)
        return self.show()

    # ---- what is there

    def _array(self, stage: str, name: str) -> NDArray[Any]:
        return read_array(self.store.folder / stage / f"{name}.npy")

    @cached_property
    def _table(self) -> dict[str, NDArray[Any]]:
        return self.store.read_table(self._current("images"))

    def _current(self, what: str) -> Any:
        if what not in (meta := self.store.meta()):
            raise PhylaError(f"{self.folder} is not sorted yet.", f"phyla sort PHOTOS --project {self.folder}")
        return meta[what]

    @cached_property
    def images(self) -> Images:
        """The readable images, a row each; `grouping` and `X` have the same rows."""
        table = self._table
        rows, first = np.unique(table["row"], return_index=True)
        first = first[rows >= 0]
        uris = table["uri"][first]

        def open_row(row: int, at_least: int) -> NDArray[np.uint8]:
            return open_picture(self._source, uris[row], at_least)

        return Images(table["id"][first].astype(str), uris, table["width"][first], table["height"][first], open_row)

    @cached_property
    def _source(self) -> sources.Source:
        return sources.open_source(self._current("source"))

    @property
    def X(self) -> NDArray[np.float32]:
        """(n, d) the networks' whitened principal components, side by side."""
        return np.hstack([self._array(stage, "X") for stage in self._current("reduced")])

    @property
    def _near(self) -> NDArray[np.float32]:
        """(n, d) the leading axes of each network, in which near images are alike."""
        return leading(self.X, [self._array(stage, "components_").shape[0] for stage in self._current("reduced")])

    @property
    def grouping(self) -> Grouping:
        """The current groups; an image with less strength than the asked agreement has the label −1."""
        stage = self._current("groups")
        recipe = self._recipe(stage)
        arrays = self.store.arrays(stage) or {}
        n = len(self.images)
        best, strength = arrays["labels_"][:n].astype(np.int32), arrays["strength_"][:n]
        labels = np.where(strength < self._current("agreement"), UNSORTED, best).astype(np.int32)
        evidence = {"evidence": arrays["evidence_"].tolist()} if "evidence_" in arrays else {}
        return Grouping(labels, best, strength, {"strength": float(strength.mean())} | evidence, recipe)

    def _recipe(self, stage: str) -> Recipe:
        told = self.store.read_json(f"{stage}/recipe.json")
        return Recipe(**told | {"inputs": tuple(told["inputs"])})

    @property
    def edits(self) -> list[Edit]:
        """Everything that people said, in order."""
        listed = [
            line | {"ids": tuple(line["ids"]), "classes": tuple(line["classes"])} for line in self.store.log(_LOG)
        ]
        return [Edit(**line) for line in listed]

    @property
    def names(self) -> dict[int, str]:
        """Group → the name a person gave it."""
        return group_names(self.edits, self.images.ids, self.grouping.best)

    @property
    def report(self) -> Path:
        """The page that shows everything."""
        return self.folder / "report.html"

    def show(self) -> dict[str, Any]:
        """The figures: `images` (files seen), `unique`, `copies`, `unreadable`, `groups`, `unsorted`, and more."""
        table, grouping = self._table, self.grouping
        unreadable = int((table["row"] < 0).sum())
        names = self.names
        sorted_ = grouping.labels >= 0
        sizes = np.bincount(grouping.labels[sorted_], minlength=grouping.n_groups)
        total = np.bincount(grouping.labels[sorted_], grouping.strength[sorted_], grouping.n_groups)
        mean = total / np.maximum(sizes, 1)
        return {
            "images": len(table["uri"]),
            "unique": len(grouping.best),
            "copies": len(table["uri"]) - unreadable - len(grouping.best),
            "unreadable": unreadable,
            "groups": int((sizes > 0).sum()),
            "unsorted": int((grouping.labels == UNSORTED).sum()),
            "strength": round(grouping.scores["strength"], 4),
            "sizes": [
                {"group": g, "name": names.get(g), "images": int(size), "strength": round(float(m), 4)}
                for g, (size, m) in enumerate(zip(sizes, mean, strict=True))
                if size  # a group of which no image is sure is none yet
            ],
            "unreadable_files": [
                {"uri": str(uri), "reason": str(why)}
                for uri, why in zip(table["uri"], table["fault"], strict=True)
                if why is not None
            ],
            "backbones": self._current("backbones"),
            "method": grouping.recipe.method,
            "source": self._current("source"),
            "project": str(self.folder),
            "report": str(self.report) if self.report.exists() else None,
        }

    def _report(self, progress: Progress) -> None:
        from phyla.report import render

        if (points := self._current("map")) is None:  # sorted without a report: an older one would tell of other groups
            self.report.unlink(missing_ok=True)
            return
        images, grouping = self.images, self.grouping
        told = self.show()
        evidence, meta = grouping.scores.get("evidence", []), self.store.meta()
        seen = _listed(told["backbones"]) + (", which err differently" if len(told["backbones"]) > 1 else "")
        effort, agreement = meta.get("effort", "default"), meta["agreement"]
        why = "a number that the method found itself" if evidence else "as asked"
        # A method that seeks the number by itself has evidence of its own kind, which is no curve over numbers.
        tried = [row for row in evidence if len(row) == len(EVIDENCE)]
        if len(tried) > 1:
            why = f"the number of {len(tried)} tried at which independent runs agreed best"
        explanation = (
            f"Each image was described by {seen}, compressed to {COMPONENTS} whitened axes a network, and grouped by "
            f"the method “{told['method']}”{', with effort ' + effort if effort != 'default' else ''} into "
            f"{told['groups']} groups, {why}. "
        ) + (
            f"Images with a strength under {agreement:.0%}, whose group is in doubt, are left unsorted."
            if agreement
            else "No image is left unsorted, however unsure its group."
        )
        with progress("drawing", 1, 1) as advance:
            page = render(
                title=Path(told["source"]).name or "Images", summary=told, images=images, grouping=grouping,
                names=self.names, typicality=typicality(self._near, grouping.best),
                points=self._array(points, "points"), explanation=explanation,
                evidence=tried,
                unreadable=[(u["uri"], u["reason"]) for u in told["unreadable_files"]],
            )  # fmt: skip
            self.store.write(self.report.name, page.encode("utf-8", "replace"))
            advance(1)

    # ---- what a person says

    def name(self, group: int, name: str) -> None:
        """Call a group `name`. The name is remembered of its most typical images, so it survives sorting again."""
        grouping = self.grouping
        if not 0 <= group < grouping.n_groups:
            raise PhylaError(f"There is no group {group}.", f"The groups are 0 to {grouping.n_groups - 1}.")
        if not name.strip():
            raise PhylaError("A name can't be empty.", "Give it at least one letter.")
        members = np.flatnonzero(grouping.best == group)
        near = typicality(self._near[members], np.zeros(len(members), np.int32))
        chosen = members[np.lexsort((-near, -grouping.strength[members]))[:_NAMED_BY]]
        with self.store.writing():
            edit = {"seq": len(self.store.log(_LOG)), "op": "name", "by": getpass.getuser()}
            edit |= {"ids": self.images.ids[chosen].tolist(), "classes": [name.strip()]}
            self.store.append(_LOG, edit | {"at": datetime.now(UTC).isoformat(timespec="seconds")})
            self._report(Progress(quiet=True))

    # ---- what she takes away

    def rows(self) -> dict[str, NDArray[Any]]:
        """A row for each file, copies and unreadable ones too: uri, group, name, strength, left_out, fault."""
        table, grouping, names = self._table, self.grouping, self.names
        row, fine = table["row"], table["row"] >= 0
        best = np.where(fine, grouping.best[row], UNSORTED)
        return {
            "uri": table["uri"],
            "group": best,
            "name": np.array([names.get(g, "") for g in best.tolist()], object),
            "strength": np.where(fine, grouping.strength[row], 0).astype(np.float32),
            "left_out": np.where(fine, grouping.labels[row] == UNSORTED, True),
            "fault": np.array([f or "" for f in table["fault"]], object),
        }

    def export(self, to: str | Path, *, copy: bool = False, force: bool = False) -> int:
        """Write the groups to `to`: a .csv, a .parquet, or a folder with a folder a group; return how many of them.

        `copy` puts copies into the folders instead of links. `force` replaces a file or adds to a folder that is there.
        """
        from phyla._export import write_rows, write_tree

        if Path(to).suffix.lower() in (".csv", ".parquet"):
            return write_rows(self.rows(), Path(to), force)
        return write_tree(self.rows(), self._source.read, Path(to), copy, force)

    # ---- new pictures, and truth

    def predict(
        self,
        source: str | Path,
        to: str | Path | None = None,
        *,
        force: bool = False,
        threads: int | None = None,
        quiet: bool = True,
    ) -> dict[str, NDArray[Any]]:
        """Assign the images at `source`, which the project need not have seen, to its groups.

        Returns the columns of `rows`, in the order of `source`, and writes them to `to` (.csv or .parquet). Runs at the
        speed of extraction; nothing of the project changes.
        """
        from phyla._export import refuse_to_overwrite, write_rows

        if to is not None:
            refuse_to_overwrite(Path(to), force)
        recipe = self._recipe(self._current("groups"))
        names = self.names
        threads = _threads(threads)
        cards = [backbones.card(name) for name in self._current("backbones")]
        made = [backbones.recipe(card, sources.DECODER_VERSION) for card in cards]
        if [f"{r.room}/{r.key}" for r in made] != self._current("features"):
            raise PhylaError(
                "This machine would describe images otherwise than the one that sorted them.",
                f"Sort again here: phyla sort --project {self.folder}",
            )
        opened = sources.open_source(source)
        run = plugins.load("engine", "local")
        with limited(threads):
            progress = Progress(quiet)
            pcas = [restore(plugins.load("reduce", "pca")(), self.store.arrays(r)) for r in self._current("reduced")]
            blocks = [p.components_.shape[0] for p in pcas]
            clusterer = restore(clusterer_of(recipe, blocks), self.store.arrays(self._current("groups")))
            entries = opened.entries()
            with progress("reading", len(entries), len(entries)) as advance:
                table = as_table(**scan_all(opened, entries, threads, advance))
            images = images_of(table, opened)
            best = np.full(len(images), UNSORTED, np.int32)
            strength = np.zeros(len(images), np.float32)
            faults: dict[str, str] = {}
            networks = [backbones.load(card, threads) for card in cards]
            with progress("looking", len(images), len(images)) as advance:
                for shard in backbones.extract(images, range(len(images)), networks, run, threads, advance):
                    faults |= {str(images.ids[row]): why for row, why in shard.faults.items()}
                    good = ~np.isnan(shard.features[0][:, 0])
                    if good.any():
                        narrow = [p.transform(X[good]) for p, X in zip(pcas, shard.features, strict=True)]
                        best[shard.rows[good]], strength[shard.rows[good]] = clusterer.assign(np.hstack(narrow))
        place = {i: row for row, i in enumerate(images.ids.tolist())}
        row = np.array(
            [place.get(i, -1) if f is None else -1 for i, f in zip(table["id"], table["fault"], strict=True)]
        )
        found = np.where(row >= 0, np.append(best, UNSORTED)[row], UNSORTED)
        sure = np.where(row >= 0, np.append(strength, 0)[row], 0).astype(np.float32)
        columns = {
            "uri": table["uri"],
            "group": found,
            "name": np.array([names.get(g, "") for g in found.tolist()], object),
            "strength": sure,
            "left_out": (found == UNSORTED) | (sure < self._current("agreement")),
            "fault": np.array(
                [f or faults.get(i, "") for i, f in zip(table["id"], table["fault"], strict=True)], object
            ),
        }
        if to is not None:
            write_rows(columns, Path(to), force)
        return columns

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
                f"At least {FEWEST} images in 2 groups can: phyla sort --project {self.folder} -k 2",
            )
        threads, progress = _threads(threads), Progress(quiet)
        with limited(threads):
            told = compare(
                self.X, [self._array(r, "components_").shape[0] for r in reduced], self._current("backbones"), groups,
                np.concatenate([np.sqrt(self._array(r, "explained_variance_")) for r in reduced]), methods,
                n_jobs=threads, progress=lambda total: progress("comparing", total, total),
            )  # fmt: skip
        return told | {"project": str(self.folder)}


def score_rows(rows: Mapping[str, NDArray[Any]], truth: str | Path) -> dict[str, Any]:
    """Compare `rows` (of a project, or of what `predict` wrote) with the labels at `truth`.

    truth : a CSV or JSONL of uri and label, or a Parquet file with a `label` column. A uri matches by its whole, else
    by the longest end that only one uri has, so paths may be relative. Unreadable images are not scored.
    Returns `accuracy`, `accuracy_many_to_one`, `nmi`, `ari`, `coverage` (see `phyla.cluster.score`), and `scored`.
    """
    opened = sources.open_source(truth)
    labels = getattr(opened, "labels", lambda: None)()
    if not labels:
        raise PhylaError(f"{truth} has no labels.", "Give a CSV with the columns uri and label, or a Parquet file.")
    readable = np.flatnonzero(rows["group"] >= 0)
    known = sources.match(rows["uri"][readable].tolist(), labels)
    at = np.array([i for i, label in zip(readable, known, strict=True) if label is not None], int)
    if not len(at):
        raise PhylaError(
            f"No image of the project is in {truth}.",
            f"Its uris look like {next(iter(labels))}, the project's like {rows['uri'][0]}.",
        )
    found = score(rows["group"][at], rows["left_out"][at], [label for label in known if label is not None])
    return found | {"scored": len(at), "groups": len(np.unique(rows["group"][at]))}


def _folders(images: Images) -> NDArray[np.str_]:
    """(n,) the folder of each image."""
    folders = np.array([uri.replace("\\", "/").rpartition("/")[0] for uri in images.uris])
    if len(set(folders.tolist())) < 2:
        raise PhylaError("All images lie in one folder, which says nothing of them.", "Leave --domains out.")
    return folders


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
