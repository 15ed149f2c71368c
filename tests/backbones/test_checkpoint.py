"""The checkpoint reader: what it reads, what it refuses, and that nothing in a file is ever run."""

from __future__ import annotations

import builtins
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phyla.backbones import card
from phyla.backbones._checkpoint import _MAGIC, read_checkpoint
from phyla.backbones.lite import _weights_file
from phyla.types import PhylaError

HEAD = [_MAGIC, 1001, {"little_endian": True, "protocol_version": 1001, "type_sizes": {}}]


class Call:
    """Pickled, it asks for `function(*args)` on loading."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def write(path: Path, *parts: Any, protocol: int = 2) -> Path:
    path.write_bytes(b"".join(part if isinstance(part, bytes) else pickle.dumps(part, protocol) for part in parts))
    return path


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("call", ["os.system", "eval", "exec", "getattr", "Popen", "open"])
def test_refuses_hostile_pickles(tmp_path: Path, place: int, call: str) -> None:
    trace = tmp_path / "trace"
    hostile = {
        "os.system": Call(os.system, f"touch {trace}"),
        "eval": Call(builtins.eval, f"open({str(trace)!r}, 'w')"),
        "exec": Call(builtins.exec, f"open({str(trace)!r}, 'w')"),
        "getattr": Call(getattr, os, "system") if place else Call(getattr, "", "join"),
        "Popen": Call(subprocess.Popen, ["touch", str(trace)]),
        "open": Call(open, str(trace), "w"),
    }
    parts: list[Any] = [*HEAD, {}, []]
    if call == "getattr":  # a module can't be pickled, so name the function alone
        parts[place] = b"cbuiltins\ngetattr\n(S''\nS'join'\ntR."
    else:
        parts[place] = hostile[call]
    with pytest.raises(PhylaError, match="the file asks for"):
        read_checkpoint(write(tmp_path / "net.pth", *parts))
    assert not trace.exists()


@pytest.mark.parametrize(
    "name",
    [b"collections\nOrderedDict.__class__", b"torch\nload", b"torch._utils\nos", b"torch.storage\n_load_from_bytes"],
)
def test_refuses_near_names(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(PhylaError):
        read_checkpoint(write(tmp_path / "net.pth", *HEAD, b"\x80\x04c" + name + b"\n."))


@pytest.mark.parametrize(
    "parts",
    [[], [1, 2, 3], [*HEAD[:2], {"little_endian": False}], [*HEAD, 5, []], [*HEAD, {"a": 5}, []], [b"PK\3\4"]],
)
def test_refuses_other_files(tmp_path: Path, parts: list[Any]) -> None:
    with pytest.raises(PhylaError, match="not a checkpoint"):
        read_checkpoint(write(tmp_path / "net.pth", *parts))


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.5, 0.999999])
def test_refuses_truncated_files(tmp_path: Path, share: float) -> None:
    whole = _weights_file(card("lite0")).read_bytes()
    path = tmp_path / "net.pth"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(PhylaError, match="not a checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize("numbers", [(2**40, (1,), (1,)), (0, (10**6,), (1,)), (0, (2,), (-1,)), (-1, (1,), (1,))])
def test_refuses_tensors_outside_their_storage(tmp_path: Path, numbers: tuple[int, tuple, tuple]) -> None:
    offset, shape, strides = numbers
    tensors = pickle.PROTO + b"\x02" + (
        b"}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n("
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00kX\x03\x00\x00\x00cpuK\x04NtQ"
        + b"".join(pickle.dumps(v, 2)[2:-1] for v in (offset, shape, strides))
        + b"tRs."
    )  # fmt: skip
    storage = np.int64(4).tobytes() + np.arange(4, dtype=np.float32).tobytes()
    path = tmp_path / "net.pth"
    good = tensors.replace(b"".join(pickle.dumps(v, 2)[2:-1] for v in numbers), b"K\x01K\x03\x85K\x01\x85")
    read = read_checkpoint(write(path, *HEAD, good, ["k"], storage))
    np.testing.assert_array_equal(read["a"], [1, 2, 3])
    with pytest.raises(PhylaError, match="not a checkpoint"):
        read_checkpoint(write(path, *HEAD, tensors, ["k"], storage))


def test_reads_lite0() -> None:
    tensors = read_checkpoint(_weights_file(card("lite0")))
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert all(np.isfinite(t).all() for t in tensors.values())
