"""The floors of the house: who may import whom, and what a quick command may load."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import phyla

SRC = Path(phyla.__file__).parent
FLOORS = {
    "cli": 5.5, "app": 5, "__main__": 6, "__init__": 4,
    "project": 4,
    "cluster": 3, "audit": 3, "label": 3, "train": 3, "report": 3, "explain": 3,
    "sources": 2, "backbones": 2, "reduce": 2, "store": 2,
    "neighbors": 1.5,  # reduce learns from neighbours
    "engine": 1.2, "plugins": 1,  # an engine is found by its name
    "types": 0, "_version": 0,
}  # fmt: skip
SAME_ROOM = {
    **dict.fromkeys(("_arguments", "_plain"), "cli"),
    "_opened": "project",
    **dict.fromkeys(("_looking", "_near", "_shown", "_found", "_searching", "_seeing", "_tree", "_taking"), "project"),
    "_people": "project",
    "_sound": "project",
    "_needs": "project",
    "_telling": "project",
    "_spreading": "project",
    **dict.fromkeys(("_assigning", "_guessing", "_predicting"), "project"),
    "_training": "project",
    "_lesson": "project",
    "_growing": "project",
    "_auditing": "project",
    "_checking": "project",
    **dict.fromkeys(("_structure", "_repairing", "_putting_back", "_remaking"), "project"),
    **dict.fromkeys(("_steps", "_tasks"), "project"),
    **dict.fromkeys(("_explaining", "_explained", "_contrasting"), "project"),
    **dict.fromkeys(("_export", "_packing"), "project"),
    "_progress": "project",
    "_demo": "project",
}  # files of one room that lie beside it
NO_ROOMS = {"utils", "util", "common", "helpers", "core", "internal", "base", "misc"}
HEAVY = {"torch", "openvino", "onnx", "onnxruntime", "ray", "umap", "timm", "open_clip", "huggingface_hub", "faiss"}
LATE = {
    "openvino",
    "torch",
    "faiss",
    "sklearn",
    "cv2",
    "scipy",
    "pyarrow",
    "PIL",
    "numpy",
    "starlette",
    "uvicorn",
}  # a command that only tells is quick


def files() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


def room(path: Path) -> str:
    first = path.relative_to(SRC).parts[0].removesuffix(".py")
    return SAME_ROOM.get(first, first)


def imported(tree: ast.AST) -> Iterator[str]:
    """Rooms of Phyla that a module imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "phyla":
                part = [*name.split("."), "__init__"][1]
                part = {"__version__": "_version", "Project": "project", "sort": "project"}.get(part, part)
                yield SAME_ROOM.get(part, part)


def crossings(tree: ast.AST, own: str) -> list[str]:
    """Rooms imported by `own` that do not lie under it."""
    return [r for r in imported(tree) if r != own and not FLOORS[r] < FLOORS[own]]


def loaded_at_once(body: list[ast.stmt]) -> Iterator[str]:
    """Packages that importing a module imports: not those in functions, nor under TYPE_CHECKING."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = [b for name in ("body", "orelse", "finalbody") for b in getattr(node, name, [])]
            yield from loaded_at_once(inside)


@pytest.mark.parametrize("path", files(), ids=lambda p: p.relative_to(SRC).as_posix())
def test_a_floor_uses_only_those_below(path: Path) -> None:
    own = room(path)
    assert own in FLOORS, f"{own} has no floor: give it one here and in the design"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if path == SRC / "__init__.py":  # the door: it may hand on the project
        assert set(imported(tree)) <= {"types", "_version", "project"}
        return
    wrong = crossings(tree, own)
    assert not wrong, f"{path.name}, on floor {FLOORS[own]}, imports {', '.join(wrong)}"


@pytest.mark.parametrize(
    "code, own, wrong",
    [
        ("from phyla.cluster import score", "reduce", ["cluster"]),
        ("def f():\n    from phyla import project", "store", ["project"]),
        ("import phyla.label", "cluster", ["label"]),
        ("from phyla import sort", "report", ["project"]),
        ("from phyla.types import Images\nfrom phyla import plugins", "sources", []),
    ],
)
def test_a_wrong_import_would_be_seen(code: str, own: str, wrong: list[str]) -> None:
    assert crossings(ast.parse(code), own) == wrong


def test_no_room_without_a_meaning() -> None:
    named = {part.removesuffix(".py").strip("_") for path in files() for part in path.relative_to(SRC).parts}
    assert not named & NO_ROOMS


@pytest.mark.parametrize("path", files(), ids=lambda p: p.relative_to(SRC).as_posix())
def test_heavy_packages_wait_until_needed(path: Path) -> None:
    at_once = set(loaded_at_once(ast.parse(path.read_text(encoding="utf-8")).body))
    assert not at_once & HEAVY


def test_a_heavy_import_would_be_seen() -> None:
    code = "try:\n    import torch\nexcept ImportError:\n    pass\ndef f():\n    import ray\nclass A:\n    import timm"
    assert set(loaded_at_once(ast.parse(code).body)) == {"torch", "timm"}


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["sort", "--help"], ["methods"]], ids=" ".join)
def test_quick_commands_load_little(argv: list[str]) -> None:
    code = f"""
import json, sys
from phyla.cli import main
try:
    main({argv!r})
except SystemExit:
    pass
print(json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "phyla" in told
    loaded = set(json.loads(told.splitlines()[-1]))
    assert not loaded & (LATE | HEAVY)


def test_every_file_stays_readable() -> None:
    long = {p.name: n for p in files() if (n := len(p.read_text(encoding="utf-8").splitlines())) > 700}
    assert not long, "split these"
