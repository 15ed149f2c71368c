"""A project that grows: what its images are stays as it is, and what is new is placed among them.

The stages of a grown project are those that it grew from with rows added, removed or moved; their recipes name these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phyla import plugins
from phyla._spreading import extend
from phyla._steps import Steps, clusterer_of, digest, fitted_arrays, folders_of, restore, some
from phyla.backbones import Card, Network
from phyla.cluster import LANDMARKS, SMALL, drift, leading
from phyla.engine import limited
from phyla.neighbors import nearest_of
from phyla.sources import Source
from phyla.store import Store
from phyla.types import Images, PhylaError, Recipe

if TYPE_CHECKING:
    from phyla._shown import Shown

ALIGN = "align"  # the reducer that takes one network's space to another's
# Images described by both networks to learn the way from one to the other. From lite2 to lite0 1,000 of CIFAR-10 give
# 0.860 right among the 20 nearest, 4,000 0.870 and 8,000 0.873 (docs/benchmarks.md).
_SAMPLE = 4000
_COVER = 10  # of them from each group, if it has so many
_NEAR = 10  # neighbours between which a new image is put on the map

Rows = NDArray[np.integer]
Narrow = Callable[[Sequence[NDArray[Any]]], tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True)
class Wanted:
    """The groups that are asked for. `keeps` : those that are there will do."""

    groups: int | None
    method: str
    effort: str
    domains: str | None
    seed: int
    keeps: bool

    @classmethod
    def of(
        cls, store: Store, groups: int | None, method: str | None, effort: str | None, domains: str | None,
        seed: int | None, anew: bool,
    ) -> Wanted:  # fmt: skip
        """What was not said is as it was the last time."""
        meta, last = store.meta(), None
        with suppress(FileNotFoundError, NotADirectoryError, *[PhylaError] * anew):  # a damaged one is no hindrance
            last = store.recipe(meta["groups"]) if "groups" in meta else None
        if last is None:
            return cls(groups, method or "vote", effort or "default", domains, seed or 0, False)
        seen = "folder" if any(of.startswith("domains ") for of in last.inputs) else None
        effort_was = meta.get("effort", "default")
        had = (last.params["n_clusters"], last.method, effort_was, seen, last.seed)
        asked = (groups, method, effort, domains, seed)
        same = not anew and all(a is None or a == b for a, b in zip(asked, had, strict=True))
        needed = (meta["images"], *(f"{stage}/done" for stage in (meta["groups"], *meta["reduced"])))
        if method in (None, last.method):  # another may know nothing of these
            effort, domains = effort or effort_was, seen if same else domains
        return cls(
            last.params["n_clusters"] if same else groups, method or last.method, effort or "default", domains,
            last.seed if seed is None else seed, same and all(map(store.has, needed)),
        )  # fmt: skip

    def recipe(self, reduced: Sequence[str], images: Images) -> tuple[Recipe, dict[str, NDArray[Any]]]:
        """How the groups are to be made, and what else the method gets to know of each image."""
        grouper = plugins.load("cluster", self.method)
        params = {"n_clusters": self.groups} | grouper.EFFORT.get(self.effort, {})
        known = {"domains": _domains(images)} if self.domains else {}
        told = [f"{name} {sha256(repr(v.tolist()).encode()).hexdigest()}" for name, v in known.items()]
        told += [f"landmarks {LANDMARKS}"] if len(images) > LANDMARKS else []
        told += ["few images"] if len(images) < SMALL else []
        return Recipe("groups", self.method, params, (*reduced, *told), grouper.VERSION, self.seed), known


def _domains(images: Images) -> NDArray[np.str_]:
    folders = folders_of(images)
    if len(set(folders.tolist())) < 2:
        raise PhylaError("All images lie in one folder, which says nothing of them.", "Leave --domains out.")
    return folders


def spaces_of(store: Store, reduced: Sequence[str]) -> list[str]:
    """The stage of the features that each space of the project was made of."""
    return [store.recipe(stage).inputs[0] for stage in reduced]


def narrowing(store: Store, reduced: Sequence[str], features: Sequence[str], aligned: str | None) -> Narrow:
    """What gives the project's axes X (r, d) and residuals (r, spaces) for the (r, dim) features of each network.

    A space whose network is no longer there is reached through the alignment.
    """
    pca = plugins.load("reduce", "pca")
    own = [restore(pca(), _fitted(store, stage)) for stage in reduced]
    at = [features.index(of) if of in features else None for of in spaces_of(store, reduced)]
    through = _through(store, aligned, len(features)) if aligned else None
    lost = np.cumsum([len(p.components_) for p, i in zip(own, at, strict=True) if i is None])[:-1]

    def narrow(wide: Sequence[NDArray[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        none = np.zeros((len(wide[0]), 0), np.float32), np.zeros(len(wide[0]), np.float32)
        reached, left = through(wide) if through else none
        others = iter(np.split(reached, lost, axis=1))
        pairs = [
            (next(others), left) if i is None else (p.transform(wide[i]), p.residual(wide[i]))
            for p, i in zip(own, at, strict=True)
        ]
        return np.hstack([X for X, _ in pairs]), np.column_stack([rest for _, rest in pairs]).astype(np.float32)

    return narrow


def _fitted(store: Store, stage: str) -> dict[str, NDArray[Any]]:
    """A stage's arrays without those that have a row for each image."""
    return store.arrays(stage, but=("X", "residual")) or {}


