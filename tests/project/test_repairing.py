"""What `check` says is so, and what it says it mended is mended; where it can't, what it advises is a way out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phyla import _checking
from phyla.project import Project, sort

QUICK: dict[str, Any] = {"threads": 1, "report": False}


@pytest.fixture(scope="module")
def taught(make_photos: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a spread and an audit. To be read only."""
    folder = tmp_path_factory.mktemp("taught")
    made = sort(make_photos(folder / "photos", each=8), folder / "project", backbone=["fake"], groups=3, **QUICK)
    made.draws = False
    for uri in made.images.uris[::4].tolist():
        made.confirm([uri], Path(uri).name.partition("_")[0])
    made.spread(**QUICK)
    made.audit(checks=["duplicates"], **QUICK)
    return made


@pytest.fixture
def copy(taught: Project, tmp_path: Path) -> Path:
    return Path(shutil.copytree(taught.folder, tmp_path / "project"))


def check(folder: Path, repair: bool = False) -> dict[str, Any]:
    return _checking.check(folder, repair=repair, threads=1)


def faults(folder: Path, repair: bool = False) -> list[tuple[str, str]]:
    return [(fault["file"], fault["what"]) for fault in check(folder, repair)["faults"]]


class TestASpreadOfOtherGroups:
    """phyla.json still names it after grouping anew; it counts for nothing."""

    def test_it_is_no_fault(self, copy: Path, taught: Project, make_photos: Callable[..., Path]) -> None:
        photos = Path(taught.show()["source"])
        new = make_photos(photos.parent / "new", each=1, start=30)
        added = [Path(shutil.copy(path, photos)) for path in sorted(new.iterdir())]
        try:
            project = Project(copy)
            project.sort(anew=True, backbone=["fake", "fake:turned"], **QUICK)
            meta = project.store.meta()
            assert meta["spread"] and project._spread is None
            assert faults(copy) == []
            (copy / meta["spread"] / "proba.npy").write_bytes(b"?")
            (fault,) = check(copy, repair=True)["faults"]
            assert "nothing in use needs it" in fault["mended"]
            assert faults(copy) == [] and Project(copy).show()["unique"] == 27
        finally:
            for path in added:
                path.unlink()
