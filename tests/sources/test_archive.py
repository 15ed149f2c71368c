"""Archives: every member, in place, from many threads."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from phyla.sources import decode, open_source, scan
from phyla.types import PhylaError

Picture = Callable[[int], bytes]
KINDS = ["p.zip", "p.tar", "p.tar.gz", "p.TGZ", "p.tar.bz2", "p.tar.xz"]


def pack(path: Path, members: list[tuple[str, bytes]]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members:
                archive.writestr(name, data)
        return path
    kinds = {"gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}
    with tarfile.open(path, kinds.get(path.name.lower().rpartition(".")[2], "w")) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", KINDS)
def test_members_in_stored_order(tmp_path: Path, picture: Picture, kind: str) -> None:
    members = [("z.png", picture(1)), ("a/ü#b.png", picture(2)), ("z.png", picture(3)), ("z.png#2", picture(4))]
    path = pack(tmp_path / kind, [*members, ("__MACOSX/z.png", b""), (".hidden", b""), ("./note.txt", b"hello")])
    source = open_source(path)
    table = scan(source, source.entries())
    names = ["z.png", "a/ü#b.png", "z.png#2", "z.png#2#2", "./note.txt"]
    assert table["uri"] == [f"{path}#{name}" for name in names]
    assert table["fault"] == [None] * 4 + ["not an image"]
    assert [source.read(uri) for uri in table["uri"][:4]] == [data for _, data in members]
    assert len({entry.stamp for entry in source.entries()}) == 5
    assert open_source(path).read(f"{path}#z.png") == picture(1)  # without listing first
    assert scan(source, [type(source.entries()[0])(f"{path}#none", -1, "")])["fault"] == ["missing"]


@pytest.mark.parametrize("kind", ["p.zip", "p.tar", "p.tar.gz"])
def test_threads_read_what_one_reads(tmp_path: Path, kind: str) -> None:
    members = [(f"{number}.bin", bytes([number]) * 3000) for number in range(200)]
    source = open_source(pack(tmp_path / kind, members))
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(source.read, [entry.uri for entry in source.entries()]))
    assert read == [data for _, data in members]


def test_tar_members_that_are_no_files(tmp_path: Path, picture: Picture) -> None:
    path = tmp_path / "p.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"odd{kind!r}")
            info.type, info.linkname = kind, "x.png"
            archive.addfile(info)
        info = tarfile.TarInfo("x.png")
        info.size = len(picture(1))
        archive.addfile(info, io.BytesIO(picture(1)))
        info = tarfile.TarInfo("hard.png")
        info.type, info.linkname = tarfile.LNKTYPE, "x.png"
        archive.addfile(info)
    source = open_source(path)
    assert [entry.uri for entry in source.entries()] == [f"{path}#x.png", f"{path}#hard.png"]
    assert source.read(f"{path}#hard.png") == picture(1)


def test_names_that_are_no_text(tmp_path: Path, picture: Picture) -> None:
    source = open_source(pack(tmp_path / "p.tar", [("caf\udce9.png", picture(1))]))
    (entry,) = source.entries()
    assert entry.uri.encode() and source.read(entry.uri) == picture(1)


def test_encrypted_and_damaged_zip_members(tmp_path: Path, picture: Picture) -> None:
    path = pack(tmp_path / "p.zip", [("locked.png", picture(1)), ("bad.png", picture(2)), ("good.png", picture(3))])
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\1\2")
    data[central + 8] |= 1  # the flag of encryption
    second = data.index(b"bad.png") + 7
    data[second + 5] ^= 0xFF
    path.write_bytes(data)
    source = open_source(path)
    assert scan(source, source.entries())["fault"] == ["encrypted", "damaged in the archive", None]


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = pack(tmp_path / "p.zip", [("bomb.png", bytes(1000))])
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\1\2")
    data[central + 24 : central + 28] = struct.pack("<I", 2**31)
    path.write_bytes(data)
    source = open_source(path)
    assert scan(source, source.entries())["fault"] == ["too large a file: 2048 MiB, of at most 512"]


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_archives_are_named(tmp_path: Path, picture: Picture, kind: str) -> None:
    path = pack(tmp_path / kind, [(f"{number}.png", picture(number) * 50) for number in range(20)])
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"no archive at all" * 100):
        path.write_bytes(broken)
        with pytest.raises(PhylaError, match="damaged") as caught:
            open_source(path).entries()
        assert str(path) in caught.value.message and caught.value.hint


def test_a_broken_header_amid_a_tar_is_not_its_end(tmp_path: Path, picture: Picture) -> None:
    path = pack(tmp_path / "p.tar", [(f"{number}.png", picture(number)) for number in range(9)])
    data = bytearray(path.read_bytes())
    data[4 * 1024] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(PhylaError, match="broken header after 4 members"):
        open_source(path).entries()


@pytest.mark.parametrize("kind", ["p.zip", "p.tar"])
def test_an_empty_archive_says_so(tmp_path: Path, kind: str) -> None:
    with pytest.raises(PhylaError, match="holds no files"):
        open_source(pack(tmp_path / kind, [])).entries()


@pytest.mark.parametrize("kind", ["p.zip", "p.tar", "p.tar.gz"])
def test_remote(tmp_path: Path, remote: str, picture: Picture, kind: str) -> None:
    local = pack(tmp_path / kind, [("a.png", picture(1)), ("b.png", picture(2))])
    fsspec.filesystem("memory").pipe(f"/bucket/{kind}", local.read_bytes())
    source = open_source(f"{remote}/{kind}")
    entries = source.entries()
    assert [entry.uri for entry in entries] == [f"{remote}/{kind}#a.png", f"{remote}/{kind}#b.png"]
    assert [source.read(entry.uri) for entry in entries] == [picture(1), picture(2)]


def test_a_real_zip_of_photos(data: Callable[[str], Path]) -> None:
    source = open_source(data("grocery-photos.zip"))
    entries = source.entries()[:40]
    table = scan(source, entries)
    assert set(table["fault"]) == {None} and min(table["width"] + table["height"]) >= 348
    assert all(decode(source.read(entry.uri), 260).shape[2] == 3 for entry in entries[:10])
