"""Explanations: whether heat lies on the thing, whether what pushes decides, and whether concepts tell groups apart.

    python benchmarks/explain.py PROJECT.phyla TRUTH [--answers 250] [--pictures 100]

PROJECT is sorted with the bundled networks, TRUTH what `phyla score` takes. A copy is worked on: as many answers as are
asked for, drawn at random, are the true labels, and they are spread. Prints four tables.

heat: pictures of the project in a quarter of a ground of grey, of noise or of a blurred picture: the share of the heat
    in that quarter, and how often the hottest place is there. An even map, or one of the middle, has 0.25 of both.
two things: two accepted pictures of different classes in opposite quarters of a ground of noise, each class asked
    against the other: the share of the heat on its own and on the other one. Eigen-CAM, which asks for no class, is
    the control.
representers: how far the pushes miss the lead (at most), how often the explaining model says what the project says of
    an image, had it not learnt from it, and how far the lead falls when the ten images that pushed most are left out
    and all is learnt anew; the control leaves out ten others of the class.
concepts: of every two classes, the unit that tells them apart best on half of the images, tried on the other half:
    AUROC, that of any unit, and the share of its twelve strongest images (of all classes) that are of one class.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from itertools import combinations
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import cv2
import numpy as np

from phyla import backbones, sources
from phyla._contrasting import _activity
from phyla._explaining import _Judged
from phyla.explain import Representers, apart, heat, onto
from phyla.project import Project

SIDE, HALF = 224, 112
PAIRS, LEFT_OUT, OF_A_CLASS, STRONGEST = 60, 10, 300, 12
CLASSES = 10  # of which pairs are compared


def square(project: Project, row: int, side: int) -> np.ndarray:
    pixels = project.images.open(int(row), side)
    short = min(pixels.shape[:2])
    top, left = ((length - short) // 2 for length in pixels.shape[:2])
    way = cv2.INTER_AREA if short > side else cv2.INTER_CUBIC
    return cv2.resize(pixels[top : top + short, left : left + short], (side, side), interpolation=way)


def noise(rng: np.random.Generator, places: int) -> np.ndarray:
    cells = rng.integers(70, 190, (places, places, 3)).astype(np.uint8)
    return cv2.resize(cells, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def quarter(down: int, across: int, side: int = SIDE) -> Any:
    half = side // 2
    return np.s_[down * half : (down + 1) * half, across * half : (across + 1) * half]


def judged(found: np.ndarray, down: int, across: int) -> tuple[float, bool]:
    """Share of the heat in a quarter, and whether the hottest place is there."""
    y, x = np.unravel_index(found.argmax(), found.shape)
    half = len(found) // 2
    return float(found[quarter(down, across, len(found))].sum() / found.sum()), (y // half, x // half) == (down, across)


def localisation(project: Project, pictures: int) -> None:
    networks = [backbones.maps(backbones.card(name), 1) for name in ("lite0", "lite1", "lite2")]
    print("\n| ground | " + " | ".join(n.card.name for n in networks) + " | all three |\n|---|" + "---|" * 4)
    for ground in ("grey", "noise", "picture"):
        rng = np.random.default_rng(0)
        told: list[list[tuple[float, bool]]] = [[] for _ in range(4)]
        for row in rng.permutation(len(project.images))[:pictures]:
            other = int(rng.integers(len(project.images)))
            if ground == "picture":
                picture = cv2.GaussianBlur(square(project, other, SIDE), (0, 0), 12)
            else:
                picture = noise(rng, 14) if ground == "noise" else np.full((SIDE, SIDE, 3), 128, np.uint8)
            place = down, across = rng.integers(2, size=2)
            picture[quarter(down, across)] = square(project, row, HALF)
            together = np.zeros((SIDE, SIDE), np.float32)
            for number, network in enumerate(networks):
                maps = network(backbones.fit(cv2.resize(picture, (network.card.size,) * 2), network.card)[None])[0]
                found = onto(heat(maps), (SIDE, SIDE), (0, 0, SIDE))
                together += found
                told[number].append(judged(found, *place))
            told[3].append(judged(together, *place))
        print(f"| {ground} | " + " | ".join("{:.3f}, {:.2f}".format(*np.mean(each, 0)) for each in told) + " |")


def two_things(project: Project) -> None:
    rng, labels = np.random.default_rng(0), project.labels
    rows = rng.permutation(np.flatnonzero(labels.accepted))
    told: dict[str, list[tuple[float, float, bool]]] = {"class": [], "picture": []}
    for one, other in zip(rows[:PAIRS], rows[PAIRS : 2 * PAIRS], strict=True):
        if labels.codes[one] == labels.codes[other]:
            continue
        across = int(rng.integers(2))
        places = {one: (0, across), other: (1, 1 - across)}
        picture = noise(rng, 7)
        for row, place in places.items():
            picture[quarter(*place)] = square(project, row, HALF)
        x = project._judged_anew(picture).x
        for row, rival in ((one, other), (other, one)):
            asked = _Judged(x, None, "class", int(labels.codes[row]), int(labels.codes[rival]))
            for by, listed in told.items():
                found = project._heat(picture, asked, by)
                own, hit = judged(found, *places[row])
                listed.append((own, judged(found, *places[rival])[0], hit))
    print("\n| heat | on its own | on the other | hottest place on its own |\n|---|---|---|---|")
    for by, listed in told.items():
        print(f"| by {by} | " + " | ".join(f"{value:.3f}" for value in np.mean(listed, 0)) + " |")


def representers(project: Project) -> None:
    _ = project._now  # what it learns from, made before
    project._held.pop("learnt class", None)
    started, cpu = perf_counter(), process_time()
    learnt = project._learnt("class")
    print(f"\nlearnt from {len(learnt.rows):,} in {perf_counter() - started:.2f} s ({process_time() - cpu:.2f} CPU)")
    X, codes = project.X, project._now.codes
    said = learnt.model.scores(X)
    # What it says of an image that it learnt from, had it not learnt from it (leave-one-out, in closed form).
    inverse = np.linalg.inv(np.exp(4 * (learnt.model.rows_ @ learnt.model.rows_.T - 1)) + np.eye(len(learnt.rows)))
    targets = np.eye(len(learnt.names))[codes[learnt.rows]] - 1 / len(learnt.names)
    said[learnt.rows] = targets - learnt.model.alpha_ / inverse.diagonal()[:, None]
    known = codes >= 0
    print(f"says what the project says of {(said.argmax(1) == codes)[known].mean():.3f} of the images")
    some = np.random.default_rng(0).permutation(np.flatnonzero(known))
    missed, falls, control, seconds = 0.0, [], [], []
    rng = np.random.default_rng(0)
    for row in some[:12]:
        asked = project._judged(int(row))
        started = perf_counter()
        pushes = learnt.model.pushes(asked.x, asked.code, asked.rival)
        seconds.append(perf_counter() - started)

        def lead(model: Representers, asked: _Judged = asked) -> float:
            scores = model.scores(asked.x[None])[0]
            return float(scores[asked.code] - scores[asked.rival])

        before = lead(learnt.model)
        missed = max(missed, abs(before - pushes.sum()))
        drawn = rng.choice(np.flatnonzero(codes[learnt.rows] == asked.code), LEFT_OUT, replace=False)
        for out, listed in ((np.argsort(-pushes)[:LEFT_OUT], falls), (drawn, control)):
            kept = np.delete(learnt.rows, out)
            model = Representers(blocks=project.blocks).fit(X[kept], codes[kept], len(learnt.names))
            listed.append(before - lead(model))
    print(f"pushes miss the lead by {missed:.1e} at most; asked in {1000 * np.median(seconds):.2f} ms")
    print(f"without the ten that pushed most it falls by {np.mean(falls):.3f}, ten others {np.mean(control):.3f}")


def concepts(project: Project, truth: np.ndarray) -> None:
    started, cpu = perf_counter(), process_time()
    units = project._units(True)
    print(f"\nconcepts learnt in {perf_counter() - started:.1f} s ({process_time() - cpu:.1f} CPU)")
    X, rng = project.near, np.random.default_rng(0)
    active = _activity(units, X)
    ways = {
        "sparse units": active,
        "principal components": X,
        "random directions": X @ rng.normal(size=(X.shape[1], active.shape[1])).astype(np.float32),
    }
    names, sizes = np.unique(truth, return_counts=True)
    names = names[np.argsort(-sizes, kind="stable")][:CLASSES]
    half = rng.permutation(len(X)) % 2 == 0
    print("\n| | best unit | any unit | its strongest of one class |\n|---|---|---|---|")
    for way, Z in ways.items():
        best, any_, pure = [], [], []
        for a, b in combinations(names, 2):
            train, test = (
                [Z[np.flatnonzero((truth == name) & part)[:OF_A_CLASS]] for name in (a, b)] for part in (half, ~half)
            )
            unit = apart(*train).argmax()
            share = apart(*test)
            best.append(share[unit])
            any_.append(np.maximum(share, 1 - share).mean())
            strongest = truth[np.argsort(-Z[:, unit], kind="stable")[:STRONGEST]]
            pure.append(np.unique(strongest, return_counts=True)[1].max() / STRONGEST)
        print(f"| {way} | {np.mean(best):.3f} | {np.mean(any_):.3f} | {np.mean(pure):.3f} |")


def times(folder: Path) -> None:
    print("\n| | first time | then |\n|---|---|---|")
    project = Project(folder)
    for what, ask in (
        ("an image", lambda: project.why(5)),
        ("its heat", lambda: project.heat(5)),
        ("a group", lambda: project.about("group:0")),
        ("two groups", lambda: project.apart("group:0", "group:1")),
    ):
        took = []
        for _ in range(4):
            started = perf_counter()
            ask()
            took.append(perf_counter() - started)
        print(f"| {what} | {took[0]:.2f} s | {np.median(took[1:]):.3f} s |")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("project", type=Path)
    arguments.add_argument("truth", type=Path)
    arguments.add_argument("--answers", type=int, default=250)
    arguments.add_argument("--pictures", type=int, default=100)
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        project = Project(shutil.copytree(args.project, Path(scratch, "project")))
        shutil.rmtree(project.folder / "concepts", ignore_errors=True)
        project.draws = False
        uris = project.images.uris.tolist()
        known = sources.match(uris, sources.open_source(args.truth).labels())  # type: ignore[attr-defined]
        truth = np.array([name or "" for name in known])
        if not project.seq:
            rows = np.random.default_rng(0).permutation(np.flatnonzero(truth != ""))[: args.answers]
            project.label({uris[row]: str(truth[row]) for row in rows})
            project.spread(report=False)
        localisation(project, args.pictures)
        two_things(project)
        representers(project)
        concepts(project, truth)
        times(project.folder)


if __name__ == "__main__":
    main()
