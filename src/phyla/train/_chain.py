"""Classifiers in files, asked in turn: each about what those before it left in doubt; often but one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import backbones
from phyla.train._cascade import Cascade, gap, together
from phyla.train._read import Model, read
from phyla.train._write import OUTPUTS, put
from phyla.types import PhylaError

Array = NDArray[np.float32]

FILE = "cascade.json"
_FORMAT = 1
_MOST = 64  # classifiers in a cascade: each is held in memory
_AGAIN = "Give a .onnx, or a folder that phyla train --cascade wrote, whole."


@dataclass(frozen=True)
class Chain:
    """windows : of a `Cascade`; none where there is one model. radius : (c,) as a `Head`'s, of what several say."""

    models: tuple[Model, ...]
    windows: tuple[float, ...] = ()
    radius: Array | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.models[0].classes

    @property
    def sha256(self) -> str:
        told = repr(([model.sha256 for model in self.models], self.windows, self.radius))
        return hashlib.sha256(told.encode()).hexdigest()

    def load(self, threads: int) -> list[backbones.Network]:
        return [model.load(threads) for model in self.models]

    def in_doubt(self, rows: Sequence[Array]) -> NDArray[np.bool_]:
        """(n,): which pictures the next model is asked about, after the `rows` (n, c + 2) of those so far."""
        return gap(together([stage[:, :-2] for stage in rows])) < self.windows[len(rows) - 1]

    def columns(self, rows: Sequence[Array]) -> dict[str, NDArray[Any]]:
        """class, probability, defer and outlier, (n,) each, from each model's rows (n, c + 2), NaN where not asked."""
        if len(self.models) == 1:
            return self.models[0].columns(rows[0])
        share = rows[0][:, :-2].copy()
        for stage in range(1, len(rows)):
            asked = ~np.isnan(rows[stage][:, 0])
            share[asked] = together([r[asked, :-2] for r in rows[: stage + 1]])
        assert self.radius is not None
        best, most = share.argmax(1), share.max(1)
        told = np.array(self.classes, object)[best], most, 1 - most > self.radius[best], rows[0][:, -2]
        return dict(zip(OUTPUTS, told, strict=True))


def read_chain(path: Path) -> Chain:
    """The classifier at `path`: a file, or the folder of a cascade. Raises `PhylaError` where it is none."""
    return _read_folder(path) if path.is_dir() else Chain((read(path),))


def _read_folder(folder: Path) -> Chain:
    try:
        told = json.loads((folder / FILE).read_text(encoding="utf-8"))
        names, windows = list(told["files"]), tuple(map(float, told["windows"]))
        radius = np.array(told["radius"], np.float32)
        fine = told["phyla"] == _FORMAT and 1 < len(names) == len(windows) + 1 <= _MOST and radius.ndim == 1
        fine = fine and all(isinstance(name, str) and Path(name).name == name for name in names)
        fine = fine and all(name.isprintable() for name in names) and not np.isnan(radius).any()
    except OSError as fault:
        raise PhylaError(f"{folder} is no cascade: {fault.strerror or fault}.", _AGAIN) from fault
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        fine = False
    if not fine:
        raise PhylaError(f"{folder / FILE} does not say how to ask its classifiers.", _AGAIN)
    models = tuple(read(folder / name) for name in names)
    if {model.classes for model in models} != {models[0].classes} or len(radius) != len(models[0].classes):
        raise PhylaError(f"The classifiers in {folder} name different classes.", _AGAIN)
    return Chain(models, windows, radius)


def write_chain(folder: Path, files: Sequence[Path], cascade: Cascade, radius: Array, told: dict[str, Any]) -> Path:
    """Write down in which order the classifiers in `folder` are asked, and when the next one is.

    told : what people should know of it. Raises `PhylaError` where nothing can be written.
    """
    content = {
        "phyla": _FORMAT, "files": [file.name for file in files], "windows": list(cascade.windows),
        "radius": [float(r) for r in radius], "told": told,
    }  # fmt: skip
    put(folder / FILE, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return folder / FILE
