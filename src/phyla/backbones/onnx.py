"""Any ONNX file, described by a JSON card beside it: onnx:path/to/net.onnx and path/to/net.json."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from phyla.backbones._card import _ENLARGE, Card, Network
from phyla.backbones._hub import read_json
from phyla.backbones._onnx_graph import OnnxGraph, strange, tensors
from phyla.backbones._openvino import BATCH, OpenVINONetwork, _core, refuse_giants
from phyla.types import PhylaError

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["Onnx"]

_EXAMPLE = '{"size": 224, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}'
_REQUIRED = {"size", "mean", "std"}
_OPTIONAL = {"crop", "interpolation", "scale", "layout", "output", "licence"}
_LARGEST = 1e6  # of a number in a card: pixels of 16 bits have a mean below it


@dataclass(frozen=True)
class Spec:
    """What the file beside a network says of it.

    mean, std : of the pixels on a scale on which white is `scale`. Without it white is 255 if any std exceeds 1, and
    1 otherwise. layout : "nchw" or "nhwc"; without it the input's side with three channels tells. output : name of
    the output to take; without it "image_embeds" if there is one, or the first.
    """

    size: int
    mean: Sequence[float]
    std: Sequence[float]
    crop: float = 1.0
    interpolation: str = "bicubic"
    scale: float | None = None
    layout: str | None = None
    output: str | None = None
    licence: str = "unknown"

    def fault(self) -> str:
        """What is wrong with it, if anything."""
        if not (type(self.size) is int and 0 < self.size <= 4096):
            return f"size is {self.size!r}, not a number of pixels"
        for name, values in (("mean", self.mean), ("std", self.std)):
            if not (isinstance(values, list | tuple) and len(values) == 3 and all(_is_number(v) for v in values)):
                return f"{name} is {values!r}, not three numbers"
        if min(self.std) <= 0:
            return "a std is not above 0"
        if not (_is_number(self.crop) and 0 < self.crop <= 1):
            return f"crop is {self.crop!r}, not a share above 0 and up to 1"
        for name, text in (("output", self.output or ""), ("licence", self.licence)):
            if not (isinstance(text, str) and text.isprintable()):
                return f"{name} is {text!r}, not a line of text"
        if self.interpolation not in list(_ENLARGE):  # of a list, for it may be of any type
            return f"interpolation is {self.interpolation!r}, not one of {', '.join(_ENLARGE)}"
        if self.scale is not None and not (_is_number(self.scale) and self.scale > 0):
            return f"scale is {self.scale!r}, not the value of white, 1 or 255"
        return "" if self.layout in (None, "nchw", "nhwc") else f"layout is {self.layout!r}, not nchw or nhwc"


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < _LARGEST


def read_spec(path: Path) -> Spec:
    """The card beside the network at `path`."""
    beside = path.with_suffix(".json")
    if not beside.is_file():
        raise PhylaError(f"{path} has no card beside it.", f"Put one into {beside}, such as {_EXAMPLE}")
    content = read_json(beside)
    if missing := _REQUIRED - content.keys():
        raise PhylaError(f"{beside} lacks {', '.join(sorted(missing))}.", f"A small card is {_EXAMPLE}")
    if unknown := content.keys() - _REQUIRED - _OPTIONAL:
        known = ", ".join(sorted(_REQUIRED | _OPTIONAL))
        raise PhylaError(f"{beside} has the unknown {', '.join(sorted(unknown))}.", f"A card knows {known}.")
    spec = Spec(**content)
    if fault := spec.fault():
        raise PhylaError(f"In {beside}, {fault}.", f"A small card is {_EXAMPLE}")
    return spec


def read_bytes(path: Path) -> bytes:
    """The bytes of the ONNX file at `path`, without those that it keeps in other files."""
    try:
        return path.read_bytes()
    except OSError as fault:
        reason = "is not there" if isinstance(fault, FileNotFoundError) else f"can't be read: {fault.strerror}"
        raise PhylaError(f"{path} {reason}.", "Write onnx:path/to/net.onnx, the path seen from here.") from fault


def external_files(path: Path, content: bytes) -> list[str]:
    """Names of the files in which the network at `path` keeps weights outside its own, as large ones must.

    It may come from anybody: files outside its folder, and what might never end, are refused.
    """
    import onnx

    try:
        proto = onnx.load_model_from_string(content)
    except Exception as fault:  # protobuf's DecodeError, which each of its versions keeps elsewhere
        raise PhylaError(f"{path} is not an ONNX network that can be read.", "Export it again.") from fault
    if why := strange(proto):
        raise PhylaError(f"{path} is no network of pictures: {why}.", "Export the part that looks at one picture.")
    told = [entry.value for t in tensors(proto) for entry in t.external_data if entry.key == "location"]
    for file in sorted(set(told)):
        if not file or "\0" in file or ".." in Path(file).parts or Path(file).is_absolute():
            raise PhylaError(f"{path} keeps weights in {file!r}, outside its folder.", "Export it again.")
    return sorted(set(told))


def describe(name: str, path: Path, spec: Spec, weights: str) -> Card:
    """The card of the network at `path`.

    `sha256` is that of the file, or, if it keeps weights in others, of the file and those in the order of their names.
    """
    content = read_bytes(path)
    parts = [content]
    for file in external_files(path, content):
        if not (path.parent / file).is_file():
            raise PhylaError(f"{path} keeps weights in {file}, which is not beside it.", "Copy both files together.")
        parts.append(read_bytes(path.parent / file))
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    white = spec.scale or (255.0 if max(spec.std) > 1 else 1.0)
    mean, std = ([float(v) * 255 / white for v in values] for values in (spec.mean, spec.std))
    card = Card(
        name=name, size=spec.size, dim=0, mean=(mean[0], mean[1], mean[2]), std=(std[0], std[1], std[2]),
        crop=float(spec.crop), interpolation=spec.interpolation, licence=spec.licence, sha256=digest.hexdigest(),
        megabytes=round(sum(map(len, parts)) / 1e6, 1), weights=weights,
    )  # fmt: skip
    model, output = graph(path, spec, card)
    # The output is part of what identifies the features, so the card tells it.
    return replace(card, dim=model.output(0).shape[1], weights=f"{weights}#{output}")


def graph(path: Path, spec: Spec, card: Card) -> tuple[ov.Model, str]:
    """uint8 (batch, size, size, 3) → float32 (batch, dim), and the name of the output that is taken.

    The batch is the file's own if it is fixed. A map (b, c, h, w) is averaged over its places, tokens (b, t, d) over
    all of them, the class token included.
    """
    import openvino as ov
    from openvino import opset13 as op
    from openvino.preprocess import PrePostProcessor

    try:
        model = _read(path)
        refuse_giants(model)
    except RuntimeError as fault:
        reason = str(fault).strip().rpartition("\n")[2]
        raise PhylaError(f"{path} is not an ONNX network that can be read: {reason}", "Export it again.") from fault
    layout, batch = _input(model, path, spec)
    name, chosen = _output(model, path, spec)
    model = ov.Model([chosen], model.get_parameters(), card.name)
    size = spec.size
    shape = [batch, 3, size, size] if layout == "nchw" else [batch, size, size, 3]
    try:
        model.reshape(shape)
        steps = PrePostProcessor(model)
        steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        steps.input().model().set_layout(ov.Layout(layout.upper()))
        normalise = steps.input().preprocess().convert_element_type(ov.Type.f32)
        normalise.mean(list(card.mean)).scale(list(card.std))
        model = steps.build()
        x = op.convert(model.output(0).get_node().input_value(0), "f32")
        match list(x.get_output_shape(0)):
            case [_, _]:
                pooled = x
            case [_, _, _]:
                pooled = op.reduce_mean(x, [1])
            case [_, _, _, _]:
                # A network of layout nhwc has its maps in that order too.
                pooled = op.reduce_mean(x, [2, 3] if layout == "nchw" else [1, 2])
            case other:
                raise PhylaError(f"{path}: its output {name} has the shape {other}.", "Give the card another output.")
    except RuntimeError as fault:
        reason = str(fault).strip().rpartition("\n")[2]
        raise PhylaError(f"{path} can't take pictures of {size} pixels: {reason}", "Mend size in its card.") from fault
    return ov.Model([pooled], model.get_parameters(), card.name), name


def compiled(path: Path, spec: Spec, card: Card, threads: int, precision: str) -> Network:
    """The network at `path`, ready to run."""
    model, _ = graph(path, spec, card)
    try:
        return OpenVINONetwork(card, model, threads, precision)
    except RuntimeError as fault:
        reason = str(fault).strip().rpartition("\n")[2]
        raise PhylaError(f"{path} can't be run: {reason}", "Export it again.") from fault


def splice(path: Path, spec: Spec, card: Card, graph: OnnxGraph, view: str) -> str:
    """Put the network at `path` into `graph`, as `graph` above has it; see `backbones.splice`."""
    import onnx

    model = _read(path)
    layout, _ = _input(model, path, spec)
    if model.inputs[0].partial_shape[0].is_static:
        raise PhylaError(f"{path} takes a fixed number of pictures.", "Export it with a dynamic batch.")
    name, chosen = _output(model, path, spec)
    model.reshape([1, 3, spec.size, spec.size] if layout == "nchw" else [1, spec.size, spec.size, 3])
    rank = len(chosen.get_partial_shape())
    proto = onnx.load_model_from_string(read_bytes(path))
    for tensor in tensors(proto):
        if tensor.external_data:  # in a file that `describe` has looked at
            place = {entry.key: entry.value for entry in tensor.external_data}
            with (path.parent / place["location"]).open("rb") as file:
                file.seek(int(place.get("offset", 0)))
                tensor.raw_data = file.read(int(place.get("length", -1)))
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    x = graph.normalise(view, card.mean, card.std)
    if layout == "nhwc":
        x = graph.node("Transpose", x, perm=[0, 2, 3, 1])
    kinds = {value.name: value.type.tensor_type.elem_type for value in proto.graph.input}
    kind = next(kinds[each] for each in model.inputs[0].names if each in kinds)
    try:
        y = graph.take_in(proto, graph.node("Cast", x, to=kind), name)
    except Exception as fault:  # its converter raises what it finds
        reason = str(fault).strip().partition("\n")[0]
        raise PhylaError(f"{path} can't be put into another file: {reason}", "Export it with opset 18.") from fault
    y = graph.cast(y, np.float32)
    if rank == 2:
        return y
    axes = [1] if rank == 3 else [2, 3] if layout == "nchw" else [1, 2]
    return graph.node("ReduceMean", y, np.array(axes), keepdims=0)


def _read(path: Path) -> ov.Model:
    """OpenVINO's own reading of the network.

    It refuses weights that a symbolic link takes to another folder, and the hub's cache is made of such links: those
    networks are read through hard links in a folder of their own.
    """
    others = external_files(path, read_bytes(path))
    if not any((path.parent / file).is_symlink() for file in others):
        return _core().read_model(path)
    with TemporaryDirectory(dir=path.parent, prefix=".phyla-") as folder:
        for file in (path.name, *others):
            (Path(folder) / file).parent.mkdir(parents=True, exist_ok=True)
            os.link((path.parent / file).resolve(), Path(folder) / file)
        return _core().read_model(Path(folder) / path.name)


def _input(model: ov.Model, path: Path, spec: Spec) -> tuple[str, int]:
    """Layout and batch of the network's one input."""
    names = [i.any_name if i.names else "?" for i in model.inputs]
    shape = model.inputs[0].partial_shape if len(names) == 1 else None
    if shape is None or shape.rank.is_dynamic or len(shape) != 4:
        raise PhylaError(f"{path} takes {', '.join(names)}, not just pictures.", "Export the part that does.")
    fixed = [d.get_length() if d.is_static else None for d in shape]
    layout = spec.layout or ("nhwc" if fixed[3] == 3 and fixed[1] != 3 else "nchw")
    wanted = [3, spec.size, spec.size] if layout == "nchw" else [spec.size, spec.size, 3]
    if any(have not in (None, want) for have, want in zip(fixed[1:], wanted, strict=True)):
        raise PhylaError(f"{path} takes {shape}, its card says size {spec.size}, {layout}.", "Mend the card.")
    return layout, fixed[0] or BATCH


def _output(model: ov.Model, path: Path, spec: Spec) -> tuple[str, Any]:
    outputs = {name: output for output in model.outputs for name in sorted(output.names)}
    if spec.output and spec.output not in outputs:
        raise PhylaError(f"{path} has no output {spec.output!r}.", f"It has {', '.join(outputs)}.")
    name = spec.output or ("image_embeds" if "image_embeds" in outputs else next(iter(outputs)))
    return name, outputs[name]


class Onnx:
    """The family of networks in ONNX files."""

    @staticmethod
    def cards() -> list[Card]:
        return []

    @staticmethod
    def card(name: str) -> Card:
        path = Path(name).expanduser()
        read_bytes(path)  # a missing network is told before its missing card
        return describe(f"onnx:{name}", path, read_spec(path), path.name)

    @staticmethod
    def splice(card: Card, graph: OnnxGraph, view: str) -> str:
        path = Path(card.name.removeprefix("onnx:")).expanduser()
        return splice(path, read_spec(path), card, graph, view)

    @staticmethod
    def load(card: Card, threads: int, precision: str) -> Network:
        path = Path(card.name.removeprefix("onnx:")).expanduser()
        return compiled(path, read_spec(path), card, threads, precision)
