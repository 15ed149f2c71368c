from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from phyla import backbones, plugins
from phyla.types import PhylaError

ROOMS = ("sources", "backbones", "reduce", "cluster", "engine")
BUILT_IN = [(room, name) for room in ROOMS for name in plugins._files(room)]


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Have another package offer `value` as `name` in `room`."""

    def add(room: str, name: str, value: str) -> None:
        point = metadata.EntryPoint(name, value, f"phyla.{room}")
        monkeypatch.setattr(plugins, "_entry_points", lambda asked: {name: point} if asked == room else {})

    return add


@pytest.mark.parametrize("room, name", BUILT_IN)
def test_one_file_one_name(room: str, name: str) -> None:
    offered = plugins.load(room, name)
    assert callable(offered)
    assert offered.__module__ == f"phyla.{room}.{name}"
    line = plugins.describe(room, name)
    assert 10 < len(line) <= 120, "the docstring's first line is what `phyla methods` shows"


def test_names_are_files_without_an_underscore() -> None:
    assert {"kmeans", "vote"} <= set(plugins.names("cluster"))
    assert plugins.names("engine") == ["local", "ray"]
    assert not [name for _, name in BUILT_IN if name.startswith("_")]


@pytest.mark.parametrize(
    "given, near", [("votes", "vote"), ("kmean", "kmeans"), ("k-means", "kmeans")], ids=lambda v: str(v)
)
def test_an_unknown_name_is_answered_with_the_nearest_and_all(given: str, near: str) -> None:
    with pytest.raises(PhylaError) as told:
        plugins.load("cluster", given)
    assert repr(given) in told.value.message
    assert f"Did you mean {near}" in told.value.hint
    assert all(name in told.value.hint for name in plugins.names("cluster"))


def test_nothing_near_is_not_guessed() -> None:
    with pytest.raises(PhylaError) as told:
        plugins.load("cluster", "zzz")
    assert "Did you mean" not in told.value.hint
    assert f"There is: {', '.join(plugins.names('cluster'))}." in told.value.hint


@pytest.mark.parametrize("name", ["_lloyd", "../project", "", "__init__"])
def test_private_files_are_not_offered(name: str) -> None:
    with pytest.raises(PhylaError):
        plugins.load("cluster", name)


def test_listing_imports_nothing() -> None:
    code = f"""
import sys
from phyla import plugins
listed = [plugins.describe(room, name) for room in {ROOMS} for name in plugins.names(room)]
assert len(listed) >= {len(BUILT_IN)}
print([m for m in sys.modules if m.startswith("phyla.") and m.count(".") > 1], "numpy" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.startswith("[]"), told


def test_another_package_adds_a_method(entry: Callable[[str, str, str], None]) -> None:
    entry("cluster", "mean", "statistics:mean")
    assert {"kmeans", "mean", "vote"} <= set(plugins.names("cluster"))
    assert plugins.describe("cluster", "mean") == "from the package statistics"
    assert plugins.load("cluster", "mean")([1, 3]) == 2


def test_a_file_of_our_own_goes_before_one_of_another_package(entry: Callable[[str, str, str], None]) -> None:
    entry("cluster", "vote", "statistics:mean")
    assert plugins.load("cluster", "vote").__module__ == "phyla.cluster.vote"


def test_the_fake_backbone_comes_by_that_door() -> None:
    assert "fake" in plugins.names("backbones")
    card = backbones.card("fake")
    assert backbones.load(card, 1).card == card
    assert Path(sys.modules[plugins.load("backbones", "fake").__module__].__file__ or "").name == "phyla_fake.py"
