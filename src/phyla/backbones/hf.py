"""Networks with an ONNX export on the Hugging Face hub: hf:ORG/REPO."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from phyla.backbones._card import Card, Network
from phyla.backbones._hub import download, need, read_json
from phyla.backbones._onnx_graph import OnnxGraph
from phyla.backbones.onnx import Spec, compiled, describe, external_files, read_bytes, splice
from phyla.types import PhylaError

__all__ = ["HuggingFace"]

# Exports of networks for pictures and text keep the picture's half in a file of its own.
_NETWORKS = ("onnx/vision_model.onnx", "onnx/model.onnx", "model.onnx")
_PILLOW_FILTERS = {0: "nearest", 1: "bicubic", 2: "bilinear", 3: "bicubic"}  # 1 is Lanczos


def _side(size: Any) -> int:
    """Pixels of `size`, which transformers writes in four ways."""
    if isinstance(size, dict):
        size = size.get("shortest_edge") or (size["height"] if size.get("height") == size.get("width") else None)
    if not isinstance(size, int):
        raise PhylaError(f"The network's input {size!r} is not a square.", "Use another network.")
    return size


def _spec(config: dict[str, Any]) -> Spec:
    """The card that a preprocessor_config.json amounts to."""
    resized = size = _side(config.get("size", 224))
    if config.get("do_center_crop") and "crop_size" in config:
        size = _side(config["crop_size"])
    shown = config.get("crop_pct") or min(1.0, size / resized)
    factor = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    normalised = config.get("do_normalize", True)
    return Spec(
        size=size,
        mean=config.get("image_mean", [0.5] * 3) if normalised else [0.0] * 3,
        std=config.get("image_std", [0.5] * 3) if normalised else [1.0] * 3,
        scale=255 * factor,
        crop=shown,
        interpolation=_PILLOW_FILTERS.get(config.get("resample", 2), "bilinear"),
    )


def _files(repo: str) -> tuple[Path, Spec]:
    name = f"hf:{repo}"
    need("huggingface_hub", "hf")
    path = download(name, repo, _NETWORKS)
    folder = "onnx/" if path.parent.name == "onnx" else ""
    for file in external_files(path, read_bytes(path)):
        download(name, repo, (folder + file,))
    config = download(name, repo, ("preprocessor_config.json",))
    spec = _spec(read_json(config))
    if fault := spec.fault():
        raise PhylaError(f"In {repo}'s preprocessor_config.json, {fault}.", "Use another network.")
    return path, spec


class HuggingFace:
    """The family of ONNX exports on the Hugging Face hub. A card downloads the network, the first time."""

    @staticmethod
    def cards() -> list[Card]:
        return []

    @staticmethod
    def card(name: str) -> Card:
        path, spec = _files(name)
        return replace(describe(f"hf:{name}", path, spec, f"{name}/{path.name}"), offline=False)

    @staticmethod
    def splice(card: Card, graph: OnnxGraph, view: str) -> str:
        path, spec = _files(card.name.removeprefix("hf:"))
        return splice(path, spec, card, graph, view)

    @staticmethod
    def load(card: Card, threads: int, precision: str) -> Network:
        path, spec = _files(card.name.removeprefix("hf:"))
        return compiled(path, spec, card, threads, precision)
