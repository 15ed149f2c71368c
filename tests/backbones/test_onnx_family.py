"""onnx: networks: a file made here, against NumPy; and what is said of files that can't be used."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phyla import backbones
from phyla.types import PhylaError

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

SIZE, WIDE = 8, 5
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
KERNEL = np.random.default_rng(0).normal(size=(WIDE, 3, 1, 1)).astype(np.float32)


def write(
    folder: Path, form: str = "map", batch: int | str = "n", nhwc: bool = False, inside: bool = True, **card: Any
) -> Path:
    """A network of one convolution whose output is a map, tokens or a vector, and its card."""
    nodes, x = [], "pixels"
    if nhwc:
        nodes.append(helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]))
        x = "planes"
    nodes.append(helper.make_node("Conv", [x, "kernel"], ["conv"]))
    constants = [numpy_helper.from_array(KERNEL, "kernel")]
    rank: dict[str, list[int | str]] = {"map": [batch, WIDE, SIZE, SIZE], "vector": [batch, WIDE]}
    rank["tokens"] = [batch, SIZE * SIZE, WIDE]
    match form:
        case "map":
            nodes.append(helper.make_node("Identity", ["conv"], [form]))
        case "tokens":
            constants.append(numpy_helper.from_array(np.array([0, WIDE, SIZE * SIZE]), "shape"))
            nodes.append(helper.make_node("Reshape", ["conv", "shape"], ["flat"]))
            nodes.append(helper.make_node("Transpose", ["flat"], [form], perm=[0, 2, 1]))
        case "vector":
            nodes.append(helper.make_node("GlobalMaxPool", ["conv"], ["top"]))
            nodes.append(helper.make_node("Flatten", ["top"], [form]))
    shape = [batch, SIZE, SIZE, 3] if nhwc else [batch, 3, SIZE, SIZE]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(form, TensorProto.FLOAT, rank[form])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "net.onnx"
    onnx.save(model, path, save_as_external_data=not inside, location="net.weights", size_threshold=0)
    (folder / "net.json").write_text(json.dumps({"size": SIZE, "mean": MEAN, "std": STD, **card}))
    return path


def pictures(n: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, SIZE, SIZE, 3), np.uint8)


def maps(x: np.ndarray) -> np.ndarray:
    """What the convolution makes of pictures: (n, h, w, WIDE)."""
    return (x / 255 - MEAN) / STD @ KERNEL[:, :, 0, 0].T


def run(path: Path, n: int = 11) -> np.ndarray:
    card = backbones.card(f"onnx:{path}")
    assert card.dim == WIDE
    return backbones.load(card, 1, "f32")(pictures(n))


@pytest.mark.parametrize("form", ["map", "tokens", "vector"])
@pytest.mark.parametrize("batch", ["n", 3])
@pytest.mark.parametrize("nhwc", [False, True])
def test_equals_numpy(tmp_path: Path, form: str, batch: int | str, nhwc: bool) -> None:
    # A map is given in planes even by the network that takes nhwc here, so only the other forms can be compared.
    if nhwc and form == "map":
        pytest.skip("an nhwc network with planes for output")
    want = maps(pictures(11))
    want = want.max((1, 2)) if form == "vector" else want.mean((1, 2))
    np.testing.assert_allclose(run(write(tmp_path, form, batch, nhwc)), want, rtol=1e-4, atol=1e-5)


def test_scale_of_mean_and_std(tmp_path: Path) -> None:
    first = run(write(tmp_path))
    of_255: dict[str, Any] = {"mean": [255 * v for v in MEAN], "std": [255 * v for v in STD]}
    np.testing.assert_allclose(run(write(tmp_path, **of_255)), first, rtol=1e-5, atol=1e-6)
    raw = run(write(tmp_path, mean=[0, 0, 0], std=[1, 1, 1], scale=255))
    np.testing.assert_allclose(raw, pictures(11).mean((1, 2)) @ KERNEL[:, :, 0, 0].T, rtol=1e-4, atol=1e-3)


def test_card_identifies_the_weights(tmp_path: Path) -> None:
    path = write(tmp_path, crop=0.9, interpolation="bilinear", licence="MIT")
    card = backbones.card(f"onnx:{path}")
    assert card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (card.weights, card.crop, card.interpolation, card.licence) == ("net.onnx#map", 0.9, "bilinear", "MIT")


def test_external_weights(tmp_path: Path) -> None:
    path = write(tmp_path, inside=False)
    weights = tmp_path / "net.weights"
    np.testing.assert_allclose(run(path), maps(pictures(11)).mean((1, 2)), rtol=1e-4, atol=1e-5)
    before = backbones.card(f"onnx:{path}").sha256
    weights.write_bytes((KERNEL * 2).tobytes())
    assert backbones.card(f"onnx:{path}").sha256 != before
    weights.unlink()
    with pytest.raises(PhylaError, match=r"keeps weights in net\.weights"):
        backbones.card(f"onnx:{path}")


def test_missing_network(tmp_path: Path) -> None:
    with pytest.raises(PhylaError, match="is not there"):
        backbones.card(f"onnx:{tmp_path}/none.onnx")


def test_missing_card_shows_one(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "net.json").unlink()
    with pytest.raises(PhylaError, match="has no card beside it") as caught:
        backbones.card(f"onnx:{path}")
    example = caught.value.hint[caught.value.hint.index("{") :]
    (tmp_path / "net.json").write_text(json.dumps({**json.loads(example), "size": SIZE}))
    assert backbones.card(f"onnx:{path}").dim == WIDE


def test_not_onnx(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(b"not a network at all")
    with pytest.raises(PhylaError, match="not an ONNX network"):
        backbones.card(f"onnx:{path}")


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ({"size": 9}, "its card says size 9"),
        ({"size": "8"}, "size is '8'"),
        ({"mean": 0.5}, "mean is 0.5, not three numbers"),
        ({"std": [0, 1, 1]}, "std is not above 0"),
        ({"crop": 2}, "crop is 2"),
        ({"interpolation": "area"}, "interpolation is 'area'"),
        ({"layout": "chw"}, "layout is 'chw'"),
        ({"output": "logits"}, "no output 'logits'"),
        ({"means": [0]}, "unknown means"),
    ],
)
def test_faulty_cards(tmp_path: Path, card: dict[str, Any], said: str) -> None:
    with pytest.raises(PhylaError, match=said) as caught:
        backbones.card(f"onnx:{write(tmp_path, **card)}")
    assert caught.value.hint
    assert "\n" not in caught.value.message
