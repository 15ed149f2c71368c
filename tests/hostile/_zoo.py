"""Hostile files, made here: pictures, archives, tables and lists, networks with their cards. Always the same."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

RAMP = np.stack(np.broadcast_arrays(np.arange(40)[:, None] * 6, np.arange(64) * 3, 90), axis=-1).astype(np.uint8)
KINDS = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "TIFF",
    "BMP",
    "AVIF",
    "JPEG2000",
    "PPM",
    "ICO",
    "ICNS",
    "QOI",
    "DDS",
    "SGI",
    "PCX",
)
NAMES = (
    "../up.png",
    "../../../../../../tmp/up.png",
    "/etc/up.png",
    "..\\up.png",
    "C:\\Windows\\up.png",
    "\\\\host\\up.png",
    "a/../../up.png",
    "./././x.png",
    "CON.png",
    "\u202egnp.exe",
    "new\nline.png",
    "tab\t.png",
    "bell\x07.png",
    "\x1b]0;title\x07.png",
    "e\u0301.png",
    "\u00e9.png",
    "n" * 300 + ".png",
    "ü" * 200 + ".png",
    "...",
    "-rf.png",
    "=1+1.png",
    "@x.png",
    "a#b.png",
    "#1.png",
    "%2e%2e%2fup.png",
    "<img src=x onerror=alert(1)>.png",
    " .png",
    "\ud83d\ude00.png".encode("utf-16", "surrogatepass").decode("utf-16"),
    "caf\udce9.png",
    "\ufffdDCE9.png",
)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, *more: bytes, depth: int = 8, colour: int = 2, rows: bytes = b"\0" * 99) -> bytes:
    """A PNG that says it has this size, whatever it holds."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(*entries: tuple[int, int, int, int], data: bytes = b"") -> bytes:
    """A TIFF of these entries: tag, type, count, value."""
    return (
        struct.pack("<2sHIH", b"II", 42, 8, len(entries))
        + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        + bytes(4)
        + data
    )


def whole_pictures() -> dict[str, bytes]:
    """Of each kind a picture with nothing wrong: what flips and cuts start from."""
    image = Image.fromarray(RAMP)
    found = {kind: saved(image, kind) for kind in KINDS}
    for mode in ("L", "P", "RGBA", "1", "LA", "I;16"):
        found[f"PNG {mode}"] = saved(image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode), "PNG")
    for mode in ("CMYK", "F", "LAB", "I"):
        found[f"TIFF {mode}"] = saved(
            image.convert("L" if mode in "FI" else "RGB").convert(mode)
            if mode != "LAB"
            else Image.merge("LAB", image.split()),
            "TIFF",
        )
    found["JPEG CMYK"] = saved(image.convert("CMYK"), "JPEG")
    found["JPEG progressive"] = saved(image, "JPEG", progressive=True)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        found[f"TIFF {compression}"] = saved(image, "TIFF", compression=compression)
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        found[f"{kind} frames"] = saved(image, kind, save_all=True, append_images=[image.rotate(9)])
    return found


