"""Grouping few images: NMI of vote by how many axes of each network it looks at, beside plain k-means of the features.

    python benchmarks/few.py        (4 minutes; the grocery photos from PHYLA_DATA, default ../shared/data)

Twenty draws: twice each of 3 to 20 classes with 10 to 30 photos. docs/benchmarks.md has the figures.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from phyla import plugins
from phyla.cluster import _spaces
from phyla.project import sort

DRAWS = [(3, 10), (3, 20), (6, 10), (6, 18), (4, 30), (10, 12), (10, 18), (20, 12), (8, 30), (20, 20)] * 2
# The fewest axes, and one for how many rows.
LEAST = [(4, 12), (6, 8), (6, 10), (6, 20), (8, 12), (12, 12)]
WAYS = {"all": (10**6, 1)} | {f"{least}, n/{rows}": (least, rows) for least, rows in LEAST}


def main() -> int:
    archive = Path(os.environ.get("PHYLA_DATA", "../shared/data")) / "grocery-photos.zip"
    if not archive.exists():
        print(f"skipped: {archive} is not there")
        return 0
    with tempfile.TemporaryDirectory() as place:
        zipfile.ZipFile(archive).extractall(place)
        project = sort(f"{place}/grocery", f"{place}/project", groups=43, report=False)
        stages = project.store.meta()["features"]
        wide = [project.store.array(f"{stage}/00000.npy") for stage in stages]
        truth = np.array([Path(uri).parent.name for uri in project.images.uris])
    rng, pca, vote = np.random.default_rng(0), plugins.load("reduce", "pca"), plugins.load("cluster", "vote")
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in (*WAYS, "k-means")}
    for classes, each in DRAWS:
        chosen = rng.choice(np.unique(truth), classes, replace=False)
        of_each = [np.flatnonzero(truth == name) for name in chosen]
        rows = np.sort(np.concatenate([rng.choice(of, min(each, len(of)), replace=False) for of in of_each]))
        spaces = [pca(256).fit_transform(X[rows]).astype(np.float32) for X in wide]
        X, blocks, y = np.hstack(spaces), [space.shape[1] for space in spaces], truth[rows]
        for way, (_spaces._LEAST, _spaces._ROWS) in WAYS.items():
            labels = [vote(k, blocks=blocks).fit(X).labels_ for k in (None, classes)]
            found[way].append(tuple(normalized_mutual_info_score(y, of) for of in labels))
        plain = np.hstack([of / np.linalg.norm(of, axis=1, keepdims=True) for of in (X[rows] for X in wide)])
        labels = KMeans(classes, n_init=10, random_state=0).fit(plain).labels_
        found["k-means"].append((np.nan, normalized_mutual_info_score(y, labels)))
        print(classes, len(rows), *(f"{way} {of[-1][0]:.2f} {of[-1][1]:.2f};" for way, of in found.items()), flush=True)
    print(f"{'axes':10} {'number found':>14} {'told':>7}")
    for way, of in found.items():
        print(f"{way:10} {np.mean([f for f, _ in of]):14.3f} {np.mean([t for _, t in of]):7.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
