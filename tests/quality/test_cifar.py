"""Real photographs, a real network: better than what needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from phyla import plugins, sources
from phyla.cluster import score
from phyla.project import Project, sort

CLASSES = ("airplane", "frog", "truck")
EACH = 200
FLOOR = 0.90


@pytest.fixture(scope="module")
def cifar(PHYLA_DATA: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 200 test pictures of three classes of CIFAR-10, as a Parquet file."""
    if not (PHYLA_DATA / "cifar10-test.parquet").exists():
        pytest.skip("needs cifar10-test.parquet in the folder that PHYLA_DATA names")
    named = sources.open_source(PHYLA_DATA / "cifar10-test.parquet").labels()  # type: ignore[attr-defined]
    labels = np.array(list(named.values()))
    rows = np.sort(np.concatenate([np.flatnonzero(labels == c)[:EACH] for c in CLASSES]))
    table = pq.read_table(PHYLA_DATA / "cifar10-test.parquet").take(pa.array(rows))
    path = tmp_path_factory.mktemp("cifar") / "three.parquet"
    pq.write_table(table, path)
    assert pc.count_distinct(table["label"]).as_py() == 3
    return path


def of_pixels(cifar: Path) -> dict[str, Any]:
    """The control: k-means on the pixels themselves, at 16 × 16."""
    source = sources.open_source(cifar)
    uris = [entry.uri for entry in source.entries()]
    X = np.stack([cv2.resize(sources.decode(source.read(u), 32), (16, 16), interpolation=cv2.INTER_AREA) for u in uris])
    groups = plugins.load("cluster", "kmeans")(3).fit(X.reshape(len(X), -1).astype(np.float32)).labels_
    truth = source.labels()  # type: ignore[attr-defined]
    return score(groups, np.zeros(len(groups), bool), [truth[uri] for uri in uris])


def test_three_classes(cifar: Path, tmp_path: Path) -> None:
    project: Project = sort(cifar, tmp_path / "project", backbone=["lite0"], groups=3, report=False)
    got, control = project.score(cifar), of_pixels(cifar)
    told = (
        f"vote on lite0 {got['accuracy']:.3f}, k-means on pixels {control['accuracy']:.3f}, chance 0.333; floor {FLOOR}"
    )
    print(told)
    assert got["scored"] == 3 * EACH
    assert got["accuracy"] >= FLOOR > control["accuracy"] + 0.1, told
    assert got["accuracy_sorted"] >= got["accuracy"], told
