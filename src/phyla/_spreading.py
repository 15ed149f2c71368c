"""A spread of labels: made once, kept in the store, and used on images it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import plugins
from phyla._steps import fitted_arrays, restore
from phyla.label.defer import Defer, held_out
from phyla.store import Store
from phyla.types import Recipe

_DEFER = "defer_"  # how the names of what the deferral keeps begin


def spread(
    store: Store, recipe: Recipe, X: NDArray[np.float32], blocks: Sequence[int], answers: NDArray[np.int32],
    groups: NDArray[np.int32], classes: Sequence[str], threads: int,
) -> str:  # fmt: skip
    """Stage of the labels of all rows of X (n, d), spread from `answers` (n,), −1 where there is none."""
    stage = store.stage(recipe)
    if store.arrays(stage) is None:

        def learn(labellings: Sequence[NDArray[np.int32]]) -> Iterator[tuple[Any, NDArray[np.float32]]]:
            way = _spreader(recipe, blocks, threads)
            if hasattr(way, "fits"):
                yield from way.fits(X, labellings, groups)
                return
            for labels in labellings:
                model = _spreader(recipe, blocks, threads).fit(X, labels, groups)
                yield model, model.predict_proba(X)

        model, proba, apart, unseen = held_out(learn, answers, np.random.default_rng(recipe.seed))
        # A way that discovers classes gives more columns than there are answers of.
        classes = [*classes, *(f"new {i + 1}" for i in range(proba.shape[1] - len(classes)))]
        defer = Defer(recipe.params["error"]).fit(apart, unseen)
        accepted = defer.accept(proba) | (answers >= 0)
        best = proba.argmax(1).astype(np.int32)  # of the exact numbers, as for images that come later
        told = {
            "answers": int((answers >= 0).sum()),
            "images": len(X),
            "classes": dict(zip(classes, np.bincount(best, minlength=len(classes)).tolist(), strict=True)),
            "accepted": int(accepted.sum()),
            "stated_error": None if np.isnan(defer.error_) else round(float(defer.error_), 4),
        }
        store.write_json(f"{stage}/classes.json", list(classes))
        store.write_json(f"{stage}/told.json", told)
        kept = fitted_arrays(model) | {_DEFER + name: array for name, array in fitted_arrays(defer).items()}
        store.finish(stage, {"proba": proba.astype(np.float16), "codes": best, "accepted": accepted} | kept)
    return stage


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
