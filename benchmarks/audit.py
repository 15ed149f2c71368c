"""How well the audit finds planted wrong labels and strange pictures in CIFAR-10; cleanlab beside it, if installed.

2 cores, 5 seeds: AUROC of `mislabelled` 0.997 and 0.995 (symmetric, asymmetric), of cleanlab 2.9's best score on the
probabilities of five folds 0.996 and 0.982. Food among CIFAR-10: `outlier` 0.979.

    python benchmarks/audit.py PROJECTS [--seeds 5] [--parts labels,few,strange,classes]

PROJECTS is the folder that `accuracy.py` keeps its sorted projects in. Wrong labels: a tenth of all, to any other class
(symmetric), or of cats, dogs, trucks, automobiles, deer and horses, to the other of each pair (asymmetric); AUROC of
each score, mean and spread over seeds. Strange pictures: 1,000 photos of food, or digits, of 32 pixels, among the
50,000; 900 pictures of a class among the 45,000 of the others; and 1,000 pictures half of one class, half of another.
Principal components and neighbours are computed with them, as a run on such a collection would.
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from time import process_time

import numpy as np
from _data import need
from scipy.special import softmax
from sklearn.metrics import roc_auc_score as auroc

SIDE, STRANGE = 32, 1000  # pixels, and pictures of each strange kind
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PARTNER = np.array([0, 9, 2, 5, 7, 3, 6, 4, 8, 1])  # automobile and truck, cat and dog, deer and horse
SHARE, FOLDS, WIDTHS = 0.1, 5, (256,) * 3
HIDDEN, OF_HIDDEN = (1, 3, 8), 900  # classes, and how many pictures of each stay


def strange(folder: Path) -> None:
    """Write three kinds of pictures that are none of CIFAR-10's: food and digits, and halves of two classes."""
    import pyarrow.parquet as pq
    from PIL import Image
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(0)
    (folder / "food").mkdir(parents=True)
    with zipfile.ZipFile(need("grocery-photos.zip")) as photos:
        names = sorted(name for name in photos.namelist() if name.endswith(".jpg"))
        for number, at in enumerate(rng.permutation(len(names))[:STRANGE]):
            picture = Image.open(io.BytesIO(photos.read(names[at]))).convert("RGB")
            picture.resize((SIDE, SIDE), Image.Resampling.BOX).save(folder / f"food/{number:04}.png")
    (folder / "digits").mkdir()
    digits = load_digits().images
    for number, at in enumerate(rng.permutation(len(digits))[:STRANGE]):
        small = Image.fromarray((255 - digits[at] * (255 / 16)).astype("uint8"))
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"digits/{number:04}.png")
    (folder / "both").mkdir()
    table = pq.read_table(need("cifar10-test.parquet"))
    labels, data = table["label"].to_numpy(), table["image"].to_pylist()
    number = 0
    while number < STRANGE:
        left, right = rng.integers(len(labels), size=2)
        if labels[left] != labels[right]:
            halves = [np.asarray(Image.open(io.BytesIO(data[at])).convert("RGB")) for at in (left, right)]
            Image.fromarray(np.hstack(halves)).save(folder / f"both/{number:04}-{labels[left]}-{labels[right]}.png")
            number += 1


def check(name: str):
    """The module of a check: its unexported functions give the score of every row."""
    return import_module(f"phyla.audit.{name}")


def leading(X: np.ndarray) -> np.ndarray:
    from phyla.cluster import leading

    return leading(X, WIDTHS)


