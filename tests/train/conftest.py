from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _made import CLASSES, make_head, texture

from phyla import backbones
from phyla.train import Head, write


@pytest.fixture(scope="session")
def card() -> backbones.Card:
    return backbones.card("lite0")


@pytest.fixture(scope="session")
def views(card: backbones.Card) -> np.ndarray:
    """(24, 224, 224, 3)."""
    return np.stack([texture(card.size, card.size, number) for number in range(24)])


@pytest.fixture(scope="session")
def features(card: backbones.Card, views: np.ndarray) -> np.ndarray:
    """Of the views, by lite0 in f32."""
    return backbones.load(card, 1, "f32")(views)


@pytest.fixture(scope="session")
def head(features: np.ndarray) -> Head:
    return make_head(features)


@pytest.fixture(scope="session")
def model(card: backbones.Card, head: Head, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's file. To be read only."""
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    write(path, card, head, CLASSES, {"trained_from": "textures", "accuracy": None})
    return path


@pytest.fixture(scope="session")
def run() -> Callable[..., dict[str, np.ndarray]]:
    """(file or bytes, pictures (n, h, w, 3)) → output → array, by ONNX Runtime alone."""
    import onnxruntime

    def outputs(file: Path | bytes, pictures: np.ndarray, entry: str = "pictures") -> dict[str, np.ndarray]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(file if isinstance(file, bytes) else str(file), options)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, {entry: pictures}), strict=True))

    return outputs


@pytest.fixture
def make_net() -> Callable[..., Path]:
    """(folder, …) → an ONNX network of one convolution, of 16 features, with its card."""
    import json

    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def make(folder: Path, batch: Any = "n", nhwc: bool = False, opset: int = 18, inside: bool = True,
             half: bool = False) -> Path:  # fmt: skip
        rng, side, wide = np.random.default_rng(0), 12, 16
        kind, dtype = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
        kernel = rng.normal(size=(wide, 3, 3, 3)).astype(dtype)
        nodes = [helper.make_node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2])] if nhwc else []
        nodes += [
            helper.make_node("Conv", ["planes" if nhwc else "x", "kernel"], ["maps"]),
            helper.make_node("Relu", ["maps"], ["y"]),
        ]
        if nhwc:
            nodes += [helper.make_node("Transpose", ["y"], ["out"], perm=[0, 2, 3, 1])]
        shape = [batch, side, side, 3] if nhwc else [batch, 3, side, side]
        shown = [batch, 10, 10, wide] if nhwc else [batch, wide, 10, 10]
        graph = helper.make_graph(
            nodes, "net", [helper.make_tensor_value_info("x", kind, shape)],
            [helper.make_tensor_value_info("out" if nhwc else "y", kind, shown)],
            [numpy_helper.from_array(kernel, "kernel")],
        )  # fmt: skip
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        path = folder / "small.onnx"
        onnx.save(proto, path, save_as_external_data=not inside, location="small.weights", size_threshold=0)
        spec = {"size": side, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
        path.with_suffix(".json").write_text(json.dumps(spec))
        return path

    return make
