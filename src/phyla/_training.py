"""A classifier is taught by what a project knows, chosen by what it costs, and written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phyla import backbones, plugins
from phyla._growing import spaces_of
from phyla._lesson import Lesson, lesson_of
from phyla._progress import Progress
from phyla._steps import Steps, check_seed, usable_threads
from phyla.cluster import leading
from phyla.engine import limited
from phyla.label.defer import Defer
from phyla.train import Cascade, Head, Student, accompany, gap, read, together, windows, write, write_chain
from phyla.types import ORIGINS, UNSORTED, PhylaError, Recipe

if TYPE_CHECKING:
    from phyla.project import Project

Array = NDArray[np.float32]

_QUANTILES, _FEWEST_APART = 1001, 200
_SEEN = 300  # pictures that ranges of integers are measured on; 100 and 1,000 gave features as near to those in floats
_COMPARED = 500  # pictures on which a file in integers is compared with the student in floats
_NEAR_BEST = 0.01  # of the share right: a network that is faster and loses no more is recommended
_MEASURED = 1.0  # seconds that the speed of each network is measured for


@dataclass(frozen=True)
class _Taught:
    """A student of one network. said : (a, c), what it says of the rows `apart` of the lesson, which it never saw."""

    card: backbones.Card
    features: str
    layers: tuple[tuple[Array, Array], ...]
    said: Array
    apart: NDArray[np.intp]
    agreement: float


def train(
    project: Project, to: Path | None, backbone: str | None, integer: bool, cascade: bool, budget: float | None,
    error: float, seed: int, force: bool, threads: int | None, quiet: bool,
) -> dict[str, Any]:  # fmt: skip
    """See `Project.train`."""
    check_seed(seed)
    cards = _cards(project)
    _refuse(project, to, [card.name for card in cards], backbone, cascade, budget, error, force)
    threads, progress = usable_threads(threads), Progress(quiet)
    with project.store.writing(), limited(threads):
        lesson = lesson_of(project, seed)
        taught = _teach(project, lesson, cards, seed, threads, progress)
        speeds = [backbones.measure(card, threads, _MEASURED) for card in cards]
    apart = taught[0].apart
    worth = lesson.worth[apart]
    points = [_point(one, worth, speed) for one, speed in zip(taught, speeds, strict=True)]
    best = max(point["right"] for point in points)
    enough = [point for point in points if point["right"] >= best - _NEAR_BEST]
    recommended = max(enough, key=lambda point: point["images_per_second"])["backbone"]
    order = sorted(range(len(taught)), key=lambda i: -speeds[i])
    costs = [1 / speeds[i] for i in order]
    found, curve = windows([taught[i].said for i in order], worth, costs, budget)
    told: dict[str, Any] = {
        "classes": list(lesson.classes),
        "taught_by": lesson.taught_by,
        "checked": lesson.stated,
        "students": [point | {"recommended": point["backbone"] == recommended} for point in points],
        "together": {"right": round(found.right_of_all, 4), "images_per_second": round(1 / sum(costs), 1)},
        "cascade": {
            "order": [taught[i].card.name for i in order],
            "right": round(found.right, 4),
            "cost": round(found.cost, 4),
            "asked": [round(share, 4) for share in found.share],
            "images_per_second": round(1 / sum(costs) / found.cost, 1),
            "curve": [[round(cost, 4), round(right, 4)] for cost, right in curve],
        },
        "written": [],
    }
    if to is not None:
        chosen = order if cascade else [_index(taught, backbone or recommended)]
        with limited(threads):
            files = [
                _write(
                    project, lesson, taught[i], error, integer, seed, threads, progress,
                    to / f"{place + 1}-{taught[i].card.name}.onnx" if cascade else to,
                )
                for place, i in enumerate(chosen)
            ]  # fmt: skip
        told["written"] = files
        if cascade:
            _write_chain(to, [Path(file["file"]) for file in files], [taught[i] for i in order], found, lesson, error)
    return told


def _cards(project: Project) -> list[backbones.Card]:
    """The networks that described all images, in the order of the project's spaces."""
    features, names = project._current("features"), project._current("backbones")
    of = dict(zip(features, names, strict=True))
    spaces = spaces_of(project.store, project._current("reduced"))
    if not set(spaces) <= of.keys():
        raise PhylaError(
            f"{' and '.join(names)} did not describe all images, so there is no teaching by them yet.",
            f"Describe all: phyla sort --project {project.store.place} --anew",
        )
    return [backbones.card(of[space]) for space in spaces]


