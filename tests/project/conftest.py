from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phyla import sources
from phyla.project import Project, sort

QUICK: dict[str, Any] = {"backbone": ["fake"], "groups": 3, "threads": 1, "report": False}


@pytest.fixture
def quick(tmp_path: Path) -> Callable[..., Project]:
    """(source, …) → a project of three groups in `tmp_path`/project, without a report."""
    return lambda source, **changes: sort(source, tmp_path / "project", **QUICK | changes)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many files were `read` by a scan, and how many pictures `decoded` for the network."""
    count: Counter[str] = Counter()
    scan, decode = sources.scan, sources.decode

    def counted_scan(source: Any, entries: Any) -> Any:
        count["read"] += len(entries)
        return scan(source, entries)

    def counted_decode(data: bytes, at_least: int) -> Any:
        count["decoded"] += at_least == 16  # what the fake network asks for; the report asks for more
        return decode(data, at_least)

    monkeypatch.setattr(sources, "scan", counted_scan)
    monkeypatch.setattr(sources, "decode", counted_decode)
    return count


@pytest.fixture(scope="session")
def colours() -> Callable[[Any], dict[int, str]]:
    """Columns of `rows` or `predict` → group → the colour that its files are named by; fails where it has two."""

    def found(rows: Any) -> dict[int, str]:
        pairs = {
            (int(group), Path(uri).name.partition("_")[0])
            for uri, group in zip(rows["uri"], rows["group"], strict=True)
            if group >= 0
        }
        assert len(dict(pairs)) == len(pairs), f"a group holds two classes: {sorted(pairs)}"
        assert len({colour for _, colour in pairs}) == len(pairs), f"a class is in two groups: {sorted(pairs)}"
        return dict(pairs)

    return found