def _through(store: Store, aligned: str, networks: int) -> Narrow:
    arrays = store.arrays(aligned) or {}
    pca = plugins.load("reduce", "pca")
    seeing = [
        restore(pca(), {k.partition("-")[2]: v for k, v in arrays.items() if k.startswith(f"{i}-")})
        for i in range(networks)
    ]
    align = restore(plugins.load("reduce", ALIGN)(), {k: v for k, v in arrays.items() if "-" not in k})

    def through(wide: Sequence[NDArray[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        seen = np.hstack([p.transform(X) for p, X in zip(seeing, wide, strict=True)])
        left = np.mean([p.residual(X) for p, X in zip(seeing, wide, strict=True)], axis=0)
        return align.transform(seen), left

    return through


class Growth:
    """The images of a project as it lay there, and those of now: `was` (n,) is the row that each had, −1 if none.

    before : what phyla.json said of its stages. known : how many images it had. rows_with : the row of an id then.
    """

    def __init__(
        self, store: Store, before: Mapping[str, Any], known: int, rows_with: Callable[[Sequence[str]], Rows],
        images: Images,
    ) -> None:  # fmt: skip
        self.store, self.before, self.known, self.rows_with = store, before, known, rows_with
        self.reduced, self.groups = before["reduced"], before["groups"]
        self.features, self.aligned = before["features"], before.get("aligned")
        self._take(images)

    @classmethod
    def of(cls, project: Shown, images: Images) -> Growth:
        """From the project as it lies there to `images`."""
        before = project.store.meta() | {"spread": project._spread}
        return cls(project.store, before, len(project.images), project.rows_with, images)

    def _take(self, images: Images) -> None:
        self.images, self.was = images, self.rows_with(images.ids.tolist())

    @cached_property
    def fitted(self) -> NDArray[np.bool_]:
        """(known,), whether a row is one of those that the groups were found among."""
        name = f"{self.groups}/fitted.npy"
        return self.store.array(name) if self.store.has(name) else np.ones(self.known, bool)

    @cached_property
    def n_fitted(self) -> int:
        """How many these were."""
        name = f"{self.groups}/n_fitted.npy"
        return int(self.store.array(name)) if self.store.has(name) else self.known

    @property
    def _blocks(self) -> list[int]:
        return [len(self._of(stage, "components_")) for stage in self.reduced]

    @property
    def too_much(self) -> str | None:
        """Why the groups can't be kept, if so."""
        if any(v != plugins.load(*of).VERSION for of, v in self._versions()):
            return "this version of Phyla groups otherwise"
        left, n = int(self.fitted[self.was[self.was >= 0]].sum()), len(self.images)
        if 2 * left < n:
            return f"of {n:,} images {left:,} are among those that the groups were made of"
        if 2 * left < self.n_fitted:
            return f"of the {self.n_fitted:,} images that the groups were made of {left:,} are left"
        return None

    def _versions(self) -> list[tuple[tuple[str, str], int]]:
        groups, reduced = self.store.recipe(self.groups), self.store.recipe(self.reduced[0])
        return [(("cluster", groups.method), groups.version), (("reduce", reduced.method), reduced.version)]

    @property
    def unchanged(self) -> bool:
        return np.array_equal(self.was, np.arange(self.known))

    # ---- another network

    def describe(
        self, steps: Steps, source: Source, cards: Sequence[Card], begun: Sequence[Future[Network | None]]
    ) -> None:
        """Have the networks see what is new; learn the way from theirs to spaces that have lost their network."""
        stages = steps.extract(source, some(self.images, np.flatnonzero(self.was < 0)), cards, begun)
        if stages == self.features:
            return
        own = spaces_of(self.store, self.reduced)
        if set(own) <= set(stages):
            if len(stages) > len(own):
                unknown = [card.name for card, stage in zip(cards, stages, strict=True) if stage not in own]
                names = ",".join(card.name for card in cards)
                raise PhylaError(
                    f"The groups were made without {' and '.join(unknown)}, so it can say nothing of them.",
                    f"Group anew: phyla sort --project {self.store.place} --backbone {names} --anew",
                )
            self.features, self.aligned = stages, None
            return
        steps.extract(source, some(self.images, self.sample), cards)
        self.features, self.aligned = stages, self.align(steps, stages)

    @cached_property
    def sample(self) -> NDArray[np.intp]:
        """Rows of now, of the fitted ones, of which all groups have some; the same in each run."""
        known = np.flatnonzero(self.was >= 0)
        known = known[self.fitted[self.was[known]]]
        order = np.random.default_rng(0).permutation(known)
        group = self._of(self.groups, "labels_")[self.was[order]]
        order = order[np.argsort(group, kind="stable")]
        group = np.sort(group)
        first = np.searchsorted(group, group)
        rank, size = np.arange(len(group)) - first, np.searchsorted(group, group, side="right") - first
        place = np.where(rank < _COVER, 0, rank / size)  # by turns, and each group in proportion
        return np.sort(order[np.argsort(place, kind="stable")[:_SAMPLE]])

    def align(self, steps: Steps, features: Sequence[str]) -> str:
        """Stage of the way from the spaces of `features` to those that have lost their network."""
        images, was = some(self.images, self.sample), self.was[self.sample]
        pca, method = plugins.load("reduce", "pca"), plugins.load("reduce", ALIGN)
        own = spaces_of(self.store, self.reduced)
        lost = [stage for stage, of in zip(self.reduced, own, strict=True) if of not in features]
        recipe = Recipe("aligned", ALIGN, {}, (*features, *lost, digest(images.ids)), method.VERSION)
        stage = self.store.stage(recipe)
        if self.store.arrays(stage) is None:
            with steps.progress("aligning", len(images), len(images)) as advance, limited(1):
                wide = [np.concatenate(list(steps.features(of, images.ids))) for of in features]
                good = ~np.isnan(np.hstack([X[:, :1] for X in wide])).any(1)
                target = [self.store.array(f"{of}/X.npy", mmap=True)[was] for of in lost]
                seeing = [pca(self._axes()).fit(X[good]) for X in wide]
                seen = np.hstack([p.transform(X[good]) for p, X in zip(seeing, wide, strict=True)])
                align = method().fit(seen, np.hstack(target)[good])
                advance(len(images))
            arrays = {f"{i}-{k}": v for i, p in enumerate(seeing) for k, v in fitted_arrays(p).items()}
            self.store.finish(stage, arrays | fitted_arrays(align))
        return stage

    def _axes(self) -> int:
        return int(self.store.recipe(self.reduced[0]).params["n_components"])

    # ---- new images

    def place(self, steps: Steps, images: Images, report: bool) -> dict[str, Any]:
        """What phyla.json is to say of `images`, those that can be decoded, once they are placed."""
        self._take(images)
        told = {"reduced": self.reduced, "groups": self.groups, "map": self.before["map"]}
        told |= {"features": self.features, "aligned": self.aligned}
        if self.unchanged:
            return told
        new = np.flatnonzero(self.was < 0)
        with steps.progress("placing", len(new), len(images)) as advance, limited(1):
            told["reduced"], X, near = self._reduced(steps, new)
            told["groups"] = self._grouped(steps, told["reduced"], X, near)
            if self.before["spread"]:
                told["spread"] = self._spread(told["groups"], told["reduced"], X)
            if told["map"] and report:
                told["map"] = self._mapped(steps, told["reduced"], near)
            advance(len(new))
        return told

    def again(self, steps: Steps, room: str) -> None:
        """Make the stages of a room once more, as `place` did: those that are not there."""
        with limited(1):
            reduced, X, near = self._reduced(steps, np.flatnonzero(self.was < 0))
            match room:
                case "groups":
                    self._grouped(steps, reduced, X, near)
                case "spread":
                    groups = self._grown(self.groups, reduced)
                    self._spread(f"{groups.room}/{groups.key}", reduced, X)
                case "map":
                    self._mapped(steps, reduced, near)

    def _grown(self, old: str, inputs: Sequence[str]) -> Recipe:
        """How a stage is made that has grown from `old`."""
        was = self.store.recipe(old)
        told = [of for of in was.inputs if of.startswith("domains ")]
        return Recipe(was.room, was.method, was.params, (*inputs, *told, old), was.version, was.seed)

    def _merged(self, old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
        """A row for each image: that which it had, byte by byte, or the next of `new`."""
        out = np.empty((len(self.was), *old.shape[1:]), old.dtype)
        out[self.was >= 0] = old[self.was[self.was >= 0]]
        out[self.was < 0] = new
        return out

    def _reduced(
        self, steps: Steps, new: NDArray[np.intp]
    ) -> tuple[list[str], NDArray[np.float32], NDArray[np.float32]]:
        """Stages of the axes; those of the new images, X (m, d), and the leading ones of all, (n, …)."""
        held = [
            {"X": self.store.array(f"{stage}/X.npy", mmap=True), **_fitted(self.store, stage)} for stage in self.reduced
        ]
        ends = np.cumsum([arrays["X"].shape[1] for arrays in held])
        X, left = np.zeros((0, ends[-1]), np.float32), np.zeros((0, len(held)), np.float32)
        if len(new):
            narrow = narrowing(self.store, self.reduced, self.features, self.aligned)
            ids = self.images.ids[new]
            blocks = zip(*(steps.features(stage, ids) for stage in self.features), strict=True)
            X, left = (np.concatenate(part) for part in zip(*map(narrow, blocks), strict=True))

        def grow(i: int) -> tuple[str, NDArray[np.float32]]:
            old, arrays = self.reduced[i], held[i]
            of, told = self.store.recipe(old).inputs[0], [digest(self.images.ids)]
            told += [self.aligned] if self.aligned and of not in self.features and len(new) else []
            stage = self.store.stage(self._grown(old, (of, *told)))
            arrays["X"] = self._merged(arrays["X"], X[:, ends[i] - arrays["X"].shape[1] : ends[i]])
            if not self.store.is_done(stage):
                if self.store.has(name := f"{old}/residual.npy"):
                    arrays["residual"] = self._merged(self.store.array(name), left[:, i])
                self.store.finish(stage, arrays)
            return stage, leading(arrays["X"], (arrays["X"].shape[1],))

        stages, near = zip(*plugins.load("engine", "local")(grow, range(len(held)), steps.threads), strict=True)
        return list(stages), X, np.hstack(near)

    def _of(self, stage: str, name: str) -> NDArray[Any]:
        return self.store.array(f"{stage}/{name}.npy")

    def _grouped(self, steps: Steps, reduced: Sequence[str], X: NDArray[np.float32], near: NDArray[np.float32]) -> str:
        stage = self.store.stage(self._grown(self.groups, reduced))
        if self.store.is_done(stage):
            return stage
        arrays = self.store.arrays(self.groups) or {}
        label, strength = arrays["labels_"][:0], arrays["strength_"][:0]
        if len(X):
            clusterer = restore(clusterer_of(self.store.recipe(self.groups), self._blocks), arrays)
            label, strength = clusterer.assign(X)
        arrays |= {
            "labels_": self._merged(arrays["labels_"], label),
            "strength_": self._merged(arrays["strength_"], strength),
            "fitted": self._merged(self.fitted, np.zeros(len(X), bool)),
            "n_fitted": np.array(self.n_fitted),
        }
        told = drift(near, arrays["fitted"], arrays["labels_"], steps.threads)
        self.store.write_json(f"{stage}/grown.json", {"added": len(X), "gone": self._gone(), **told})
        self.store.finish(stage, arrays)
        return stage

    def _gone(self) -> int:
        return len(self.fitted) - int((self.was >= 0).sum())

    def _spread(self, groups: str, reduced: Sequence[str], X: NDArray[np.float32]) -> str:
        old = self.before["spread"]
        return extend(self.store, old, self._grown(old, (groups, *reduced)), X, self._blocks, self._merged)

    def _mapped(self, steps: Steps, reduced: Sequence[str], near: NDArray[np.float32]) -> str:
        """The map as it was; a new image lies at the mean of its nearest old ones, the nearer the more."""
        old = self.before["map"]
        stage = self.store.stage(self._grown(old, reduced))
        if self.store.is_done(stage):
            return stage
        points, there = self._of(old, "points"), np.flatnonzero(self.was >= 0)
        found, away = nearest_of(near[self.was < 0], near[there], min(_NEAR, len(there)), steps.threads)
        weight = 1 / np.maximum(away, 1e-6)
        placed = points[self.was[there]][found] * (weight / weight.sum(1, keepdims=True))[:, :, None]
        self.store.finish(stage, {"points": self._merged(points, placed.sum(1))})
        return stage

    def tidy(self, told: dict[str, Any]) -> None:
        """Forget the rows of stages that grew into others that grew, too: each growth would keep all once more."""
        for stage in (*told["reduced"], told["groups"]):
            for last in grew_from(self.store, stage):
                for older in grew_from(self.store, last):
                    if grew_from(self.store, older):
                        self.store.forget(older)


def grew_from(store: Store, stage: str) -> list[str]:
    """The stage that it grew from, if any."""
    recipe = store.recipe(stage)
    return [of for of in recipe.inputs[-1:] if of.startswith(f"{recipe.room}/")]
