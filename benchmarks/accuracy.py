"""How well, how fast and in how much memory the default groups CIFAR-10 and the grocery photos.

    python benchmarks/accuracy.py PROJECTS [--seeds 3]

CIFAR-10: fitted to the 50,000 training images without labels, told K = 10, scored on the 10,000 test images, those
that were left out counted under their likeliest group. Features are kept in the folder PROJECTS, so a second run only
groups.
Also: the baseline (k-means on the same features), K unknown, grouping time, and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import json
import resource
from pathlib import Path
from time import perf_counter

import numpy as np
from _data import need

from phyla._progress import Progress
from phyla.cluster import score
from phyla.cluster.kmeans import KMeans
from phyla.engine import cores
from phyla.project import Project, score_rows


def grouped(project: Project, **options: object) -> tuple[dict, float]:
    """Group the project's features once more, as `phyla sort` does, and time it."""
    from phyla.cluster.vote import Vote

    X = project.X
    blocks = [len(project._array(stage, "components_")) for stage in project._current("reduced")]
    started = perf_counter()
    vote = Vote(blocks=blocks, n_jobs=cores(), **options).fit(X)
    return {"vote": vote, "X": X}, perf_counter() - started


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--seeds", type=int, default=3)
    args = arguments.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)

    train, test = need("cifar10-train.parquet"), need("cifar10-test.parquet")
    fitted = Project(args.folder / "cifar.phyla", create=True)
    fitted.sort(train, groups=10, quiet=False)
    held = Project(args.folder / "cifar-test.phyla", create=True)
    held.sort(test, groups=10, quiet=False)
    # The test images in the spaces of the training images: the same projection that `predict` applies.
    truth = held._source.labels()
    labels = np.array([truth[uri] for uri in held.images.uris])
    spaces = []
    for stage, reduced in zip(fitted._current("features"), fitted._current("reduced"), strict=True):
        from phyla._steps import Steps, restore
        from phyla.reduce.pca import PCA

        pca = restore(PCA(), fitted.store.arrays(reduced))
        wide = Steps(held.store, 1, Progress(quiet=True)).features(stage, held.images.ids)
        spaces.append(np.concatenate([pca.transform(X) for X in wide]))
    T = np.hstack(spaces)

    found: dict[str, list[dict]] = {"vote": [], "kmeans": [], "vote, K unknown": []}
    for seed in range(args.seeds):
        got, seconds = grouped(fitted, n_clusters=10, random_state=seed)
        best, strength = got["vote"].assign(T)
        told = score(best, strength < 0.5, labels)
        top = np.argsort(-strength)[: int(0.8 * len(best))]
        told["top80"] = score(best[top], np.zeros(len(top), bool), labels[top])["accuracy"]
        found["vote"].append(told | {"seconds": seconds})
        started = perf_counter()
        kmeans = KMeans(10, blocks=got["vote"].blocks, random_state=seed).fit(got["X"])
        found["kmeans"].append(
            score(kmeans.predict(T), np.zeros(len(T), bool), labels) | {"seconds": perf_counter() - started}
        )
        got, seconds = grouped(fitted, random_state=seed)
        best, strength = got["vote"].assign(T)
        told = score(best, strength < 0.5, labels)
        found["vote, K unknown"].append(told | {"seconds": seconds, "groups": int(got["vote"].n_clusters_)})
    for what, runs in found.items():
        print(f"CIFAR-10 {what}")
        for key in runs[0]:
            values = [run[key] for run in runs]
            each = np.round(values, 4).tolist()
            print(f"  {key:22} mean {np.mean(values):8.4f}  spread {np.ptp(values):.4f}  {each}")

    photos = Project(args.folder / "grocery.phyla", create=True)
    truth_file = args.folder / "grocery-truth.csv"
    for groups in (43, None):
        started = perf_counter()
        photos.sort(need("grocery-photos.zip"), groups=groups, anew=True, quiet=False)
        uris = photos.rows()["uri"].tolist()
        truth_file.write_text("uri,label\n" + "".join(f"{uri},{uri.rsplit('/', 2)[-2]}\n" for uri in uris))
        rows = photos.rows()
        print(f"grocery K={groups}", json.dumps(score_rows(rows, truth_file)), f"{perf_counter() - started:.1f} s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
