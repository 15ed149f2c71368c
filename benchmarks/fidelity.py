"""How closely the bundled networks' features follow the reference implementation.

Result: lite0: f32 error 4.3e-06; bf16 cosine 0.9986 least, 0.9993 mean; int8 cosine 0.9903 least, 0.9944 mean
        lite1: f32 error 2.8e-06; bf16 cosine 0.9967 least, 0.9990 mean; int8 cosine 0.9489 least, 0.9905 mean
        lite2: f32 error 3.0e-06; bf16 cosine 0.9974 least, 0.9992 mean; int8 cosine 0.9874 least, 0.9949 mean
Machine: 2 cores, AMD EPYC (AVX-512 bf16); Python 3.11, OpenVINO 2026.4.1, PyTorch 2.13.0; one trial, which is enough
for figures without chance; 2026-11-21.

Measures over 64 photographs, for each bundled network: the largest error of any f32 feature, relative to the largest
feature of its picture, and the least and the mean cosine of bf16 and of 8-bit features. All are against
efficientnet-lite-pytorch on PyTorch's CPU backend, which is given the same pixels.

Run: pip install torch==2.13.0 efficientnet-lite-pytorch, then PHYLA_DATA=FOLDER python benchmarks/fidelity.py;
FOLDER (../shared/data if not given) holds grocery-photos.zip, or any zip of that name with photographs in it.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import cv2
import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray

from phyla import backbones
from phyla.backbones.lite import _weights_file

PICTURES = 64
DATA = Path(os.environ.get("PHYLA_DATA", "../shared/data"))


def photographs() -> list[NDArray[np.uint8]]:
    """Photographs taken evenly from the archive, RGB."""
    with zipfile.ZipFile(DATA / "grocery-photos.zip") as archive:
        names = [n for n in sorted(archive.namelist()) if n.lower().endswith((".jpg", ".jpeg", ".png"))]
        rows = np.linspace(0, len(names) - 1, PICTURES).astype(int)
        raw = [np.frombuffer(archive.read(names[row]), np.uint8) for row in rows]
    return [np.asarray(cv2.imdecode(r, cv2.IMREAD_COLOR_RGB), np.uint8) for r in raw]


def reference(name: str, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    weights = str(_weights_file(backbones.card(name)))
    net = EfficientNet.from_pretrained(f"efficientnet-{name}", weights_path=weights).eval()
    with torch.inference_mode():
        x = (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() - 127) / 128
        return np.concatenate([net.extract_features(part).mean((2, 3)).numpy() for part in x.split(8)])


def main() -> None:
    photos = photographs()
    for card in [card for card in backbones.cards() if not card.integer]:
        pictures = np.stack([backbones.fit(photo, card) for photo in photos])
        want = reference(card.name, pictures)
        exact, short = (backbones.load(card, 1, precision)(pictures) for precision in ("f32", "bf16"))
        integer = backbones.load(backbones.card(f"{card.name}-int8"), 1)(pictures)
        error = (np.abs(exact - want).max(1) / want.max(1)).max()
        print(f"{card.name}: f32 error {error:.1e}", end="")
        for what, got in {"bf16": short, "int8": integer}.items():
            cosine = (got * want).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)
            print(f"; {what} cosine {cosine.min():.4f} least, {cosine.mean():.4f} mean", end="")
        print()


if __name__ == "__main__":
    main()
