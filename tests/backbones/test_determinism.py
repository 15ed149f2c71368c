"""The same features, to the last bit, for any number of threads and whatever shares the batch."""

from __future__ import annotations

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