def _refuse(
    project: Project, to: Path | None, known: Sequence[str], backbone: str | None, cascade: bool,
    budget: float | None, error: float, force: bool,
) -> None:  # fmt: skip
    if not 0 < error < 1:
        raise PhylaError(f"An error of {error} can't be aimed at.", "Give a share between 0 and 1, such as 0.02.")
    if backbone is not None and backbone not in known:
        raise PhylaError(f"{project.store.place} was not sorted by {backbone!r}.", f"It was by: {', '.join(known)}.")
    if budget is not None and not (cascade and 0 < budget <= 1):
        raise PhylaError(
            "A budget is the share of all networks' cost that a cascade may take, above 0 and up to 1.",
            "phyla train PROJECT FOLDER --cascade --budget 0.5",
        )
    if cascade and (len(known) < 2 or backbone is not None):
        raise PhylaError("A cascade asks several networks in turn.", "Leave --backbone out; sort with two or more.")
    if to is None:
        return
    if cascade:
        if to.exists() and not (to.is_dir() and (force or not any(to.iterdir()))):
            raise PhylaError(f"{to} is there already.", "Name another folder, or --force to replace what is in it.")
    elif to.suffix.lower() != ".onnx":
        raise PhylaError(f"{to} is no .onnx.", "End its name in .onnx; a folder holds a --cascade.")
    elif to.exists() and not force:
        raise PhylaError(f"{to} is there already.", "Give another name, or --force to replace it.")


# ---- students


def _teach(
    project: Project, lesson: Lesson, cards: Sequence[backbones.Card], seed: int, threads: int, progress: Progress
) -> list[_Taught]:
    """A student of each network; each is the work of one thread, whose rounding must not hang on how many there are."""
    store, features = project.store, spaces_of(project.store, project._current("reduced"))
    steps, ids, student = Steps(store, threads, progress), project.images.ids[lesson.rows], Student(random_state=seed)
    recipes = [
        Recipe("student", card.name, student.params(), (stage, lesson.key), Student.VERSION, seed)
        for card, stage in zip(cards, features, strict=True)
    ]
    stages = [store.stage(recipe) for recipe in recipes]
    missing = [place for place, stage in enumerate(stages) if store.arrays(stage) is None]

    def teach(place: int) -> None:
        student = Student(random_state=seed)
        X = np.concatenate([block.astype(np.float16) for block in steps.features(features[place], ids)])
        student.fit(X, lesson.proba, _hints(project, place, lesson.rows), advance)
        arrays: dict[str, NDArray[Any]] = {"said": student.predict_proba(X[student.apart_]), "apart": student.apart_}
        for i, (weights, bias) in enumerate(student.layers_):
            arrays |= {f"weights{i}": weights, f"bias{i}": bias}
        told = {"loss": student.loss_, "agreement": student.agreement_, "kept": student.kept_}
        store.write_json(f"{stages[place]}/told.json", told)
        store.finish(stages[place], arrays)

    once = student.steps(len(lesson.rows))
    with progress("teaching", len(missing) * once, len(stages) * once, "steps") as advance, limited(1):
        for _ in plugins.load("engine", "local")(teach, missing, threads):
            pass
    taught = []
    for card, of, stage in zip(cards, features, stages, strict=True):
        kept, told = store.arrays(stage) or {}, store.read_json(f"{stage}/told.json")
        layers = tuple((kept[f"weights{i}"], kept[f"bias{i}"]) for i in range(2))
        taught.append(_Taught(card, of, layers, kept["said"], kept["apart"], told["agreement"]))
    return taught


