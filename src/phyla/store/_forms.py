"""What each file of a project must hold. A stranger's may hold anything, under a checksum that fits."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["dims_of", "not_an_array", "not_json", "not_recipe"]

_LARGEST = 2**53  # beyond it a JSON number is not what it says
_SLACK = 1e-3  # by which rounding may take a share over 1

# ---- arrays: room → file → kinds of numbers (or one type), axes, and what holds for all values
#
# An axis is a number, or a letter that stands for one number throughout a stage: n is that of the images, r that of a
# shard. Other files of a stage are what its method has learnt: any numbers.

ARRAYS: dict[str, dict[str, tuple[str, str, str]]] = {
    "features": {"": ("f", "r w", ""), "ids": ("SU", "r", "")},
    "reduced": {
        "X": ("f", "n d", "finite"), "residual": ("f", "n", "finite"), "components_": ("f", "d w", "finite"),
        "mean_": ("f", "w", "finite"), "explained_variance_": ("f", "d", "variance"),
        "spectrum_": ("f", "w", "variance"), "total_variance_": ("f", "", "variance"),
    },
    "groups": {
        "labels_": ("iu", "n", "group"), "strength_": ("f", "n", "share"), "fitted": ("b", "n", ""),
        "n_fitted": ("iu", "", "counted"), "evidence_": ("biuf", "e m", ""),
    },
    "map": {"points": ("f", "n 2", "finite")},
    "spread": {
        "proba": ("f", "n c", "share"), "codes": ("iu", "n", "counted"), "accepted": ("b", "n", ""),
        "defer_radius_": ("f", "c", "finite"), "defer_error_": ("f", "", ""),
        "defer_calibration_": ("f", "t", "finite"),
    },
    "neighbors": {"indices": ("iu", "n k", "row"), "distances": ("f", "n k", ""),
                  "rows": ("iu", "n", "counted"), "others": ("iu", "n k", "counted")},
    "measured": {
        "id": ("SU", "r", ""), "border": ("u1", "r 3", ""), "thumb": ("u1", "r 16 16 3", ""),
        **dict.fromkeys(("camera", "date", "format"), ("U", "r", "")),
        **dict.fromkeys(("hash", "mirrored"), ("u8", "r", "")),
        **dict.fromkeys(("mean", "p1", "p5", "p50", "p95", "p99", "spread", "entropy", "detail", "sharpness",
                         "colourfulness", "size", "quality"), ("iuf", "r", "finite")),
    },
    "student": {
        "said": ("f", "a c", "share"), "apart": ("iu", "a", "counted"), "weights0": ("f", "w h", "finite"),
        "bias0": ("f", "h", "finite"), "weights1": ("f", "h c", "finite"), "bias1": ("f", "c", "finite"),
    },
    "concepts": {
        "encoder_": ("f", "u w", "finite"), "bias_": ("f", "u", "finite"), "mean_": ("f", "w", "finite"),
        "decoder_": ("f", "u w", "finite"), "usage_": ("f", "u", "finite"),
    },
    "near": {
        "ids": ("SU", "n", ""), "order": ("iu", "n", "row"), "ranked": ("iu", "n", "row"),
        "centers": ("f", "g w", "finite"), "place": ("f", "g", "finite"),
    },
    "index": {
        "vectors": ("f2", "r w", ""), "rows": ("i4", "r", "counted"), "ends": ("i8", "u", "counted"),
        "centers": ("f4", "u w", "finite"), "measured": ("f", "m 3", "finite"),
    },
}  # fmt: skip
_HOLDS: dict[str, Callable[[NDArray[Any]], Any]] = {
    "": lambda a: True,
    "finite": lambda a: np.isfinite(a).all(),
    "variance": lambda a: np.isfinite(a).all() and a.min() >= 0,
    "share": lambda a: ((a >= -_SLACK) & (a <= 1 + _SLACK)).all(),
    "counted": lambda a: a.min() >= 0,
    "row": lambda a: a.min() >= 0 and a.max() < len(a),
    "group": lambda a: a.min() >= 0 and a.max() < 2 * len(a),  # kept groups are at most as many as half the rows were
}


def dims_of(name: str) -> tuple[str, ...] | None:
    """The axes of the array in a file; None where they are its method's own."""
    form = _of(ARRAYS, name)
    return None if form is None else tuple(form[1].split())


def not_an_array(name: str, array: NDArray[Any], size: int, *, values: bool = True) -> str | None:
    """Why an array can't be that of the file `name`, of `size` bytes. Without `values` only its type and axes count."""
    kinds, dims, rule = _of(ARRAYS, name) or ("biufSU", " ".join("." * array.ndim), "")
    axes, dtype = dims.split(), array.dtype
    is_kind = dtype.str[1:] == kinds if kinds[-1].isdecimal() else dtype.kind in kinds
    is_long = array.ndim > 0 and max(array.shape) > size  # of no bytes a header may claim any number
    known = [int(a) if a.isdecimal() else n for a, n in zip(axes, array.shape, strict=False)]
    fits = len(axes) == array.ndim and tuple(known) == array.shape
    if not is_kind or is_long or not fits or (dtype.kind == "f" and dtype.itemsize > 8):
        return f"it holds {dtype} {array.shape}"
    if values and array.size and not _HOLDS[rule](array):
        return "it holds numbers that can't be"
    return None


