"""OpenCLIP's networks, for pictures and for words: openclip:NAME/TAG, such as openclip:ViT-B-32/laion2b_s34b_b79k."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.backbones._card import _ENLARGE, Card, Network
from phyla.backbones._hub import INSTEAD, imported, is_cached, need, reach_hub
from phyla.backbones._openvino import BATCH
from phyla.backbones._torch import TorchNetwork, megabytes, weights_hash, width
from phyla.types import PhylaError

__all__ = ["OpenCLIP"]


@lru_cache(maxsize=1)
def _model(name: str) -> Any:
    """The network, kept between card and load."""
    architecture, slash, tag = name.rpartition("/")
    if not slash:
        raise PhylaError(f"openclip:{name} lacks the weights' tag.", "Write openclip:ViT-B-32/laion2b_s34b_b79k.")
    need("open_clip", "openclip")
    # Only open_clip knows which repository a tag means, so any weights of its kind in the cache let it try.
    if not is_cached("*", "open_clip_*"):
        reach_hub(f"openclip:{name}")
    open_clip = imported("open_clip", "openclip")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in tags:
        known = f"{architecture} has {', '.join(tags)}." if tags else f"It has {', '.join(open_clip.list_models())}."
        raise PhylaError(f"OpenCLIP has no {name}.", known)
    config = open_clip.get_pretrained_cfg(architecture, tag)
    try:
        model = open_clip.create_model(
            architecture,
            pretrained=tag,
            # Some weights were trained with this activation, which the architecture of the same name lacks.
            force_quick_gelu=bool(config.get("quick_gelu", False)),
        )
    except Exception as fault:  # its own, torch's, the hub client's and the HTTP client's
        reason = str(fault).partition("\n")[0]
        raise PhylaError(f"openclip:{name} could not be had: {reason}", INSTEAD) from fault
    return model.eval().requires_grad_(False)


class OpenCLIPNetwork(TorchNetwork):
    """The picture half as a `Network`, that reads texts as well."""

    def texts(self, words: Sequence[str]) -> NDArray[np.float32]:
        """Vectors (m, dim) of m texts, to be compared with those of pictures by their cosine."""
        open_clip, torch = imported("open_clip", "openclip"), imported("torch", "openclip")
        name = self.card.name.removeprefix("openclip:")
        model = _model(name)
        try:
            tokens_of = open_clip.get_tokenizer(name.rpartition("/")[0])
        except Exception as fault:  # some are downloaded, with all that can go wrong
            reason = str(fault).partition("\n")[0]
            raise PhylaError(f"The tokenizer of {self.card.name} could not be had: {reason}", INSTEAD) from fault
        vectors = [np.zeros((0, self.card.dim), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(words), BATCH):
                batch = list(words[start : start + BATCH])
                # Always whole batches: torch chooses its algorithms, and so the last bits, by their size.
                tokens = tokens_of(batch + [""] * (BATCH - len(batch)))
                vectors.append(model.encode_text(tokens)[: len(batch)].float().numpy())
        return np.concatenate(vectors)


class OpenCLIP:
    """The family of OpenCLIP's networks. A card downloads the network, the first time."""

    @staticmethod
    def cards() -> list[Card]:
        return []

    @staticmethod
    def card(name: str) -> Card:
        model = _model(name)
        config = model.visual.preprocess_cfg
        size = config["size"] if isinstance(config["size"], int) else config["size"][0]
        mean, std = ([255 * v for v in config[key]] for key in ("mean", "std"))
        interpolation = config["interpolation"]
        return Card(
            name=f"openclip:{name}", size=size, dim=width(model.encode_image, size),
            mean=(mean[0], mean[1], mean[2]), std=(std[0], std[1], std[2]),
            interpolation=interpolation if interpolation in _ENLARGE else "bicubic",
            weights=f"open_clip/{name}", sha256=weights_hash(model.visual), megabytes=megabytes(model.visual),
            offline=False,
        )  # fmt: skip

    @staticmethod
    def precision() -> str:
        return "f32"

    @staticmethod
    def load(card: Card, threads: int, precision: str) -> Network:
        return OpenCLIPNetwork(card, _model(card.name.removeprefix("openclip:")).encode_image, precision)
