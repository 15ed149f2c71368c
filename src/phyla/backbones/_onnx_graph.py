"""An ONNX graph while it is written: nodes and weights, and the operations that bundled networks are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LAST_OPSET = 1000  # there are some 25; OpenVINO looks for each of them down from what a file says
OPSET, IR = 18, 8  # what ONNX Runtime 1.17 reads, and all after it


class OnnxGraph:
    """Values are names. What is given as an array becomes a weight of the file.

    opsets, ir : the versions that the nodes need; a network that is spliced in may raise them.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.opsets, self.ir = {"": OPSET}, IR
        self._steps: dict[str, NDArray] = {}  # of values that are rounded: the step between two of them

    def constant(self, value: Any, name: str = "") -> str:
        from onnx import numpy_helper

        name = name or f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def node(self, kind: str, *inputs: str | NDArray | np.generic, named: str = "", **attributes: Any) -> str:
        """The one output of a new node, called `named` if given."""
        from onnx import helper

        names = [v if isinstance(v, str) else self.constant(v) for v in inputs]
        named = named or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [named], **attributes))
        return named

    def cast(self, x: str, kind: Any, named: str = "") -> str:
        from onnx import helper

        return self.node("Cast", x, named=named, to=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))

    def take_in(self, model: Any, x: str, output: str) -> str:
        """Put the nodes of another `onnx.ModelProto` behind `x`, its one input; the name of what was its `output`.

        Raises what ONNX raises of a model that it can't bring to this version.
        """
        from onnx import compose, inliner, version_converter

        if model.functions:
            model = inliner.inline_local_functions(model)
        if next((o.version for o in model.opset_import if not o.domain), OPSET) < OPSET:
            model = version_converter.convert_version(model, OPSET)
        weights = {w.name for w in model.graph.initializer}
        (entry,) = (value.name for value in model.graph.input if value.name not in weights)
        model = compose.add_prefix(model, prefix := "network/")
        self.node("Identity", x, named=prefix + entry)
        self.nodes += model.graph.node
        self.weights += model.graph.initializer
        for opset in model.opset_import:
            self.opsets[opset.domain] = max(opset.version, self.opsets.get(opset.domain, 0))
        self.ir = max(self.ir, model.ir_version)
        return prefix + output

    # ---- what `OpenVINOGraph` has too

    def normalise(self, pictures: str, mean: Sequence[float], std: Sequence[float]) -> str:
        means, scales = (np.asarray(v, np.float32).reshape(1, 3, 1, 1) for v in (mean, std))
        x = self.node("Transpose", self.cast(pictures, np.float32), perm=[0, 3, 1, 2])
        return self.node("Mul", self.node("Sub", x, means), 1 / scales)

    def convolve(
        self, x: str, kernel: NDArray, bias: NDArray, stride: int, depthwise: bool, largest: NDArray | None
    ) -> str:
        weight, constant = kernel.astype(np.float32), bias.astype(np.float32)
        how: dict[str, Any] = {"strides": [stride, stride], "auto_pad": "SAME_UPPER"}
        how["group"] = len(kernel) if depthwise else 1
        if largest is None:
            return self.node("Conv", x, weight, constant, **how)
        # ONNX Runtime adds the bias in integers: in steps of what the products come in. Some filters are empty, or so
        # weak beside their bias that it would need more than 32 bits.
        least = np.abs(constant) / (self._steps[x] * np.float32(2**30))
        steps = np.maximum(largest.reshape(-1).astype(np.float32) / 127, np.maximum(least, np.float32(1e-12)))
        whole = np.rint(weight / steps[:, None, None, None]).astype(np.int8)
        rounded = self.node("DequantizeLinear", whole, steps, np.zeros(len(steps), np.int8), axis=0)
        fine = steps * self._steps[x]
        counts = np.rint(constant / fine).astype(np.int32)
        added = self.node("DequantizeLinear", counts, fine, np.zeros(len(fine), np.int32), axis=0)
        return self.node("Conv", x, rounded, added, **how)

    def clamp(self, x: str, low: float, high: float) -> str:
        return self.node("Clip", x, np.float32(low), np.float32(high))

    def add(self, x: str, y: str) -> str:
        return self.node("Add", x, y)

    def round(self, x: str, low: float, high: float) -> str:
        step = np.float32((high - low) / 255)
        zero = np.uint8(np.rint(-low / step).clip(0, 255))
        whole = self.node("QuantizeLinear", x, step, zero)
        y = self.node("DequantizeLinear", whole, step, zero)
        self._steps[y] = np.asarray(step)
        return y

    def average(self, x: str) -> str:
        return self.node("Flatten", self.node("GlobalAveragePool", x))


def tensors(part: Any) -> Iterator[Any]:
    """Every tensor of a model, in whatever it is nested."""
    yield from _all(part, "TensorProto")


def strange(model: Any) -> str:
    """What may keep a stranger's network busy for ever, and no network of pictures needs; empty where it has none."""
    if loops := {node.op_type for node in _all(model, "NodeProto")} & {"Loop", "Scan", "SequenceMap"}:
        return f"it repeats itself ({', '.join(sorted(loops))})"
    if any(opset.version > _LAST_OPSET for opset in model.opset_import):
        return "its opset does not exist"
    return "" if _is_in_order(model.graph, set()) else "its nodes are not in the order in which they can be computed"


def _is_in_order(graph: Any, known: set[str]) -> bool:
    """Whether each value is made once, before it is used, as ONNX asks; OpenVINO follows a circle for ever."""
    known = known | {value.name for value in (*graph.input, *graph.initializer)}
    known |= {weight.values.name for weight in graph.sparse_initializer}
    for node in graph.node:
        inner = [inner for attribute in node.attribute for inner in (attribute.g, *attribute.graphs)]
        if not known.issuperset(filter(None, node.input)) or not all(_is_in_order(g, known) for g in inner):
            return False
        if not known.isdisjoint(node.output):
            return False
        known |= set(filter(None, node.output))
    return True


def _all(part: Any, kind: str) -> Iterator[Any]:
    from google.protobuf.message import Message

    if part.DESCRIPTOR.name == kind:
        yield part
    if part.DESCRIPTOR.name == "TensorProto":  # weights: nothing is nested in them
        return
    for field, value in part.ListFields():
        if field.message_type is not None:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _all(inner, kind)
