"""A classifier as one ONNX file that needs nothing else: from pictures of any size to classes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from phyla import backbones
from phyla._version import __version__
from phyla.train._head import WEIGHTS, Head
from phyla.train._view import VIEW, view
from phyla.types import PhylaError

FORMAT = 1  # of the file: names and kinds of what goes in and comes out, and of what is told
PICTURES = "pictures"
OUTPUTS = ("class", "probability", "defer", "outlier")
_LARGEST = 2000  # megabytes: an ONNX file may have 2 GiB
_AXIS = np.array([1])


def write(
    path: Path,
    card: backbones.Card,
    head: Head,
    classes: Sequence[str],
    told: dict[str, Any],
    *,
    integer: backbones.Ranges | None = None,
) -> None:
    """Write the network of `card` and `head` to the ONNX file `path`, aside first and then renamed.

    In goes `pictures`, uint8 (n, h, w, 3) RGB, upright; out come `class` int64 (n,), `probability` float32 (n, c),
    `defer` bool (n,) and `outlier` float32 (n,), as `Head` says. All three of n, h and w are free.

    classes : names of the c classes. told : what people should know of it, JSON values only.
    integer : compute in 8-bit integers (see `backbones.calibrate`); the head stays in floats.

    Raises `PhylaError` for a network that can't be put into a file. A second; lite0 and a student
    take 17 MB, in integers 8.
    """
    put(path, model(card, head, classes, told, integer=integer).SerializeToString())


def put(path: Path, data: bytes) -> None:
    """Write `data` to `path`, aside first and then renamed. What a killed run left aside goes with the next."""
    hidden = path.with_name(f".{path.name}.phyla")
    aside = hidden / str(os.getpid())
    try:
        hidden.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as fault:
        raise PhylaError(f"{path} can't be written: {fault.strerror or fault}.", "Name another file.") from fault
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def model(
    card: backbones.Card, head: Head, classes: Sequence[str], told: dict[str, Any], *, integer: backbones.Ranges | None
) -> Any:
    """What `write` writes, as an `onnx.ModelProto`."""
    from onnx import TensorProto, helper

    if len(classes) != len(head.radius) or len(set(classes)) != len(classes):
        raise PhylaError(f"{len(classes)} names are given for {len(head.radius)} classes.", "Give each its own name.")
    if card.megabytes > _LARGEST:
        raise PhylaError(f"{card.name} is too large for one ONNX file.", f"Those of up to {_LARGEST:,} MB fit.")
    graph = backbones.OnnxGraph()
    features = backbones.splice(card, graph, view(graph, PICTURES, card), integer)
    if integer:
        head = replace(head, mean=head.mean + integer.shift)
    _put(graph, features, head)
    shapes = {"class": ("n",), "probability": ("n", len(classes)), "defer": ("n",), "outlier": ("n",)}
    kinds = (TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL, TensorProto.FLOAT)
    made = helper.make_model(
        helper.make_graph(
            graph.nodes, "phyla",
            [helper.make_tensor_value_info(PICTURES, TensorProto.UINT8, ("n", "h", "w", 3))],
            [helper.make_tensor_value_info(n, k, shapes[n]) for n, k in zip(OUTPUTS, kinds, strict=True)],
            graph.weights,
        ),
        producer_name="phyla", producer_version=__version__, ir_version=graph.ir,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in graph.opsets.items()],
    )  # fmt: skip
    network = asdict(card) | {"integer": card.integer or integer is not None, "view": VIEW}
    facts = {"phyla": FORMAT, "classes": list(classes), "told": told, "network": network}
    helper.set_model_props(made, {name: json.dumps(fact, ensure_ascii=False) for name, fact in facts.items()})
    return made


def _put(graph: backbones.OnnxGraph, x: str, head: Head) -> None:
    """The nodes of `head` on features `x` (n, d); each line is one of `Head`."""
    node = graph.node
    away = node("Sub", x, _array(head.mean))
    z = node("MatMul", away, _array(head.components.T / head.scale))
    y = away
    for weights, bias in head.layers[:-1]:
        y = node("Relu", node("Gemm", y, _array(weights), _array(bias)))
    weights, bias = head.layers[-1]
    share = node("Softmax", node("Gemm", y, _array(weights), _array(bias)), named="probability", axis=1)
    best = node("ArgMax", share, named="class", axis=1, keepdims=0)
    doubt = node("Sub", np.float32(1), node("ReduceMax", share, _AXIS, keepdims=0))
    node("Greater", doubt, node("Gather", _array(head.radius), best), named="defer")

    across = node("MatMul", z, _array(-2 * head.centers.T))
    squares = node("Add", node("Add", _square(graph, z, 1), across), _array((head.centers**2).sum(1)))
    near = node("ReduceMin", squares, _AXIS, keepdims=0)
    rest = node("Sub", _square(graph, away, 0), _square(graph, node("Mul", z, _array(head.scale)), 0))
    ranks = [_rank(graph, q, v) for q, v in zip(head.quantiles, (near, rest, doubt), strict=False)]
    weighed = [node("Mul", ranked, weight) for ranked, weight in zip(ranks, WEIGHTS, strict=True)]
    _rank(graph, head.quantiles[-1], node("Sum", *weighed), "outlier")


def _array(values: Any) -> Any:
    return np.ascontiguousarray(values, np.float32)


def _square(graph: backbones.OnnxGraph, x: str, keepdims: int) -> str:
    return graph.node("ReduceSumSquare", x, _AXIS, keepdims=keepdims)


def _rank(graph: backbones.OnnxGraph, quantiles: Any, values: str, named: str = "") -> str:
    below = graph.node("Less", _array(quantiles), graph.node("Unsqueeze", values, _AXIS))
    return graph.node("ReduceMean", graph.cast(below, np.float32), _AXIS, named=named, keepdims=0)
