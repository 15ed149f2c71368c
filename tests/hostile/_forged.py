"""Projects of a stranger: one file of a whole project replaced by another of the right checksum, and what reads it."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from phyla._progress import Progress
from phyla._searching import build_index
from phyla._steps import Steps
from phyla.project import sort
from phyla.store._lines import read_line, written
from phyla.types import Recipe

# What a stranger's project is given to, in the folder "p", with its photos in "photos".
QUICK: tuple[tuple[str, ...], ...] = (
    ("show", "p"),
    ("suggest", "p", "-n", "3", "--threads", "1"),
    ("suggest", "p", "-n", "3", "--threads", "1", "--method", "margin"),
    ("search", "p", "photos/red_001.png", "--without", "photos/blue_001.png"),
    ("search", "p", "strange.png"),
    ("search", "p", "--words", "red"),
    ("explain", "p", "photos/red_001.png", "-q"),
    ("explain", "p", "strange.png", "-q"),
    ("explain", "p", "--group", "1", "-q"),
    ("export", "p", "out.csv", "--force", "-q"),
    ("export", "p", "out", "--copy", "--force", "-q"),
    ("export", "p", "out.parquet", "--images", "--force", "-q"),
    ("export", "p", "page", "--page", "--force", "-q"),
    ("export", "p", "web", "--to", "webdataset", "--force", "-q"),
    ("predict", "p", "photos", "-o", "told.csv", "--force", "-q", "--threads", "1"),
    ("score", "p", "answers.csv"),
    ("compare", "p", "--methods", "kmeans", "-q", "--threads", "1"),
    ("guess", "p", "red", "green", "--threads", "1"),
    ("check", "p", "-q"),
)
SLOW: tuple[tuple[str, ...], ...] = (  # half a second each: they draw, or compute
    ("audit", "p", "-q", "--threads", "1"),
    ("train", "p", "-q", "--threads", "1"),
    ("name", "p", "1", "x"),
    ("merge", "p", "y", "0", "1"),
    ("split", "p", "1", "a", "b"),
    ("label", "p", "answers.csv"),
    ("remove", "p", "photos/green_002.png"),
    ("undo", "p"),
    ("redo", "p"),
    ("spread", "p", "-q", "--threads", "1"),
    ("sort", "-o", "p", "-q", "--threads", "1"),
    ("check", "p", "--repair", "--threads", "1", "-q"),
    ("sort", "-o", "p", "-q", "--threads", "1", "--anew"),
)


def whole(folder: Path, make_photos: Callable[..., Path], *, grown: bool = True) -> Path:
    """A project in `folder`/p with everything in it: grown, named, labelled, spread, audited, indexed, taught."""
    photos = make_photos(folder / "photos", 10)
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    shutil.copy(photos / "red_000.png", photos / "copy.png")
    if grown:
        sort(photos, folder / "p", backbone=["fake"], groups=3, threads=1, report=False)
    make_photos(photos, 2, ("red",), start=10)
    project = sort(photos, folder / "p", backbone=["fake"], groups=3, threads=1)
    project.draws = False
    project.name(0, "cat")
    uris = project.images.uris.tolist()
    project.label({uri: Path(uri).name.partition("_")[0] for uri in uris[:24]})
    (folder / "answers.csv").write_text("uri,label\n" + "".join(f"{uri},{Path(uri).name[:3]}\n" for uri in uris[:9]))
    make_photos(folder, 1, ("grey",))
    (folder / "grey_000.png").rename(folder / "strange.png")
    project.spread(threads=1, report=False)
    project.audit(threads=1, report=False)
    with project.store.writing():
        steps = Steps(project.store, 1, Progress(quiet=True))
        build_index(project.store, project._current("reduced"), len(uris), steps.run, steps.progress)
        project.prepare()
    project.train(threads=1)
    project.search([0])
    project.explain(group="1", threads=1)
    return folder


def files_of(place: Path) -> list[str]:
    """The files of a project that are read, in order."""
    found = sorted(f.relative_to(place).as_posix() for f in place.rglob("*") if f.is_file())
    return [name for name in found if not name.startswith(("sums/", "lock", "report")) and not name.endswith(".lock")]


def put(place: Path, name: str, data: bytes) -> None:
    """Replace a file, with the checksum that it needs; of a recipe, under the name that it makes for its stage."""
    (place / name).write_bytes(data)
    if (place / "sums" / name).exists():
        (place / "sums" / name).write_text(blake3(data).hexdigest(16) + "\n")
    if name.endswith("/recipe.json"):
        try:
            recipe = Recipe(**json.loads(data))
            stage, new = name.rpartition("/")[0], f"{recipe.room}/{recipe.key}"
        except (ValueError, TypeError, AttributeError, RecursionError):
            return
        if new.partition("/")[0] == stage.partition("/")[0] and new != stage:
            for top in (place, place / "sums"):
                (top / stage).rename(top / new)
            put(place, "phyla.json", (place / "phyla.json").read_bytes().replace(stage.encode(), new.encode()))


def forged(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """What a stranger may have put in the place of a file, each with what is wrong with it."""
    if name.endswith(".npy"):
        yield from _arrays(np.load(io.BytesIO(data)))
    elif name.endswith(".json"):
        yield from _jsons(json.loads(data))
    elif name.endswith(".parquet"):
        yield from _tables(data)
    elif name.endswith(".jsonl"):
        yield from _logs(data)
    yield "nothing", b""
    yield "a torn end", data[: len(data) // 2]
    yield "text", b"a\xff" * 50


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _header(descr: str, shape: Any) -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def _arrays(array: np.ndarray) -> Iterator[tuple[str, bytes]]:
    for dtype in ("U3", "S3", "complex64", "bool", "int8", "uint64", "float64", "M8[s]", "V4"):
        with np.errstate(all="ignore"):
            try:
                yield f"as {dtype}", saved(array.astype(dtype))
            except (ValueError, TypeError):
                yield f"as {dtype}", saved(np.zeros(array.shape, dtype))
    yield "as objects", saved(np.array([{"a": 1}], object))
    yield "as records", saved(np.zeros(array.shape, [("a", "f4"), ("b", "S3")]))
    rows = array if array.ndim else np.repeat(array, 2)
    table = array if array.ndim > 1 else np.stack([rows, rows], axis=1)
    shapes: dict[str, np.ndarray] = {
        "one axis more": array[None], "a last axis more": array[..., None], "flat": array.ravel(), "turned": array.T,
        "a number": rows.ravel()[:1].sum() if array.dtype.kind in "biuf" else np.array("x"), "no rows": rows[:0],
        "a row less": rows[:-1], "one row": rows[:1], "twice": np.concatenate([rows, rows]), "reversed": rows[::-1],
        "a column less": table[:, :-1], "no columns": table[:, :0],
    }  # fmt: skip
    yield from ((label, saved(other)) for label, other in shapes.items())
    if array.dtype.kind in "biuf":
        kinds = (np.nan, np.inf, -np.inf, -1.0, 1e30) if array.dtype.kind == "f" else (-1, 1, 7, 2**31 - 1, -(2**31))
        for value in kinds:
            for where in (slice(None), slice(0, 1)):
                other = array.copy().ravel()
                with np.errstate(all="ignore"):
                    other[where] = np.array(value).astype(array.dtype)
                yield f"{value} {'all' if where.start is None else 'once'}", saved(other.reshape(array.shape))
    else:
        yield "other text", saved(np.full(array.shape, "\ud7ff" if array.dtype.kind == "U" else b"\xff\xfe"))
        yield "one text", saved(np.full(array.shape, array.ravel()[0]))
    descr = array.dtype.str
    yield "a huge claim", _header(descr, (10**12, *array.shape[1:]))
    yield "a huge claim of nothing", _header(descr, (10**12, 0))
    yield "a huge claim of width", _header(descr, (*array.shape[:1], 10**12))
    yield "a claim of nothing wide", _header(descr, (0, 10**12))
    yield "a negative claim", _header(descr, (-1, *array.shape[1:]))


_VALUES: tuple[Any, ...] = (
    None, True, -1, 7, 2**31, 10**30, 10**400, 0.5, float("nan"), float("inf"), "", "x", "../../x", "/etc/passwd",
    "a\0b", "\ud800", "x" * 5000, [], [1], ["x"], [["x"]], {}, {"a": 1},
)  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    below = value.items() if isinstance(value, dict) else list(enumerate(value))[:2] if isinstance(value, list) else ()
    for key, part in below:
        yield from _places(part, (*path, key))


def _with(value: Any, path: tuple[Any, ...], new: Any, *, drop: bool = False) -> Any:
    if not path:
        return new
    copy = value.copy()
    if drop and len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = _with(value[path[0]], path[1:], new, drop=drop)
    return copy


def _jsons(value: Any) -> Iterator[tuple[str, bytes]]:
    def said(other: Any) -> bytes:
        return json.dumps(other).encode()

    for path in _places(value):
        for new in _VALUES:
            yield f"{path} is {repr(new)[:30]}", said(_with(value, path, new))
        if path:
            yield f"{path} left out", said(_with(value, path, None, drop=True))
    if isinstance(value, list):
        yield "twice", said(value + value)
    yield "a name too many", said({**value, "x": 1} if isinstance(value, dict) else [*value, "x"])
    yield "deep", b"[" * 99_999
    yield "deep and whole", b"[" * 900 + b"]" * 900


def _tables(data: bytes) -> Iterator[tuple[str, bytes]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(data))

    def packed(other: pa.Table, **options: Any) -> bytes:
        buffer = io.BytesIO()
        pq.write_table(other, buffer, **options)
        return buffer.getvalue()

    n = len(table)
    same: dict[str, Any] = {
        "negative": -7, "huge": 2**31 - 1, "zero": 0, "none": None, "float": float("nan"), "one": "x", "bytes": b"\xff",
        "lists": [1], "truth": True, "paths": "/etc/passwd", "control": "\0\n#../\x1b", "long": "x" * 9999,
    }  # fmt: skip
    columns = {label: pa.array([value] * n) for label, value in same.items()}
    columns |= {"numbers": pa.array(np.arange(n)), "text": pa.array([f"x{i}" for i in range(n)])}
    columns |= {"dates": pa.array(np.zeros(n, "M8[s]")), "dictionary": columns["one"].dictionary_encode()}
    for place, name in enumerate(table.column_names):
        yield f"no {name}", packed(table.drop_columns([name]))
        for label, column in columns.items():
            yield f"{name} {label}", packed(table.set_column(place, name, column))
        there = table[name].to_pylist()
        yield f"{name} turned", packed(table.set_column(place, name, pa.array(there[::-1], table[name].type)))
        yield (
            f"{name} with a gap",
            packed(table.set_column(place, name, pa.array([None, *there[1:]], table[name].type))),
        )
    yield "no rows", packed(table.slice(0, 0))
    yield "one row", packed(table.slice(0, 1))
    yield "a row less", packed(table.slice(1))
    yield "twice", packed(pa.concat_tables([table, table]))
    yield "a column twice", packed(table.append_column(table.column_names[0], table[0]))
    yield "in pieces", packed(table, row_group_size=7)
    repeated = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000_000, np.int32)), pa.array(["x" * 9999]))
    yield "a bomb", packed(pa.table({name: repeated for name in table.column_names}), compression="zstd")


def _logs(data: bytes) -> Iterator[tuple[str, bytes]]:
    lines = data.splitlines(keepends=True)
    for number, line in enumerate(lines):
        for label, other in _jsons(read_line(line[:-1])):
            if b"deep" not in label.encode() and isinstance(value := json.loads(other), dict):
                try:
                    new = written(value)
                except UnicodeEncodeError:
                    new = other + b"\n"
                yield f"line {number}: {label}", b"".join([*lines[:number], new, *lines[number + 1 :]])
    yield "twice", data + data
    nothing = {"op": "undo", "ids": [], "classes": [], "by": "", "at": ""}
    n = len(lines)
    yield "undone by themselves", data + b"".join(written(nothing | {"seq": n + i, "of": n + 1 - i}) for i in (0, 1))
    yield "of a bool", data + written(nothing | {"seq": n, "of": True})