def pictures() -> dict[str, bytes]:
    """Name of a file → its bytes: bombs, junk, lies, and pictures cut at every kind of place."""
    image, found = Image.fromarray(RAMP), dict[str, bytes]()
    for name, data in whole_pictures().items():
        for part in (0.02, 0.3, 0.97):
            found[f"{name} cut {part}.bin"] = data[: int(part * len(data))]
        found[f"{name} as text.txt"] = data
        ends = bytearray(data)
        ends[len(ends) // 2 :] = bytes(len(ends) - len(ends) // 2)
        found[f"{name} then zeros.jpg"] = bytes(ends)
    for size in ((60000, 60000), (2**31 - 1, 2**31 - 1), (30000, 20000), (0, 5), (1, 2**31 - 1)):
        found[f"bomb {size[0]}x{size[1]}.png"] = png(*size)
        side = [
            (256, 4, 1, size[0]),
            (257, 4, 1, size[1]),
            (258, 3, 1, 8),
            (262, 3, 1, 1),
            (273, 4, 1, 8),
            (279, 4, 1, 9),
        ]
        found[f"bomb {size[0]}x{size[1]}.tif"] = tiff(*side)
        bmp = bytearray(saved(image, "BMP"))
        bmp[18:26] = struct.pack("<II", *size)
        found[f"bomb {size[0]}x{size[1]}.bmp"] = bytes(bmp)
        gif = bytearray(saved(image, "GIF"))
        gif[6:10] = struct.pack("<HH", *(v & 0xFFFF for v in size))
        found[f"bomb {size[0]}x{size[1]}.gif"] = bytes(gif)
    inner = png(30000, 30000)
    found["bomb in an icon.ico"] = struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(inner), 22) + inner
    found["1x1.png"], found["1x100000.png"] = (saved(Image.new("RGB", s), "PNG") for s in ((1, 1), (1, 100000)))
    found["100000x1.png"] = saved(Image.new("RGB", (100000, 1)), "PNG")
    found["65535x1.jpg"] = saved(Image.new("RGB", (65500, 1)), "JPEG")
    for number, exif in enumerate((0, 9, 65535, 2**31)):
        block = struct.pack("<2sHIHHHII", b"II", 42, 8, 1, 0x0112, 4, 1, exif) + struct.pack("<I", 8)  # leads to itself
        for kind in ("JPEG", "PNG", "WEBP"):
            found[f"exif {number}.{kind.lower()}"] = saved(image, kind, exif=b"Exif\0\0" + block)
    junk = np.random.default_rng(0).bytes(3000)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        found[f"junk profile.{kind.lower()}"] = saved(image, kind, icc_profile=junk)
    for key in (b"exif", b"transparency", b"dpi", b"gamma", b"Raw profile type exif"):
        whole = saved(image, "PNG")
        found[f"text called {key.decode()}.png"] = whole[:33] + chunk(b"tEXt", key + b"\0lies") + whole[33:]
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**8)))
    found["long text.png"] = png(64, 40, text, rows=b"".join(b"\0" + row.tobytes() for row in RAMP))
    fits = "".join(
        f"{k:8}={v:>21}".ljust(80)
        for k, v in (("SIMPLE", "T"), ("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", 10**9), ("NAXIS2", 10**9))
    )
    found["bomb.fits"] = (fits + "END".ljust(80)).encode().ljust(2880) + bytes(2880)
    found |= {"empty.jpg": b"", "zeros.png": bytes(5000), "junk.jpg": junk, "soi.jpg": b"\xff\xd8\xff"}
    return found


def picture(number: int = 0) -> bytes:
    return saved(Image.new("RGB", (16, 16), (number % 256, 90, 200)), "PNG")


def zipped(names: Iterator[str] | tuple[str, ...] = NAMES, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")
        for number, name in enumerate(names):
            info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())
            info.compress_type = method
            archive.writestr(info, picture(number))
            if number == 3:
                archive.writestr(info, picture(99))  # a second of the same name
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("inner.zip", b"PK\5\6" + bytes(18))
    return file.getvalue()


