"""Pretrained networks: pictures → vectors.

One file a family. A family offers a class with three static methods: `cards()` lists the networks it knows by name,
`card(name)` describes one (and says, fast, why it can't be had), `load(card, threads, precision)` makes it run as a
`Network`; a family that does not run on OpenVINO has a fourth, `precision()`, what it computes in; one that can show
where it looks has `maps`, as `load`. A network is asked for by its name, `lite0`, or by family and name:
`onnx:path/to/network.onnx`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import plugins
from phyla.backbones._card import Card, Network, fit, seen
from phyla.backbones._extract import SHARD, Shard, extract
from phyla.backbones._onnx_graph import OnnxGraph, strange, tensors
from phyla.backbones._openvino import best_precision, from_onnx
from phyla.backbones._ranges import Ranges
from phyla.backbones._ranges import calibrate as _calibrate
from phyla.types import PhylaError, Recipe

__all__ = [
    "SHARD", "Card", "Network", "OnnxGraph", "Ranges", "Shard", "calibrate", "card", "cards", "extract", "fit",
    "from_onnx", "has_maps", "load", "maps", "measure", "recipe", "seen", "splice", "strange", "tensors",
]  # fmt: skip

_MEASURED = 8  # pictures a call of `measure`
_VERSION = 2  # raised when the same picture and card give other features


def cards() -> list[Card]:
    """Every network that a family lists by name."""
    return [card for family in plugins.names("backbones") for card in plugins.load("backbones", family).cards()]


def card(name: str) -> Card:
    """The card of the network asked for as `name`."""
    family, colon, rest = name.partition(":")
    if colon and family in plugins.names("backbones"):
        return plugins.load("backbones", family).card(rest)
    for family in plugins.names("backbones"):
        for known in plugins.load("backbones", family).cards():
            if known.name == name:
                return known
    known_names = ", ".join(c.name for c in cards())
    prefixes = ", ".join(f"{f}:…" for f in plugins.names("backbones") if f != "lite")
    raise PhylaError(f"There is no backbone {name!r}.", f"Bundled: {known_names}. From elsewhere: {prefixes}.")


def _family(card: Card) -> Any:
    prefix, colon, _ = card.name.partition(":")
    families = [plugins.load("backbones", name) for name in ([prefix] if colon else plugins.names("backbones"))]
    return next(f for f in families if colon or any(known.name == card.name for known in f.cards()))


def recipe(card: Card, decoder: int) -> Recipe:
    """What the features of `card`'s network on this machine depend on."""
    precision = "int8+" * card.integer + getattr(_family(card), "precision", best_precision)()
    looks = {"size": card.size, "crop": card.crop, "interpolation": card.interpolation}
    scale = {"mean": card.mean, "std": card.std}
    weights = {"weights": card.weights, "sha256": card.sha256, "precision": precision, "decoder": decoder}
    return Recipe("features", card.name, looks | scale | weights, version=_VERSION)


def load(card: Card, threads: int, precision: str = "auto") -> Network:
    """The network of `card`, ready to run in up to `threads` threads; `precision` "f32", "bf16" or the best here."""
    network: Network = _family(card).load(card, threads, precision)
    return network


def splice(card: Card, graph: OnnxGraph, view: str, ranges: Ranges | None = None) -> str:
    """Write the network of `card` into `graph`: uint8 `view` (n, size, size, 3) → float32 (n, dim), whose name returns.

    With `ranges` it computes in integers.
    """
    family = _family(card)
    if not hasattr(family, "splice"):
        raise PhylaError(
            f"{card.name} can't be written into a file of its own.",
            "The bundled networks, onnx: and hf: can. Export this one to ONNX and name it onnx:path/to/net.onnx.",
        )
    features: str = family.splice(card, graph, view, *[ranges] if ranges else [])
    return features


def calibrate(card: Card, views: NDArray[np.uint8], threads: int = 1) -> Ranges:
    """Ranges in which the network of `card` can compute in 8-bit integers, from `views` (n, size, size, 3) of pictures.

    Some 300 pictures are enough. Each is looked at twice, in floats and in integers: 300 take 10 s of lite0's CPU time.
    Raises `PhylaError` for a network that is not bundled.
    """
    family = _family(card)
    if not hasattr(family, "graph") or card.integer:
        raise PhylaError(f"{card.name} can't be put into integers.", "lite0, lite1 and lite2 can.")
    if not len(views):
        raise PhylaError("There is no picture to measure ranges on.", "Give some 300 of the collection.")
    return _calibrate(card, family, views, threads)


def has_maps(card: Card) -> bool:
    """Whether `maps` can be asked of its network."""
    return hasattr(_family(card), "maps")


def maps(card: Card, threads: int, precision: str = "auto") -> Network:
    """As `load`, but pictures give the maps (b, h, w, dim) whose means over their places are the features.

    Raises `PhylaError` where the family has none to show.
    """
    if not has_maps(card):
        known = ", ".join(c.name for c in cards() if has_maps(c))
        raise PhylaError(f"{card.name} can't show where it looks.", f"These can: {known}.")
    network: Network = _family(card).maps(card, threads, precision)
    return network


def measure(card: Card, threads: int, seconds: float = 2.0) -> float:
    """Images a second that the network of `card` looks at in `threads` threads, decoding and resizing left out."""
    network = load(card, threads)
    pictures = np.zeros((_MEASURED, card.size, card.size, 3), np.uint8)
    network(pictures)
    end = perf_counter() + seconds

    def repeat(_: int) -> tuple[int, float]:
        done, started = 0, perf_counter()
        while not done or perf_counter() < end:  # once at least, however busy the machine is
            network(pictures)
            done += _MEASURED
        return done, perf_counter() - started

    with ThreadPoolExecutor(threads) as pool:
        return sum(done / took for done, took in pool.map(repeat, range(threads)))
