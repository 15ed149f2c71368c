"""The room as a whole: which source a path gets, and the table that `scan` makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from phyla import plugins
from phyla.sources import open_source, scan
from phyla.types import PhylaError


def test_each_source_is_a_plugin_that_accepts_its_own(tmp_path: Path) -> None:
    assert {"archive", "folder", "manifest", "table"} <= set(plugins.names("sources"))
    kinds = {
        "a.zip": "archive",
        "a.TAR.gz": "archive",
        "a.parquet": "table",
        "a.csv": "manifest",
        "a.jsonl": "manifest",
    }
    for name, kind in kinds.items():
        (tmp_path / name).touch()
        says_yes = [k for k in plugins.names("sources") if plugins.load("sources", k).accepts(str(tmp_path / name))]
        assert says_yes == [kind] and plugins.describe("sources", kind)
    assert type(open_source(tmp_path)) is plugins.load("sources", "folder")
    (tmp_path / "pictures.zip.csv").mkdir()
    assert type(open_source(tmp_path / "pictures.zip.csv")) is plugins.load("sources", "folder")


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.png").touch()
    monkeypatch.chdir(tmp_path)
    assert [entry.uri for entry in open_source(".").entries()] == [f"{tmp_path}/x.png"]


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        ("nowhere", "nothing at", "spelling"),
        ("memory://nowhere", "nothing at", "spelling"),
        ("photo.jpg", "of no kind that can be read", ".parquet"),
        ("dropbox://x", "needs the package dropbox", "pip install dropbox"),
        ("nonsense://x", "not known to fsspec", "spelling"),
    ],
)
def test_what_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(PhylaError, match=message) as caught:
        open_source(path)
    assert hint in caught.value.hint


def test_scan_is_a_table_of_all_entries(tmp_path: Path, picture: Callable[[int], bytes]) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "b.txt").write_text("words")
    (tmp_path / "c.png").symlink_to("nowhere")
    (tmp_path / "d.png").write_bytes(picture(1))
    source = open_source(tmp_path)
    table = scan(source, source.entries())
    digest = blake3(picture(1)).hexdigest(16)
    assert table["uri"] == [f"{tmp_path}/{name}" for name in ("a.png", "b.txt", "c.png", "d.png")]
    assert table["id"] == [digest, blake3(b"words").hexdigest(16), "", digest]
    assert table["width"] == [5, 0, 0, 5] and table["height"] == [3, 0, 0, 3]
    assert table["fault"] == [None, "not an image", "missing", None]
