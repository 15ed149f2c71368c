"""Coverage-guided fuzzing of what Phyla itself parses, by Atheris (libFuzzer for Python).

    pip install atheris==3.0.0                        (no dependency of the tests: it is too heavy)
    python benchmarks/fuzz_guided.py [SECONDS [TARGET …]]        (60 a target by default)

14 targets, 45 s each: 4.7 million executions, no finding; 1,194 edges of Phyla's code, where 2,000 mutations a
target without guidance reach 1,157 (docs/benchmarks.md). Two cores of a shared, busy machine (AMD EPYC), Python 3.11.7,
Atheris 3.0.0; 2026-11-22.

Each target begins with a few small valid files, made on the fly. What comes of any bytes is a value or a `PhylaError`.
Told of each are the executions, the edges of Phyla's own code that were reached, and for comparison those that
2,000 mutations of the seeds reach without looking at coverage. A finding is kept in the folder that is printed, and
ends the target.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
MOST = 2000  # mutations without guidance that are compared: more are not kept apart by their coverage any more


def targets(folder: Path) -> dict[str, tuple[dict[str, bytes], Callable[[bytes], Any]]]:
    """Name → seeds, and what is given each input. Imported late: what is imported here is watched."""
    sys.path.insert(0, str(ROOT / "tests/hostile"))
    import numpy as np
    import pyarrow as pa
    from _zoo import look_through, networks, parquet, picture, tarred, whole_pictures, zipped

    from phyla.app import _asked, _guard
    from phyla.backbones.onnx import external_files, read_spec
    from phyla.sources import inspect
    from phyla.store import Store, read_line
    from phyla.store._forms import not_json, not_recipe
    from phyla.store._lines import written
    from phyla.train import read
    from phyla.types import Recipe

    def source(name: str) -> Callable[[bytes], Any]:
        def look(data: bytes) -> None:
            (folder / name).write_bytes(data)
            look_through(folder / name)

        return look

    edit = {"seq": 0, "op": "name", "ids": ["a" * 32], "classes": ["cat"], "by": "me", "at": "2026-11-22T05:00:00"}
    meta: dict[str, Any] = {"format": 2, "source": "/p", "images": "images/a.parquet", "groups": "groups/v-1"}
    meta |= {"features": ["features/f"], "reduced": ["reduced/p"], "backbones": ["lite0"], "agreement": 0.5}
    recipe = json.loads(Recipe("groups", "vote", {"n_clusters": 3}, ("reduced/p",)).to_json())
    names = ("phyla.json", "audit/a.json", "spread/a/told.json", "spread/a/classes.json", "groups/a/grown.json")

    def lines(data: bytes) -> None:
        from phyla._opened import Opened

        told = [value for value in map(read_line, data.split(b"\n")) if value is not None]
        opened = Opened.__new__(Opened)
        opened.store = Store(folder)
        for value in told:
            opened._edit(value)
        # The same words under a checksum that fits, which no mutation finds.
        for line in data.split(b"\n"):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                value.pop("sum", None)
                opened._edit(value)

    def jsons(data: bytes) -> None:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return
        for name in names:
            not_json(name, value, data)
        not_recipe(value)

    store = Store(folder)

    def table(data: bytes) -> None:
        (folder / "images").mkdir(exist_ok=True)
        (folder / "images/a.parquet").write_bytes(data)
        store.read_table("images/a.parquet", ("uri", "row", "fault"))

    def array(data: bytes) -> None:
        (folder / "groups").mkdir(exist_ok=True)
        (folder / "groups/labels_.npy").write_bytes(data)
        store.array("groups/labels_.npy")

    def npy(shape: tuple[int, ...], dtype: str) -> bytes:
        import io

        buffer = io.BytesIO()
        np.save(buffer, np.zeros(shape, dtype))
        return buffer.getvalue()

    network, card = networks()["loop"]

    def cards(data: bytes) -> None:
        (folder / "n.onnx").write_bytes(network)
        (folder / "n.json").write_bytes(data)
        read_spec(folder / "n.onnx")

    def onnx(data: bytes) -> None:
        external_files(folder / "n.onnx", data)
        (folder / "m.onnx").write_bytes(data)
        read(folder / "m.onnx")

    def columns(data: bytes) -> None:
        from phyla.sources._columns import _label_column, _picture_column

        fields = [("image", pa.struct([("bytes", pa.binary())])), ("label", pa.int64()), ("fine", pa.int64())]
        schema = pa.schema(fields, metadata={b"huggingface": data, b"classes": data})
        _picture_column(schema)
        for name in _label_column(schema)[1]:
            name.encode("utf-8", "replace")

    def asked(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        host, _, rest = text.partition("\n")
        query, _, cookie = rest.partition("\n")
        guard = _guard.Guard(None, token="t", hosts=["127.0.0.1:1"])  # type: ignore[arg-type]
        headers = [(b"host", b"127.0.0.1:1"), (b"cookie", cookie.encode()), (b"origin", host.encode())]
        guard._refused({"type": "http", "method": "GET", "path": "/", "scheme": "http", "headers": headers,
                        "query_string": query.encode()})  # fmt: skip
        for check in (lambda v: _asked.number(v, "n"), lambda v: _asked.rows(v, 9), _asked.name):
            for value in (text, *_parsed(text)):
                with suppress(_asked.Refused):
                    check(value)

    rows = pa.table(
        {"uri": ["a", "b"], "row": pa.array([0, 1], pa.int32()), "fault": pa.array([None, None], pa.string())}
    )
    pictures = pa.table({"label": [0, 1], "image": [{"bytes": picture(i), "path": "x"} for i in range(2)]})
    two = ("a.png", "b/ü.png")
    hub = {
        "info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}}
    }
    listed = b'uri,label\na.png,cat\n"b, c.png",dog\n'
    found: dict[str, tuple[dict[str, bytes], Callable[[bytes], Any]]] = {
        "log": ({"a": written(edit) + written(edit | {"seq": 1, "op": "undo", "of": 0})}, lines),
        "json": ({"a": json.dumps(meta).encode(), "b": json.dumps(recipe).encode(), "c": b'["cat", "dog"]'}, jsons),
        "table": ({"a": parquet(rows)}, table),
        "array": ({"a": npy((3,), "<i4"), "b": npy((0, 2), "<f2")}, array),
        "csv": ({"a": listed}, source("l.csv")),
        "jsonl": ({"a": b'{"uri": "a.png", "label": "x"}\n'}, source("l.jsonl")),
        "zip": ({"a": zipped(two), "b": zipped(two, method=0)}, source("p.zip")),
        "tar": ({"a": tarred(two), "b": tarred(two, format=1)}, source("p.tar")),
        "parquet": ({"a": parquet(pictures)}, source("t.parquet")),
        "hub": ({"a": json.dumps(hub).encode(), "b": b"cat, dog"}, columns),
        "card": ({"a": card, "b": b'{"size": 32, "mean": [0, 0, 0], "std": [1, 1, 1], "crop": 0.9}'}, cards),
        "onnx": ({"a": network}, onnx),
        "picture": ({k: v for k, v in whole_pictures().items() if len(v) < 20_000}, inspect),
        "address": ({"a": b"http://127.0.0.1:1\ntoken=t\nphyla_1=t", "b": b"[1, 2]", "c": b"7"}, asked),
    }  # fmt: skip
    return found


def _parsed(text: str) -> list[Any]:
    try:
        return [json.loads(text)]
    except (ValueError, RecursionError):
        return []


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to five changes, as tests/hostile makes them."""
    for _ in range(rng.randint(1, 5)):
        last = max(len(data) - 1, 0)
        place = rng.randint(0, rng.choice([min(last, 200), last]))
        match rng.choice(["set", "set", "set", "cut", "add", "end"]):
            case "set":
                data = data[:place] + bytes([rng.choice([0, 1, 127, 128, 255, 66])]) + data[place + 1 :]
            case "cut":
                data = data[:place] + data[place + rng.randint(1, 60) :]
            case "add":
                data = data[:place] + rng.randbytes(rng.randint(0, 40)) + data[place:]
            case _:
                data = data[:place]
    return data


