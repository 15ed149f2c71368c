"""Every grouping method on three labelled sets: accuracy, NMI, ARI, processor seconds, memory; means of three seeds.

    python benchmarks/methods.py PROJECTS [--seeds 3] [--methods kmeans,vote] [--sets cifar,tail,photos]

PROJECTS is the folder that `accuracy.py` keeps its sorted projects in. All methods get the same features (three
networks, 256 whitened axes each) and are told the number of classes. CIFAR-10: fitted to the training images, scored on
the test images. Long tail: 5,000 to 50 training images a class, whitened anew; accuracy is balanced, as the test images
are. Photos: 1,164 of 43 classes, scored on themselves. `label_shift` is not told any domains and `pairwise` no answers.
Each run is a process of its own, so that memory is that of the method beside the features and the libraries.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from time import process_time

import numpy as np

from phyla import plugins

CLASSES = {"cifar": 10, "tail": 10, "photos": 43}
LARGEST, SMALLEST = 5000, 50  # images of the commonest and the rarest class of the long tail


def prepare(folder: Path) -> None:
    """Write X, y, Xt, yt of each set into the folder, unless they are there."""
    from phyla._progress import Progress
    from phyla._steps import COMPONENTS, Steps
    from phyla.project import Project
    from phyla.reduce.pca import PCA

    if all((folder / f"{name}.npz").exists() for name in CLASSES):
        return
    projects = {name: Project(folder / f"{name}.phyla") for name in ("cifar", "cifar-test", "grocery")}

    def wide(name: str) -> list[np.ndarray]:
        project = projects[name]
        steps = Steps(project.store, 1, Progress(quiet=True))
        stages = project._current("features")
        return [np.concatenate(list(steps.features(stage, project.images.ids))) for stage in stages]

    def labels(name: str) -> np.ndarray:
        project = projects[name]
        if name == "grocery":
            return np.unique([uri.rsplit("/", 2)[-2] for uri in project.images.uris], return_inverse=True)[1]
        truth = project._source.labels()
        return np.unique([truth[uri] for uri in project.images.uris], return_inverse=True)[1]

    def save(name: str, X: list, y: np.ndarray, Xt: list, yt: np.ndarray) -> None:
        models = [PCA(COMPONENTS).fit(space) for space in X]
        parts = [np.hstack([m.transform(s) for m, s in zip(models, spaces, strict=True)]) for spaces in (X, Xt)]
        np.savez(folder / f"{name}.npz", X=parts[0], y=y, Xt=parts[1], yt=yt)

    X, y, Xt, yt = wide("cifar"), labels("cifar"), wide("cifar-test"), labels("cifar-test")
    save("cifar", X, y, Xt, yt)
    sizes = np.geomspace(LARGEST, SMALLEST, 10).astype(int)
    rows = np.sort(np.concatenate([np.flatnonzero(y == c)[:size] for c, size in enumerate(sizes)]))
    save("tail", [space[rows] for space in X], y[rows], Xt, yt)
    photos = wide("grocery")
    save("photos", photos, labels("grocery"), photos, labels("grocery"))


def one(folder: Path, method: str, name: str, seed: int) -> dict[str, float]:
    """Fit and score one method on one set, in this process."""
    from phyla.cluster import score
    from phyla.engine import cores
    from phyla.project import EFFORTS

    told = np.load(folder / f"{name}.npz")
    X, Xt, yt = told["X"], told["Xt"], told["yt"]
    method, _, effort = method.partition(":")
    assert effort in ("", *EFFORTS)
    grouper = plugins.load("cluster", method)(CLASSES[name], random_state=seed)
    offered = {"blocks": (X.shape[1] // 3,) * 3, "n_jobs": cores(), **grouper.EFFORT.get(effort, {})}
    grouper.set_params(**{k: v for k, v in offered.items() if k in grouper.get_params()})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = process_time()
    grouper.fit(X)
    seconds = process_time() - started
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    found = score(grouper.predict(Xt), np.zeros(len(Xt), bool), yt)
    return {key: found[key] for key in ("accuracy", "nmi", "ari")} | {"seconds": seconds, "MB": memory}


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--methods", default=",".join([*plugins.names("cluster"), "vote:best"]))
    arguments.add_argument("--sets", default=",".join(CLASSES))
    arguments.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.one:
        print(json.dumps(one(args.folder, args.one[0], args.one[1], int(args.one[2]))))
        return
    prepare(args.folder)
    for name in args.sets.split(","):
        print(f"\n| {name} | accuracy | spread | NMI | ARI | CPU s | MB |\n|---|---|---|---|---|---|---|")
        for method in args.methods.split(","):
            runs = []
            for seed in range(args.seeds):
                command = [sys.executable, __file__, str(args.folder), "--one", method, name, str(seed)]
                runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            mean = {key: np.mean([run[key] for run in runs]) for key in runs[0]}
            spread = np.ptp([run["accuracy"] for run in runs])
            print(
                f"| `{method}` | {mean['accuracy']:.3f} | {spread:.3f} | {mean['nmi']:.3f} | {mean['ari']:.3f} "
                f"| {mean['seconds']:.1f} | {mean['MB']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
