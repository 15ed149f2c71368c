"""Files from strangers: whatever is wrong with them is said in one sentence, and nothing beside them is opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from phyla.train import read
from phyla.types import PhylaError

Change = Callable[[Any], object]


def props(name: str, value: Any) -> Change:
    """Sets a part of the metadata; None takes it away."""

    def change(proto: Any) -> None:
        kept = {p.key: p.value for p in proto.metadata_props}
        kept[name] = value if isinstance(value, str) else json.dumps(value)
        if value is None:
            del kept[name]
        helper.set_model_props(proto, kept)

    return change


def network(**fields: Any) -> Change:
    def change(proto: Any) -> None:
        told = json.loads(next(p.value for p in proto.metadata_props if p.key == "network"))
        props("network", told | fields)(proto)

    return change


def outside(proto: Any) -> None:
    tensor = proto.graph.initializer[-1]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def outside_in_a_branch(proto: Any) -> None:
    secret = helper.make_tensor("t", TensorProto.UINT8, [1], b"\0", raw=True)
    secret.external_data.add(key="location", value="../secret")
    node = helper.make_node("Constant", [], ["c"], value=secret)
    branch = helper.make_graph([node], "b", [], [helper.make_tensor_value_info("c", TensorProto.UINT8, [1])])
    proto.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))


def other_outputs(proto: Any) -> None:
    proto.graph.output[3].name = "secret"


def around_the_view(proto: Any) -> None:
    """An output that looks at the pictures themselves."""
    for node in proto.graph.node:
        if "outlier" in node.output:
            node.output[0] = "was"
    shape = helper.make_node("Cast", ["pictures"], ["outlier"], to=TensorProto.FLOAT)
    proto.graph.node.append(shape)


def no_view(proto: Any) -> None:
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = "other" if name == "view" else name


def wrong_weights(proto: Any) -> None:
    for tensor in proto.graph.initializer:
        if list(tensor.dims) == [32, 3, 3, 3]:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros((32, 4, 3, 3), np.float32), tensor.name))


@pytest.mark.parametrize(
    "change, why",
    [
        (props("phyla", None), "no phyla"),
        (props("phyla", "one"), "no phyla"),
        (props("phyla", "[" * 100_000), "no phyla"),
        (props("phyla", [1]), "odd phyla"),
        (props("phyla", 0), "no classifier of Phyla"),
        (props("phyla", 2), "of a later Phyla"),
        (props("classes", None), "no classes"),
        (props("classes", []), "classes are not told"),
        (props("classes", ["a", "b", 3]), "classes are not told"),
        (props("classes", ["a", "b", "b"]), "classes are not told"),
        (props("classes", ["a", "b", "c" * 2000]), "classes are not told"),
        (props("classes", ["a", "b"]), r"names 2 classes and tells \[3\] apart"),
        (props("told", "[]"), "odd told"),
        (props("network", {}), "how to resize"),
        (network(size=10**9), "how to resize"),
        (network(size="224"), "how to resize"),
        (network(crop=1e-9), "how to resize"),
        (network(crop=float("nan")), "how to resize"),
        (network(interpolation="magic"), "how to resize"),
        (network(mean=3), "how to resize"),
        (outside, "weights in another file"),
        (outside_in_a_branch, "weights in another file"),
        (other_outputs, "class, probability, defer, secret"),
        (lambda proto: proto.graph.input.add(name="more"), "of pictures, more"),
    ],
)
def test_what_is_wrong_is_said(change: Change, why: str, model: Path, tmp_path: Path) -> None:
    proto = onnx.load(model)
    change(proto)
    path = tmp_path / "other.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(PhylaError, match=why) as fault:
        read(path)
    assert "other.onnx" in fault.value.message and fault.value.hint


def more_classes(proto: Any) -> None:
    """Tells of three classes, and gives four probabilities."""
    for name, value in (("zero", 0), ("one", 1)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value]), name))
    for node in proto.graph.node:
        if "probability" in node.output:
            node.output[0] = "three"
    added = [
        helper.make_node("Slice", ["three", "zero", "one", "one"], ["of_one"]),
        helper.make_node("Concat", ["three", "of_one"], ["probability"], axis=1),
    ]
    for node in proto.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = "three" if name == "probability" else name
    proto.graph.node.extend(added)


def in_a_branch(proto: Any) -> None:
    """The pictures themselves are looked at within a branch."""
    node = helper.make_node("Size", ["pictures"], ["count"])
    branch = helper.make_graph([node], "b", [], [helper.make_tensor_value_info("count", TensorProto.INT64, [])])
    for other in proto.graph.node:
        if "outlier" in other.output:
            other.output[0] = "was"
    proto.graph.node.append(helper.make_node("If", ["defer"], ["n"], then_branch=branch, else_branch=branch))
    proto.graph.node.append(helper.make_node("Cast", ["n"], ["outlier"], to=TensorProto.FLOAT))


@pytest.mark.parametrize(
    "change, why",
    [
        (more_classes, "can't be run: it makes 6 numbers of a picture, not 5"),
        (in_a_branch, "no resized view"),
        (around_the_view, "no resized view"),
        (no_view, "no resized view"),
        (wrong_weights, "can't be run"),
    ],
)
def test_what_shows_when_it_is_to_run(change: Change, why: str, model: Path, tmp_path: Path) -> None:
    proto = onnx.load(model)
    change(proto)
    path = tmp_path / "other.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(PhylaError, match=why):
        read(path).load(1)


@pytest.mark.parametrize("keep", [0, 100, 100_000])
def test_a_part_of_a_file_is_none(keep: int, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "part.onnx"
    path.write_bytes(model.read_bytes()[:keep])
    with pytest.raises(PhylaError, match="no classifier of Phyla"):
        read(path)


@pytest.mark.parametrize("data", [b"\x89PNG\r\n", b'{"a": 1}', bytes(10_000), b"\xff" * 999], ids=range(4))
def test_something_else_is_none(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(data)
    with pytest.raises(PhylaError, match=r"x\.onnx is no classifier of Phyla"):
        read(tmp_path / "x.onnx")


def test_nothing_there(tmp_path: Path) -> None:
    for path in (tmp_path / "no.onnx", tmp_path):
        with pytest.raises(PhylaError, match="can't be read"):
            read(path)
