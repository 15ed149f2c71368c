"""Folders: nothing is lost, nothing loops, and any name survives."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from phyla.sources import open_source, scan
from phyla.types import PhylaError

Picture = Callable[[int], bytes]


def names(folder: Path) -> list[str]:
    return [entry.uri.removeprefix(f"{folder}/") for entry in open_source(folder).entries()]


def test_every_file_is_an_entry_sorted(tmp_path: Path, picture: Picture) -> None:
    for number, name in enumerate(("b.png", "a/z.png", "a/deep/er.png", "A.png", "notes.txt", "a.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture(number))
    assert names(tmp_path) == ["A.png", "a.png", "a/deep/er.png", "a/z.png", "b.png", "notes.txt"]


def test_left_out_are_hidden_files_clutter_and_projects(tmp_path: Path) -> None:
    for name in (".hidden.png", ".git/x.png", "Thumbs.db", "__MACOSX/x.png", "desktop.ini", "mine/phyla.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "mine/sub").mkdir()
    (tmp_path / "mine/sub/thumbnail.png").write_text("")
    (tmp_path / "kept.png").write_text("")
    assert names(tmp_path) == ["kept.png"]


def test_an_entry_knows_size_and_changes(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"12345")
    (before,) = open_source(tmp_path).entries()
    assert before.size == 5
    os.utime(tmp_path / "x.png", ns=(1, 1))
    assert open_source(tmp_path).entries()[0].stamp != before.stamp


@pytest.mark.parametrize(
    "name",
    [b"a#b.png", b"line\nbreak.png", "ünï🐟.png".encode(), b"caf\xe9.png", b"%E9 %.png", "\ufffdDCE9.png".encode()],
)
def test_any_name_survives(tmp_path: Path, picture: Picture, name: bytes) -> None:
    Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(picture(1))
    source = open_source(tmp_path)
    (entry,) = source.entries()
    assert source.read(entry.uri) == picture(1)
    assert json.loads(json.dumps(entry.uri).encode()) == entry.uri
    with open(tmp_path / "uris.txt", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow([entry.uri])
    with open(tmp_path / "uris.txt", newline="", encoding="utf-8") as file:
        assert next(csv.reader(file)) == [entry.uri]


def test_names_that_are_no_text_stay_apart(tmp_path: Path) -> None:
    for name in (b"\xe9", b"\xe8", "\ufffdDCE9".encode(), "\ufffd".encode()):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(name)
    source = open_source(tmp_path)
    assert {source.read(entry.uri) for entry in source.entries()} == {
        b"\xe9",
        b"\xe8",
        b"\xef\xbf\xbdDCE9",
        b"\xef\xbf\xbd",
    }


def test_links_are_followed_once_and_never_round(tmp_path: Path, picture: Picture) -> None:
    top, other = tmp_path / "top", tmp_path / "other"
    (top / "real").mkdir(parents=True)
    other.mkdir()
    (top / "real/x.png").write_bytes(picture(1))
    (other / "y.png").write_bytes(picture(2))
    (top / "again").symlink_to(top / "real")
    (top / "real/up").symlink_to(top)
    (top / "real/higher").symlink_to(tmp_path)
    (top / "elsewhere").symlink_to(other)
    (top / "file.png").symlink_to(other / "y.png")
    (top / "self").symlink_to(top / "self")
    (top / "broken.png").symlink_to(tmp_path / "nowhere")
    assert names(top) == ["broken.png", "elsewhere/y.png", "file.png", "real/x.png", "self"]
    source = open_source(top)
    faults = dict(zip(names(top), scan(source, source.entries())["fault"], strict=True))
    assert faults["broken.png"] == "missing" and faults["self"] and faults["file.png"] is None


def test_a_denied_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "open.png").write_text("")
    scandir, listdir = os.scandir, os.listdir

    def denied(real: Callable[[str], object]) -> Callable[[str], object]:
        def call(path: str) -> object:
            if str(path).endswith("closed"):
                raise PermissionError(13, "Permission denied", path)
            return real(path)

        return call

    monkeypatch.setattr(os, "scandir", denied(scandir))
    monkeypatch.setattr(os, "listdir", denied(listdir))
    source = open_source(tmp_path)
    table = scan(source, source.entries())
    assert table["uri"] == [f"{tmp_path}/closed", f"{tmp_path}/open.png"]
    assert table["fault"] == ["permission denied", "empty file"]


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    source = open_source(tmp_path)
    assert scan(source, source.entries())["fault"] == ["not a regular file"]


def test_huge_files_are_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "film.mov", "wb") as file:
        file.truncate(2**30)
    source = open_source(tmp_path)
    assert scan(source, source.entries())["fault"] == ["too large a file: 1024 MiB, of at most 512"]


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(PhylaError, match="holds no files") as caught:
        open_source(tmp_path).entries()
    assert caught.value.hint


def test_remote(remote: str, picture: Picture) -> None:
    system = fsspec.filesystem("memory")
    for number, name in enumerate(("b.png", "sub/a.png", ".hidden/x.png", "mine/phyla.json", "mine/thumbs/x.png")):
        system.pipe(f"/bucket/{name}", picture(number))
    source = open_source(remote)
    entries = source.entries()
    assert [entry.uri for entry in entries] == ["memory:///bucket/b.png", "memory:///bucket/sub/a.png"]
    assert entries[0].size == len(picture(0)) and entries[0].stamp
    assert source.read(entries[1].uri) == picture(1)
    system.rm("/bucket/b.png")
    assert scan(source, entries)["fault"] == ["missing", None]
