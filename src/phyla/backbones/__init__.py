"""Pretrained networks: pictures → vectors.

One file a family. A family offers a class with three static methods: `cards()` lists the networks it knows by name,
`card(name)` describes one (and says, fast, why it can't be had), `load(card, threads, precision)` makes it run as a
`Network`. A network is asked for by its name, `lite0`, or by family and name: `onnx:path/to/network.onnx`.
"""

from __future__ import annotations

from phyla import plugins
from phyla.backbones._card import Card, Network, fit
from phyla.backbones._extract import Shard, extract
from phyla.types import PhylaError

__all__ = ["Card", "Network", "Shard", "card", "cards", "extract", "fit", "load"]


def cards() -> list[Card]:
    """Every network that a family lists by name."""
    return [card for family in plugins.names("backbones") for card in plugins.load("backbones", family).cards()]


def card(name: str) -> Card:
    """The card of the network asked for as `name`. A card of a family has its name as a prefix, but for bundled ones."""
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


def load(card: Card, threads: int, precision: str = "auto") -> Network:
    """The network of `card`, ready to run in up to `threads` threads."""
    family = card.name.partition(":")[0] if ":" in card.name else "lite"
    return plugins.load("backbones", family).load(card, threads, precision)
