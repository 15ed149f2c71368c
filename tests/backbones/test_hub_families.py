"""Networks that are downloaded: what is said when they can't be, and hf: against a small hub on this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from phyla import backbones
from phyla.backbones import _hub, openclip
from phyla.backbones._card import Card
from phyla.backbones._openvino import BATCH
from phyla.backbones.hf import _spec
from phyla.types import PhylaError

NETWORKS = [
    ("hf:org/net", "huggingface_hub", "hf"),
    ("timm:resnet18.a1_in1k", "timm", "timm"),
    ("openclip:ViT-B-32/laion2b_s34b_b79k", "open_clip", "openclip"),
]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    _hub._answers.cache_clear()


@pytest.mark.parametrize(("name", "package", "extra"), NETWORKS)
def test_missing_package(monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str) -> None:
    monkeypatch.setattr(_hub, "find_spec", lambda wanted: None)
    with pytest.raises(PhylaError, match=f"need the package {package}") as caught:
        backbones.card(name)
    assert caught.value.hint == f"pip install 'phyla[{extra}]'"


def closed_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield s.getsockname()[1]


def unreachable(name: str) -> tuple[PhylaError, float]:
    start = time.perf_counter()
    with pytest.raises(PhylaError) as caught:
        backbones.card(name)
    return caught.value, time.perf_counter() - start


@pytest.mark.parametrize(("name", "package", "extra"), NETWORKS)
def test_unreachable_hub(monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str) -> None:
    monkeypatch.setattr(_hub, "find_spec", lambda wanted: SimpleNamespace())
    if name.startswith("hf:") and find_spec(package) is None:
        monkeypatch.setitem(sys.modules, package, SimpleNamespace(try_to_load_from_cache=lambda *_: None))
        monkeypatch.setitem(sys.modules, f"{package}.errors", fake_errors())
    elif name.startswith("hf:"):
        __import__(package)  # not what is timed
    with silent_port() as port:
        for endpoint in (f"http://127.0.0.1:{closed_port()}", f"http://127.0.0.1:{port}"):
            monkeypatch.setenv("HF_ENDPOINT", endpoint)
            fault, seconds = unreachable(name)
            assert seconds < 3
            assert str(fault).count("\n") == 1
            assert name in fault.message and endpoint in fault.message
            assert "--backbone lite0" in fault.hint and "onnx:path" in fault.hint


def fake_errors() -> SimpleNamespace:
    names = ("EntryNotFoundError", "GatedRepoError", "HFValidationError", "RepositoryNotFoundError")
    faults = {name: type(name, (Exception,), {}) for name in names}
    return SimpleNamespace(**faults, LocalEntryNotFoundError=type("Local", (faults["EntryNotFoundError"],), {}))


def test_slow_name_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(10) and [])
    start = time.perf_counter()
    with pytest.raises(PhylaError, match=r"huggingface\.co can't be reached"):
        _hub.reach_hub("hf:org/net")
    assert time.perf_counter() - start < 3
    over.set()


def test_dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with hub({}) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
        with pytest.raises(PhylaError, match="can't be reached"):
            _hub.reach_hub("hf:org/net")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        _hub.reach_hub("hf:org/net")


def test_no_probe_when_offline_or_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_hub, "_answers", lambda endpoint: pytest.fail("the hub was asked"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _hub.reach_hub("hf:org/net")
    snapshot = tmp_path / "home/hub/models--timm--net.tag/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").touch()
    assert _hub.is_cached("timm/net.tag") and _hub.is_cached("timm/net.*", "*.safetensors")
    assert not _hub.is_cached("timm/net") and not _hub.is_cached("timm/net.tag", "open_clip_*")


def test_openclip_without_tag() -> None:
    with pytest.raises(PhylaError, match="lacks the weights' tag"):
        backbones.card("openclip:ViT-B-32")


class Floats(np.ndarray):
    """As much of a tensor as is needed of one."""

    def float(self) -> Floats:
        return self.astype(np.float32)

    def numpy(self) -> np.ndarray:
        return np.asarray(self)

    def view(self, *shape: int) -> Floats:  # type: ignore[override]
        return self.reshape(shape)


def reader(monkeypatch: pytest.MonkeyPatch, sizes: list[int]) -> openclip.OpenCLIPNetwork:
    """A network whose text half counts letters; `sizes` gets the batches'."""

    def encode_text(tokens: list[list[int]]) -> Floats:
        sizes.append(len(tokens))
        return np.array([[len(t), sum(t)] for t in tokens], np.float64).view(Floats)

    def tokenizer(architecture: str) -> Callable[[list[str]], list[list[int]]]:
        assert architecture == "ViT-B-32"
        return lambda words: [[ord(letter) for letter in word] for word in words]

    torch = SimpleNamespace(
        tensor=lambda v, dtype: np.array(v, dtype).view(Floats), float32=np.float32, inference_mode=nullcontext
    )
    monkeypatch.setattr(_hub, "find_spec", lambda wanted: SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "open_clip", SimpleNamespace(get_tokenizer=tokenizer))
    model = SimpleNamespace(encode_text=encode_text, encode_image=None)
    monkeypatch.setattr(openclip, "_model", lambda name: model)
    card = Card("openclip:ViT-B-32/tag", 8, 2, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "none")
    network = openclip.OpenCLIP.load(card, 1, "f32")
    assert isinstance(network, openclip.OpenCLIPNetwork)
    return network


