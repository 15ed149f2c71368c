"""Parquet tables: the right column, the right row, in order and fast."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phyla.sources import open_source, scan
from phyla.types import PhylaError

Picture = Callable[[int], bytes]


def test_rows_in_order_across_row_groups_and_threads(tmp_path: Path) -> None:
    cells = [number.to_bytes(2, "big") * 50 for number in range(1000)]
    pq.write_table(pa.table({"label": range(1000), "image": cells}), tmp_path / "t.parquet", row_group_size=64)
    source = open_source(tmp_path / "t.parquet")
    entries = source.entries()
    assert [entry.uri for entry in entries[:2]] == [f"{tmp_path}/t.parquet#0", f"{tmp_path}/t.parquet#1"]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source.read, [entry.uri for entry in entries])) == cells
    assert source.read(f"{tmp_path}/t.parquet#999") == cells[999]
    for row in ("1000", "-1", "x"):
        with pytest.raises(FileNotFoundError):
            source.read(f"{tmp_path}/t.parquet#{row}")


def test_only_two_large_row_groups_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phyla.sources.table._CACHE_BYTES", 1)
    pq.write_table(pa.table({"image": [b"x"] * 100}), tmp_path / "t.parquet", row_group_size=10)
    source = open_source(tmp_path / "t.parquet")
    for entry in source.entries():
        source.read(entry.uri)
    assert [group for _, group in source._groups] == [8, 9]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ({"thumb": [b"no"], "image": [b"yes"]}, b"yes"),
        ({"PNG": [b"yes"], "image": [b"no"]}, b"yes"),
        ({"image": ["a title"], "content": [b"yes"], "more": [b"no"]}, b"yes"),
        ({"pixels": [{"bytes": b"yes", "path": "x.png"}]}, b"yes"),
        ({"image": pa.array([b"yes"], pa.large_binary())}, b"yes"),
        ({"image": pa.array([b"yes"], pa.binary(3))}, b"yes"),
    ],
)
def test_the_column_of_pictures(tmp_path: Path, columns: dict[str, object], wanted: bytes) -> None:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert open_source(tmp_path / "t.parquet").read(f"{tmp_path}/t.parquet#0") == wanted


def test_without_pictures_the_columns_are_listed(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet")
    with pytest.raises(PhylaError, match=r"a \(int64\), b \(string\)"):
        source.entries()


def test_hugging_face_struct_with_labels(tmp_path: Path, picture: Picture) -> None:
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    cells = [
        {"bytes": picture(1), "path": "x.png"},
        {"bytes": None, "path": "beside.png"},
        None,
        {"bytes": None, "path": None},
    ]
    features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    table = pa.table({"image": pa.array(cells, kind), "label": [1, 0, -1, None]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "t.parquet")
    (tmp_path / "beside.png").write_bytes(picture(2))
    source = open_source(tmp_path / "t.parquet")
    entries = source.entries()
    assert [source.read(entry.uri) for entry in entries[:2]] == [picture(1), picture(2)]
    assert scan(source, entries)["fault"] == [None, None, "empty cell", "empty cell"]
    assert source.labels() == {entries[0].uri: "dog", entries[1].uri: "cat"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("labels", "metadata", "wanted"),
    [
        ([1, 0], {"classes": "cat,dog"}, ["dog", "cat"]),
        ([1, 0], {}, ["1", "0"]),
        (["x", "y"], {"classes": "a"}, ["x", "y"]),
    ],
)
def test_labels(tmp_path: Path, labels: list[object], metadata: dict[str, str], wanted: list[str]) -> None:
    table = pa.table({"image": [b"1", b"2"], "label": labels}).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "t.parquet")
    assert list(open_source(tmp_path / "t.parquet").labels().values()) == wanted  # type: ignore[attr-defined]


def told(path: Path, uris: list[object], labels: list[object], suffix: str = ".parquet") -> dict[str, str]:
    """What a table without pictures in the folder `path` says."""
    table, file = pa.table({"uri": uris, "label": labels}), path / f"answers{suffix}"
    if suffix == ".parquet":
        pq.write_table(table, file)
    else:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    return open_source(file).labels()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_labels_of_pictures_that_lie_elsewhere(tmp_path: Path, suffix: str) -> None:
    uris: list[object] = ["a.png", "../b.png", "/photos/c.png", "s3://photos/d.png", "e.png", "f.png", "a.png"]
    labels: list[object] = ["x", "y", "x", "z", None, "", "x"]
    named = {str(tmp_path / "a.png"): "x", str(tmp_path.parent / "b.png"): "y", "/photos/c.png": "x"}
    assert told(tmp_path, uris, labels, suffix) == named | {"s3://photos/d.png": "z"}
    with pytest.raises(PhylaError, match=r"no column of pictures. It has: uri \(string\), label \(string\)"):
        open_source(tmp_path / f"answers{suffix}").entries()


@pytest.mark.parametrize(
    ("uris", "labels", "says"),
    [
        (["a.png", "a.png"], ["x", "y"], "a.png both x and y.\nKeep one"),
        (["a.png", None], ["x", "y"], "A row of .* has no uri"),
        (["a.png", ""], ["x", "y"], "A row of .* has no uri"),
    ],
)
def test_labels_of_nothing_or_that_differ(tmp_path: Path, uris: list[object], labels: list[object], says: str) -> None:
    with pytest.raises(PhylaError, match=says):
        told(tmp_path, uris, labels)


def test_no_labels(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"1"]}), tmp_path / "t.parquet")
    assert open_source(tmp_path / "t.parquet").labels() is None  # type: ignore[attr-defined]


def test_a_folder_of_tables(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("what this is")
    (tmp_path / ".gitattributes").write_text("")
    for part in (1, 0):
        pq.write_table(pa.table({"image": [b"%d" % part, b"x"], "label": [part, 7]}), tmp_path / f"data/{part}.parquet")
    source = open_source(tmp_path)
    entries = source.entries()
    assert [entry.uri.rpartition("/")[2] for entry in entries] == [
        "0.parquet#0",
        "0.parquet#1",
        "1.parquet#0",
        "1.parquet#1",
    ]
    assert [source.read(entry.uri) for entry in entries] == [b"0", b"x", b"1", b"x"]
    assert list(source.labels().values()) == ["0", "7", "1", "7"]  # type: ignore[attr-defined]
    (tmp_path / "photo.jpg").write_bytes(b"")  # now it is a folder of files
    assert len(open_source(tmp_path).entries()) == 4


def test_no_table_at_all(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(PhylaError, match="no whole Parquet file"):
        open_source(tmp_path / "t.parquet").entries()


def test_remote(remote: str) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"image": [b"0", b"1"], "label": [3, 4]}), file)
    fsspec.filesystem("memory").pipe("/bucket/t.parquet", file.getvalue())
    for url in (f"{remote}/t.parquet", remote):
        source = open_source(url)
        assert [source.read(entry.uri) for entry in source.entries()] == [b"0", b"1"]
        assert list(source.labels().values()) == ["3", "4"]  # type: ignore[attr-defined]


def test_a_real_table(data: Callable[[str], Path]) -> None:
    source = open_source(data("cifar10-test.parquet"))
    entries = source.entries()
    labels = source.labels()  # type: ignore[attr-defined]
    assert len(entries) == len(labels) == 10_000
    assert {"airplane", "truck"} < set(labels.values()) and len(set(labels.values())) == 10
    started = time.process_time()
    table = scan(source, entries[:2000])
    assert set(table["fault"]) == {None} and set(table["width"]) == {32}
    assert time.process_time() - started < 20  # a row group a picture would take minutes
