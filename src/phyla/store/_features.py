"""One network's features in a store: a sequence of shards, found again by the ids of their images."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from phyla.store._files import Store
from phyla.types import UNREAD, PhylaError

__all__ = ["Features"]


class Features:
    """The features in a stage, as they are when this is made.

    A shard is three files, `00000.npy` (r, dim) float16, `00000.ids.npy` and `00000.faults.json`: the first is written
    last, so that a shard is there as a whole. A picture that can't be decoded has a row of NaN, and its reason.
    Of n images reading the ids takes 40 n bytes; `take` maps the shards that it needs.
    """

    def __init__(self, store: Store, stage: str) -> None:
        self.store, self.stage = store, stage

    @cached_property
    def _shards(self) -> list[str]:
        return self.store.shards(self.stage, "npy")

    @cached_property
    def _held(self) -> list[NDArray[np.str_]]:
        return [self.store.ids(name.replace(".npy", ".ids.npy")) for name in self._shards]

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum([len(ids) for ids in self._held], dtype=np.int64)

    def __len__(self) -> int:
        """How many shards there are."""
        return len(self._shards)

    @property
    def ids(self) -> NDArray[np.str_]:
        """(m,) the images described, as they come."""
        return np.concatenate(self._held) if self._held else np.array([], "<U32")

    @property
    def faults(self) -> dict[str, str]:
        """Of the images that can't be decoded, or could not be read the last time: id → why."""
        found: dict[str, str] = {}
        for name, ids in zip(self._shards, self._held, strict=True):
            again = np.isin(ids, [i for i, why in found.items() if why.startswith(UNREAD)])
            for i in ids[again].tolist():
                del found[i]
            found |= self.store.read_json(name.replace(".npy", ".faults.json"))
        return found

    @property
    def unread(self) -> list[str]:
        """The images that could not be read; a later shard may have them once more, and counts."""
        return [i for i, why in self.faults.items() if why.startswith(UNREAD)]

    def write(self, number: int, ids: NDArray[np.str_], X: NDArray[np.floating], faults: Mapping[str, str]) -> None:
        """Shard `number`: X (r, dim) of the images `ids` (r,), of which some are broken."""
        name = f"{self.stage}/{number:05}"
        self.store.write_json(f"{name}.faults.json", dict(faults))
        self.store.write_array(f"{name}.ids.npy", ids.astype("S"))
        self.store.write_array(f"{name}.npy", X)

    def is_written(self, number: int, ids: NDArray[np.str_]) -> bool:
        """Whether shard `number` is there and is of just these images; one before it may still be missing."""
        name = f"{self.stage}/{number:05}"
        if not self.store.has(f"{name}.npy"):
            return False
        return np.array_equal(self.store.ids(f"{name}.ids.npy"), ids)

    def places(self, ids: NDArray[np.str_]) -> NDArray[np.int64]:
        """(n,) where each image's features lie, for `take`. Raises `PhylaError` where some have none."""
        held = self.ids
        order = np.argsort(held, kind="stable")
        at = order[(np.searchsorted(held, ids, "right", sorter=order) - 1).clip(min=0)] if len(held) else order
        if lack := len(ids) if not len(held) else int((held[at] != ids).sum()):
            raise PhylaError(
                f"{lack:,} of {len(ids):,} images are not described by {self.store.recipe(self.stage).method}.",
                f"Have it describe all: phyla sort --project {self.store.place} --anew",
            )
        return at

    def take(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """(r, dim) the features at these places, one or more, in their order."""
        of = np.searchsorted(self._ends, places, side="right")
        X: NDArray[np.float32] | None = None
        for shard in np.unique(of):
            part = self.store.array(self._shards[shard], mmap=True)
            rows = part[places[of == shard] - (self._ends[shard] - len(part))]
            if X is None:
                X = np.empty((len(places), part.shape[1]), np.float32)
            X[of == shard] = rows
        assert X is not None
        return X

    def __getstate__(self) -> dict[str, object]:
        """What `take` needs in another process: not the ids. There nothing is kept of what lies elsewhere."""
        store = Store(self.store.place if self.store.remote else self.store.folder, keeps=False)
        return {"store": store, "stage": self.stage, "_shards": self._shards, "_ends": self._ends}