def test_openclip_reads_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    network = reader(monkeypatch, sizes)
    words = [f"word {i}" for i in range(BATCH + 3)]
    vectors = network.texts(words)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, [[len(w), sum(map(ord, w))] for w in words])
    assert sizes == [BATCH, BATCH]  # whole ones, whatever is asked
    assert network.texts([]).shape == (0, 2)


def test_openclip_texts_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    network = reader(monkeypatch, [])
    monkeypatch.setattr(sys.modules["open_clip"], "get_tokenizer", lambda name: 1 / 0)
    with pytest.raises(PhylaError, match="tokenizer of openclip:ViT-B-32/tag"):
        network.texts(["cat"])
    monkeypatch.setattr(_hub, "find_spec", lambda wanted: None)
    with pytest.raises(PhylaError, match="need the package open_clip") as caught:
        network.texts(["cat"])
    assert caught.value.hint == "pip install 'phyla[openclip]'"


@pytest.mark.parametrize(
    ("config", "size", "crop", "mean"),
    [
        ({"size": 224, "image_mean": [0.5, 0.4, 0.3]}, 224, 1.0, 127.5),
        ({"size": {"height": 384, "width": 384}, "do_normalize": False}, 384, 1.0, 0.0),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True,
          "image_mean": [0.5] * 3}, 224, 0.875, 127.5),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875, "image_mean": [0.5] * 3}, 224, 0.875, 127.5),
        ({"size": 64, "do_rescale": False, "image_mean": [127] * 3, "image_std": [1] * 3}, 64, 1.0, 127.0),
    ],
)  # fmt: skip
def test_preprocessor_config(config: dict, size: int, crop: float, mean: float) -> None:
    spec = _spec(config)
    assert (spec.size, spec.crop, spec.fault()) == (size, crop, "")
    assert spec.scale is not None
    assert spec.mean[0] * 255 / spec.scale == pytest.approx(mean)


def test_oblong_input() -> None:
    with pytest.raises(PhylaError, match="not a square"):
        _spec({"size": {"height": 224, "width": 448}})


class Hub(BaseHTTPRequestHandler):
    """The two answers of the hub that a download needs."""

    def __init__(self, files: dict[str, bytes], *args: object) -> None:
        self.files = files
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        repo, _, file = self.path.lstrip("/").partition("/resolve/main/")
        content = self.files.get(file) if repo == "org/net" else None
        self.send_response(200 if content is not None else 404)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound" if repo == "org/net" else "RepoNotFound")
        content = content or b""
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{abs(hash(file)):x}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, files)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


SCRIPT = """
import json, sys
import numpy as np
from phyla import backbones
from phyla.types import PhylaError
try:
    card = backbones.card(sys.argv[1])
    x = backbones.load(card, 1, "f32")(np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3))
    print(json.dumps([card.name, card.sha256, card.size, card.weights, x[0].tolist()]))
except PhylaError as fault:
    print(json.dumps([fault.message, fault.hint]))
"""


def ask(name: str, endpoint: str) -> list:
    """The card and features of `name`, or the error, in a process of its own: the client reads its settings once."""
    env = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT, name], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answer: list = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("inside", [True, False])
def test_hf_from_a_hub(tmp_path: Path, inside: bool) -> None:
    pytest.importorskip("huggingface_hub")
    pytest.importorskip("onnx")
    from test_onnx_family import write

    path = write(tmp_path, inside=inside)
    picture = np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3)
    local = backbones.card(f"onnx:{path}")
    want = backbones.load(local, 1, "f32")(picture)[0]
    config = {"size": 8, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3], "resample": 3}
    files = {
        "onnx/model.onnx": path.read_bytes(),
        "preprocessor_config.json": json.dumps(config).encode(),
    }
    if not inside:
        files["onnx/net.weights"] = (tmp_path / "net.weights").read_bytes()
    with hub(files) as endpoint:
        name, sha256, size, weights, x = ask("hf:org/net", endpoint)
        assert (name, sha256, size) == ("hf:org/net", local.sha256, 8)
        assert weights == "org/net/model.onnx#map"
        np.testing.assert_allclose(x, want, rtol=1e-5, atol=1e-6)
        message, hint = ask("hf:org/other", endpoint)
        assert "org/other" in message and "hf:ORG/REPO" in hint
    # Once downloaded it needs the hub no more.
    assert ask("hf:org/net", endpoint)[1] == local.sha256


def test_hf_without_onnx(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    with hub({"model.safetensors": b""}) as endpoint:
        message, _ = ask("hf:org/net", endpoint)
    assert message == "org/net has no onnx/vision_model.onnx or onnx/model.onnx or model.onnx."
