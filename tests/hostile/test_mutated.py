"""Good files with bits turned, parts cut out and put in: what comes of them is a picture or a `PhylaError`."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _zoo import archives, look_through, parquet, picture, pictures, png, tarred, whole_pictures, zipped
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from phyla.sources import decode, inspect
from phyla.types import PhylaError

GENERATION = settings(
    derandomize=True, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
WHOLE = whole_pictures()


@st.composite
def mutated(draw: Callable[..., Any], data: bytes) -> bytes:
    """`data` with one to five changes, half of them within the first 200 bytes, where headers lie."""
    for _ in range(draw(st.integers(1, 5))):
        last = max(len(data) - 1, 0)
        place = draw(st.one_of(st.integers(0, min(last, 200)), st.integers(0, last)))
        match draw(st.sampled_from(["set", "set", "set", "cut", "add", "end"])):
            case "set":
                data = data[:place] + bytes([draw(st.sampled_from([0, 1, 127, 128, 255, 66]))]) + data[place + 1 :]
            case "cut":
                data = data[:place] + data[place + draw(st.integers(1, 60)) :]
            case "add":
                data = data[:place] + draw(st.binary(max_size=40)) + data[place:]
            case _:
                data = data[:place]
    return data


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", list(WHOLE))
def test_pictures(kind: str, examples: int) -> None:
    ends: dict[str, int] = {}  # how it went → how often

    @settings(GENERATION, max_examples=2 * examples)
    @given(data=mutated(WHOLE[kind]))
    def look(data: bytes) -> None:
        for read in (inspect, lambda data: decode(data, 32)):
            try:
                end = type(read(data)).__name__
            except PhylaError as fault:
                assert 0 < len(fault.message) < 60
                end = "fault"
            ends[end] = ends.get(end, 0) + 1

    look()
    assert sum(ends.values()) >= 2 * examples


def packed() -> dict[str, bytes]:
    import pyarrow as pa

    names = ("a.png", "b/ü.png", "../c.png", "x" * 150 + ".png")
    table = pa.table({"label": ["a", "b"] * 10, "image": [{"bytes": picture(i), "path": "x"} for i in range(20)]})
    found = {f"p.tar.{kind}": tarred(names, mode=f"w:{kind}") for kind in ("gz", "bz2", "xz")}
    found |= {"p.zip": zipped(names), "p.tar": tarred(names), "t.parquet": parquet(table, row_group_size=5)}
    lines = "uri,label\n" + "".join(f"{i}.png,c{i}\n" for i in range(5))
    return found | {"l.csv": lines.encode(), "l.jsonl": b'{"uri": "a.png", "label": "x"}\n' * 5}


@pytest.mark.parametrize("name", list(packed()))
def test_what_holds_pictures(name: str, tmp_path: Path, examples: int) -> None:
    read = refused = 0

    @settings(GENERATION, max_examples=2 * examples)
    @given(data=mutated(packed()[name]))
    def look(data: bytes) -> None:
        nonlocal read, refused
        (tmp_path / name).write_bytes(data)
        try:
            look_through(tmp_path / name)
            read += 1
        except PhylaError as fault:
            assert fault.hint
            refused += 1

    look()
    assert read + refused >= examples
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


_MEASURED = """
import re, sys
from pathlib import Path
from phyla.sources import decode, inspect, open_source, scan
from phyla.types import PhylaError
decode(Path(sys.argv[1]).read_bytes(), 64)
def most():  # not ru_maxrss, which a child has from its parent
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
start = most()
for path in sorted(Path(sys.argv[2]).iterdir()):
    try:
        if path.suffix in (".zip", ".tar", ".gz", ".bz2", ".xz"):
            source = open_source(path)
            scan(source, source.entries())
        else:
            decode(path.read_bytes(), 64)
    except PhylaError:
        pass
print(most() - start)
"""


def taken(folder: Path, fine: Path) -> int:
    """Bytes of memory that reading the files of `folder` takes beyond that for a `fine` picture."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux's account of memory")
    ran = subprocess.run([sys.executable, "-c", _MEASURED, fine, folder], capture_output=True, text=True, check=True)
    return int(ran.stdout)


def test_hostile_files_take_little_memory(tmp_path: Path) -> None:
    """All of them one after the other; what they say of themselves is a thousand times as much."""
    (tmp_path / "fine.png").write_bytes(picture())
    (tmp_path / "all").mkdir()
    for name, data in (pictures() | archives()).items():
        (tmp_path / "all" / name).write_bytes(data)
    most = taken(tmp_path / "all", tmp_path / "fine.png")
    print(f"{most / 1e6:.0f} MB")
    assert most < 400e6


def test_a_giant_takes_8_bytes_a_pixel(tmp_path: Path) -> None:
    """A gray picture of floats, of which each pixel once took 41; 16 million, to be quick."""
    from PIL import Image

    side = 4000
    (tmp_path / "fine.png").write_bytes(picture())
    (tmp_path / "giant").mkdir()
    Image.new("F", (side, side), 7).save(tmp_path / "giant" / "f.tif", compression="tiff_adobe_deflate")
    most = taken(tmp_path / "giant", tmp_path / "fine.png") / side**2
    print(f"{most:.1f} bytes a pixel")  # a strip of 4 million pixels takes 34 bytes each beside
    assert most < 20 < 41


@pytest.mark.parametrize("kind", [kind for kind in WHOLE if "frames" not in kind])
def test_strips_are_the_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = decode(WHOLE[kind], 0)
    monkeypatch.setattr("phyla.sources._decode._STRIP", 64 * 7)
    monkeypatch.setattr("phyla.sources._decode._GIANT", 100)
    assert (decode(WHOLE[kind], 0) == whole).all()


def test_a_picture_within_an_icon_is_no_larger_than_others() -> None:
    import struct

    inner = png(30000, 30000)
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(inner), 22) + inner
    with pytest.raises(PhylaError, match="too large"):
        decode(icon, 64)


def test_a_text_called_exif_spoils_no_picture() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(pictures()["text called exif.png"], 0).shape == (40, 64, 3)
