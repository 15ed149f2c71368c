"""A project of real photographs that grows: by more of them, by another class, by another network."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from phyla import sources
from phyla._assigning import judge
from phyla._progress import Progress
from phyla._steps import Steps
from phyla.project import Project, sort
from phyla.reduce.align import Align
from phyla.reduce.pca import PCA

CLASSES = ("airplane", "frog", "truck")
EACH, MORE, OTHERS = 150, 40, 30
AGAIN: dict[str, Any] = {"report": False}


@pytest.fixture(scope="module")
def add(PHYLA_DATA: Path) -> Callable[..., None]:
    """(folder, class, from, to): writes some of CIFAR-10's test pictures of a class as CLASS_NUMBER.png."""
    path = PHYLA_DATA / "cifar10-test.parquet"
    if not path.exists():
        pytest.skip("needs cifar10-test.parquet in the folder that PHYLA_DATA names")
    labels = np.array(list(sources.open_source(path).labels().values()))  # type: ignore[attr-defined]
    cells = pq.read_table(path)["image"]

    def write(folder: Path, name: str, start: int, stop: int) -> None:
        folder.mkdir(exist_ok=True)
        for number, row in enumerate(np.flatnonzero(labels == name)[start:stop].tolist(), start):
            cell = cells[row].as_py()
            (folder / f"{name}_{number:04}.png").write_bytes(cell["bytes"] if isinstance(cell, dict) else cell)

    return write


@pytest.fixture(scope="module")
def base(add: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `photos` and the project made of it by lite0. To be read only."""
    place = tmp_path_factory.mktemp("growing")
    for name in CLASSES:
        add(place / "photos", name, 0, EACH)
    sort(place / "photos", place / "project", backbone=["lite0"], groups=3, **AGAIN)
    return place


@pytest.fixture
def grown(base: Path, add: Callable[..., None]) -> Any:
    """`base`, whose folder has forty more of each class; a copy of its project to change."""
    for name in CLASSES:
        add(base / "photos", name, EACH, EACH + MORE)
    yield Project(shutil.copytree(base / "project", base / "copy"))
    shutil.rmtree(base / "copy")
    for path in (base / "photos").iterdir():
        if int(path.stem[-4:]) >= EACH or path.stem.split("_")[0] not in CLASSES:
            path.unlink()


def right(project: Project) -> float:
    """Share of the pictures that came late whose group is that of their class."""
    of = np.array([Path(uri).stem.split("_")[0] for uri in project.images.uris])
    late = np.array([int(Path(uri).stem[-4:]) >= EACH for uri in project.images.uris])
    best = project.grouping.best
    classes = {g: max(CLASSES, key=lambda c, g=g: (of[(best == g) & ~late] == c).sum()) for g in range(3)}
    assert late.sum() == 3 * MORE and len(set(classes.values())) == 3
    return float(np.mean([classes[g] == c for g, c in zip(best[late], of[late], strict=True)]))


def test_another_network_places_as_well(grown: Project) -> None:
    """lite2 instead of lite0; the control learns the way from one to the other by pictures that were mixed up."""
    own = Project(shutil.copytree(grown.folder, grown.folder.with_name("own")))
    own.sort(**AGAIN)
    by_lite0 = right(own)
    shutil.rmtree(own.folder)
    grown.sort(backbone=["lite2"], **AGAIN)
    told, late = right(grown), np.array([int(Path(uri).stem[-4:]) >= EACH for uri in grown.images.uris])
    stage, steps = grown.store.meta()["features"][0], Steps(grown.store, 1, Progress(quiet=True))
    seen = PCA(256).fit_transform(np.concatenate(list(steps.features(stage, grown.images.ids))))
    mixed = np.random.default_rng(0).permutation(grown.X[~late])
    groups = judge(grown)(Align().fit(seen[~late], mixed).transform(seen[late]))["group"]
    control = float((groups == grown.grouping.best[late]).mean())
    message = f"right of lite2's {told:.3f}, of lite0's {by_lite0:.3f}; mixed up {control:.3f} are where they were"
    print(message)
    assert told >= 0.95 * by_lite0 > 0.8 and control < 0.6, message


def test_a_new_class_is_drift_and_more_of_the_same_is_not(grown: Project, base: Path, add: Callable[..., None]) -> None:
    same = grown.sort(**AGAIN)["drift"]
    add(base / "photos", "horse", 0, OTHERS)
    other = grown.sort(**AGAIN)["drift"]
    message = (
        f"strange: {same['strange']} of {same['since']}; with {OTHERS} horses {other['strange']} of {other['since']}"
    )
    print(message)
    assert not same["anew"] and other["anew"], message
