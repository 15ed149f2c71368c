"""A classifier in a file looks at pictures: any number of them, shard by shard, into a table."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phyla import sources
from phyla._export import refuse_to_overwrite
from phyla._progress import Progress
from phyla._steps import usable_threads
from phyla._tasks import Look
from phyla.engine import LOCAL, check_engine, limited
from phyla.store import Busy, NotTaken, Store, plain
from phyla.train import Chain, read_chain
from phyla.types import PhylaError, Recipe

if TYPE_CHECKING:
    import pyarrow as pa

Columns = dict[str, NDArray[Any]]

_VERSION = 1  # raised when the same file says something else of the same picture


def predict(
    model: str | Path,
    source: str | Path,
    to: str | Path | None = None,
    *,
    force: bool = False,
    engine: str = LOCAL,
    threads: int | None = None,
    quiet: bool = True,
) -> dict[str, Any]:
    """Let the classifier `model`, a .onnx or the folder of a cascade, look at the images at `source`.

    They are written to `to` (.csv or .parquet) with the columns uri, class, probability, defer, outlier and fault, in
    the order of `source`; or given back as arrays, where `to` is None. A file that can't be read has its fault and no
    class. Each is read once, at the speed of the network (see docs/benchmarks.md). Of the images only the list is held;
    2,048 at a time are kept aside, so that a killed run goes on where it was. `engine` : who looks; as for `sort`.

    Returns
    -------
    dict : `to`, `images` (how many), `unreadable`, `deferred`, `classes` (name → how many), and `rows` (column → array)
    where `to` is None.
    """
    if to is not None:
        refuse_to_overwrite(Path(to), force)
    check_engine(engine)
    threads = usable_threads(threads)
    classifier = read_chain(Path(model))
    opened = sources.open_source(source)
    entries = sources.listed(opened)
    with limited(threads):
        if to is None:
            columns = list(_look(classifier, opened, entries, 0, engine, threads, Progress(quiet)))
            told = _count(columns)
            return {"to": None, **told, "rows": {c: np.concatenate([part[c] for part in columns]) for c in columns[0]}}
        with _aside(Path(to)) as store:
            recipe = Recipe("predicted", "onnx", {"decoder": sources.DECODER_VERSION},
                            (classifier.sha256, _digest(entries)), _VERSION)  # fmt: skip
            stage = store.stage(recipe)
            start, number = sum(len(part["uri"]) for part in _kept(store, stage)), len(store.shards(stage, "parquet"))
            for part in _look(classifier, opened, entries, start, engine, threads, Progress(quiet)):
                store.write_table(f"{stage}/{number:05}.parquet", _as_arrow(part))
                number += 1
            told = _count(_kept(store, stage))
            _join([store.path(name) for name in store.shards(stage, "parquet")], store.folder / "joined", Path(to))
    return {"to": str(to), **told}


def _look(
    classifier: Chain, source: sources.Source, entries: Sequence[sources.Entry], start: int, engine: str, threads: int,
    progress: Progress,
) -> Iterator[Columns]:  # fmt: skip
    """The columns of `entries` from `start` on, shard by shard."""
    uris = np.array([entry.uri for entry in entries], object)
    look = Look(source, classifier.load, partial(_columns, classifier), np.float32, classifier.in_doubt)
    with progress("looking", len(uris) - start, len(uris)) as advance:
        for told in look.over(uris[start:], None, engine, threads, advance):
            end = start + len(told["fault"])
            yield {"uri": uris[start:end]} | told
            start = end


def _columns(classifier: Chain, features: list[NDArray[np.float32]], fault: NDArray[Any]) -> Columns:
    good = fault == ""
    told = {
        "class": np.full(len(good), "", object),
        "probability": np.full(len(good), np.nan, np.float32),
        "defer": np.ones(len(good), bool),
        "outlier": np.full(len(good), np.nan, np.float32),
    }
    for name, values in classifier.columns([rows[good] for rows in features]).items():
        told[name][good] = values
    return told | {"fault": fault}


def _count(parts: Iterable[Columns]) -> dict[str, Any]:
    images = unreadable = deferred = 0
    classes: Counter[str] = Counter()
    for part in parts:
        good = part["fault"] == ""
        images, unreadable = images + len(good), unreadable + int((~good).sum())
        deferred += int((part["defer"] & good).sum())
        classes.update(part["class"][good].tolist())
    return {"images": images, "unreadable": unreadable, "deferred": deferred, "classes": dict(classes.most_common())}


@contextmanager
def _aside(to: Path) -> Iterator[Store]:
    """A hidden folder beside `to`, for shards; gone when all is done."""
    folder = to.with_name(f".{to.name}.phyla")
    store = Store.create(folder)
    try:
        with store.writing():
            store.update_meta()
            yield store
    except Busy as busy:
        raise PhylaError(f"Another process is writing {to}.", "Wait until it ends, or give another name.") from busy
    except NotTaken as fault:
        assert isinstance(fault.__cause__, OSError)
        raise plain(fault.__cause__, str(to), "Give another name.") from fault
    shutil.rmtree(folder, ignore_errors=True)


def _digest(entries: Iterable[sources.Entry]) -> str:
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(repr((entry.uri, entry.size, entry.stamp)).encode())
    return digest.hexdigest()


def _kept(store: Store, stage: str) -> Iterator[Columns]:
    for name in store.shards(stage, "parquet"):
        yield store.read_table(name, ("uri", "class", "defer", "fault"))


def _as_arrow(part: Columns) -> dict[str, pa.Array]:
    """A number that is not there is null."""
    import pyarrow as pa

    kinds = {"probability": pa.float32(), "outlier": pa.float32(), "defer": pa.bool_()}
    return {name: pa.array(v, kinds.get(name, pa.string()), from_pandas=True) for name, v in part.items()}


def _join(parts: Sequence[Path], aside: Path, to: Path) -> None:
    import pyarrow.parquet as pq

    tables = (pq.read_table(path) for path in parts)
    try:
        if to.suffix.lower() == ".parquet":
            with pq.ParquetWriter(aside, pq.read_schema(parts[0])) as writer:
                for table in tables:
                    writer.write_table(table)
        else:
            with aside.open("w", newline="", encoding="utf-8") as file:
                rows = csv.writer(file)
                rows.writerow(pq.read_schema(parts[0]).names)
                for table in tables:
                    rows.writerows(zip(*(map(_as_text, column.to_pylist()) for column in table.columns), strict=True))
        aside.replace(to)
    finally:
        aside.unlink(missing_ok=True)


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    return round(value, 4) if isinstance(value, float) else value
