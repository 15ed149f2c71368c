"""Run a graph with OpenVINO: one stream a thread, so that the answer is the same for any number of threads."""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phyla.backbones._card import Card

if TYPE_CHECKING:
    import openvino as ov

# Pictures a call: few enough for the activations to stay in a core's cache. Of 2, 4, 8 and 16, 4 was the fastest.
BATCH = 4


@cache
def _core() -> Any:
    os.environ.setdefault("OPENVINO_TELEMETRY_OPT_OUT", "1")
    import openvino as ov

    # OpenVINO sets its bridge to NumPy up on first use, and two threads that come first together wait for ever.
    ov.Type.f32.to_dtype()
    return ov.Core()


def best_precision() -> str:
    """ "bf16" where the processor computes in it, "f32" elsewhere."""
    return "bf16" if "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


class OpenVINONetwork:
    """A compiled graph as a `Network`.

    Each of `threads` callers gets an infer request of its own, and one stream of one thread: nothing is computed by
    two threads together, so results do not depend on their number, and no thread spins while it waits for another.
    """

    def __init__(self, card: Card, model: ov.Model, threads: int, precision: str) -> None:
        self.card = card
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
        self._local.request.infer([np.ascontiguousarray(pictures)], share_inputs=True)
        return self._local.request.get_output_tensor(0).data[:given].astype(np.float32)
