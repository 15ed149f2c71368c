"""Sorting by what the folders of the images say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from phyla import PhylaError

Quick = Callable


@pytest.fixture
def cameras(photos: Path, tmp_path: Path) -> Path:
    """The photos in two folders, of which one has more of the reds."""
    for at, file in enumerate(sorted(p for p in photos.rglob("*") if p.is_file())):
        folder = tmp_path / "cameras" / ("a" if at % 3 == 0 or "red" in file.name else "b")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{at}-{file.name}").write_bytes(file.read_bytes())
    return tmp_path / "cameras"


def test_folders_are_domains(cameras: Path, quick: Quick) -> None:
    project = quick(cameras, method="label_shift", groups=3, domains="folder")
    assert project.show()["method"] == "label_shift" and project.show()["groups"] == 3
    with_domains = project.grouping.recipe.key
    project.sort(method="label_shift", groups=3, anew=True)
    assert project.grouping.recipe.key != with_domains, "what the folders say belongs to the recipe"


def test_a_method_that_makes_no_use_of_them_says_so(cameras: Path, quick: Quick) -> None:
    with pytest.raises(PhylaError, match="vote makes no use of domains"):
        quick(cameras, domains="folder")


def test_one_folder_says_nothing(photos: Path, tmp_path: Path, quick: Quick) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for at, file in enumerate(p for p in photos.rglob("*") if p.is_file()):
        (flat / f"{at}-{file.name}").write_bytes(file.read_bytes())
    with pytest.raises(PhylaError, match="one folder"):
        quick(flat, method="label_shift", domains="folder")


def test_other_domains_are_unknown(cameras: Path, quick: Quick) -> None:
    with pytest.raises(PhylaError, match="no domains 'date'"):
        quick(cameras, method="label_shift", domains="date")
