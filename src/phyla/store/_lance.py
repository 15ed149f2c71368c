"""One network's features in a dataset of Lance, for object storage and many writers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phyla.store._features import Features
from phyla.store._files import Store
from phyla.types import PhylaError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LanceFeatures", "lance_package"]

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
    return lance


class LanceFeatures(Features):
    """The features in `shards.lance` of a stage, as they are when this is first asked.

    A row is an image: `id`, `X` (dim) float16, the `number` of its shard, and the `fault` of a picture that can't be
    decoded. Each shard written is one version. The order of rows is that of their arrival, which nothing hangs on.
    A write reads all ids that are there: 0.05 s of CPU time at 200,000, 0.2 at a million.
    """

    def __init__(self, store: Store, stage: str) -> None:
        super().__init__(store, stage)
        self._version: int | None = None  # the latest

    @property
    def place(self) -> str:
        """Where the dataset lies; any tool that reads Lance can open it."""
        name = f"{self.stage}/shards.lance"
        return f"{self.store.remote.url}/{name}" if self.store.remote else str(self.store.folder / name)

    @cached_property
    def _data(self) -> Any:
        """The dataset, None where there is none yet."""
        lance = lance_package()
        try:
            return lance.dataset(self.place, version=self._version)
        except ValueError:  # so it says that nothing is there
            return None

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

        lance, schema = lance_package(), _schema(X.shape[1])
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(X.astype(np.float16).ravel()), X.shape[1])
        names = ids.tolist()
        columns = [pa.array(names), vectors, pa.array([number] * len(names), pa.int32())]
        columns.append(pa.array([faults.get(name) for name in names], pa.string()))
        with suppress(OSError):  # somebody else has made it just now
            if self._data is None:
                lance.write_dataset(schema.empty_table(), self.place, mode="create")
        merge = lance.dataset(self.place).merge_insert("id").when_not_matched_insert_all()
        merge.conflict_retries(_RETRIES).retry_timeout(_PATIENCE).execute(pa.table(columns, schema=schema))
        self.__dict__.pop("_data", None)
        self.__dict__.pop("ids", None)

    def is_written(self, number: int, ids: NDArray[np.str_]) -> bool:
        self.__dict__.pop("_data", None)  # others write, too
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
        flat = found["X"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(n, -1).astype(np.float32)

    def __getstate__(self) -> dict[str, object]:
        """Where it lies, and the version whose places are known."""
        version = None if self._data is None else self._data.version
        return {"store": self.store, "stage": self.stage, "_version": version}


def _schema(dim: int) -> pa.Schema:
    import pyarrow as pa

    key = pa.field("id", pa.string(), nullable=False, metadata=_KEY)
    vector = pa.field("X", pa.list_(pa.float16(), dim))
    return pa.schema([key, vector, ("number", pa.int32()), ("fault", pa.string())])
