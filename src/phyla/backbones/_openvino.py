"""Run a graph with OpenVINO: one stream a thread, so that the answer is the same for any number of threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phyla.backbones._card import Card
from phyla.types import PhylaError

if TYPE_CHECKING:
    import openvino as ov

# Importing OpenVINO sends its maker word of it, and counts its uses in a file at home, but not without this package.
# No variable keeps it from that.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

# Pictures a call: few enough for the activations to stay in a core's cache. Of 2, 4, 8 and 16, 4 was the fastest.
BATCH = 4
_LARGEST = 2**29  # numbers in a value, 2 GB: a map of a thousand channels at the largest size, of a batch, has as many


@cache
def _core() -> Any:
    import openvino as ov

    # OpenVINO sets its bridge to NumPy up on first use, and two threads that come first together wait for ever.
    ov.Type.f32.to_dtype()
    return ov.Core()


def best_precision() -> str:
    """ "bf16" where the processor computes in it, "f32" elsewhere."""
    return "bf16" if "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def refuse_giants(model: ov.Model) -> None:
    """Raise `RuntimeError` where a model makes a value that no picture needs, whatever a file of a few bytes says."""
    for node in model.get_ops():
        for output in node.outputs():
            shape = output.get_partial_shape()
            if shape.is_static and prod(output.get_shape()) > _LARGEST:
                raise RuntimeError(f"it makes a value of shape {list(output.get_shape())}")


class OpenVINONetwork:
    """A compiled graph as a `Network`.

    Each of `threads` callers gets an infer request of its own, and one stream of one thread: nothing is computed by
    two threads together, so results do not depend on their number, and no thread spins while it waits for another.
    Raises `RuntimeError` where OpenVINO can't run it.
    """

    def __init__(self, card: Card, model: ov.Model, threads: int, precision: str) -> None:
        self.card = card
        refuse_giants(model)
        self._batch = int(model.input(0).shape[0])
        self._compiled = _core().compile_model(
            model,
            "CPU",
            {
                "NUM_STREAMS": threads,
                "INFERENCE_NUM_THREADS": threads,
                "INFERENCE_PRECISION_HINT": best_precision() if precision == "auto" else precision,
                # A pinned thread can't get out of a busy neighbour's way.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._local = threading.local()

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        starts = range(0, len(pictures), self._batch)
        return np.concatenate([self._run(pictures[i : i + self._batch]) for i in starts])

    def _run(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        given = len(pictures)
        if given < self._batch:
            pictures = np.concatenate([pictures, np.zeros((self._batch - given, *pictures.shape[1:]), np.uint8)])
        try:
            self._local.request.infer([np.ascontiguousarray(pictures)], share_inputs=True)
        except RuntimeError as fault:  # what a stranger's network does may depend on the picture
            reason = str(fault).strip().rpartition("\n")[2]
            raise PhylaError(f"{self.card.name} can't be run: {reason}", "Use another network.") from fault
        return self._local.request.get_output_tensor(0).data[:given].astype(np.float32)


def from_onnx(card: Card, model: bytes, outputs: Sequence[str], threads: int, precision: str) -> OpenVINONetwork:
    """The network in the bytes of an ONNX file, from its one input; the `outputs` (n,) or (n, m) come side by side.

    Raises `RuntimeError` where OpenVINO can't read or run it.
    """
    import openvino as ov
    from openvino import opset13 as op

    graph = _core().read_model(BytesIO(model))
    graph.reshape([BATCH, card.size, card.size, 3])
    columns = [op.convert(graph.output(name).get_node().input_value(0), "f32") for name in outputs]
    flat = [op.reshape(column, [BATCH, -1], False) for column in columns]
    together = op.concat(flat, 1)
    if list(together.get_output_shape(0)) != [BATCH, card.dim]:
        raise RuntimeError(f"it makes {together.get_output_shape(0)[1]} numbers of a picture, not {card.dim}")
    return OpenVINONetwork(card, ov.Model([together], graph.get_parameters(), card.name), threads, precision)


class OpenVINOGraph:
    """The operations that bundled networks are made of, as OpenVINO's. `OnnxGraph` has the same."""

    def __init__(self, card: Card, batch: int = BATCH) -> None:
        import openvino as ov
        from openvino import opset13

        self._op, self._name = opset13, card.name
        self.pictures = opset13.parameter([batch, card.size, card.size, 3], ov.Type.u8, name="picture")

    def model(self, *outputs: Any) -> ov.Model:
        import openvino as ov

        return ov.Model(list(outputs), [self.pictures], self._name)

    def normalise(self, pictures: Any, mean: Sequence[float], std: Sequence[float]) -> Any:
        """uint8 (b, h, w, 3) → float32 (b, 3, h, w)."""
        op, (means, scales) = self._op, (np.asarray(v, np.float32).reshape(1, 3, 1, 1) for v in (mean, std))
        x = op.transpose(op.convert(pictures, "f32"), [0, 3, 1, 2])
        return op.multiply(op.subtract(x, means), 1 / scales)

    def convolve(
        self, x: Any, kernel: NDArray, bias: NDArray, stride: int, depthwise: bool, largest: NDArray | None
    ) -> Any:
        """A convolution by `kernel` (out, in, h, w).

        With `largest` (out, 1, 1, 1) its weights are rounded to 255 values from −largest to largest.
        """
        if depthwise:
            kernel, largest = kernel[:, None], None if largest is None else largest[:, None]
        # Given as an array, a weight would go through a list of Python's numbers: two fifths of the time to load.
        weight, bias = (self._op.constant(v.astype(np.float32)) for v in (kernel, bias.reshape(1, -1, 1, 1)))
        if largest is not None:
            weight = self._round(weight, -largest, largest, 255)
        convolution = self._op.group_convolution if depthwise else self._op.convolution
        y = convolution(x, weight, [stride, stride], [0, 0], [0, 0], [1, 1], auto_pad="same_upper")
        return self._op.add(y, bias)

    def clamp(self, x: Any, low: float, high: float) -> Any:
        return self._op.clamp(x, low, high)

    def add(self, x: Any, y: Any) -> Any:
        return self._op.add(x, y)

    def round(self, x: Any, low: float, high: float) -> Any:
        """`x`, of 256 values between `low` and `high`: OpenVINO takes this out and computes in integers."""
        return self._round(x, low, high, 256)

    def _round(self, x: Any, low: Any, high: Any, levels: int) -> Any:
        ends = [self._op.constant(np.asarray(end, np.float32)) for end in (low, high)]
        return self._op.fake_quantize(x, *ends, *ends, levels)

    def average(self, x: Any) -> Any:
        """(b, c, h, w) → (b, c)."""
        return self._op.reduce_mean(x, [2, 3])

    def places(self, x: Any) -> Any:
        """(b, c, h, w) → (b, h, w, c)."""
        return self._op.transpose(x, [0, 2, 3, 1])
