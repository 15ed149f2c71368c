"""Folders as `datasets` of Hugging Face writes them, made here with pyarrow alone."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phyla.sources import open_source, scan
from phyla.types import PhylaError

Picture = Callable[[int], bytes]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def table(cells: list[bytes | None], labels: list[int], column: str = "label") -> pa.Table:
    """A table with the features Image and ClassLabel."""
    names = ["cat", "dog", "eel"]
    features = {"image": {"_type": "Image"}, column: {"names": names, "_type": "ClassLabel"}}
    images = pa.array([{"bytes": cell, "path": None} for cell in cells], IMAGE)
    schema = pa.schema(
        [("image", IMAGE), (column, pa.int64())], {"huggingface": json.dumps({"info": {"features": features}})}
    )
    return pa.table([images, pa.array(labels, pa.int64())], schema=schema)


def write_stream(path: Path, rows: pa.Table, batch: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_stream(path, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=batch)


def saved(folder: Path, cells: list[bytes | None], labels: list[int], shards: int = 1) -> None:
    """What `save_to_disk` leaves in a folder."""
    step = -(-len(cells) // shards)
    names = [f"data-{shard:05}-of-{shards:05}.arrow" for shard in range(shards)]
    for shard, name in enumerate(names):
        part = slice(shard * step, (shard + 1) * step)
        write_stream(folder / name, table(cells[part], labels[part]))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")


def told(source: Any) -> list[tuple[str, bytes, str | None]]:
    labels = source.labels() or {}
    return [(e.uri, source.read(e.uri), labels.get(e.uri)) for e in source.entries()]


def test_a_dataset_saved_to_disk(tmp_path: Path, picture: Picture) -> None:
    pictures = [picture(number) for number in range(7)]
    saved(tmp_path / "d", pictures, [0, 1, 2, 0, -1, 2, 1], shards=2)
    write_stream(tmp_path / "d/cache-0123456789abcdef.arrow", table([b"no"], [0]))  # of a later `map`
    source = open_source(tmp_path / "d")
    shards = [f"{tmp_path}/d/data-00000-of-00002.arrow#{row}" for row in range(4)]
    shards += [f"{tmp_path}/d/data-00001-of-00002.arrow#{row}" for row in range(3)]
    assert told(source) == list(zip(shards, pictures, ["cat", "dog", "eel", "cat", None, "eel", "dog"], strict=True))
    assert set(scan(source, source.entries())["fault"]) == {None}
    for uri in (f"{shards[0]}9", f"{tmp_path}/d/cache-0123456789abcdef.arrow#0"):
        with pytest.raises(FileNotFoundError):
            source.read(uri)


def test_all_splits_of_a_dictionary(tmp_path: Path) -> None:
    saved(tmp_path / "train", [b"1", b"2"], [0, 1])
    saved(tmp_path / "test", [b"3"], [2])
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    found = [(Path(uri).parent.name, data, label) for uri, data, label in told(open_source(tmp_path))]
    assert found == [("test", b"3", "eel"), ("train", b"1", "cat"), ("train", b"2", "dog")]


def test_a_folder_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for part in range(2):
        rows = table([b"%d" % part, None], [part, 2], "fine_label")
        pq.write_table(rows, tmp_path / f"data/train-{part:05}-of-00002.parquet")
    (tmp_path / "README.md").write_text("---\n---\n")
    (tmp_path / ".gitattributes").write_text("")
    source = open_source(tmp_path)
    entries = source.entries()
    assert list(source.labels().values()) == ["cat", "eel", "dog", "eel"]  # type: ignore[attr-defined]
    assert [source.read(entries[row].uri) for row in (0, 2)] == [b"0", b"1"]
    assert scan(source, entries[1:2])["fault"] == ["empty cell"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_imagefolder(tmp_path: Path, picture: Picture, kind: str) -> None:
    for split, labels in {"train": ["cat", "dog"], "test": ["eel"]}.items():
        (tmp_path / split).mkdir()
        rows = [{"file_name": f"{number}.jpg", "label": label} for number, label in enumerate(labels)]
        for row in rows:
            (tmp_path / split / row["file_name"]).write_bytes(picture(len(row["label"])))
        lines = (
            [json.dumps(row) for row in rows]
            if kind == "jsonl"
            else ["file_name,label", *map(",".join, map(dict.values, rows))]
        )
        (tmp_path / split / f"metadata.{kind}").write_text("\n".join(lines))
    source = open_source(tmp_path)
    names = [f"{tmp_path}/test/0.jpg", f"{tmp_path}/train/0.jpg", f"{tmp_path}/train/1.jpg"]
    assert [entry.uri for entry in source.entries()] == names
    assert source.labels() == dict(zip(names, ["eel", "cat", "dog"], strict=True))  # type: ignore[attr-defined]


def test_a_folder_that_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "metadata.csv").write_text("file_name,text\na.jpg,a cat\n")
    assert open_source(tmp_path).labels() is None  # type: ignore[attr-defined]


def test_a_file_of_arrow(tmp_path: Path) -> None:
    rows = table([b"0", b"1", b"2"], [0, 1, 2])
    with pa.ipc.new_file(tmp_path / "t.arrow", rows.schema) as writer:
        writer.write_table(rows, max_chunksize=2)
    assert [(d, of) for _, d, of in told(open_source(tmp_path / "t.arrow"))] == [
        (b"0", "cat"),
        (b"1", "dog"),
        (b"2", "eel"),
    ]


def test_remote(remote: str) -> None:
    file = io.BytesIO()
    rows = table([b"0", b"1", b"2"], [0, 1, 2])
    with pa.ipc.new_stream(file, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=2)
    fsspec.filesystem("memory").pipe("/bucket/data-00000-of-00001.arrow", file.getvalue())
    fsspec.filesystem("memory").pipe("/bucket/state.json", b"{}")
    found = [(data, label) for _, data, label in told(open_source(remote))]
    assert found == [(b"0", "cat"), (b"1", "dog"), (b"2", "eel")]


def test_only_the_batch_that_is_asked_for_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stream(tmp_path / "t.arrow", table([b"%d" % n * 1000 for n in range(10)], [0] * 10))
    source = open_source(tmp_path / "t.arrow")
    source.entries()
    read, sizes = pa.ipc.read_message, []

    def watched(file: Any) -> Any:
        start = file.tell()
        message = read(file)
        sizes.append(file.tell() - start)
        return message

    monkeypatch.setattr(pa.ipc, "read_message", watched)
    assert source.read(f"{tmp_path}/t.arrow#7") == b"7" * 1000
    assert len(sizes) == 1 and sizes[0] < 3000


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_damage_is_told_and_leads_nowhere(tmp_path: Path, picture: Picture, kind: str) -> None:
    rows, file = table([picture(n) for n in range(4)], [0, 1, 2, 0]), io.BytesIO()
    with (pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file)(file, rows.schema) as writer:
        writer.write_table(rows)
    whole, rng, faults = file.getvalue(), random.Random(5), 0
    for turn in range(150):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 3])):  # where lengths, offsets and names stand
            data[rng.randrange(900) if turn % 2 else -1 - rng.randrange(900)] = rng.randrange(256)
        if turn % 10 == 0:
            del data[rng.randrange(len(data)) :]
        path = tmp_path / f"{turn}.arrow"
        path.write_bytes(data)
        try:
            source = open_source(path)
            faults += any(scan(source, source.entries())["fault"])
            source.labels()  # type: ignore[attr-defined]
        except PhylaError as fault:
            assert fault.hint
            faults += 1
    assert faults > 20


def test_a_stream_that_would_crash_pyarrow(tmp_path: Path) -> None:
    """Its first message is of no known kind, so that pyarrow 26 reads its schema unverified."""
    write_stream(tmp_path / "t.arrow", table([b"0"], [0]))
    data = bytearray((tmp_path / "t.arrow").read_bytes())
    kind = next(at for at in range(8, 60) if _kind(_changed(data, at, 0)) == "unknown")
    (tmp_path / "t.arrow").write_bytes(_changed(data, kind, 0))
    with pytest.raises(PhylaError, match="no whole Arrow file"):
        open_source(tmp_path / "t.arrow").entries()


def _changed(data: bytearray, at: int, to: int) -> bytes:
    return bytes(data[:at]) + bytes([to]) + bytes(data[at + 1 :])


def _kind(data: bytes) -> str:
    try:
        return str(pa.ipc.read_message(data).type)
    except (OSError, ValueError):
        return ""
