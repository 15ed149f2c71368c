"""Run a PyTorch module as a `Network`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla.backbones._card import Card
from phyla.backbones._openvino import BATCH


def weights_hash(module: Any) -> str:
    """SHA-256 of a module's state: each tensor's name and bytes."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def megabytes(module: Any) -> float:
    return round(sum(t.numel() * t.element_size() for t in module.state_dict().values()) / 1e6, 1)


def width(forward: Callable[[Any], Any], size: int) -> int:
    """Width of what `forward` makes of a picture. Configurations differ in how they say it."""
    import torch

    with torch.inference_mode():
        return int(forward(torch.zeros(1, 3, size, size)).shape[1])


class TorchNetwork:
    """`forward`, float32 (b, 3, size, size) → (b, dim), as a `Network`. In bf16 torch chooses what to compute in it."""

    def __init__(self, card: Card, forward: Callable[[Any], Any], precision: str) -> None:
        import torch

        self.card, self._forward, self._precision = card, forward, precision
        self._mean, self._std = (torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (card.mean, card.std))

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        # The threads are the callers: torch's own would multiply with them. It keeps the number for each thread.
        torch.set_num_threads(1)
        starts = range(0, len(pictures), BATCH)
        bf16 = torch.autocast("cpu", torch.bfloat16, enabled=self._precision == "bf16")
        with torch.inference_mode(), bf16:
            return np.concatenate([self._run(pictures[i : i + BATCH]) for i in starts])

    def _run(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        # Always whole batches: torch chooses its algorithms, and so the last bits, by their size.
        batch = np.zeros((BATCH, *pictures.shape[1:]), np.uint8)
        batch[: len(pictures)] = pictures
        x = torch.from_numpy(batch).permute(0, 3, 1, 2).float()
        y: Any = self._forward((x - self._mean) / self._std)
        return np.asarray(y[: len(pictures)].float().numpy(), np.float32)