def fuzz(name: str, corpus: str, options: list[str]) -> None:
    """In a process of its own: libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["phyla"]), tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        _, target = targets(Path(folder))[name]
        from phyla.types import PhylaError

        def one(data: bytes) -> None:
            with suppress(PhylaError, OSError):
                target(data)

        atheris.Setup([sys.argv[0], *options, corpus], one)
        atheris.Fuzz()


def main() -> int:
    if sys.argv[1:2] == ["--in-process"]:
        fuzz(sys.argv[2], sys.argv[3], sys.argv[4:])
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory(dir=MEMORY) as nowhere:
        known = targets(Path(nowhere))
    kept = Path(tempfile.mkdtemp(prefix="phyla-fuzz-"))
    print(f"{'':10}{'executions':>12}{'edges: seeds':>14}{'mutated':>9}{'guided':>8}   findings ({kept})")
    failed = 0
    for name in sys.argv[2:] or known:
        places = {kind: kept / name / kind for kind in ("seeds", "blind", "guided")}
        for place in places.values():
            place.mkdir(parents=True)
        rng = random.Random(0)
        for key, data in known[name][0].items():
            for kind in places:
                (places[kind] / key).write_bytes(data)
        for i in range(MOST):
            (places["blind"] / str(i)).write_bytes(mutated(rng.choice([*known[name][0].values()]), rng))
        common = ["-close_fd_mask=1", "-rss_limit_mb=6000", "-timeout=20", f"-artifact_prefix={kept / name}/"]
        told = []
        for kind, more in (("seeds", ["-runs=0"]), ("blind", ["-runs=0"]), ("guided", [f"-max_total_time={seconds}"])):
            command = [sys.executable, __file__, "--in-process", name, str(places[kind]), *common, *more]
            ran = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            (kept / name / f"{kind}.txt").write_text(ran.stderr + ran.stdout)
            edges = [int(n) for n in re.findall(r"cov: (\d+)", ran.stderr)]
            told.append(max(edges, default=0))
        runs = re.findall(r"Done (\d+) runs", ran.stderr) or re.findall(r"#(\d+)\t", ran.stderr) or ["0"]
        findings = sorted(f.name for f in (kept / name).iterdir() if f.name.startswith(("crash", "timeout", "oom")))
        failed += len(findings)
        print(
            f"{name:10}{int(runs[-1]):12,}{told[0]:14,}{told[1]:9,}{told[2]:8,}   {', '.join(findings) or 'none'}",
            flush=True,
        )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
