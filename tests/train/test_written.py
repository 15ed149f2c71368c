"""A classifier's file: ONNX Runtime makes of pictures what the head makes of the network's features in NumPy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from _made import CLASSES, make_head, texture
from onnx import TensorProto, helper
from PIL import Image

from phyla import backbones
from phyla.backbones import Card, OnnxGraph
from phyla.train import Head, accompany, read, write
from phyla.train._view import view
from phyla.train._write import put
from phyla.types import PhylaError

Run = Callable[..., dict[str, np.ndarray]]
SIZES = (
    (1, 1),
    (1, 9),
    (3, 2),
    (31, 33),
    (32, 32),
    (20, 7),
    (48, 48),
    (49, 60),
    (64, 90),
    (95, 96),
    (97, 97),
    (130, 333),
)


@pytest.mark.parametrize("how", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize("crop", [0.875, 1.0])
def test_resizes_as_fit_does(how: str, crop: float, run: Run) -> None:
    card = Card("x", 48, 1, (0, 0, 0), (1, 1, 1), "", crop=crop, interpolation=how)
    graph = OnnxGraph()
    made = view(graph, "pictures", card)
    entry = helper.make_tensor_value_info("pictures", TensorProto.UINT8, ("n", "h", "w", 3))
    shown = helper.make_tensor_value_info(made, TensorProto.UINT8, ("n", card.size, card.size, 3))
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "view", [entry], [shown], graph.weights),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=8,
    )  # fmt: skip
    onnx.checker.check_model(proto, full_check=True)
    data = proto.SerializeToString()
    off, pixels = np.zeros(2), np.zeros(2)
    for number, (h, w) in enumerate(SIZES):
        pictures = np.stack([texture(h, w, number), texture(h, w, number + 100)])
        got = run(data, pictures)[made].astype(int)
        want = np.stack([backbones.fit(picture, card) for picture in pictures]).astype(int)
        assert np.abs(got - want).max() <= 1, f"{h} × {w}"
        by_lines = how == "bilinear" or min(h, w) > card.size
        off[int(by_lines)] += (got != want).sum()
        pixels[int(by_lines)] += got.size
    # OpenCV computes lines in 16 bits, and cuts off on the way.
    share = off / np.maximum(pixels, 1)
    assert share[0] <= 0.01 and share[1] <= 0.08, f"{share.round(4)} of all values are a grey level off"


@pytest.mark.parametrize("layers", [1, 3])
def test_equals_the_head_in_numpy(layers: int, card: Card, features: np.ndarray, views: np.ndarray, run: Run,
                                  tmp_path: Path) -> None:  # fmt: skip
    head = make_head(features, layers=layers, seed=layers)
    write(tmp_path / "net.onnx", card, head, CLASSES, {})
    onnx.checker.check_model(onnx.load(tmp_path / "net.onnx"), full_check=True)
    told = run(tmp_path / "net.onnx", views)  # of the network's own size: nothing is resized
    probability = head.probability(features)
    np.testing.assert_allclose(told["probability"], probability, atol=2e-3)
    assert (told["class"] == probability.argmax(1)).all() and len(set(told["class"].tolist())) > 1
    assert (told["defer"] == head.defer(probability)).all() and 0 < told["defer"].sum() < len(views)
    np.testing.assert_allclose(told["outlier"], head.outlier(features), atol=0.05)
    assert np.ptp(told["outlier"]) > 0.5
    assert [told[n].dtype for n in ("class", "probability", "defer", "outlier")] == [
        "int64",
        "float32",
        "bool",
        "float32",
    ]


def test_phyla_reads_the_same_from_it(model: Path, views: np.ndarray, run: Run) -> None:
    classifier = read(model)
    told, columns = run(model, views), classifier.columns(classifier.load(1)(views))
    assert columns["class"].tolist() == [CLASSES[c] for c in told["class"]]
    np.testing.assert_allclose(columns["probability"], told["probability"].max(1), atol=2e-3)
    assert (columns["defer"] == told["defer"]).all()
    np.testing.assert_allclose(columns["outlier"], told["outlier"], atol=0.05)


def test_what_is_told_comes_back(model: Path, card: Card) -> None:
    classifier = read(model)
    assert classifier.classes == CLASSES
    assert classifier.told == {"trained_from": "textures", "accuracy": None}
    assert classifier.card == replace(card, dim=len(CLASSES) + 2)
    props = {p.key: json.loads(p.value) for p in onnx.load(model).metadata_props}
    assert props["network"]["size"] == 224 and props["network"]["crop"] == 0.875 and props["phyla"] == 1


def test_the_same_gives_the_same_bytes(model: Path, card: Card, head: Head, tmp_path: Path) -> None:
    write(tmp_path / "again.onnx", card, head, CLASSES, {"trained_from": "textures", "accuracy": None})
    assert (tmp_path / "again.onnx").read_bytes() == model.read_bytes()
    assert os.listdir(tmp_path) == ["again.onnx"]


@pytest.mark.parametrize("classes", [CLASSES[:2], ("a", "b", "a")])
def test_names_that_do_not_fit_are_refused(classes: Any, card: Card, head: Head, tmp_path: Path) -> None:
    with pytest.raises(PhylaError, match="3 classes"):
        write(tmp_path / "net.onnx", card, head, classes, {})
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def ranges(card: Card, views: np.ndarray) -> backbones.Ranges:
    return backbones.calibrate(card, views[:16], 1)


@pytest.fixture(scope="module")
def integer(ranges: backbones.Ranges, card: Card, head: Head, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("integer") / "net.onnx"
    write(path, card, head, CLASSES, {}, integer=ranges)
    return path


class TestInIntegers:
    def test_ranges_hold_zero(self, ranges: backbones.Ranges) -> None:
        for low, high in ranges.ends:
            zero = -low / ((high - low) / 255)
            assert low <= 0 < high and abs(zero - round(zero)) < 1e-6

    def test_is_near_the_same_in_floats(self, integer: Path, model: Path, views: np.ndarray, run: Run) -> None:
        exact, told = run(model, views)["probability"], run(integer, views)["probability"]
        others = np.abs(exact - np.roll(exact, 1, 0)).mean()  # what two pictures differ by
        away = np.abs(told - exact).mean()
        assert away <= 0.25 * others, f"{away:.3f} from that in floats; two pictures {others:.3f}"
        assert integer.stat().st_size < 0.35 * model.stat().st_size

    def test_is_computed_in_integers(self, integer: Path, tmp_path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "run.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(integer), options)
        kinds = [node.op_type for node in onnx.load(tmp_path / "run.onnx").graph.node]
        assert kinds.count("QLinearConv") == 48 and kinds.count("QLinearAdd") == 9
        assert kinds.count("Conv") == 1  # the first, of pixels
        assert kinds.count("QuantizeLinear") == kinds.count("DequantizeLinear") == 1

    def test_phyla_reads_nearly_the_same_from_it(self, integer: Path, views: np.ndarray, run: Run) -> None:
        classifier = read(integer)
        assert classifier.card.integer
        told = classifier.columns(classifier.load(1)(views))["probability"]
        assert np.abs(told - run(integer, views)["probability"].max(1)).mean() < 0.03

    def test_filters_keep_their_sums(self) -> None:
        from phyla.backbones._ranges import keep_sums

        kernel = np.random.default_rng(0).normal(size=(50, 1, 3, 3)).astype(np.float32)
        kernel[7] = 0
        rounded, largest = keep_sums(kernel, np.abs(kernel).max((1, 2, 3), keepdims=True))
        steps = rounded / (largest / 127)
        assert np.abs(steps - np.rint(steps)).max() < 1e-3 and np.abs(steps).max() <= 127.001
        error = np.abs((rounded - kernel).sum((1, 2, 3)))
        plain_steps = np.abs(kernel).max((1, 2, 3), keepdims=True).clip(1e-9) / 127
        plain = np.abs((np.rint(kernel / plain_steps) * plain_steps - kernel).sum((1, 2, 3)))
        assert error.mean() < 0.1 * plain.mean(), f"{error.mean():.5f}, rounded plainly {plain.mean():.5f}"

    def test_others_say_that_they_cannot(self, views: np.ndarray) -> None:
        with pytest.raises(PhylaError, match="lite0-int8 can't be put into integers"):
            backbones.calibrate(backbones.card("lite0-int8"), views)
        with pytest.raises(PhylaError, match="no picture"):
            backbones.calibrate(backbones.card("lite0"), views[:0])

    def test_without_pictures_it_is_what_phyla_computes(self, views: np.ndarray, head: Head, run: Run,
                                                        tmp_path: Path) -> None:  # fmt: skip
        card = backbones.card("lite0-int8")
        write(tmp_path / "net.onnx", card, head, CLASSES, {})
        want = head.probability(backbones.load(card, 1, "f32")(views))
        away = np.abs(run(tmp_path / "net.onnx", views)["probability"] - want).mean()
        others = np.abs(want - np.roll(want, 1, 0)).mean()
        assert away <= 0.2 * others, f"{away:.3f} from what Phyla computes; two pictures {others:.3f}"


class TestOtherNetworks:
    def test_an_onnx_file_is_put_in(self, make_net: Callable[..., Path], run: Run, tmp_path: Path) -> None:
        for number, options in enumerate(({}, {"nhwc": True}, {"opset": 13}, {"inside": False}, {"half": True})):
            folder = tmp_path / str(number)
            folder.mkdir()
            card = backbones.card(f"onnx:{make_net(folder, **options)}")
            pictures = np.stack([texture(40, 50, n) for n in range(30)])
            fitted = np.stack([backbones.fit(picture, card) for picture in pictures])
            X = backbones.load(card, 1, "f32")(fitted)
            head = make_head(X)
            out = tmp_path / "out" / "net.onnx"
            write(out, card, head, CLASSES, {})
            onnx.checker.check_model(onnx.load(out), full_check=True)
            told, want = run(out, fitted), head.probability(X)
            np.testing.assert_allclose(told["probability"], want, atol=0.03 if "half" in options else 2e-3)
            assert np.ptp(want, 0).max() > 0.2

    def test_a_fixed_batch_is_refused(
        self, make_net: Callable[..., Path], features: np.ndarray, tmp_path: Path
    ) -> None:
        card = backbones.card(f"onnx:{make_net(tmp_path, batch=2)}")
        with pytest.raises(PhylaError, match="fixed number of pictures"):
            write(tmp_path / "out.onnx", card, make_head(features[:, : card.dim]), CLASSES, {})

    def test_what_cannot_be_written_says_what_can(self, head: Head, tmp_path: Path) -> None:
        with pytest.raises(PhylaError, match="fake can't be written into a file") as fault:
            write(tmp_path / "out.onnx", backbones.card("fake"), head, CLASSES, {})
        assert "onnx:" in fault.value.hint


class TestBeside:
    def test_the_example_runs_without_phyla(self, model: Path, card: Card, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "mine.onnx"
        path.write_bytes(model.read_bytes())
        accompany(path, card, CLASSES, {})
        assert len((tmp_path / "mine.py").read_text().splitlines()) <= 40
        photos = tmp_path / "photos"
        (photos / "in, here").mkdir(parents=True)
        pictures = {photos / "a.png": texture(50, 70, 1), photos / "in, here" / "b.png": texture(300, 260, 2)}
        for file, picture in pictures.items():
            Image.fromarray(picture).save(file)
        (photos / "notes.txt").write_text("no picture")
        out = tmp_path / "out.csv"
        script = "import runpy, sys; sys.modules['phyla'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        command = [sys.executable, "-c", script, str(tmp_path / "mine.py"), str(photos), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "notes.txt can't be read" in done.stderr
        short = subprocess.run(command[:-1], capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert short.returncode == 1 and "python THIS.py PICTURES OUT.csv" in short.stderr
        import csv

        rows = list(csv.DictReader(out.open(newline="", encoding="utf-8")))
        assert [row["file"] for row in rows] == [str(file) for file in pictures]
        for row, picture in zip(rows, pictures.values(), strict=True):
            told = run(model, picture[None])
            assert row["class"] == CLASSES[told["class"][0]] and row["defer"] == str(int(told["defer"][0]))
            assert float(row["probability"]) == pytest.approx(told["probability"].max(), abs=1e-4)

    def test_the_card_tells(self, model: Path, card: Card, tmp_path: Path) -> None:
        told = {"trained_from": "<script>", "not_to_trust": ["a|b", "night"], "accuracy": {"error": 0.02}}
        page = accompany(tmp_path / "mine.onnx", card, CLASSES, told)[0].read_text()
        for words in ("mine.onnx", r"Trained from: \<script\>", r"- a\|b", "  - error: 0.02", "1. dog", "224 × 224"):
            assert words in page, words
        assert "<b>" not in page and "Übergröße sea" in page

    def test_files_of_others_stay(self, card: Card, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text("print('mine')")
        with pytest.raises(PhylaError, match="is there already"):
            accompany(tmp_path / "mine.onnx", card, CLASSES, {})
        assert [p.name for p in tmp_path.iterdir()] == ["mine.py"]
        (tmp_path / "mine.py").unlink()
        first = accompany(tmp_path / "mine.onnx", card, CLASSES, {})
        assert accompany(tmp_path / "mine.onnx", card, CLASSES, {"date": "today"}) == first


def test_what_a_killed_run_left_aside_goes_with_the_next(tmp_path: Path) -> None:
    (left := tmp_path / ".net.md.phyla").mkdir()
    (left / "123").write_bytes(b"half")
    put(tmp_path / "net.md", b"whole")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("net.md", b"whole")]
