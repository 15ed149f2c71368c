"""Real images to try Phyla on, from a library that is installed with it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["digits"]


def digits(folder: str | Path) -> str:
    """Write scikit-learn's 1,797 handwritten digits (8 × 8 pixels, Alpaydin and Kaynak, 1998) as PNG files.

    Their names hold no label; `labels.csv` beside the folder does, for `phyla score`.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    folder = Path(folder)
    data = load_digits()
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["uri,label"]
    for number, (picture, label) in enumerate(zip(data.images, data.target, strict=True)):
        path = folder / f"{number:04}.png"
        lines.append(f"{path.name},{label}")
        if not path.exists():
            Image.fromarray((255 - picture * (255 / 16)).astype("uint8")).save(path)
    folder.with_name("labels.csv").write_text("\n".join(lines) + "\n")
    return str(folder)
