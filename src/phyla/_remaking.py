"""Making again what a project lost: each stage by its recipe, from the stages, tables and pictures that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import backbones, sources
from phyla._growing import Growth, grew_from, spaces_of
from phyla._opened import stages_of
from phyla._searching import build_index
from phyla._spreading import spread
from phyla._steps import Spaces, Steps, as_table, digest, folders_of, images_of, name_of, scan_all
from phyla._tasks import open_picture
from phyla._telling import draw
from phyla.engine import LOCAL, open_engine
from phyla.label import Replay, rows_among
from phyla.project import Project
from phyla.store import LANCE, LanceFeatures, features_of
from phyla.types import UNREAD, Images, PhylaError, Recipe

_TABLE = ("uri", "id", "width", "height", "fault")
_SPLIT = 8192  # rows of a shard of the scan
# Of a recipe or a table that is damaged, gone, or forged: Arrow says so in many ways.
_UNKNOWN = (PhylaError, OSError, LookupError, NotImplementedError)
_GROWN = ("reduced", "groups", "map", "spread")  # rooms of the stages that grow

AnyArray = NDArray[Any]


class Remaking:
    """Makes what is missing of a project.

    damaged : the files that are not to be believed. aside : moves away a dataset that does not open any more.
    """

    def __init__(
        self, project: Project, steps: Steps, damaged: Iterable[str], aside: Callable[[str], object]
    ) -> None:  # fmt: skip
        self.project, self.store, self.steps, self._aside = project, project.store, steps, aside
        self.meta, self._damaged = self.store.meta(), set(damaged)

    # ---- what is made of what

    def inputs(self, stage: str) -> list[str]:
        """The stages that one is made of; none where its recipe can't be read."""
        room = stage.partition("/")[0]
        with suppress(*_UNKNOWN):
            inputs = [of for of in self.store.recipe(stage).inputs if "/" in of]
            if room == "aligned":
                return [*inputs, *self._groups_of([of for of in inputs if of.startswith("reduced/")])]
            if self._has_grown(stage):
                before = self._before(stage)
                apart = [before[room]] if room != "reduced" else []
                return [*before["features"], *before["reduced"], *filter(None, [before["aligned"]]), *apart]
            return inputs
        return []

    def lineage(self, stages: Iterable[str], stop: Callable[[str], bool] = lambda stage: False) -> list[str]:
        """The stages, and all that they are made of, each after what it is made of; none that `stop` holds of."""
        found: dict[str, None] = {}
        begun: set[str] = set()
        waiting = list(stages)[::-1]
        while waiting:
            if (stage := waiting[-1]) in begun:
                found[waiting.pop()] = None
            else:
                begun.add(stage)
                waiting += [of for of in self.inputs(stage) if of not in begun and not stop(of)]
        return list(found)

    @cached_property
    def current(self) -> set[str]:
        """The stages that phyla.json names, and those that these are made of."""
        return set(self.lineage(stages_of(self.store, self.meta)))

    def forget_older(self) -> None:
        """Of stages that grew into others only the last and the one before keep their rows, as after `sort`."""
        for stage in (*self.meta.get("reduced", ()), *filter(None, [self.meta.get("groups")])):
            older = [stage]
            with suppress(*_UNKNOWN):
                while (grew := grew_from(self.store, older[-1])) and grew[0] not in older:
                    older += grew
                for each in filter(self.store.is_done, older[2:-1]):
                    self.store.forget(each)

    def _has_grown(self, stage: str) -> bool:
        return stage.partition("/")[0] in _GROWN and bool(grew_from(self.store, stage))

    def _before(self, stage: str) -> dict[str, Any]:
        """What a stage grew from, as phyla.json said it then, and `now`, the spaces that grew along with it."""
        room, inputs = stage.partition("/")[0], self.store.recipe(stage).inputs
        match room:
            case "groups":
                groups = stage
            case "spread":
                groups = inputs[0]
            case _:  # a space or a map
                along = [of for of in self._groups_of([stage] if room == "reduced" else inputs[:-1])]
                grown = [of for of in along if self._has_grown(of)]
                if not grown:
                    raise PhylaError("the groups that grew with it are gone")
                groups = grown[0]
        now = self._spaces[groups]
        aligned = [of for each in now for of in self.store.recipe(each).inputs if of.startswith("aligned/")]
        seen = self.store.recipe(aligned[0]).inputs if aligned else spaces_of(self.store, now)
        told = {"map": None, "spread": None, "groups": self.store.recipe(groups).inputs[-1]}
        return told | ({room: inputs[-1]} if room != "reduced" else {}) | {
            "now": now,
            "reduced": [old for each in now for old in grew_from(self.store, each)],
            "features": [of for of in seen if of.startswith("features/")],
            "aligned": aligned[0] if aligned else None,
        }  # fmt: skip

    @cached_property
    def _spaces(self) -> dict[str, list[str]]:
        """The spaces of all groups that there ever were."""
        found = {}
        for name in self.store.names("groups"):
            with suppress(*_UNKNOWN):
                inputs = self.store.recipe(f"groups/{name}").inputs
                found[f"groups/{name}"] = [of for of in inputs if of.startswith("reduced/")]
        return found

    def _groups_of(self, spaces: Iterable[str]) -> list[str]:
        """The groups that were found in these spaces, or in more."""
        return [groups for groups, own in self._spaces.items() if set(spaces) <= set(own)]

    # ---- the images of then

    @cached_property
    def _tables(self) -> dict[str, str]:
        """Each whole table of images, the current one first, and the digest of the images' ids."""
        found = {}
        names = [f"images/{name}" for name in self.store.names("images") if f"images/{name}" not in self._damaged]
        for name in sorted(names, key=lambda name: name != self.meta.get("images")):
            with suppress(*_UNKNOWN):
                found[name] = digest(self._read(name).ids)
        return found

    def _read(self, name: str) -> Images:
        table = self.store.read_table(name, ("id", "uri", "width", "height", "row"))
        rows, first = np.unique(table["row"], return_index=True)
        first = first[rows >= 0]
        ids = table["id"][first].astype(str)
        return Images(ids, table["uri"][first], table["width"][first], table["height"][first], _unseen)

    def _images_of(self, reduced: str, fit: Callable[[Images], bool] = lambda images: True) -> Images:
        """The images whose rows a space has, by the table that fits."""
        told = self.store.recipe(reduced).inputs[1]
        for name in (name for name, ids in self._tables.items() if ids == told):
            if fit(images := self._read(name)):
                return images
        raise PhylaError("the table of the images that it was made of is gone")

    def lacks_tables(self) -> bool:
        """Whether a stage in use is of images that no whole table tells of."""
        told = set()
        for stage in self.current:
            with suppress(*_UNKNOWN):
                told |= {self.store.recipe(stage).inputs[1]} if stage.startswith("reduced/") else set()
        return not told <= {*self._tables.values()}

    # ---- making

    def make(self, unit: str, files: Sequence[str]) -> None:
        """Make a stage, a shard of features, a file, or `files` of the scan. Raises `PhylaError` where it can't."""
        room = unit.partition("/")[0]
        if room in ("aligned", *_GROWN):
            self._stage(unit)
            return
        match room:
            case "scan":
                self._scan(files)
            case "features":
                self._features(unit)
            case "images":
                self._table(unit)
            case "index":
                n = len(self.project.images)
                build_index(self.store, self.meta["reduced"], n, self.steps.run, self.steps.progress)
            case "report.html":
                draw(self.project, self.steps.progress)
            case _:
                raise PhylaError("it is of no kind that is known")

    def _stage(self, stage: str) -> None:
        """Make a stage, and before it those that it is made of and that have given up their rows."""
        for each in self.lineage([stage], lambda of: of.startswith("features/") or self.store.is_done(of)):
            self._one(each)

    def _one(self, stage: str) -> None:
        recipe = self.store.recipe(stage)
        if self._has_grown(stage):
            self._growth(self._before(stage)).again(self.steps, recipe.room)
            return
        match recipe.room:
            case "aligned":
                growth = self._alignment(recipe)
                same(stage, growth.align(self.steps, growth.features))
            case "reduced":
                same(stage, *self.steps.reduce([recipe.inputs[0]], self._images_of(stage)))
            case "groups":
                self._groups(recipe)
            case "map":
                same(stage, self.steps.map(self.project._near_of(recipe.inputs), list(recipe.inputs), recipe.seed))
            case "spread":
                self._spread(recipe)

    def _growth(self, before: dict[str, Any]) -> Growth:
        held, images = (self._images_of(spaces[0]) for spaces in (before["reduced"], before["now"]))
        return _from(self.store, before, held, images)

    def _alignment(self, recipe: Recipe) -> Growth:
        """The growth in which a way between networks was learnt, by the images that it was learnt from."""
        lost = [of for of in recipe.inputs if of.startswith("reduced/")]
        features = [of for of in recipe.inputs if of.startswith("features/")]
        held = self._images_of(lost[0])
        for groups in self._groups_of(lost):
            before = {"reduced": self._spaces[groups], "groups": groups, "features": features}
            for name in self._tables:
                growth = _from(self.store, before, held, images := self._read(name))
                if digest(images.ids[growth.sample]) == recipe.inputs[-1]:
                    return growth
        raise PhylaError("the table of the images that it was learnt from is gone")

    def _groups(self, recipe: Recipe) -> None:
        reduced = tuple(of for of in recipe.inputs if of.startswith("reduced/"))
        told = [of for of in recipe.inputs if of.startswith("domains ")]

        def fit(images: Images) -> bool:
            return not told or told == [f"domains {sha256(repr(folders_of(images).tolist()).encode()).hexdigest()}"]

        images = self._images_of(reduced[0], fit)
        known = {"domains": folders_of(images)} if told else {}
        self.steps.group(Spaces(self.store, reduced), self._blocks(reduced), recipe, known)

    def _spread(self, recipe: Recipe) -> None:
        groups, reduced = recipe.inputs[0], tuple(of for of in recipe.inputs if of.startswith("reduced/"))
        ids = self._images_of(reduced[0]).ids
        best = self.store.array(f"{groups}/labels_.npy")[: len(ids)].astype(np.int32)
        replay = Replay(partial(rows_among, ids, np.argsort(ids)), best)
        said = replay.take(self.project.edits[: self.meta["spread_edits"]])
        answers, classes = self.project._answers(said)
        of_these = self.project._spread_recipe(recipe, answers, classes)
        if _told(of_these) != _told(recipe):
            raise PhylaError("what people said by then is not what it was made of")
        X = Spaces(self.store, reduced)
        spread(self.store, recipe, X, self._blocks(reduced), answers, best, classes, self.steps.threads)

    def _blocks(self, reduced: Sequence[str]) -> list[int]:
        return [len(self.store.array(f"{stage}/components_.npy")) for stage in reduced]

    # ---- from the pictures

    def _source(self) -> sources.Source:
        return sources.open_source(self.meta["source"])

    def _scans(self) -> list[dict[str, AnyArray]]:
        """The shards of the scan that are there."""
        names = [f"scan/{name}" for name in self.store.names("scan") if name.endswith(".parquet")]
        return [self.store.read_table(name) for name in names]

    def _scan(self, names: Sequence[str]) -> None:
        """Which of several shards told of what is not known any more; what is gone since is told of by none."""
        source, columns = self._source(), ("uri", "size", "stamp", "id", "width", "height", "fault")
        known = {row for part in self._scans() for row in zip(*(part[c].tolist() for c in columns[:3]), strict=True)}
        lacking = [e for e in sources.listed(source) if (e.uri, e.size, e.stamp) not in known]
        for number, name in enumerate(names, 1):
            shard = lacking[: _SPLIT if number < len(names) else None]
            del lacking[: len(shard)]
            found: dict[str, Any] = scan_all(source, shard, self.steps.run, lambda n: None)
            found |= {"size": [e.size for e in shard], "stamp": [e.stamp for e in shard]}
            none = {c: np.zeros(0, np.int64 if c in ("size", "width", "height") else np.str_) for c in columns}
            self.store.write_table(name, {c: tuple(found[c]) for c in columns} if shard else none)

    def _features(self, unit: str) -> None:
        room, key, *rest = unit.split("/")
        stage = f"{room}/{key}"
        card = backbones.card(self.store.recipe(stage).method)
        made = backbones.recipe(card, sources.DECODER_VERSION)
        same(stage, f"{made.room}/{made.key}")
        if self.store.has(f"{stage}/{LANCE}"):
            self._without_damage(LanceFeatures(self.store, stage))
        if not rest:  # images that no shard has
            self.steps.extract(self._source(), self.project.images, [card])
            return
        lie: dict[str, list[str]] = {}
        for part in self._scans():
            for id, uri, why in zip(*(part[c].tolist() for c in ("id", "uri", "fault")), strict=True):
                if why is None:
                    lie.setdefault(id, []).append(uri)
        name = f"{stage}/{rest[0]}.ids.npy"
        if self.store.has(name):
            ids = self.store.ids(name)
        else:  # those that no other shard has, as they come
            others = [self.store.array(f"{stage}/{n}") for n in self.store.names(stage) if n.endswith(".ids.npy")]
            held = set(np.concatenate(others).astype(str).tolist()) if others else set()
            ids = np.array([id for id in lie if id not in held][: backbones.SHARD])
        source = self._source()

        def open_row(row: int, at_least: int) -> NDArray[np.uint8]:
            fault = PhylaError(f"{UNREAD}it lies nowhere")
            for uri in reversed(lie.get(ids[row], [])):
                try:
                    return open_picture(source, uri, at_least, ids[row])
                except PhylaError as error:
                    fault = error
            raise fault

        none, threads = np.zeros(len(ids), np.int32), self.steps.threads
        images, network = Images(ids, ids, none, none, open_row), backbones.load(card, threads)
        shards = list(backbones.extract(images, range(len(ids)), [network], open_engine(LOCAL), threads))
        faults = {str(ids[row]): why for shard in shards for row, why in shard.faults.items()}
        if gone := [why for why in faults.values() if why.startswith(UNREAD)]:
            raise PhylaError(f"{len(gone):,} of its pictures are not there any more ({gone[0]})")
        X = np.concatenate([shard.features[0] for shard in shards])
        features_of(self.store, stage).write(int(rest[0]), ids, X, faults)

    def _without_damage(self, features: LanceFeatures) -> None:
        """Take out of a dataset what is damaged; where it opens no more, move it away."""
        try:
            features.remove_damaged()
        except PhylaError:
            self._aside(f"{features.stage}/{LANCE}")

    def _table(self, unit: str) -> None:
        """Of which files a table told, of all that were ever seen, is found by its name, which is made of what it says.

        Those are tried that were known after each shard of the scan, and those that were described after each shard of
        a network, with and without what is gone since; the last first.
        """
        source, seen, known = self._source(), dict[str, tuple[Any, ...]](), list[dict[str, tuple[Any, ...]]]()
        for part in self._scans():
            seen |= {row[0]: row for row in zip(*(part[c].tolist() for c in _TABLE), strict=True)}
            known.append(seen.copy())
        there = [entry.uri for entry in sources.listed(source)]
        now = self.meta["features"]
        stages = [*now, *sorted(of for of in self.current if of.startswith("features/") and of not in now)]
        held = {""}  # what can't be read has no id
        for stage in stages[::-1]:  # the current networks after those before them, which saw the rest
            own = {""}
            for shard in self.store.shards(stage, "ids.npy"):
                own.update(ids := self.store.ids(shard).tolist())
                held.update(ids)
                known += [{uri: row for uri, row in seen.items() if row[1] in some} for some in (own, held)]
        for files in reversed(known):
            for uris in ([uri for uri in there if uri in files], sorted(files)):
                found = as_table(*zip(*(files[uri] for uri in uris), strict=True)) if uris else {}
                for stage in stages if found else ():
                    table = self.steps.without_broken(found, images_of(found, source), stage)[0]
                    if name_of(table) == unit:
                        self.steps.keep(table)
                        self._damaged.discard(unit)
                        self.__dict__.pop("_tables", None)  # it is one of them now
                        return
        raise PhylaError("which files it told of can't be found out any more")


def same(unit: str, made: str) -> None:
    if made != unit:
        raise PhylaError("this version of Phyla, or this machine, would make another, or its images are others by now")


def _told(recipe: Recipe) -> list[str]:
    """What else than stages it was made of."""
    return [of for of in recipe.inputs if "/" not in of]


def _from(store: Any, before: dict[str, Any], held: Images, images: Images) -> Growth:
    """The growth of a project that had the images `held`."""
    return Growth(store, before, len(held), partial(rows_among, held.ids, np.argsort(held.ids)), images)


def _unseen(row: int, at_least: int) -> NDArray[np.uint8]:
    raise PhylaError("only its name is known")
