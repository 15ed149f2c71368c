"""The same features, to the last bit, for any number of threads and whatever shares the batch."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from phyla import backbones
from phyla.backbones import Network

CARD = backbones.card("lite0")
PICTURES = np.random.default_rng(0).integers(0, 256, (11, CARD.size, CARD.size, 3), np.uint8)


@pytest.fixture(scope="module", params=["f32", "auto"])
def networks(request: pytest.FixtureRequest) -> tuple[Network, Network]:
    return backbones.load(CARD, 1, request.param), backbones.load(CARD, 2, request.param)


def test_threads(networks: tuple[Network, Network]) -> None:
    one, two = networks
    want = one(PICTURES)
    with ThreadPoolExecutor(2) as pool:
        for got in [two(PICTURES), *pool.map(two, [PICTURES] * 4)]:
            np.testing.assert_array_equal(got, want)


def test_batches(networks: tuple[Network, Network]) -> None:
    network = networks[0]
    want = network(PICTURES)
    assert want.shape == (11, CARD.dim) and want.dtype == np.float32
    np.testing.assert_array_equal(np.concatenate([network(p[None]) for p in PICTURES]), want)
    np.testing.assert_array_equal(network(PICTURES[::-1])[::-1], want)


def test_does_not_touch_its_input(networks: tuple[Network, Network]) -> None:
    pictures = PICTURES[:3].copy()
    networks[0](pictures)
    np.testing.assert_array_equal(pictures, PICTURES[:3])


def test_answers_do_not_share_memory(networks: tuple[Network, Network]) -> None:
    first = networks[0](PICTURES[:1])
    kept = first.copy()
    networks[0](PICTURES[1:2])
    np.testing.assert_array_equal(first, kept)


def test_openvino_sends_nothing() -> None:
    """Its package for that is not loaded, and nothing is written at home."""
    code = """
import sys
heard = []
sys.addaudithook(lambda event, args: heard.append((event, *map(str, args[:1]))))
import numpy as np
from phyla import backbones
card = backbones.card("lite0")
backbones.load(card, 1)(np.zeros((1, card.size, card.size, 3), np.uint8))
import openvino
for event, *what in heard:
    if event in ("os.fork", "subprocess.Popen", "socket.connect", "socket.getaddrinfo") or "/intel/" in "".join(what):
        print(event, what)
print(sys.modules.get("openvino_telemetry"))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "None\n"
