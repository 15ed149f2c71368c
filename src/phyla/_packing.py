"""Collections for other tools: the images themselves, what they are, and where asked what the networks saw.

A row is a readable file that was not removed. `label` counts into the classes: those that people named, by name, then
the groups that have none, by number. −1 is an image that was left out.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phyla import __version__, sources
from phyla._export import beside, leaf_of, put_at, refuse_to_overwrite, suffix_of
from phyla._progress import Progress
from phyla._steps import Steps, usable_threads
from phyla.engine import LOCAL, open_engine
from phyla.store import lance_package
from phyla.types import UNSORTED, PhylaError

if TYPE_CHECKING:
    import pyarrow as pa

    from phyla._opened import Opened

_SHARD = 500_000_000  # bytes of a .tar; Hugging Face's `datasets` cuts its files there, too
_GROUP, _GROUP_ROWS = 32 * 2**20, 1000  # bytes and rows that whoever reads a Parquet file or a dataset holds at once
_ABOUT = "dataset.json"  # says of a folder that it was written here, and may be replaced

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Pack:
    """What is taken away. `columns` : (n,) each. `images` : every image's bytes, in order."""

    columns: Columns
    classes: list[str]
    images: Callable[[], Iterator[bytes]]

    def __len__(self) -> int:
        return len(self.columns["uri"])

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each row as plain values, as they are written to JSON."""
        plain = {**self.columns, "strength": self.columns["strength"].astype(float).round(4)}
        for values in zip(*(column.tolist() for column in plain.values()), strict=True):
            yield dict(zip(plain, values, strict=True))


def pack(project: Opened, path: Path, kind: str, images: bool, copy: bool, force: bool, quiet: bool) -> int:
    """Write the collection of `project` to `path`, as `kind`; return how many images it holds.

    Reading takes most of the time. Held at once are a few images, or `_GROUP` bytes of them.
    """
    known, classes, _ = collection(project)
    if not len(known["label"]):
        raise PhylaError("No image is left to export.", f"All are removed: phyla undo {project.store.place}")
    if kind == "parquet":
        refuse_to_overwrite(path, force)
    elif kind != "lance" or not _is_lance(path):
        _refuse_folder(path, force)
    elif not force:
        raise PhylaError(f"{path} is there already.", "Give another name, or --force to add a version to it.")
    n = len(known["label"])
    with Progress(quiet)("packing", n, n) as advance:

        def read(row: int) -> bytes:
            return _read(project, known["uri"][row], known["id"][row])

        def read_all() -> Iterator[bytes]:
            for data in open_engine(LOCAL)(read, range(n), usable_threads(None)):
                yield data
                advance(1)

        packed = Pack(known, classes, read_all)
        if kind == "lance":
            _lance(packed, path, project, images)
        else:
            writers: dict[str, Callable[[Pack, Path], None]] = {
                "parquet": _parquet,
                "webdataset": partial(_webdataset, name=path.name),
                "fiftyone": partial(_fiftyone, copy=copy, advance=advance),
            }
            with put_at(path) as aside:
                writers[kind](packed, aside)
    return n


def collection(project: Opened) -> tuple[dict[str, NDArray[Any]], list[str], NDArray[np.bool_]]:
    """The columns of what is taken away, the classes that `label` counts into, and which of all files that are."""
    rows = project.rows()
    there = (rows["group"] != UNSORTED) & (rows["origin"] != "removed")
    ids = project.images.ids[project._table["row"][there]].astype(object)
    columns = {"id": ids} | {name: column[there] for name, column in rows.items() if name != "fault"}
    codes, classes = _classes(columns)
    return {"label": codes, **columns}, classes, there


def _classes(columns: Columns) -> tuple[NDArray[np.int64], list[str]]:
    of = [
        None if out else name or group
        for name, group, out in zip(*(columns[c].tolist() for c in ("name", "group", "left_out")), strict=True)
    ]
    names = sorted({one for one in of if isinstance(one, str)})
    groups = sorted({one for one in of if isinstance(one, int)})
    labels = [f"group {group}" for group in groups]
    labels = [label if label not in names else f"{label} ({label})" for label in labels]
    codes = {one: code for code, one in enumerate([*names, *groups])}
    return np.array([UNSORTED if one is None else codes[one] for one in of], np.int64), [*names, *labels]


def _read(project: Opened, uri: str, id: str) -> bytes:
    again = f"Sort again: phyla sort --project {project.store.place}"
    try:
        data = project._fetch(uri)
    except (OSError, PhylaError) as fault:
        why = getattr(fault, "message", None) or getattr(fault, "strerror", None) or fault
        raise PhylaError(f"{uri} can't be read any more: {why}.", again) from fault
    if sources.id_of(data) != id:
        raise PhylaError(f"{uri} is no longer the image that was sorted.", again)
    return data


def _refuse_folder(path: Path, force: bool) -> None:
    """Raise `PhylaError` where `path` holds anything, but for what an export wrote if `force` is given."""
    if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return
    if not force:
        raise PhylaError(f"{path} is there already.", "Give another name, or --force to replace it.")
    try:
        own = {*json.loads((path / _ABOUT).read_text(encoding="utf-8"))["files"], _ABOUT}
    except (OSError, ValueError, TypeError, KeyError):
        own = set()
    if not path.is_dir() or not {file.name for file in path.iterdir()} <= own:
        raise PhylaError(f"{path} holds more than an export wrote, and is not replaced.", "Give another name.")


def _tell(packed: Pack, folder: Path) -> None:
    """Write what the folder is, last."""
    files = sorted(file.name for file in folder.iterdir())
    told = {"made_by": f"phyla {__version__}", "images": len(packed), "classes": packed.classes, "files": files}
    _write_json(folder / _ABOUT, told)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


# ---- WebDataset: https://github.com/webdataset/webdataset


def _webdataset(packed: Pack, folder: Path, name: str) -> None:
    """NAME-000000.tar and so on, with KEY.jpg (the file as it was), KEY.cls and KEY.json of each image, in this order.

    Keys are numbers, so that no name of a file means anything to who reads them.
    """
    folder.mkdir()
    plain = re.sub(r"[^\w-]+", "_", name)  # {} and :: mean something in the names of shards
    shard: tarfile.TarFile | None = None
    shards = 0
    with ExitStack() as now:
        for number, (row, data) in enumerate(zip(packed.rows(), packed.images(), strict=True)):
            if shard is None or shard.offset + len(data) > _SHARD:
                now.close()
                place = folder / f"{plain}-{shards:06}.tar"
                shard = now.enter_context(tarfile.open(place, "w", format=tarfile.USTAR_FORMAT))
                shards += 1
            put_sample(shard, number, row, data)
    _tell(packed, folder)


def put_sample(shard: tarfile.TarFile, number: int, row: dict[str, Any], data: bytes) -> None:
    label = row.pop("label")
    told = json.dumps(row, ensure_ascii=False).encode()
    for suffix, content in {suffix_of(data): data, ".cls": str(label).encode(), ".json": told}.items():
        member = tarfile.TarInfo(f"{number:09}{suffix}")  # of no time and no owner: equal bytes again
        member.size = len(content)
        shard.addfile(member, BytesIO(content))


# ---- FiftyOne: https://docs.voxel51.com/user_guide/import_datasets.html


def _fiftyone(packed: Pack, folder: Path, copy: bool, advance: Callable[[int], object]) -> None:
    """A `FiftyOneImageClassificationDataset`: data/KEY.jpg and labels.json, which has a KEY for each image."""
    (folder / "data").mkdir(parents=True)
    labels: dict[str, Any] = {}
    taken: set[str] = set()
    originals = [Path(uri) if Path(uri).is_file() else None for uri in packed.columns["uri"]]
    linked = not copy and all(originals)
    images = iter([b""] * len(packed)) if linked else packed.images()
    for row, original, data in zip(packed.rows(), originals, images, strict=True):
        leaf = leaf_of(row["uri"], original is not None)
        stem, suffix = os.path.splitext(leaf)
        suffix = suffix or ("" if original and not data else suffix_of(data))
        key, number = stem, 1
        while key.casefold() in taken:  # FiftyOne knows a file by its name without the suffix
            number += 1
            key = f"{stem} ({number})"
        taken.add(key.casefold())
        place = folder / "data" / f"{key}{suffix}"
        if original and not copy:
            place.symlink_to(original.absolute())
        else:
            place.write_bytes(data)
        told = {name: row[name] for name in ("uri", "group", "origin")}
        labels[key] = {"label": row["label"], "confidence": row["strength"], "attributes": told}
        if row["label"] == UNSORTED:
            labels[key] = None
        if linked:
            advance(1)
    _write_json(folder / "labels.json", {"classes": packed.classes, "labels": labels})
    _tell(packed, folder)


# ---- Parquet, as Hugging Face reads it: https://huggingface.co/docs/hub/datasets-image


def _schema(packed: Pack, images: bool) -> pa.Schema:
    import pyarrow as pa

    text, kinds = pa.string(), {"bool": pa.bool_(), "int32": pa.int32(), "int64": pa.int64(), "float32": pa.float32()}
    fields = [(name, kinds.get(column.dtype.name, text)) for name, column in packed.columns.items()]
    features: dict[str, Any] = {name: {"dtype": str(kind), "_type": "Value"} for name, kind in fields}
    features["label"] = {"names": packed.classes, "_type": "ClassLabel"}
    if images:
        fields.insert(0, ("image", pa.struct([("bytes", pa.binary()), ("path", text)])))
        features = {"image": {"_type": "Image"}} | features
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


def _batches(packed: Pack, schema: pa.Schema, start: int = 0, stop: int | None = None, images: Any = None) -> Any:
    """Batches of rows `start` to `stop`, each of so many that no more than `_GROUP` bytes of images are in it."""
    import pyarrow as pa

    stop = len(packed) if stop is None else stop
    held: list[dict[str, Any]] = []
    size = 0

    def batch(end: int) -> pa.RecordBatch:
        begin = end - len(held) if held else start
        part = {name: column[begin:end] for name, column in packed.columns.items()}
        arrays = [held if field.name == "image" else part[field.name] for field in schema]
        return pa.record_batch(
            [pa.array(array, field.type) for array, field in zip(arrays, schema, strict=True)], schema=schema
        )

    if images is None:
        yield batch(stop)
        return
    for row in range(start, stop):
        data = next(images)
        if held and (size + len(data) > _GROUP or len(held) == _GROUP_ROWS):
            yield batch(row)
            held, size = [], 0
        uri = packed.columns["uri"][row]
        held.append({"bytes": data, "path": leaf_of(uri, "#" not in uri)})
        size += len(data)
    if held:
        yield batch(stop)


def _parquet(packed: Pack, aside: Path) -> None:
    import pyarrow.parquet as pq

    schema = _schema(packed, images=True)
    plain = [name for name in schema.names if name not in ("image", "uri", "id")]
    columns = [*(name for name in schema.names if name != "image"), "image.bytes", "image.path"]
    packing = {name: "none" if name == "image.bytes" else "zstd" for name in columns}  # pictures hardly shrink
    with pq.ParquetWriter(aside, schema, compression=packing, use_dictionary=plain, write_statistics=plain) as writer:
        for batch in _batches(packed, schema, images=packed.images()):
            writer.write_batch(batch, row_group_size=_GROUP_ROWS)


# ---- Lance: https://lancedb.github.io/lance


def _is_lance(path: Path) -> bool:
    return (path / "_versions").is_dir()


def _lance(packed: Pack, path: Path, project: Opened, images: bool) -> None:
    """A dataset with a column of vectors for each network; one that is there gets a new version, and keeps the old."""
    import pyarrow as pa

    lance = lance_package()
    steps = Steps(project.store, 1, Progress(quiet=True))
    stages: Sequence[str] = project._current("features")
    names = _columns_of(project._current("backbones"))
    ids = packed.columns["id"].astype(str)
    seen = zip(*(steps.features(stage, ids) for stage in stages), strict=True)
    first = next(seen)
    schema = _schema(packed, images)
    for name, X in zip(names, first, strict=True):
        schema = schema.append(pa.field(name, pa.list_(pa.float16(), X.shape[1])))
    plain = schema if not names else pa.schema(list(schema)[: -len(names)], schema.metadata)

    faults: list[BaseException] = []

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from cut()
        except BaseException as fault:  # of which Lance would tell in words of its own
            faults.append(fault)
            raise

    def cut() -> Iterator[pa.RecordBatch]:
        start, read = 0, packed.images() if images else None
        for block in _chain(first, seen):
            begin, stop = start, start + len(block[0])
            for batch in _batches(packed, plain, start, stop, read):
                rows = slice(begin - start, begin - start + len(batch))
                vectors = [_vectors(X[rows]) for X in block]
                yield pa.record_batch([*batch.columns, *vectors], schema=schema)
                begin += len(batch)
            start = stop

    def write(place: Path, mode: str) -> None:
        try:
            lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches()), str(place), mode=mode)
        except Exception as fault:
            raise faults[0] if faults else fault from None

    if _is_lance(path):
        with beside(path):  # of a run that was killed when all was there but this
            write(path, "overwrite")
    else:
        with put_at(path) as aside:
            write(aside, "create")


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _vectors(X: NDArray[np.float32]) -> pa.FixedSizeListArray:
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(X.astype(np.float16).ravel()), X.shape[1])


def _columns_of(backbones: Sequence[str]) -> list[str]:
    """A column's name for each network: a dot would mean a part of a column to Lance."""
    names: list[str] = []
    for name in (re.sub(r"\W+", "_", backbone) for backbone in backbones):
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names