def tarred(names: tuple[str, ...] = NAMES, format: int = tarfile.PAX_FORMAT, mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=format) as archive:  # type: ignore[call-overload]
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = len(data := picture(number))
            archive.addfile(info, io.BytesIO(data))
        for kind in (
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.FIFOTYPE,
            tarfile.CHRTYPE,
            tarfile.BLKTYPE,
            tarfile.DIRTYPE,
        ):
            info = tarfile.TarInfo("odd.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    return file.getvalue()


def header(name: str, size: int, kind: bytes = b"0") -> bytes:
    """A block of a tar that says what it likes of its size."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    block[124:136] = (
        b"%011o\0" % size
        if 0 <= size < 8**11
        else (b"\xff" if size < 0 else b"\x80") + (size % 256**11).to_bytes(11, "big")
    )
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def archives() -> dict[str, bytes]:
    end = bytes(1024)
    whole, found = (
        zipped(),
        {"names.zip": zipped(), "names.tar": tarred(), "names gnu.tar": tarred(format=tarfile.GNU_FORMAT)},
    )
    found |= {f"names.tar.{kind}": tarred(mode=f"w:{kind}") for kind in ("gz", "bz2", "xz")}
    found |= {f"cut {part}.zip": whole[: int(part * len(whole))] for part in (0.0, 0.1, 0.9, 0.99)}
    found |= {f"cut {part}.tar": tarred()[: int(part * len(tarred()))] for part in (0.0, 0.01, 0.5, 0.73)}
    found |= {f"cut {kind}.tar.{kind}": tarred(mode=f"w:{kind}")[:-40] for kind in ("gz", "bz2", "xz")}
    found["methods.zip"] = zipped(("a.png",), zipfile.ZIP_BZIP2)
    found["methods 2.zip"] = zipped(("a.png",), zipfile.ZIP_LZMA)
    for name, at, value in (("size", 24, 2**31), ("packed", 20, 2**31), ("place", 42, 2**30), ("flags", 8, 1)):
        data = bytearray(whole)
        central = data.index(b"PK\1\2")
        data[central + at : central + at + (2 if at == 8 else 4)] = value.to_bytes(2 if at == 8 else 4, "little")
        found[f"wrong {name}.zip"] = bytes(data)
    found["long name.zip"] = zipped(("n" * 65000,))
    found["no name.zip"] = zipped(("", "a.png"))
    for kind in (b"0", b"L", b"K", b"x", b"g", b"S"):
        for size in (-512, 2**62, 8**11 - 1):
            found[f"size {size} of {kind.decode()}.tar"] = header("a.png", size, kind) + end
    long_name = header("a", 1, b"L") + b"b" + bytes(511)
    found["names of names.tar"] = long_name * 3000 + header("x.png", 0) + end
    added = header("a", 11, b"x") + b"11 a=bbbbb\n" + bytes(501)
    found["pax of pax.tar"] = added * 3000 + header("x.png", 0) + end
    found["pax size.tar"] = header("a", 20, b"x") + b"20 size=-9999999999\n" + bytes(492) + header("x.png", 0) + end
    found |= {"text.zip": b"no archive" * 50, "text.tar": b"no archive" * 500, "zip in name only.tar.gz": whole}
    return found


def parquet(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def tables() -> dict[str, bytes]:
    """Parquet files: wrong types, wrong cells, and one of 2 KB that would unpack to 20 GB."""
    cell = picture()

    def struct_of(path: Any, kind: pa.DataType) -> pa.Table:
        shape = pa.struct([("bytes", pa.binary()), ("path", kind)])
        return pa.table({"image": pa.array([{"bytes": None, "path": path}], shape)})

    made = {
        "nested": pa.table({"image": pa.array([{"bytes": {"bytes": cell}}])}),
        "path number": struct_of(3, pa.int64()),
        "path bytes": struct_of(b"\xff", pa.binary()),
        "path list": struct_of(["x"], pa.list_(pa.string())),
        "path nul": struct_of("a\0b", pa.string()),
        "path up": struct_of("../../../../etc/passwd", pa.string()),
        "path device": struct_of("/dev/zero", pa.string()),
        "path long": struct_of("x" * 5000, pa.string()),
        "path protocol": struct_of("weird://x", pa.string()),
        "twice": pa.Table.from_arrays([pa.array([cell]), pa.array([cell])], names=["image", "image"]),
        "dots": pa.table({"a.b": [cell], "a": pa.array([{"b": 1}])}),
        "no rows": pa.table({"image": pa.array([], pa.binary())}),
        "no columns": pa.table({}),
        "nulls": pa.table({"image": pa.array([None, None])}),
        "null cells": pa.table({"image": pa.array([None, cell, None], pa.binary())}),
        "text": pa.table({"image": ["x.png"]}),
        "list": pa.table({"image": [[cell]]}),
        "dictionary": pa.table({"image": pa.array([cell, cell]).dictionary_encode()}),
        "odd time": pa.table({"image": [cell], "label": pa.array([2**62], pa.timestamp("ns"))}),
        "odd date": pa.table({"image": [cell], "label": pa.array([2**31 - 1], pa.date32())}),
        "label twice": pa.Table.from_arrays(
            [pa.array([cell]), pa.array(["a"]), pa.array(["b"])], names=["image", "label", "label"]
        ),
        "wide": pa.table({f"c{i}": [i] for i in range(3000)} | {"image": [cell]}),
    }
    deep = pa.binary()
    for _ in range(60):
        deep = pa.struct([("bytes", deep)])
    made["deep"] = pa.Table.from_arrays([pa.nulls(1, deep)], names=["image"])
    found = {f"{name}.parquet": parquet(table) for name, table in made.items()}
    names = '{"info": {"features": {"label": {"names": [[1], null]}}}}'
    for number, told in enumerate(("[]", "{", "[" * 50000, names)):
        table = pa.table({"image": [cell], "label": [0]}).replace_schema_metadata({"huggingface": told})
        found[f"metadata {number}.parquet"] = parquet(table)
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int32()), pa.array([bytes(50 << 20)]))
    found["bomb.parquet"] = parquet(pa.table({"image": repeated}), compression="zstd", store_schema=False)
    whole = parquet(pa.table({"image": [cell] * 30}), row_group_size=10)
    for number, place in enumerate((4, 200, len(whole) // 2, len(whole) - 300, len(whole) - 30, len(whole) - 8)):
        flipped = bytearray(whole)
        flipped[place : place + 3] = b"\xff\x00\x7f"
        found[f"flipped {number}.parquet"] = bytes(flipped)
        found[f"cut {number}.parquet"] = whole[:place]
    return found


def lists() -> dict[str, bytes]:
    """CSV and JSON lines, as sources and as lists of labels."""
    texts: dict[str, str | bytes] = {
        "deep.jsonl": "[" * 100000,
        "deep label.jsonl": '{"uri": "a", "label": ' + "[" * 99999,
        "digits.jsonl": "9" * 5000,
        "nan.jsonl": '{"uri": "red_000.png", "label": NaN}',
        "half.jsonl": '{"uri": "red_000.png", "label": "\\ud800"}',
        "half uri.jsonl": '{"uri": "\\ud800"}',
        "types.jsonl": '{"uri": ["a"], "label": {"a": 1}}',
        "null.jsonl": "null\n3\ntrue",
        "bytes.csv": bytes(range(256)) * 9,
        "utf16.csv": "uri,label\nred_000.png,x\n".encode("utf-16"),
        "latin.csv": "uri,label\nred_000.png,caf\xe9\n".encode("latin-1"),
        "nul.csv": b"uri,label\na\0b.png,x\n",
        "quote.csv": 'uri,label\n"red_000.png,x\n',
        "cell.csv": "uri,label\nred_000.png," + "x" * 200_000,
        "columns.csv": "uri," + "a," * 200_000 + "\nred_000.png\n",
        "empty.csv": "",
        "header.csv": "uri,label\n",
        "long.csv": "uri,label\n" + "x" * 5000 + ",y\n",
        "formula.csv": "uri,label\nred_000.png,=cmd|' /C calc'!A0\n",
        "up.csv": "uri,label\nred_000.png,../../../up\nred_001.png,/etc/up\nred_002.png,..\\up\nred_003.png,a\0b\n",
        "devices.csv": "uri\n/dev/zero\n/dev/stdin\n/proc/self/mem\n/etc/shadow\nweird://x\nfile:///dev/zero\n::\n",
        "escape.csv": "uri,label\nred_000.png,\x1b]0;title\x07\nred_001.png,\x9b31m\n",
        "both.csv": "uri,label\nred_000.png,a\nred_000.png,b\n",
        "turned.csv": "uri,label\nred_000.png,\u202egnp.tac\nred_001.png,e\u0301\nred_002.png,\u00e9\n",
    }
    return {name: text if isinstance(text, bytes) else text.encode() for name, text in texts.items()}


SPEC = {"size": 12, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}


def network(nodes: Any = (), weights: Any = (), out: str = "y", shape: Any = None) -> Any:
    """A network of one convolution with `nodes` behind it."""
    kernel = numpy_helper.from_array(np.random.default_rng(0).normal(size=(16, 3, 3, 3)).astype(np.float32), "kernel")
    first = [helper.make_node("Conv", ["x", "kernel"], ["maps"]), helper.make_node("Relu", ["maps"], ["y"])]
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 12, 12])
    shown = helper.make_tensor_value_info(out, TensorProto.FLOAT, shape or ["n", 16, 10, 10])
    graph = helper.make_graph([*first, *nodes], "net", [entry], [shown], [kernel, *weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def elsewhere(place: str | None, **more: str) -> Any:
    """A network that keeps its weights in the file `place`."""
    proto = network()
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": place} | more).items():
        if value is not None:
            weight.external_data.add(key=key, value=value)
    return proto


def looping(steps: int = 2**62) -> Any:
    kinds = (("i", TensorProto.INT64, []), ("c", TensorProto.BOOL, []), ("v", TensorProto.FLOAT, None))
    ends = (("c2", TensorProto.BOOL, []), ("v2", TensorProto.FLOAT, None))
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Relu", ["v"], ["v2"])],
        "body",
        [helper.make_tensor_value_info(*v) for v in kinds],
        [helper.make_tensor_value_info(*v) for v in ends],
    )
    weights = [numpy_helper.from_array(np.array(steps), "steps"), numpy_helper.from_array(np.array(True), "yes")]
    return network([helper.make_node("Loop", ["steps", "yes", "y"], ["z"], body=body)], weights, "z")


def constant(value: Any, name: str) -> Any:
    return numpy_helper.from_array(np.asarray(value), name)


def networks() -> dict[str, tuple[bytes, bytes]]:
    """What is asked for as onnx: the file and its card."""
    node = helper.make_node
    giant = TensorProto(name="g", data_type=TensorProto.FLOAT, dims=[100000, 100000], raw_data=b"abcd")
    negative = TensorProto(name="g", data_type=TensorProto.FLOAT, dims=[-1, 5], raw_data=b"abcd")
    swapped = elsewhere("../secret.bin").SerializeToString()
    at = swapped.index(b"\n\x08location\x12")
    entry = swapped[at : at + 12 + swapped[at + 11]]
    opset, half = network(), network().SerializeToString()
    opset.opset_import[0].version = 10**9
    made: dict[str, Any] = {
        "passwd": elsewhere("/etc/passwd"),
        "up": elsewhere("../secret.bin"),
        "up, long": elsewhere("./" * 80 + "../secret.bin"),
        "up, value first": swapped.replace(entry, entry[10:] + entry[:10]),
        "nowhere": elsewhere(None),
        "folder": elsewhere("."),
        "nul": elsewhere("w\0.bin"),
        "no name": elsewhere(""),
        "not there": elsewhere("no.bin"),
        "offset": elsewhere("beside.bin", offset="-5", length="x"),
        "length": elsewhere("beside.bin", offset="0", length="9" * 14),
        "custom": network([node("Evil", ["y"], ["z"], domain="evil.example")], out="z"),
        "circle": network([node("Add", ["y", "w"], ["z"]), node("Relu", ["z"], ["w"])], out="z"),
        "itself": network([node("Add", ["y", "z"], ["z"])], out="z"),
        "loop": looping(),
        "opset": opset,
        "constant": network(
            [
                node("ConstantOfShape", ["s"], ["c"]),
                node("ReduceSum", ["c"], ["t"], keepdims=0),
                node("Add", ["y", "t"], ["z"]),
            ],
            [constant([200000, 200000], "s")],
            "z",
        ),
        "tiles": network([node("Tile", ["y", "r"], ["z"])], [constant([1, 1, 30000, 30000], "r")], "z"),
        "wide": network([node("Tile", ["y", "r"], ["z"])], [constant([1, 2000000, 1, 1], "r")], "z"),
        "range": network(
            [
                node("Range", ["a", "b", "s"], ["c"]),
                node("ReduceSum", ["c"], ["t"], keepdims=0),
                node("Add", ["y", "t"], ["z"]),
            ],
            [constant(np.float32(v), n) for v, n in ((0, "a"), (1e11, "b"), (1, "s"))],
            "z",
        ),
        "giant": network([node("Add", ["y", "g"], ["z"])], [giant], "z"),
        "negative": network([node("Add", ["y", "g"], ["z"])], [negative], "z"),
        "text": network([node("Cast", ["y"], ["z"], to=TensorProto.STRING)], out="z"),
        "dynamic": network(
            [node("NonZero", ["y"], ["q"]), node("Cast", ["q"], ["z"], to=1)], out="z", shape=["a", "b"]
        ),
        "five axes": network([node("Unsqueeze", ["y", "ax"], ["z"])], [constant([0], "ax")], "z"),
        "no output": network(out="nothing"),
        "half": half[: len(half) // 2],
        "empty": b"",
        "zeros": bytes(999),
        "xml": b'<?xml version="1.0"?><net name="x" version="11"></net>',
        "numbers": network([node("Log", ["y"], ["l"]), node("Log", ["l"], ["z"])], out="z"),
    }
    card = json.dumps(SPEC).encode()
    found = {name: (m if isinstance(m, bytes) else m.SerializeToString(), card) for name, m in made.items()}
    wrong: dict[str, dict[str, Any]] = {
        "size true": {"size": True},
        "size huge": {"size": 4096},
        "size 0": {"size": 0},
        "mean nan": {"mean": [float("nan")] * 3},
        "mean huge": {"mean": [10**400] * 3},
        "std inf": {"std": [1e999] * 3},
        "std 0": {"std": [0, 1, 1]},
        "crop nan": {"crop": float("nan")},
        "scale nan": {"scale": float("nan")},
        "output list": {"output": ["y"]},
        "output number": {"output": 3},
        "way": {"interpolation": []},
        "way 2": {"interpolation": {}},
        "layout": {"layout": ["nchw"]},
        "licence": {"licence": {"a": 1}},
        "escape": {"licence": "\x1b]0;x\x07"},
        "more": {"x": 1},
        "mean text": {"mean": "abc"},
    }
    found |= {
        f"card {name}": (network().SerializeToString(), json.dumps(SPEC | c).encode()) for name, c in wrong.items()
    }
    texts = (b"[" * 99999, b"[]", b"9" * 5000, b"\xff\xfe", b"", b"null")
    found |= {f"card text {i}": (network().SerializeToString(), text) for i, text in enumerate(texts)}
    assert all(onnx.load_model_from_string(found[name][0]).graph.node for name in ("loop", "circle", "up"))
    return found


def look_through(place: Path) -> None:
    """All that is asked of what somebody gives to sort, of its first thirty files at most."""
    from phyla.sources import open_source, scan  # late: a fuzzer watches what is imported

    source = open_source(place)
    for uri in scan(source, source.entries()[:30])["uri"]:
        uri.encode()
    if hasattr(source, "labels"):
        source.labels()