def _hints(project: Project, place: int, rows: NDArray[np.intp]) -> Array | None:
    """(m, h): the leading axes that the other networks see."""
    others = [project._array(stage, "X")[rows] for i, stage in enumerate(project._current("reduced")) if i != place]
    return np.hstack([leading(X, (X.shape[1],)) for X in others]) if others else None


def _point(taught: _Taught, worth: Array, speed: float) -> dict[str, Any]:
    """A student on the curve of what is right by what it costs."""
    right = float(worth[np.arange(len(worth)), taught.said.argmax(1)].mean())
    return {
        "backbone": taught.card.name, "right": round(right, 4), "agreement": round(taught.agreement, 4),
        "images_per_second": round(speed, 1), "megabytes": taught.card.megabytes,
    }  # fmt: skip


def _index(taught: Sequence[_Taught], backbone: str) -> int:
    return next(i for i, one in enumerate(taught) if one.card.name == backbone)


# ---- the file


def _write(
    project: Project, lesson: Lesson, taught: _Taught, error: float, integer: bool, seed: int, threads: int,
    progress: Progress, path: Path,
) -> dict[str, Any]:  # fmt: skip
    defer, right = _deferral(lesson, taught.apart, taught.said, error)
    head = _head(project, lesson, taught, defer.radius_)
    ranges = compared = None
    if integer:
        rng = np.random.default_rng(seed)
        some = lesson.rows[rng.permutation(len(lesson.rows))[:_SEEN]]
        with progress("calibrating", len(some), len(some)) as advance:
            ranges = backbones.calibrate(taught.card, _views(project, taught.card, some, advance), threads)
    told = _told(project, lesson, taught, defer, right)
    accompany(path, taught.card, lesson.classes, told)  # first: it refuses to replace what is not ours
    write(path, taught.card, head, lesson.classes, told, integer=ranges)
    if integer:
        compared = _compared(project, lesson, taught, path, threads, progress)
    return {
        "file": str(path), "backbone": taught.card.name, "integer": integer, "megabytes": path.stat().st_size / 1e6,
        "right": round(float(right.mean()), 4), "taken": round(defer.coverage_, 4),
        "stated_error": None if np.isnan(defer.error_) else round(float(defer.error_), 4), "same_as_float": compared,
    }  # fmt: skip


def _deferral(lesson: Lesson, apart: NDArray[np.intp], said: Array, error: float) -> tuple[Defer, Array]:
    """What to leave to a person of what is `said` (a, c) of the rows `apart`, and how probably each row is right."""
    worth = lesson.worth[apart]
    right = worth[np.arange(len(worth)), said.argmax(1)]
    defer = Defer(error)
    return defer.fit_right(said, right) if lesson.stated else defer.fit(said, np.full(len(right), UNSORTED)), right


def _write_chain(
    folder: Path, files: Sequence[Path], stages: Sequence[_Taught], found: Cascade, lesson: Lesson, error: float
) -> None:
    said, goes_on = stages[0].said.copy(), np.ones(len(stages[0].said), bool)
    for stage, window in enumerate(found.windows):
        goes_on = goes_on & (gap(together([one.said for one in stages[: stage + 1]])) < window)
        said[goes_on] = together([one.said[goes_on] for one in stages[: stage + 2]])
    defer, right = _deferral(lesson, stages[0].apart, said, error)
    told = {
        "right": round(float(right.mean()), 4), "right with all": round(found.right_of_all, 4),
        "cost against all": round(found.cost, 4), "asked": [round(share, 4) for share in found.share],
    }  # fmt: skip
    write_chain(folder, files, found, defer.radius_.astype(np.float32), told)