def _of(forms: Mapping[str, Mapping[str, Any]], name: str) -> Any:
    """What is told of a file: by its room, and its name without the number of a shard."""
    room, leaf = name.partition("/")[0], name.rpartition("/")[2].rpartition(".")[0]
    return forms.get(room, {}).get(re.sub(r"^\d{5}\.?", "", leaf))


# ---- JSON: a type, several (one of them), [form of each], {str: form of each}, {key: form}, or what is true of it.
# A key with a question mark may be missing; keys that are not told of may be anything.


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < _LARGEST


def _share(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _in(room: str) -> Callable[[Any], bool]:
    """A name of what lies in a room."""
    return lambda value: isinstance(value, str) and value.startswith(f"{room}/")


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value) and len(set(value)) == len(value) > 0


_NONE = type(None)
JSON: dict[str, dict[str, Any]] = {
    "phyla.json": {"phyla": {
        "source?": lambda v: isinstance(v, str) and "\0" not in v, "images?": _in("images"), "groups?": _in("groups"),
        "features?": [_in("features")], "reduced?": lambda v: isinstance(v, list) and v and all(map(_in("reduced"), v)),
        "backbones?": [str], "map?": (_in("map"), _NONE), "audit?": (_in("audit"), _NONE), "agreement?": _share,
        "spread?": (_in("spread"), _NONE), "aligned?": (_in("aligned"), _NONE), "regrouped?": (str, _NONE),
        "effort?": str, "store?": lambda v: v in ("npy", "lance"), "changed?": _count, "spread_edits?": _count,
        "audit_edits?": _count, "audit_asked?": {"labels": (str, _NONE), "checks": ([str], _NONE)},
        "audit_of_other_groups?": bool,
    }},
    "features": {"faults": {str: str}},
    "groups": {"grown": {"added": _count, "gone": _count, "since": _count, "strange": _count, "anew": bool}},
    "spread": {
        "classes": _names,
        "told": {"answers": _count, "images": _count, "classes?": {str: _count}, "accepted": _count,
                 "stated_error": (_share, _NONE)},
    },
    "student": {"told": {"agreement": _share}},
    "near": {"folders": {str: str}},
}  # fmt: skip
_SORTED = ("source", "images", "features", "reduced", "backbones", "agreement")
_AUDIT = {"findings": [{"check": str, "ids": [str], "severity": _share, "why": str}]}
# Of how a stage was made: what others go by. A method refuses the rest of its parameters itself.
RECIPES: dict[str, Any] = {
    "groups": {"params": {"n_clusters": (_count, _NONE)}},
    "reduced": {"params": {"n_components": _count}, "inputs": lambda v: len(v) > 0},
    "spread": {"params": {"error": _share}},
}
_RECIPE = {"room": str, "method": str, "params": {str: object}, "inputs": [str], "version": _count, "seed": _count}


def not_json(name: str, value: Any, data: bytes = b"") -> str | None:
    """Why a value can't be that of the JSON file `name`, as `data` has it."""
    if re.search(rb"\\u[dD][89a-fA-F]", data):  # half a character: no text
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return "it holds what is no text"
    if name.startswith("audit/"):
        return _unlike(value, _AUDIT)
    why = _unlike(value, _of(JSON, name) or object)
    return _together(value) if name == "phyla.json" and not why else why


def _together(meta: Any) -> str | None:
    """What phyla.json lacks beside what it has: all is told at once, when the groups are made."""
    if "groups" in meta and (lacking := [key for key in _SORTED if meta.get(key) is None]):
        return f"{lacking[0]} is missing"
    if len(meta.get("features", ())) != len(meta.get("backbones", ())):
        return "features are not those of backbones"
    return None


def not_recipe(value: Any) -> str | None:
    """Why a value can't be a recipe."""
    if isinstance(value, dict) and (more := value.keys() - _RECIPE.keys()):
        return f"{min(more)[:40]} is unknown"
    return _unlike(value, _RECIPE) or _unlike(value, RECIPES.get(value["room"], object))


def _unlike(value: Any, form: Any, where: str = "") -> str | None:
    """Where and what a value is that is not of the form."""
    if isinstance(form, dict) and isinstance(value, dict):
        if str in form:
            return _first(_unlike(part, form[str], f"{where} {key[:40]}") for key, part in value.items())
        lacking = [key for key in form if not key.endswith("?") and key not in value]
        if lacking:
            return f"{where} {lacking[0]} is missing".strip()
        told = ((key.rstrip("?"), of) for key, of in form.items())
        return _first(_unlike(value[key], of, f"{where} {key}") for key, of in told if key in value)
    if isinstance(form, list) and isinstance(value, list):
        return _first(_unlike(part, form[0], where) for part in value)
    if isinstance(form, tuple) and any(_unlike(value, one) is None for one in form):
        return None
    if isinstance(form, type):
        if isinstance(value, form) and (form in (bool, object) or not isinstance(value, bool)):
            return None
    elif callable(form) and form(value):
        return None
    return f"{where} is {repr(value)[:60]}".strip()


def _first(found: Iterable[str | None]) -> str | None:
    return next((why for why in found if why), None)
