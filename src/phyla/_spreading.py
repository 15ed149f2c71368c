"""A spread of labels: made once, kept in the store, and used on images it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from phyla import plugins
from phyla._steps import fitted_arrays, restore
from phyla.cluster import LANDMARKS
from phyla.engine import LOCAL, Run, open_engine
from phyla.label.defer import Defer, held_out
from phyla.store import Store
from phyla.types import Recipe, Rows

_BLOCK = 1 << 14  # rows whose labels are one task's: of 768 axes they take 50 MB
_SURE = 100  # answers of each class that are learnt from, however rare it is
_DEFER = "defer_"  # how the names of what the deferral keeps begin


def spread(
    store: Store, recipe: Recipe, X: Rows, blocks: Sequence[int], answers: NDArray[np.int32],
    groups: NDArray[np.int32], classes: Sequence[str], threads: int, engine: str = LOCAL,
    advance: Callable[[int], object] = lambda rows: None,
) -> str:  # fmt: skip
    """Stage of the labels of all rows of X (n, d), spread from `answers` (n,), −1 where there is none.

    It is learnt from up to `LANDMARKS` rows, of which as many as can be are answered, some of each class first; the
    labels of further ones are computed block by block, by the workers of `engine`.
    """
    stage = store.stage(recipe)
    if store.arrays(stage) is None:
        rows = _landmarks(answers, recipe.seed)
        few, told_of_few, among = (X[:], answers, groups) if rows is None else (X[rows], answers[rows], groups[rows])

        def learn(labellings: Sequence[NDArray[np.int32]]) -> Iterator[tuple[Any, NDArray[np.float32]]]:
            way = _spreader(recipe, blocks, threads)
            if hasattr(way, "fits"):
                yield from way.fits(few, labellings, among)
                return
            for labels in labellings:
                model = _spreader(recipe, blocks, threads).fit(few, labels, among)
                yield model, model.predict_proba(few)

        model, proba, apart, unseen = held_out(learn, told_of_few, np.random.default_rng(recipe.seed))
        advance(len(few))
        # A way that discovers classes gives more columns than there are answers of.
        fresh = (name for i in count(1) if (name := f"new {i}") not in classes)
        classes = [*classes, *islice(fresh, proba.shape[1] - len(classes))]
        defer, learnt = Defer(recipe.params["error"]).fit(apart, unseen), fitted_arrays(model)
        said = _said(proba, defer)
        if rows is not None:
            say = _Say(X, restore(_spreader(recipe, blocks, 1), learnt), defer)
            said = _of_all(say, len(X), rows, said, open_engine(engine), threads, advance)
        said["accepted"] |= answers >= 0
        told = {
            "answers": int((answers >= 0).sum()),
            "images": len(X),
            "classes": dict(zip(classes, np.bincount(said["codes"], minlength=len(classes)).tolist(), strict=True)),
            "accepted": int(said["accepted"].sum()),
            "stated_error": None if np.isnan(defer.error_) else round(float(defer.error_), 4),
        }
        store.write_json(f"{stage}/classes.json", list(classes))
        store.write_json(f"{stage}/told.json", told)
        store.finish(stage, said | learnt | {_DEFER + name: array for name, array in fitted_arrays(defer).items()})
    return stage


def _landmarks(answers: NDArray[np.int32], seed: int) -> NDArray[np.intp] | None:
    """The rows to learn from, in order; None where these are all."""
    if len(answers) <= LANDMARKS:
        return None
    order = np.random.default_rng([seed, len(answers)]).permutation(len(answers))
    by_class = order[np.argsort(answers[order], kind="stable")]
    told, turn = answers[by_class], np.empty(len(answers), int)
    rank = np.arange(len(told)) - np.searchsorted(told, told)  # of a row among those of its class
    turn[by_class] = np.where(told < 0, _SURE + 1, np.minimum(rank, _SURE))
    return np.sort(order[np.argsort(turn[order], kind="stable")[:LANDMARKS]])


def _said(proba: NDArray[np.float32], defer: Defer) -> dict[str, NDArray[Any]]:
    """What is kept of probabilities (m, c): the likeliest class is that of the exact numbers, as for later images."""
    return {
        "proba": proba.astype(np.float16),
        "codes": proba.argmax(1).astype(np.int32),
        "accepted": defer.accept(proba),
    }


@dataclass(frozen=True)
class _Say:
    """What is said of the rows of a block."""

    X: Rows
    model: Any
    defer: Defer

    def __call__(self, block: slice) -> dict[str, NDArray[Any]]:
        return _said(self.model.predict_proba(self.X[block]), self.defer)


def _of_all(
    say: _Say, n: int, rows: NDArray[np.intp], known: dict[str, NDArray[Any]], run: Run, threads: int,
    advance: Callable[[int], object],
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """What is said of all n rows: of some it is known."""
    said = {name: np.empty((n, *values.shape[1:]), values.dtype) for name, values in known.items()}
    blocks = [slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
    with threadpool_limits(1):  # around all: one that ends must not give the others more threads
        for block, part in zip(blocks, run(say, blocks, threads), strict=True):
            for name, values in part.items():
                said[name][block] = values
            advance((n - len(rows)) * block.stop // n - (n - len(rows)) * block.start // n)
    for name, values in known.items():
        said[name][rows] = values
    return said


def extend(
    store: Store, old: str, recipe: Recipe, X: NDArray[np.float32], blocks: Sequence[int],
    merged: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]],
) -> str:  # fmt: skip
    """Stage of a spread like `old` with rows X (m, d) added; `merged` puts new rows among those that stay."""
    stage = store.stage(recipe)
    if not store.is_done(stage):
        arrays = store.arrays(old) or {}
        proba, accepted = np.zeros((0, arrays["proba"].shape[1]), np.float32), np.zeros(0, bool)
        if len(X):
            model, defer = _learnt(store, old, blocks)
            proba = model.predict_proba(X)
            accepted = defer.accept(proba)
        arrays["proba"] = merged(arrays["proba"], proba.astype(np.float16))
        arrays["codes"] = merged(arrays["codes"], proba.argmax(1).astype(np.int32))
        arrays["accepted"] = merged(arrays["accepted"], accepted)
        classes = store.read_json(f"{old}/classes.json")
        counts = np.bincount(arrays["codes"], minlength=len(classes)).tolist()
        told = {
            "images": len(arrays["codes"]),
            "classes": dict(zip(classes, counts, strict=True)),
            "accepted": int(arrays["accepted"].sum()),
        }
        store.write_json(f"{stage}/classes.json", classes)
        store.write_json(f"{stage}/told.json", store.read_json(f"{old}/told.json") | told)
        store.finish(stage, arrays)
    return stage


def spread_of(store: Store, stage: str, blocks: Sequence[int]) -> Callable[[NDArray[np.float32]], dict[str, Any]]:
    """What gives the columns name, strength and left_out for rows X (n, d) of images that were not there then."""
    model, defer = _learnt(store, stage, blocks)
    classes = np.array(store.read_json(f"{stage}/classes.json"), object)

    def judge(X: NDArray[np.float32]) -> dict[str, Any]:
        proba = model.predict_proba(X)
        return {
            "name": classes[proba.argmax(1)],
            "strength": proba.max(1).astype(np.float32),
            "left_out": ~defer.accept(proba),
        }

    return judge


def _learnt(store: Store, stage: str, blocks: Sequence[int]) -> tuple[Any, Defer]:
    """The model of a spread, and what says which of its labels to accept."""
    recipe = store.recipe(stage)
    arrays = store.arrays(stage) or {}
    model = restore(_spreader(recipe, blocks, 1), {k: v for k, v in arrays.items() if not k.startswith(_DEFER)})
    of_defer = {k.removeprefix(_DEFER): v for k, v in arrays.items() if k.startswith(_DEFER)}
    return model, restore(Defer(recipe.params["error"]), of_defer)


def _spreader(recipe: Recipe, blocks: Sequence[int], threads: int) -> Any:
    model = plugins.load("label.spread", recipe.method)(random_state=recipe.seed)
    offered = {"blocks": tuple(blocks), "n_jobs": threads}
    return model.set_params(**{k: v for k, v in offered.items() if k in model.get_params()})
