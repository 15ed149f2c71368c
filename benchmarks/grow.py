"""A project that grows: how fast, whether drift is told, and whether another network's vectors can take over.

    python benchmarks/grow.py align|drift|time PROJECTS [--rounds 4]

PROJECTS is the folder that `accuracy.py` filled: CIFAR-10's training and test images, described by the three networks.

- align: lite0's space of the 50,000 training images is searched with the 10,000 test images as lite2 describes them,
  brought there by an alignment learnt from some images that both describe. Share of the test images whose 20 nearest
  name their class, beside lite0 and lite2 each among its own, and of groups that are as lite0 has them.
- drift: groups of nine classes; more of the same is added, or of one class, or a share of the tenth, digits or photos.
  How often `drift` says that it is time to group anew, and how well its count of strange images, the PCA's residual and
  the share left out tell the draws with something new from those without (AUROC).
- time: 1,000 files added to a folder of 60,000 that is sorted already, stage by stage.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import cv2
import numpy as np
from _data import grocery, need
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from phyla import backbones, plugins, sources
from phyla._progress import Progress
from phyla._steps import Steps, images_of, limited
from phyla.cluster import drift, leading
from phyla.cluster.vote import Vote
from phyla.engine import cores
from phyla.neighbors import nearest_of
from phyla.project import DEFAULT_BACKBONES, Project
from phyla.reduce.align import Align
from phyla.reduce.pca import PCA
from phyla.reduce.relative import Relative

WIDTH, AXES, NEAR = 256, 32, 20  # axes kept, those that Phyla searches, neighbours
Rows = NDArray[np.float32]


def described(folder: Path, name: str) -> tuple[list[NDArray[np.float16]], NDArray[np.str_]]:
    """The features of a project's images by each network, and the images' classes."""
    project = Project(folder / f"{name}.phyla")
    truth = project._source.labels()
    steps = Steps(project.store, 1, Progress(quiet=True))
    stages = project._current("features")
    wide = [np.concatenate(list(steps.features(s, project.images.ids))).astype(np.float16) for s in stages]
    return wide, np.array([truth[uri] for uri in project.images.uris])


def pca_of(X: NDArray[Any]) -> PCA:
    pca = PCA(WIDTH)
    for start in range(0, len(X), 4096):
        pca.partial_fit(X[start : start + 4096].astype(np.float32))
    return pca


def narrow(pca: PCA, X: NDArray[Any]) -> tuple[Rows, Rows]:
    parts = [X[start : start + 4096].astype(np.float32) for start in range(0, len(X), 4096)]
    return np.concatenate([pca.transform(p) for p in parts]), np.concatenate([pca.residual(p) for p in parts])


# ---- another network


def align(folder: Path) -> None:
    (train, y), (test, truth) = described(folder, "cifar"), described(folder, "cifar-test")
    _, y = np.unique(y, return_inverse=True)
    _, truth = np.unique(truth, return_inverse=True)
    pcas = [pca_of(train[i]) for i in (0, 2)]
    old, new = (narrow(p, train[i])[0] for p, i in zip(pcas, (0, 2), strict=True))
    as_old, as_new = (narrow(p, test[i])[0] for p, i in zip(pcas, (0, 2), strict=True))
    vote = Vote(10, blocks=(WIDTH,), n_jobs=cores()).fit(old)
    in_groups = vote.predict(as_old)

    def named(gallery: Rows, queries: Rows, axes: int = AXES) -> NDArray[np.intp]:
        found = y[nearest_of(queries[:, :axes], gallery[:, :axes], NEAR, cores())[0]]
        return np.stack([(found == c).sum(1) for c in range(10)], axis=1).argmax(1)

    whole = named(new, as_new)

    def tell(what: str, gallery: Rows, queries: Rows, groups: bool = True, axes: int = AXES) -> None:
        got = named(gallery, queries, axes)
        right = (got == truth).mean()
        found = f"{(vote.predict(queries) == in_groups).mean():9.3f}" if groups else ""
        share = right / (whole == truth).mean()
        print(f"{what:32}{right:8.4f}{share:16.3f}{(got == whole).mean():10.3f}{found}", flush=True)

    print(f"{'':32}{'right':>8}{'of all by lite2':>16}{'as these':>10}{'groups':>9}")
    tell("lite0 in lite0", old, as_old)
    tell("lite2 in lite2", new, as_new, groups=False)
    tell("lite2 in lite0, not aligned", old, as_new)
    for m in (1000, 4000, 8000):
        rows = np.sort(np.random.default_rng(0).choice(len(y), m, replace=False))
        seeing = pca_of(train[2][rows])
        here, queries = narrow(seeing, train[2][rows])[0], narrow(seeing, test[2])[0]
        for way in ("rotation", "ridge"):
            tell(f"{m:,} shared, {way}", old, Align(way).fit(here, old[rows]).transform(queries))
        one, other = Relative(256).fit(old[rows, :AXES]), Relative(256).fit(here[:, :AXES])
        seen = one.transform(old[:, :AXES]), other.transform(queries[:, :AXES])
        tell(f"{m:,} shared, relative", *seen, groups=False, axes=256)


# ---- drift


class Grown:
    """Some images as they were fitted, and what comes late."""

    def __init__(self, wide: list[NDArray[Any]], groups: int | None) -> None:
        self.pcas = [pca_of(X) for X in wide]
        X, self.left = self.see(wide)
        self.near = leading(X, [len(p.components_) for p in self.pcas])
        self.vote = Vote(groups, blocks=[len(p.components_) for p in self.pcas], n_jobs=cores()).fit(X)

    def see(self, wide: list[NDArray[Any]]) -> tuple[Rows, Rows]:
        seen = [narrow(p, X) for p, X in zip(self.pcas, wide, strict=True)]
        return np.hstack([X for X, _ in seen]), np.mean([left for _, left in seen], axis=0)

    def told(self, wide: list[NDArray[Any]]) -> tuple[bool, float, float, float]:
        """Whether it is time to group anew; the shares of late images that are strange, far from the axes, left out."""
        X, left = self.see(wide)
        labels, strength = self.vote.assign(X)
        near = np.vstack([self.near, leading(X, [len(p.components_) for p in self.pcas])])
        fitted = np.arange(len(near)) < len(self.near)
        found = drift(near, fitted, np.r_[self.vote.labels_, labels], cores())
        far = (left > np.quantile(self.left, 0.99)).mean()
        return found["anew"], found["strange"] / len(X), float(far), float((strength < 0.5).mean())


def drifts(folder: Path, rounds: int) -> None:
    wide, y = described(folder, "cifar")
    others = {"digits": digits(folder), "photos": photos(folder)}
    rng = np.random.default_rng(0)
    told: dict[str, list[tuple[bool, float, float, float]]] = {}
    classes = np.unique(y)
    for tenth in classes[[2, 3, 9]]:
        known, never = np.flatnonzero(y != tenth), np.flatnonzero(y == tenth)
        fit = np.sort(rng.choice(known, 20_000, replace=False))
        grown, spare = Grown([X[fit] for X in wide], 9), np.setdiff1d(known, fit)

        def draw(n: int, share: float = 0.0, of: NDArray[np.intp] = spare, more: str = "", never=never) -> Any:
            new = round(n * share)
            kept = rng.choice(of, n - new, replace=False)
            if more:
                extra = [X[rng.choice(len(X), new, replace=False)] for X in others[more]]
            else:
                at = rng.choice(never, new, replace=False)
                extra = [X[at] for X in wide]
            return [np.concatenate([X[kept], e]) for X, e in zip(wide, extra, strict=True)]

        for _ in range(rounds):
            for n in (30, 200, 1000, 5000):
                told.setdefault(f"same: {n:,} more", []).append(grown.told(draw(n)))
            for name in rng.choice(classes[classes != tenth], 2, replace=False):
                one = spare[y[spare] == name]
                told.setdefault("same: 1,000 of one class", []).append(grown.told(draw(1000, of=one)))
            weights = rng.dirichlet(np.full(len(classes), 0.3))[np.searchsorted(classes, y[spare])]
            mix = rng.choice(spare, 4000, replace=False, p=weights / weights.sum())
            told.setdefault("same: 1,000, another mix", []).append(grown.told(draw(1000, of=mix)))
            for share in (0.02, 0.05, 0.1, 0.2, 1):
                told.setdefault(f"new: 1,000, {share:.0%} of a tenth class", []).append(grown.told(draw(1000, share)))
            told.setdefault("new: 5,000, 2% of a tenth class", []).append(grown.told(draw(5000, 0.02)))
            told.setdefault("new: 50 of a tenth class", []).append(grown.told(draw(50, 1)))
            for more in others:
                told.setdefault(f"new: 1,000, 3% {more}", []).append(grown.told(draw(1000, 0.03, more=more)))
    few, kinds = others["photos"], len(others["photos"][0])
    for seed in range(2 * rounds):
        order = np.random.default_rng(seed).permutation(kinds)
        grown = Grown([X[order[:900]] for X in few], 43)
        told.setdefault("same: 264 more to 900 photos", []).append(grown.told([X[order[900:]] for X in few]))
    without = [d for name, draws in told.items() if name.startswith("same: 1,000") for d in draws]
    print(
        f"{'':36}{'draws':>6}{'anew':>6}{'strange':>9}   AUROC against 1,000 of the same: strange, residual, left out"
    )
    for name, draws in told.items():
        anew, strange = np.mean([d[0] for d in draws]), np.mean([d[1] for d in draws])
        known = np.r_[np.zeros(len(without)), np.ones(len(draws))]
        curves = [roc_auc_score(known, [d[i] for d in [*without, *draws]]) for i in (1, 2, 3)]
        shown = "".join(f"{c:8.2f}" for c in curves) if name.startswith("new") else ""
        print(f"{name:36}{len(draws):6}{anew:6.2f}{strange:9.4f}   {shown}", flush=True)


def seen(source: sources.Source) -> list[NDArray[np.float16]]:
    """The features of all pictures of a source by the three networks."""
    from phyla._steps import as_table, scan_all

    images = images_of(as_table(**scan_all(source, source.entries(), cores(), lambda n: None)), source)
    networks = [backbones.load(backbones.card(name), cores()) for name in DEFAULT_BACKBONES]
    run = plugins.load("engine", "local")
    shards = list(backbones.extract(images, range(len(images)), networks, run, cores()))
    return [np.concatenate([s.features[i] for s in shards]) for i in range(len(networks))]


def kept(folder: Path, name: str, make: Callable[[], Path]) -> list[NDArray[np.float16]]:
    path = folder / f"grow-{name}.npz"
    if not path.exists():
        np.savez(path, *seen(sources.open_source(make())))
    with np.load(path) as arrays:
        return [arrays[key] for key in arrays.files]


def digits(folder: Path) -> list[NDArray[np.float16]]:
    from phyla._demo import digits as write

    return kept(folder, "digits", lambda: Path(write(str(folder / "grow-digits"))))


def photos(folder: Path) -> list[NDArray[np.float16]]:
    return kept(folder, "photos", lambda: grocery(folder))


# ---- time


def pictures() -> Iterator[tuple[str, bytes]]:
    import pyarrow.parquet as pq

    for part in ("train", "test"):
        for row, cell in enumerate(pq.read_table(need(f"cifar10-{part}.parquet"))["image"].to_pylist()):
            yield f"{part}_{row:05}.png", cell["bytes"] if isinstance(cell, dict) else cell


def base(folder: Path) -> Path:
    """60,000 files, sorted; their features are those of the projects, for an image is known by its bytes."""
    work = folder / "grow"
    if (work / "base.phyla" / "phyla.json").exists():
        return work
    (work / "photos").mkdir(parents=True)
    for name, data in pictures():
        (work / "photos" / name).write_bytes(data)
    for stage in Project(folder / "cifar.phyla")._current("features"):
        out, number = work / "base.phyla" / stage, 0
        out.mkdir(parents=True)
        shutil.copy(folder / "cifar.phyla" / stage / "recipe.json", out)
        for project in ("cifar", "cifar-test"):
            for path in sorted((folder / f"{project}.phyla" / stage).glob("?????.npy")):
                for suffix in (".npy", ".ids.npy", ".faults.json"):
                    shutil.copy(path.with_suffix("").with_suffix(suffix), out / f"{number:05}{suffix}")
                number += 1
    (work / "base.phyla" / "phyla.json").write_text(json.dumps({"format": 1}))
    Project(work / "base.phyla").sort(work / "photos", groups=10, quiet=False)
    return work


def time(folder: Path) -> None:
    work = base(folder)
    shutil.rmtree(work / "grown.phyla", ignore_errors=True)
    shutil.copytree(work / "base.phyla", work / "grown.phyla")
    new = []
    for number, (_, data) in zip(range(1000), pictures(), strict=False):
        mirrored = cv2.imdecode(np.frombuffer(data, np.uint8), 1)[:, ::-1]
        new.append(work / "photos" / f"new_{number:05}.png")
        new[-1].write_bytes(cv2.imencode(".png", mirrored)[1].tobytes())
    spent: dict[str, tuple[float, float]] = {}
    from phyla import _growing, project

    def watch(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            wall, cpu = perf_counter(), process_time()
            try:
                return real(*args, **kwargs)
            finally:
                spent[name] = perf_counter() - wall, process_time() - cpu

        setattr(owner, name, watched)

    for owner, name in (
        (Steps, "scan"), (Steps, "extract"), (_growing.Growth, "_reduced"), (_growing.Growth, "_grouped"),
        (_growing.Growth, "_mapped"), (_growing.Growth, "place"), (project, "draw"),
    ):  # fmt: skip
        watch(owner, name)
    try:
        wall, cpu = perf_counter(), process_time()
        told = Project(work / "grown.phyla").sort()
        spent["all"] = perf_counter() - wall, process_time() - cpu
    finally:
        for path in new:
            path.unlink()
    assert told["drift"]["added"] == 1000, told["drift"]
    for name, (wall, cpu) in spent.items():
        print(f"{name:10}{wall:8.2f} s{cpu:8.2f} s of CPU time")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("what", choices=["align", "drift", "time"])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--rounds", type=int, default=4, help="of draws in which something is added")
    args = arguments.parse_args()
    with limited(cores()):
        if args.what == "drift":
            drifts(args.folder, args.rounds)
        else:
            {"align": align, "time": time}[args.what](args.folder)


if __name__ == "__main__":
    main()
