"""Ways of grouping ranked without labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from phyla import plugins
from phyla.cluster import _compare as ways
from phyla.cluster import compare, score
from phyla.project import Project
from phyla.types import PhylaError

FIGURES = {"rankme", "lidar", "dimension", "persistence", "svcca", "silhouette", "consensus"}
TWO = ["kmeans", "spectral"]


@pytest.fixture(scope="module")
def told(sorted_project: Project) -> dict[str, Any]:
    return sorted_project.compare(methods=TWO, threads=1)


def test_what_is_told(told: dict[str, Any], sorted_project: Project) -> None:
    assert (told["images"], told["groups"]) == (120, 3)
    assert told["project"] == str(sorted_project.folder)
    assert [row["name"] for row in told["networks"]] == ["fake"]
    assert {row["name"] for row in told["methods"]} == set(TWO)
    assert len(told["ways"]) == len(told["axes"]) * len(TWO)
    by_rank = [row["rank"] for row in told["ways"]]
    assert by_rank == sorted(by_rank) and sum(by_rank) == len(by_rank) * (len(by_rank) + 1) / 2
    for row in told["ways"]:
        assert row.keys() == FIGURES | {"networks", "axes", "method", "rank"}
        assert np.isfinite([row[figure] for figure in FIGURES]).all()
    for row in told["methods"]:
        own = [way["rank"] for way in told["ways"] if way["method"] == row["name"]]
        assert row["rank"] == pytest.approx(np.mean(own), abs=0.05) and row["best"] == min(own)
    assert set(told["worth"]) == FIGURES
    assert {len(each) for each in (*told["worth"].values(), *told["matched"].values())} == {len(told["labelled"])}
    json.dumps(told)


def test_the_ranking_is_by_the_figure_worth_most(told: dict[str, Any]) -> None:
    assert told["ranked_by"] == max(told["worth"], key=lambda figure: np.mean(told["worth"][figure]))
    assert told["matched"]["ways"] == told["worth"][told["ranked_by"]]
    assert [row["consensus"] for row in told["ways"]] == sorted(
        [row["consensus"] for row in told["ways"]], reverse=True
    )


def test_the_project_stays_as_it_is_and_the_answer_too(sorted_project: Project, told: dict[str, Any]) -> None:
    before = {p: p.stat().st_mtime_ns for p in sorted_project.folder.rglob("*")}
    assert sorted_project.compare(methods=TWO, threads=2) == told
    assert {p: p.stat().st_mtime_ns for p in sorted_project.folder.rglob("*")} == before


def test_by_default_the_quick_methods(sorted_project: Project) -> None:
    assert {row["name"] for row in sorted_project.compare(threads=1)["methods"]} == set(ways.METHODS)
    assert set(ways.METHODS) <= set(plugins.names("cluster"))
    with pytest.raises(PhylaError, match="'kmean'"):
        sorted_project.compare(methods=["kmean"])


def test_too_little_to_judge(make_photos: Callable[..., Path], quick: Callable[..., Project], tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 7)
    assert len(quick(photos).compare(methods=["kmeans"])["ways"]) > 0
    with pytest.raises(PhylaError, match="21 images in 1 group can"):
        quick(photos, groups=1).compare()
    for path in sorted(photos.iterdir())[:2]:
        path.unlink()
    with pytest.raises(PhylaError, match="19 images in 3 groups"):
        quick(photos).compare()


def spaces(n: int = 600, k: int = 5, d: int = 20) -> tuple[NDArray[np.float32], NDArray[np.int_]]:
    """Three spaces side by side: one tells the classes apart well, one a little, one not at all."""
    rng = np.random.default_rng(0)
    truth = np.arange(n) % k
    good, weak, none = (apart * np.eye(d)[:k][truth] + rng.normal(size=(n, d)) for apart in (7, 3, 0))
    return np.hstack([good, weak, none]).astype(np.float32), truth


def test_good_networks_rank_above_bad_ones() -> None:
    X, truth = spaces()
    blocks, names, scales = (20, 20, 20), ["good", "weak", "none"], np.ones(60, np.float32)
    told = compare(X, blocks, names, 5, scales, ["kmeans"])
    place = {row["name"]: row["rank"] for row in told["networks"]}
    tried = [way for way in ways.ways_of(blocks, ["kmeans"]) if way.axes == 20]
    _, groups = ways.judge(X, blocks, tried, 5, scales)
    accuracy = {
        " + ".join(names[s] for s in way.spaces): score(labels, np.zeros(len(X), bool), truth)["accuracy"]
        for way, labels in zip(tried, groups, strict=True)
    }
    figures = f"mean ranks {place}; accuracy, which they did not see {accuracy}; by chance 0.2"
    print(figures)
    assert place["good"] < place["weak"] < place["none"], figures
    assert accuracy["good"] > accuracy["weak"] > accuracy["none"], figures


def test_networks_and_numbers_of_axes_that_are_tried() -> None:
    told = {(way.spaces, way.axes) for way in ways.ways_of((40, 30), ["kmeans"])}
    assert told == {(s, a) for s in ((0,), (1,), (0, 1)) for a in (16, 32, 40)}
    assert [way.axes for way in ways.ways_of((9,), ["kmeans"])] == [9]


def test_the_axes_are_judged_as_long_as_they_were() -> None:
    X, _ = spaces()
    long = np.ones(60, np.float32)
    long[0] = 100
    way = [ways.Way((0,), 20, "kmeans")]
    even, one = (ways.judge(X, (20, 20, 20), way, 5, scales)[0][0]["rankme"] for scales in (np.ones(60), long))
    assert one < 3 < even


def test_equals_share_a_rank() -> None:
    assert ways.ranks([{"consensus": 0.1}, {"consensus": 0.5}, {"consensus": 0.5}]) == [3, 1.5, 1.5]
