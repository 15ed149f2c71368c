"""One network's features in a dataset of Lance, for object storage and many writers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from phyla.store._features import Features
from phyla.store._files import Store
from phyla.types import UNREAD, PhylaError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LANCE", "LanceFeatures", "lance_package"]

LANCE = "shards.lance"  # in the folder of a stage
_RETRIES, _PATIENCE = 100, timedelta(minutes=10)  # of a writer whose version another has taken
# What Lance calls so is held by its commits: of two writers of an image one finds it written, and adds no second row.
_KEY = {"lance-schema:unenforced-primary-key": "true"}


def lance_package() -> Any:
    """The package, or a `PhylaError` where it is missing."""
    try:
        import lance
    except ImportError as missing:
        raise PhylaError(
            "Lance needs the package pylance, which is not installed.", "pip install 'phyla[lance]'"
        ) from missing
    # Processes are only forked to run other programs.
    warnings.filterwarnings("ignore", "lance is not fork-safe")
    return lance


class LanceFeatures(Features):
    """The features in `LANCE` of a stage, as they are when this is first asked.

    A row is an image: `id`, `X` (dim) float16, the `number` of its shard, the `fault` of a picture that can't be
    decoded, and a checksum of these, `sum`. Each shard written is one version. The order of rows is that of their
    arrival, which nothing hangs on. An image has one row; one that could not be read is replaced when it can be.
    A write reads all ids that are there: 0.05 s of CPU time at 200,000, 0.2 at a million.
    """

    def __init__(self, store: Store, stage: str) -> None:
        super().__init__(store, stage)
        self._version: int | None = None  # the latest

    @property
    def place(self) -> str:
        """Where the dataset lies; any tool that reads Lance can open it."""
        name = f"{self.stage}/{LANCE}"
        return f"{self.store.remote.url}/{name}" if self.store.remote else str(self.store.folder / name)

    def _opened(self, version: int | None = None) -> Any:
        return lance_package().dataset(self.place, version=version, storage_options=_options())

    @cached_property
    def _data(self) -> Any:
        """The dataset, None where there is none yet."""
        versions = self.store.names(f"{self.stage}/{LANCE}/_versions")
        if not any(name.endswith(".manifest") for name in versions):
            return None
        try:
            return self._opened(self._version)
        except (OSError, ValueError, RuntimeError) as fault:
            why = str(fault).partition("\n")[0]
            raise PhylaError(f"{self.place} is damaged: {why}.", f"phyla check {self.store.place} --repair") from fault

    @cached_property
    def ids(self) -> NDArray[np.str_]:
        if self._data is None:
            return np.array([], "<U32")
        return np.asarray(self._data.to_table(columns=["id"])["id"].to_numpy(), "<U32")

    def __len__(self) -> int:
        if self._data is None or not self._data.count_rows():
            return 0
        numbers = self._data.to_table(columns=["number"])["number"].to_numpy()
        return int(numbers.max()) + 1

    @property
    def faults(self) -> dict[str, str]:
        if self._data is None:
            return {}
        rows = self._data.to_table(columns=["id", "fault"], filter="fault IS NOT NULL")
        return dict(zip(rows["id"].to_pylist(), rows["fault"].to_pylist(), strict=True))

    def write(self, number: int, ids: NDArray[np.str_], X: NDArray[np.floating], faults: Mapping[str, str]) -> None:
        import pyarrow as pa

        schema = _schema(X.shape[1])
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(X.astype(np.float16).ravel()), X.shape[1])
        names = ids.tolist()
        why = [faults.get(name) for name in names]
        columns = [pa.array(names), vectors, pa.array([number] * len(names), pa.int32()), pa.array(why, pa.string())]
        columns.append(pa.array(_sums(names, X.astype(np.float16), why), pa.uint64()))
        if self._data is None:
            self._create(schema)
        merge = self._opened().merge_insert("id").when_not_matched_insert_all()
        merge = merge.when_matched_update_all(f"target.fault LIKE '{UNREAD}%'")
        merge.conflict_retries(_RETRIES).retry_timeout(_PATIENCE).execute(pa.table(columns, schema=schema))
        self._look_again()

    def _create(self, schema: pa.Schema) -> None:
        """Make an empty dataset, unless another has: of two at once Lance would let the second replace the first's."""
        import filelock

        lock = f"{self.stage}/create.lock"
        with ExitStack() as held:
            held.enter_context(filelock.FileLock(self.store.folder / lock, timeout=_PATIENCE.total_seconds()))
            if self.store.remote:
                held.enter_context(self.store.remote.lease(lock, _PATIENCE.total_seconds()))
            self._look_again()
            if self._data is None:
                lance_package().write_dataset(
                    schema.empty_table(), self.place, mode="create", storage_options=_options()
                )

    def _look_again(self) -> None:
        for known in ("_data", "ids"):
            self.__dict__.pop(known, None)

    def is_written(self, number: int, ids: NDArray[np.str_]) -> bool:
        self._look_again()  # others write, too
        if self._data is None:
            return False
        found = self._data.to_table(columns=["id"], filter=f"number = {int(number)}")["id"].to_numpy()
        return np.array_equal(np.sort(found.astype(str)), np.sort(ids))

    def take(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        first, n = int(places[0]), len(places)
        if np.array_equal(places, np.arange(first, first + n)):
            found = self._data.to_table(columns=["X"], offset=first, limit=n)
        else:
            found = self._data.take(places.tolist(), columns=["X"])
        return _vectors(found).astype(np.float32)

    # ---- checks

    def damaged(self) -> tuple[list[int], list[str]]:
        """The fragments that can't be read, and of the others the images that are not what their checksums say."""
        unread, wrong = list[int](), list[str]()
        for fragment in self._data.get_fragments() if self._data else ():
            try:
                wrong += list(_wrong(fragment.to_table(columns=["id", "X", "fault", "sum"])))
            except (OSError, ValueError, RuntimeError):
                unread.append(fragment.fragment_id)
        return unread, wrong

    def remove_damaged(self) -> None:
        """Forget what is damaged, in a new version: it can be made again."""
        lance = lance_package()
        unread, wrong = self.damaged()
        if unread:
            gone = lance.LanceOperation.Delete([], unread, "damaged")
            version = self._data.version
            lance.LanceDataset.commit(self.place, gone, read_version=version, storage_options=_options())
        if wrong:
            listed = ", ".join(f"'{name}'" for name in wrong if name.isalnum())
            self._opened().delete(f"id IN ({listed})")
        self._look_again()

    def __getstate__(self) -> dict[str, object]:
        """Where it lies, and the version whose places are known."""
        version = None if self._data is None else self._data.version
        return {"store": self.store, "stage": self.stage, "_version": version}


def _options() -> dict[str, str] | None:
    """An S3 API may be served without encryption, as fsspec takes it."""
    return {"allow_http": "true"} if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://") else None


def _schema(dim: int) -> pa.Schema:
    import pyarrow as pa

    key = pa.field("id", pa.string(), nullable=False, metadata=_KEY)
    vector = pa.field("X", pa.list_(pa.float16(), dim))
    return pa.schema([key, vector, ("number", pa.int32()), ("fault", pa.string()), ("sum", pa.uint64())])


def _vectors(rows: pa.Table) -> NDArray[np.float16]:
    flat = rows["X"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(rows), -1)


def _sums(ids: Sequence[str], X: NDArray[np.float16], faults: Sequence[str | None]) -> NDArray[np.uint64]:
    """(r,) checksums of rows: the first 64 bits of their BLAKE3."""
    told = (f"{id}\n{why or ''}\n".encode() + row.tobytes() for id, row, why in zip(ids, X, faults, strict=True))
    return np.frombuffer(b"".join(blake3(row).digest(8) for row in told), np.uint64)


def _wrong(rows: pa.Table) -> Iterator[str]:
    ids = rows["id"].to_pylist()
    same = _sums(ids, _vectors(rows), rows["fault"].to_pylist()) == rows["sum"].to_numpy()
    return (ids[row] for row in np.flatnonzero(~same))
