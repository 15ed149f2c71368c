"""Read a PyTorch checkpoint of the old (pre-zip) format without PyTorch and without running what is in it."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from phyla.types import PhylaError

# The first of the file's pickles, by which torch.load knows the format too.
_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Tensor:
    """What a checkpoint says of a tensor before its numbers are read."""

    __slots__ = ("dtype", "key", "offset", "shape", "strides")  # so that no pickle can give it a `view` of its own

    def __init__(self, storage: tuple[Any, ...], offset: int, shape: tuple, strides: tuple, *_: Any) -> None:
        self.key, self.dtype = storage[2], _DTYPES[storage[1]]
        self.offset, self.shape, self.strides = offset, shape, strides

    def view(self, storages: dict[str, NDArray]) -> NDArray:
        flat = storages[self.key][self.offset :]
        reach = 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if min(self.offset, *self.strides, 0) < 0 or (0 not in self.shape and reach > len(flat)):
            raise pickle.UnpicklingError("a tensor reaches outside its storage")
        strides = [s * flat.itemsize for s in self.strides]
        return np.ascontiguousarray(as_strided(flat, self.shape, strides, writeable=False))


class _Unpickler(pickle.Unpickler):
    """Builds ordered dictionaries and tensor descriptions; any other name in the file is an error."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return _Tensor
            case "torch", name if name in _DTYPES:
                return name  # not the dtype: a pickle may alter the objects that it is given
        raise pickle.UnpicklingError(f"the file asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        return pid  # ("storage", dtype, key, device, length, view)


def _read_storages(file: IO[bytes], keys: list[str], dtypes: dict[str, np.dtype]) -> dict[str, NDArray]:
    storages = {}
    for key in keys:
        (length,) = np.frombuffer(file.read(8), "<i8")
        data = file.read(int(length) * dtypes[key].itemsize)
        storages[key] = np.frombuffer(data, dtypes[key], count=int(length))
    return storages


def read_checkpoint(path: Path) -> dict[str, NDArray]:
    """Tensors of the state dict at `path`, by name. Only arrays can come out: nothing in the file is executed."""
    try:
        with path.open("rb") as file:
            magic, _protocol, system = (_Unpickler(file).load() for _ in range(3))
            if magic != _MAGIC or not system["little_endian"]:
                raise pickle.UnpicklingError("not a little-endian checkpoint of the old format")
            tensors = _Unpickler(file).load()
            keys = _Unpickler(file).load()
            storages = _read_storages(file, keys, {t.key: t.dtype for t in tensors.values()})
            return {name: tensor.view(storages) for name, tensor in tensors.items()}
    except (pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError, AttributeError,
            OverflowError, MemoryError) as fault:  # fmt: skip
        message = f"{path} is not a checkpoint that can be read: {fault}."
        raise PhylaError(message, "Install its package again.") from fault