def wrong(y: np.ndarray, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which some are wrong, and which."""
    rng = np.random.default_rng(seed)
    drawn = rng.random(len(y)) < SHARE
    other = (y + rng.integers(1, len(CLASSES), len(y))) % len(CLASSES) if kind == "symmetric" else PARTNER[y]
    labels = np.where(drawn, other, y).astype(np.int32)
    return labels, labels != y


def in_folds(X: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """(n, c) probabilities of softmax regressions that were fitted to the other folds."""
    from phyla.audit._trained import trained, with_one

    A = with_one(X)
    fold = np.random.default_rng([seed, 1]).permutation(len(X)) % FOLDS
    logits = np.empty((len(X), len(CLASSES)), np.float32)
    for one in range(FOLDS):
        own = np.random.default_rng([seed, 2, one])
        logits[fold == one] = A[fold == one] @ trained(A[fold != one], labels[fold != one], len(CLASSES), own)
    return softmax(logits, axis=1)


def cleanlab_scores(labels: np.ndarray, proba: np.ndarray, of: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, score (larger: more likely wrong) and issues of cleanlab."""
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        print("skipped: cleanlab is not installed", file=sys.stderr)
        return
    proba = proba.astype(np.float64) / proba.sum(1, keepdims=True, dtype=np.float64)
    issues = find_label_issues(labels, proba, n_jobs=1)
    for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
        yield f"cleanlab {method}, {of}", -get_label_quality_scores(labels, proba, method=method), issues


def scores(X, labels, neighbors, seed) -> Iterator[tuple[str, np.ndarray, np.ndarray, float]]:
    """Name, score, findings and processor seconds of every way to find wrong labels."""
    from phyla.audit._mislabel import OF_REGRESSION, OF_VOTE, channel, left_out, vote
    from phyla.audit._trained import margins

    def timed(function, *args):
        started = process_time()
        found = function(*args)
        return found, process_time() - started

    judged, seconds = timed(check("mislabelled").judge, X, labels, 10, neighbors, WIDTHS, 2)
    yield "mislabelled", judged.wrong, judged.wrong >= 0.5, seconds
    only, seconds = timed(left_out, X, labels, 10, 2)
    yield "· regression, left out: its margin", -margins(only, labels), judged.wrong < 0, seconds
    score = channel([only], labels, (OF_REGRESSION,)).wrong
    yield "· and the channel", score, score >= 0.5, seconds
    score = channel([vote(neighbors[0], labels, 10)], labels, (OF_VOTE,)).wrong
    yield "· neighbours' vote and the channel", score, score >= 0.5, 0
    score, seconds = timed(check("margin_area").severity, X, labels, 10, WIDTHS, 2)
    yield "margin_area", score, score >= 0.5, seconds
    (score, _), seconds = timed(check("small_loss").severity, X, labels, 10, WIDTHS, 2)
    yield "small_loss", score, score >= 0.5, seconds
    (score, _), seconds = timed(check("sub_centres").severity, X, labels, 10, WIDTHS)
    yield "sub_centres", score, score >= 0.5, seconds
    folds, seconds = timed(in_folds, X, labels, seed)
    yield "margin in five folds (control)", -margins(np.log(folds + 1e-12), labels), judged.wrong < 0, seconds
    score = channel([np.log(folds + 1e-6)], labels, (1.0,)).wrong
    yield "the channel, five folds", score, score >= 0.5, 0
    for proba, of in ((folds, "five folds"), (judged.proba, "of `mislabelled`")):
        for name, score, issues in cleanlab_scores(labels, proba, of):
            yield name, score, issues, 0


def of_labels(X: np.ndarray, neighbors: tuple, y: np.ndarray, seeds: int) -> None:
    for kind in ("symmetric", "asymmetric"):
        rows: dict[str, list[tuple[float, float, float, float]]] = {}
        for seed in range(seeds):
            labels, bad = wrong(y, kind, seed)
            for name, score, found, seconds in scores(X, labels, neighbors, seed):
                precise = bad[found].mean() if found.any() else np.nan
                rows.setdefault(name, []).append((auroc(bad, score), precise, found[bad].mean(), seconds))
        print(f"\n| {kind} | AUROC | spread | precision | recall | CPU s |\n|---|---|---|---|---|---|")
        for name, runs in rows.items():
            mean, spread = np.mean(runs, axis=0), np.ptp(np.array(runs)[:, 0])
            told = " | ".join(f"{v:.3f}" if v == v and v > 0 else "" for v in mean[1:3])
            print(f"| {name} | {mean[0]:.4f} | {spread:.4f} | {told} | {mean[3]:.1f} |", flush=True)


def of_few(X: np.ndarray, y: np.ndarray) -> None:
    """A tenth of few labels wrong, of 1,000 pictures."""
    from phyla.audit._mislabel import OF_VOTE, channel, vote
    from phyla.neighbors import nearest_neighbors

    print("\n| labelled of 1,000 | mislabelled | small_loss | margin_area | neighbours |\n|---|---|---|---|---|")
    for many in (40, 100, 200, 1000):
        found = []
        for seed in range(10):
            rng = np.random.default_rng(seed)
            rows = rng.permutation(len(X))[:1000]
            part, told = np.ascontiguousarray(X[rows]), rng.permutation(1000)[:many]
            labels, bad = np.full(1000, -1, np.int32), np.zeros(1000, bool)
            bad[told[: many // 10]] = True
            labels[told] = y[rows[told]]
            labels[bad] = (labels[bad] + rng.integers(1, 10, bad.sum())) % 10
            near = nearest_neighbors(leading(part), 20)
            ways = (
                check("mislabelled").judge(part, labels, 10, near, WIDTHS, 1).wrong,
                check("small_loss").severity(part, labels, 10, WIDTHS, 1)[0],
                check("margin_area").severity(part, labels, 10, WIDTHS, 1),
                channel([vote(near[0], labels, 10)], labels, (OF_VOTE,)).wrong,
            )
            found.append([auroc(bad[told], way[told]) for way in ways])
        print(f"| {many} | " + " | ".join(f"{value:.3f}" for value in np.mean(found, axis=0)) + " |", flush=True)


def joined(wide: list[np.ndarray], more: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, tuple]:
    """X and residuals (n, 3) of the wide features and more of them together, and the neighbours."""
    from phyla.neighbors import nearest_neighbors
    from phyla.reduce.pca import PCA

    X, residual = [], []
    for space, others in zip(wide, more, strict=True):
        both = np.concatenate([space, others]).astype(np.float32)
        model = PCA(WIDTHS[0]).fit(both)
        X.append(model.transform(both))
        residual.append(model.residual(both))
    narrow = np.hstack(X)
    return narrow, np.stack(residual, 1), nearest_neighbors(leading(narrow), 20, n_jobs=2)


def of_strange(name: str, wide: list[np.ndarray], more: list[np.ndarray], y: np.ndarray, of_more: np.ndarray) -> None:
    """One row of the table of strange pictures: `more` among `wide`, whose labels are y; −1 in both: not known."""
    from phyla import plugins

    way = check("outlier")
    X, residual, neighbors = joined(wide, more)
    bad, labels = np.arange(len(X)) >= len(y), np.concatenate([y, of_more]).astype(np.int32)
    groups = plugins.load("cluster", "kmeans")(10).fit(leading(X)).labels_
    started = process_time()
    default = way.severity(way.strangeness(X, neighbors, residual, None, WIDTHS, way.DEFAULT, 2))
    seconds = process_time() - started
    without = way.severity(way.strangeness(X, neighbors, None, None, WIDTHS, way.DEFAULT, 2))
    each = way.strangeness(X, neighbors, residual, groups, WIDTHS, list(way.WAYS), 2)
    unknown = check("unknown_class").severity(X, labels, int(y.max()) + 1, WIDTHS, 2)
    proba = check("mislabelled").judge(X, labels, int(y.max()) + 1, neighbors, WIDTHS, 2).proba
    found = default >= 0.5
    values = [default, without, *each.values(), unknown, check("ambiguous").severity(proba)]
    told = " | ".join(f"{auroc(bad, value):.3f}" for value in values)
    print(f"| {name} | {told} | {found.sum()} | {bad[found].sum()} | {seconds:.1f} |", flush=True)


def main() -> None:
    from phyla._progress import Progress
    from phyla._steps import Steps
    from phyla.project import Project, sort

    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--parts", default="labels,few,strange,classes")
    args = arguments.parse_args()
    parts = args.parts.split(",")
    cifar = Project(args.folder / "cifar.phyla")

    def wide(project: Project) -> list[np.ndarray]:
        steps = Steps(project.store, 1, Progress(quiet=True))
        stages = project._current("features")
        return [np.concatenate(list(steps.features(stage, project.images.ids))).astype(np.float16) for stage in stages]

    truth = cifar._source.labels()
    y = np.unique([truth[uri] for uri in cifar.images.uris], return_inverse=True)[1]
    features = wide(cifar)
    if {"labels", "few"} & set(parts):
        X, _, neighbors = joined(features, [space[:0] for space in features])
        if "labels" in parts:
            of_labels(X, neighbors, y, args.seeds)
        if "few" in parts:
            of_few(X, y)
    if not {"strange", "classes"} & set(parts):
        return
    ways = [*check("outlier").WAYS, "unknown_class", "ambiguous"]
    print("\n| hidden | outlier | without residual | " + " | ".join(ways) + " | found | of them hidden | CPU s |")
    print("|---" * (len(ways) + 6) + "|")
    if "strange" in parts:
        folder = args.folder / "strange"
        if not folder.exists():
            strange(folder)
        project = Project(args.folder / "strange.phyla", create=True)
        if not (args.folder / "strange.phyla" / "groups").exists():
            sort(folder, project.folder, groups=3, method="kmeans", report=False)
        others, uris = wide(project), [uri.split("/")[-2:] for uri in project.images.uris]
        for kind in ("food", "digits", "both"):
            rows = [row for row, uri in enumerate(uris) if uri[0] == kind]
            own = [int(uris[row][1].split("-")[1]) if kind == "both" else -1 for row in rows]
            of_strange(kind, features, [space[rows] for space in others], y, np.array(own))
    if "classes" in parts:
        for hidden in HIDDEN:
            keep, rows = np.flatnonzero(y != hidden), np.flatnonzero(y == hidden)[:OF_HIDDEN]
            rest = y[keep] - (y[keep] > hidden)
            more = [space[rows] for space in features]
            of_strange(CLASSES[hidden], [space[keep] for space in features], more, rest, np.full(OF_HIDDEN, -1))


if __name__ == "__main__":
    main()
