"""A classifier's file, read back. It may come from anybody: it is looked through, and nothing beside it is opened."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import backbones
from phyla.train._view import VIEW
from phyla.train._write import FORMAT, OUTPUTS, PICTURES
from phyla.types import PhylaError

_LARGEST = 2**31 - 1  # bytes that an ONNX file can have at all
_SIDE, _CLASSES, _NAME = 4096, 100_000, 1000  # pixels, classes, letters of a class's name


@dataclass(frozen=True)
class Model:
    """A classifier in a file.

    card : of the network in it. classes : their names. told : what people should know of it. sha256 : of its bytes.
    """

    path: Path
    card: backbones.Card
    classes: tuple[str, ...]
    told: dict[str, Any]
    sha256: str
    proto: Any = field(repr=False, compare=False)

    def load(self, threads: int, precision: str = "f32") -> backbones.Network:
        """The classifier from the resized view on: a row for each picture, which `columns` reads.

        In f32, as whoever else runs the file: bf16 is up to 2.5 times as fast, and calls 2 of 100 pictures otherwise.
        """
        try:
            return backbones.from_onnx(
                self.card, self._from_view(), ("probability", "outlier", "defer"), threads, precision
            )
        except RuntimeError as fault:
            reason = str(fault).strip().rpartition("\n")[2]
            raise PhylaError(f"{self.path} can't be run: {reason}", _AGAIN) from fault

    def columns(self, rows: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """What the network's `rows` (n, c + 2) say: class, probability, defer and outlier, (n,) each."""
        share = rows[:, :-2]
        names = np.array(self.classes, object)
        told = names[share.argmax(1)], share.max(1), rows[:, -1] > 0.5, rows[:, -2]
        return dict(zip(OUTPUTS, told, strict=True))

    def _from_view(self) -> bytes:
        """The part of the file after the tensor `VIEW`, which becomes its input."""
        from onnx import TensorProto, helper

        graph = self.proto.graph
        maker = {name: node for node in graph.node for name in node.output}
        needed, asked = set[str](), list(OUTPUTS)
        while asked:
            name = asked.pop()
            if name not in needed and name:
                needed.add(name)
                asked += _used(maker[name]) if name in maker and name != VIEW else ()
        if VIEW not in needed or PICTURES in needed:
            raise _not_ours(self.path, "it has no resized view")
        size = self.card.size
        view = helper.make_tensor_value_info(VIEW, TensorProto.UINT8, (None, size, size, 3))
        part = helper.make_graph(
            [node for node in graph.node if needed & set(node.output) and VIEW not in node.output], graph.name, [view],
            list(graph.output), [w for w in graph.initializer if w.name in needed],
        )  # fmt: skip
        made = helper.make_model(part, ir_version=self.proto.ir_version, opset_imports=self.proto.opset_import)
        return bytes(made.SerializeToString())


_AGAIN = "Give a file that Phyla wrote, whole."


def _not_ours(path: Path, why: str) -> PhylaError:
    return PhylaError(f"{path} is no classifier of Phyla: {why}.", _AGAIN)


def read(path: Path) -> Model:
    """The classifier in the file at `path`. Raises `PhylaError` where it is none, damaged, or of a later Phyla."""
    import onnx

    try:
        if path.stat().st_size > _LARGEST:
            raise _not_ours(path, "it is too large")
        data = path.read_bytes()
    except OSError as fault:
        raise PhylaError(f"{path} can't be read: {fault.strerror or fault}.", "Check the spelling.") from fault
    try:
        proto = onnx.load_model_from_string(data)
    except Exception as fault:  # protobuf's DecodeError, which each of its versions keeps elsewhere
        raise _not_ours(path, "it is no ONNX file, or not the whole of one") from fault
    if any(tensor.external_data or tensor.data_location for tensor in backbones.tensors(proto)):
        raise _not_ours(path, "it keeps weights in another file")
    if why := backbones.strange(proto):
        raise _not_ours(path, why)
    props = {p.key: p.value for p in proto.metadata_props}
    made = _told(path, props, "phyla", int)
    if made > FORMAT:
        raise PhylaError(f"{path} is of a later Phyla.", "Update this one: pip install --upgrade phyla")
    inputs, outputs = ([v.name for v in values] for values in (proto.graph.input, proto.graph.output))
    if made < 1 or inputs != [PICTURES] or outputs != list(OUTPUTS):
        raise _not_ours(path, f"it makes {', '.join(outputs) or 'nothing'} of {', '.join(inputs) or 'nothing'}")
    classes = _told(path, props, "classes", list)
    is_named = all(isinstance(name, str) and len(name) <= _NAME for name in classes)
    if not (0 < len(classes) <= _CLASSES and is_named and len(set(classes)) == len(classes)):
        raise _not_ours(path, "its classes are not told")
    shape = [d.dim_value for d in proto.graph.output[1].type.tensor_type.shape.dim]
    if shape[1:] != [len(classes)]:
        raise _not_ours(path, f"it names {len(classes)} classes and tells {shape[1:]} apart")
    card, told = _card(path, _told(path, props, "network", dict)), _told(path, props, "told", dict)
    return Model(
        path, replace(card, dim=len(classes) + 2), tuple(classes), told, hashlib.sha256(data).hexdigest(), proto
    )


def _told(path: Path, props: dict[str, str], name: str, kind: type) -> Any:
    try:
        value = json.loads(props[name])
    except (KeyError, ValueError, RecursionError) as fault:
        raise _not_ours(path, f"its metadata has no {name}") from fault
    if not isinstance(value, kind):
        raise _not_ours(path, f"its metadata has an odd {name}")
    return value


def _used(node: Any) -> Iterator[str]:
    """Names of the values that `node`, or one of the graphs in it, looks at."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _used(inner)


def _card(path: Path, told: dict[str, Any]) -> backbones.Card:
    """The card of the network, of which the fields that resizing goes by are looked at."""
    try:
        known = {f.name: told[f.name] for f in fields(backbones.Card) if f.name in told}
        card = backbones.Card(**known | {"mean": tuple(told["mean"]), "std": tuple(told["std"])})
        fine = (
            isinstance(card.name, str) and type(card.size) is int and 0 < card.size <= _SIDE
            and isinstance(card.crop, int | float) and 0.01 <= card.crop <= 1
            and card.interpolation in ("bicubic", "bilinear", "nearest")
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        fine = False
    if not fine:
        raise _not_ours(path, "its metadata does not say how to resize pictures")
    return card
