"""Networks of PyTorch Image Models: timm:NAME, such as timm:resnet50.a1_in1k."""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import Any

from phyla.backbones._card import _ENLARGE, Card, Network
from phyla.backbones._hub import INSTEAD, imported, is_cached, need, reach_hub
from phyla.backbones._torch import TorchNetwork, megabytes, weights_hash, width
from phyla.types import PhylaError

__all__ = ["Timm"]


@lru_cache(maxsize=1)
def _model(name: str) -> Any:
    """The network without its classifier, kept between card and load."""
    need("timm", "timm")
    # A name without a tag means the default one, which only timm knows.
    if not is_cached(f"timm/{name}" if "." in name else f"timm/{name}.*"):
        reach_hub(f"timm:{name}")
    timm = imported("timm", "timm")
    if not timm.is_model(name.partition(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise PhylaError(f"timm has no network {name!r}.", f"Near it: {', '.join(near) or 'none'}.")
    try:
        return timm.create_model(name, pretrained=True, num_classes=0).eval().requires_grad_(False)
    except Exception as fault:  # its own, torch's, the hub client's and the HTTP client's
        reason = str(fault).partition("\n")[0]
        raise PhylaError(f"timm:{name} could not be had: {reason}", INSTEAD) from fault


class Timm:
    """The family of networks of PyTorch Image Models. A card downloads the network, the first time."""

    @staticmethod
    def cards() -> list[Card]:
        return []

    @staticmethod
    def card(name: str) -> Card:
        model = _model(name)
        config = imported("timm", "timm").data.resolve_model_data_config(model)
        channels, size, other = config["input_size"]
        if channels != 3 or size != other:
            raise PhylaError(f"timm:{name} takes {config['input_size']}, not square colour pictures.", INSTEAD)
        mean, std = ([255 * v for v in config[key]] for key in ("mean", "std"))
        interpolation = config["interpolation"]
        return Card(
            name=f"timm:{name}", size=size, dim=width(model, size),
            mean=(mean[0], mean[1], mean[2]), std=(std[0], std[1], std[2]), crop=config["crop_pct"],
            interpolation=interpolation if interpolation in _ENLARGE else "bicubic",
            weights=f"timm/{model.pretrained_cfg['architecture']}.{model.pretrained_cfg['tag']}",
            sha256=weights_hash(model), offline=False, megabytes=megabytes(model),
            licence=model.pretrained_cfg.get("license") or "unknown",
        )  # fmt: skip

    @staticmethod
    def precision() -> str:
        return "f32"

    @staticmethod
    def load(card: Card, threads: int, precision: str) -> Network:
        return TorchNetwork(card, _model(card.name.removeprefix("timm:")), precision)
