"""Real photographs, a real network: better than what needs no network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from phyla import plugins, sources
from phyla.audit.mislabelled import judge
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


@pytest.fixture(scope="module")
def project(cifar: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The pictures in three groups by lite0. To be read only."""
    folder = tmp_path_factory.mktemp("sorted") / "project"
    return sort(cifar, folder, backbone=["lite0"], groups=3, report=False)


def test_three_classes(cifar: Path, project: Project) -> None:
    got, control = project.score(cifar), of_pixels(cifar)
    told = (
        f"vote on lite0 {got['accuracy']:.3f}, k-means on pixels {control['accuracy']:.3f}, chance 0.333; floor {FLOOR}"
    )
    print(told)
    assert got["scored"] == 3 * EACH
    assert got["accuracy"] >= FLOOR > control["accuracy"] + 0.1, told
    assert got["accuracy_sorted"] >= got["accuracy"], told


def test_few_answers_name_all(cifar: Path, project: Project, tmp_path: Path) -> None:
    """Asked for in two rounds; the control spreads as many answers, drawn at random, by a plain probe."""
    truth = project._source.labels()  # type: ignore[attr-defined]
    folders = [Path(shutil.copytree(project.folder, tmp_path / name)) for name in ("asked", "random")]
    asked, control = map(Project, folders)
    for _ in range(2):
        asked.label({a["uri"]: truth[a["uri"]] for a in asked.suggest(6)})
        told = asked.spread(report=False)
    rows = np.random.default_rng(0).choice(len(control.images), 12, replace=False)
    control.label({str(uri): truth[uri] for uri in control.images.uris[rows]})
    control.spread(method="probe", report=False)
    got, chance, groups = (p.score(cifar)[k] for p, k in (
        (asked, "accuracy_named"), (control, "accuracy_named"), (project, "accuracy")))  # fmt: skip
    message = f"12 answers: {got:.3f}, groups alone {groups:.3f}, probe from 12 at random {chance:.3f}"
    print(message)
    assert told["answers"] == 12
    assert got >= groups - 0.005 and got > chance, message


def test_wrong_labels_are_found(project: Project) -> None:
    """A tenth of the labels made wrong; the control is the distance to the mean of the label's class."""
    truth = project._source.labels()  # type: ignore[attr-defined]
    _, y = np.unique([truth[uri] for uri in project.images.uris], return_inverse=True)
    rng = np.random.default_rng(0)
    wrong = rng.random(len(y)) < 0.1
    labels = np.where(wrong, (y + rng.integers(1, 3, len(y))) % 3, y).astype(np.int32)
    X, near = project.X, project.near
    judged = judge(X, labels, 3, project.neighbors(), tuple(project.blocks), 1)
    means = np.stack([near[labels == c].mean(0) for c in range(3)])
    got = roc_auc_score(wrong, judged.wrong)
    control = roc_auc_score(wrong, np.linalg.norm(near - means[labels], axis=1))
    print(f"AUROC {got:.3f}, distance to the class's mean {control:.3f}, chance 0.5; floor 0.95")
    assert got >= 0.95 and got > control
