"""Manifests: every line a file, and every fault a line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from phyla.sources import open_source, scan
from phyla.types import PhylaError

Picture = Callable[[int], bytes]


@pytest.fixture
def folder(tmp_path: Path, picture: Picture) -> Path:
    (tmp_path / "sub").mkdir()
    for number, name in enumerate(("a.png", "sub/b;c.png", "plain")):
        (tmp_path / name).write_bytes(picture(number))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "found", "labels"),
    [
        ("m.csv", "path,label\na.png,cat\nsub/b;c.png,\n", 2, ["cat"]),
        ("m.csv", "\ufeffLabel,Filename\r\n0,a.png\r\n1,sub/b;c.png\r\n", 2, ["0", "1"]),
        ("m.csv", '"path";"label"\n"a.png";"dog"\n', 1, ["dog"]),
        ("m.csv", "whatever,x\na.png,1\n\nplain,2\n", 2, None),
        ("m.csv", "a.png\nsub/b;c.png\nplain\n", 3, None),
        ("m.csv", "plain\na.png\n", 2, None),
        ("m.csv", "path\na.png\n./a.png\nsub/../a.png\n", 1, None),
        ("m.jsonl", '{"path": "a.png", "label": 0}\n\n{"file": "plain", "label": null}\n', 2, ["0"]),
        ("m.jsonl", '{"path": "a.png", "label": 3}\n{"path": "./a.png", "label": 3}\n', 1, ["3"]),
        ("m.ndjson", '\ufeff"a.png"\n"sub/b;c.png"', 2, None),
    ],
)
def test_what_is_listed(folder: Path, name: str, text: str, found: int, labels: list[str] | None) -> None:
    (folder / name).write_bytes(text.encode())
    source = open_source(folder / name)
    entries = source.entries()
    table = scan(source, entries)
    assert table["fault"] == [None] * found
    assert all(uri.startswith(f"{folder}/") for uri in table["uri"]) and all(entry.size > 0 for entry in entries)
    given = source.labels()  # type: ignore[attr-defined]
    assert (given and list(given.values())) == labels


def test_missing_files_are_listed(folder: Path) -> None:
    (folder / "m.csv").write_text("path\ngone.png\na.png\nsub\n")
    source = open_source(folder / "m.csv")
    assert scan(source, source.entries())["fault"] == ["missing", None, "a folder"]


def test_absolute_paths_uris_and_odd_bytes(folder: Path, picture: Picture) -> None:
    odd = os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")
    Path(odd).write_bytes(picture(9))
    uri = next(entry.uri for entry in open_source(folder).entries() if "caf" in entry.uri)
    (folder / "m.csv").write_bytes(b"path\n%s/a.png\ncaf\xe9.png\n%s\n" % (os.fsencode(folder), uri.encode()))
    source = open_source(folder / "m.csv")
    assert [source.read(entry.uri) for entry in source.entries()] == [picture(0), picture(9)]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("m.jsonl", '"a.png"\n{"path": \n', 2),
        ("m.jsonl", '{"path": "a.png"}\n\n{"label": 1}\n', 3),
        ("m.jsonl", '"a.png"\n7\n', 2),
        ("m.jsonl", '"\\ud800.png"\n', 1),
        ("m.jsonl", '"a\\u0000.png"\n', 1),
        ("m.csv", "label,path\n1,a.png\n2\n", 3),
        ("m.csv", 'path\na.png\n"' + "x" * 140_000 + '"\n', 3),
    ],
)
def test_a_broken_line_is_named(folder: Path, name: str, text: str, line: int) -> None:
    (folder / name).write_text(text)
    with pytest.raises(PhylaError, match=f"Line {line} of .*{name} cannot be used") as caught:
        open_source(folder / name).entries()
    assert caught.value.hint


def test_two_labels_for_one_file(folder: Path) -> None:
    (folder / "m.csv").write_text("path,label\na.png,cat\na.png,cat\n./a.png,dog\n")
    source = open_source(folder / "m.csv")
    assert len(source.entries()) == 1
    with pytest.raises(PhylaError, match="both cat and dog"):
        source.labels()  # type: ignore[attr-defined]


def test_an_empty_manifest_says_so(folder: Path) -> None:
    (folder / "m.csv").write_text("path\n")
    with pytest.raises(PhylaError, match="holds no files"):
        open_source(folder / "m.csv").entries()


def test_remote(folder: Path, remote: str, picture: Picture) -> None:
    system = fsspec.filesystem("memory")
    system.pipe("/bucket/in/x.png", picture(5))
    system.pipe("/bucket/m.csv", b"path,label\nin/x.png,cat\n")
    source = open_source(f"{remote}/m.csv")
    (entry,) = source.entries()
    assert entry.uri == f"{remote}/in/x.png" and source.read(entry.uri) == picture(5)
    assert source.labels() == {entry.uri: "cat"}  # type: ignore[attr-defined]
    (folder / "m.jsonl").write_text(f'"{remote}/in/x.png"\n"{remote}/in/none.png"\n"a.png"\n')
    source = open_source(folder / "m.jsonl")
    assert scan(source, source.entries())["fault"] == [None, "missing", None]