def _head(project: Project, lesson: Lesson, taught: _Taught, radius: NDArray[np.float64]) -> Head:
    stages = project._current("reduced")
    reduced = stages[spaces_of(project.store, stages).index(taught.features)]
    mean, components = project._array(reduced, "mean_"), project._array(reduced, "components_")
    variance = project._array(reduced, "explained_variance_")
    (first, bias), last = taught.layers
    layers = ((first, np.asarray(bias + mean @ first, np.float32)), last)  # the head takes the mean away before
    Z = project._array(reduced, "X")[lesson.rows]
    of = project.grouping.best[lesson.rows]
    centers = np.stack([Z[of == g].mean(0) for g in np.unique(of)]).astype(np.float32)
    scale = np.sqrt(np.maximum(variance, 1e-7 * max(float(variance[0]), 1e-30)))
    head = Head(mean, components, scale, layers, radius.astype(np.float32), centers, np.zeros((4, 1), np.float32))
    steps = Steps(project.store, 1, Progress(quiet=True))
    # Of what it did not learn from, where there is enough of it: it doubts the rest less.
    rows = lesson.rows if len(taught.apart) < _FEWEST_APART else lesson.rows[taught.apart]
    blocks = steps.features(taught.features, project.images.ids[rows])
    marks = (np.arange(_QUANTILES, dtype=np.float32) + 0.5) / _QUANTILES
    return head.calibrated(np.concatenate([head.strangeness(X) for X in blocks]), marks)


def _views(
    project: Project, card: backbones.Card, rows: NDArray[np.intp], advance: Callable[[int], object]
) -> NDArray[np.uint8]:
    """(m, size, size, 3): the pictures as the network sees them."""
    views = np.empty((len(rows), card.size, card.size, 3), np.uint8)
    for view, row in zip(views, rows.tolist(), strict=True):
        backbones.fit(project.images.open(row, card.shorter_side), card, view)
        advance(1)
    return views


def _compared(project: Project, lesson: Lesson, taught: _Taught, path: Path, threads: int, progress: Progress) -> float:
    """The share of pictures of which the file in integers says what the student in floats does."""
    some = taught.apart[:: max(len(taught.apart) // _COMPARED, 1)]
    place = np.searchsorted(taught.apart, some)
    model = read(path)
    with progress("comparing", len(some), len(some)) as advance:
        views = _views(project, model.card, lesson.rows[some], advance)
    said = model.load(threads)(views)[:, : len(lesson.classes)]
    return round(float((said.argmax(1) == taught.said[place].argmax(1)).mean()), 4)


def _told(
    project: Project, lesson: Lesson, taught: _Taught, defer: Defer, right: NDArray[np.floating]
) -> dict[str, Any]:
    """What people should know of the classifier."""
    labels, said = project.labels, project.said
    sure = said.person >= 0
    by: dict[str, int] = {}
    for edit in project.edits:
        if edit.op in ("name", "merge", "split", "confirm", "move"):
            by[edit.by or "unknown"] = by.get(edit.by or "unknown", 0) + 1
    origin = np.bincount(labels.origin, minlength=len(ORIGINS))
    accuracy = (
        f"{right.mean():.1%} of the pictures that it did not learn from, as far as checked answers tell"
        if lesson.stated
        else "not known: fewer than 30 labels were checked by a person"
    )
    deferral = (
        "defers where the likeliest class is less likely than not; the error of the rest is not known"
        if np.isnan(defer.error_)  # nothing was checked, or too little of what it did not learn from
        else f"takes {defer.coverage_:.0%} of such pictures unseen, {defer.error_:.1%} of them wrong as far as can be "
        "told"
    )
    return {
        "taught by": f"{lesson.taught_by}, {len(lesson.rows):,} pictures of {Path(project._current('source')).name}",
        "pictures of each class": dict(
            zip(
                lesson.classes, np.bincount(lesson.proba.argmax(1), minlength=len(lesson.classes)).tolist(), strict=True
            )
        ),
        "confirmed by people": f"{int(sure.sum()):,} pictures and {len(said.names)} groups",
        "whose word": {name or "nobody's": int(count) for name, count in zip(ORIGINS, origin, strict=True) if count},
        "edits by": by or "nobody",
        "accuracy": accuracy,
        "agreement with its teacher": f"{taught.agreement:.1%}",
        "deferral": deferral,
        "not to be trusted with": [
            "pictures unlike those it learnt from: see the output outlier",
            "classes that are not in the list: it names one of those that are",
            "decisions about people, or where a wrong class does harm, without somebody who looks",
        ],
        "date": datetime.now(UTC).date().isoformat(),
        "weights": f"{taught.card.weights}, licence {taught.card.licence}",
    }
