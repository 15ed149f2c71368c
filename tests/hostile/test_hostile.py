"""More than 200 hostile files through the commands: each is read or refused in a sentence, and nothing else happens."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _zoo import archives, lists, networks, picture, pictures, tables, zipped

from phyla.project import Project

Run = Callable[..., tuple[int, str]]
QUICK = ("--backbone", "fake", "-k", "3", "--threads", "1", "-q", "--no-report")


def test_there_are_200() -> None:
    counts = {make.__name__: len(make()) for make in (pictures, archives, tables, lists, networks)}
    print(f"{sum(counts.values())} hostile files: {counts}")
    assert sum(counts.values()) >= 200


@pytest.fixture
def decided(project: Project) -> Callable[[], None]:
    """Three things were said of `project`; the check that they still are."""
    project.name(0, "cat")
    project.name(1, "dog")
    project.confirm([str(project.images.uris[0])], "cat")

    def check() -> None:
        assert [edit.op for edit in Project(project.folder).edits[:3]] == ["name", "name", "confirm"]
        assert Project(project.folder).said.person.max() >= 0

    return check


def test_pictures(run: Run, tmp_path: Path, make_photos: Callable[..., Path]) -> None:
    folder = make_photos(tmp_path / "photos", 6)
    for name, data in pictures().items():
        (folder / name.replace("/", "_")).write_bytes(data)
    assert run("sort", folder, "-o", "p", *QUICK)[0] == 0
    project = Project("p")
    told = project.show()
    assert told["images"] == len(pictures()) + 18 and told["unreadable"] > 100
    assert all(0 < len(f["reason"]) < 80 for f in told["unreadable_files"])
    honest = [
        uri
        for uri, fault in zip(project._uris, project._table["fault"], strict=True)
        if Path(uri).name[:3] in ("red", "gre", "blu") and fault is None
    ]
    assert len(honest) == 18
    for argv in (("audit", "p", "-q", "--threads", "1"), ("export", "p", "out.csv"), ("export", "p", "out", "--copy")):
        assert run(*argv)[0] == 0
    assert run("sort", "-o", "p", "-q", "--no-report")[0] == 0  # once more: nothing is left to do


def test_archives(run: Run, tmp_path: Path) -> None:
    read = 0
    for number, (name, data) in enumerate(archives().items()):
        (tmp_path / name).write_bytes(data)
        status, error = run("sort", tmp_path / name, "-o", f"p{number}", *QUICK)
        read += status == 0
        assert status == 0 or error.startswith("phyla: ")
        if status == 0:
            status, error = run("export", f"p{number}", f"out{number}", "--copy")
            assert status == 0, (name, error)
            assert all(f.parent.parent.name == f"out{number}" for f in Path(f"out{number}").rglob("*") if f.is_file())
    assert 8 < read < len(archives())


def test_tables(run: Run, tmp_path: Path) -> None:
    for number, (name, data) in enumerate(tables().items()):
        (tmp_path / name).write_bytes(data)
        if name == "bomb.parquet":  # 400 hashes of 50 MB: some seconds
            continue
        status, error = run("sort", tmp_path / name, "-o", f"p{number}", *QUICK)
        assert status == 0 or error.startswith("phyla: ")


def test_a_table_that_repeats_a_picture_holds_it_once(tmp_path: Path) -> None:
    import pyarrow as pa

    from phyla.sources import open_source

    path = tmp_path / "bomb.parquet"
    path.write_bytes(tables()["bomb.parquet"])
    source = open_source(path)
    before = pa.total_allocated_bytes()
    assert len(source.read(source.entries()[399].uri)) == 50 << 20
    taken = pa.total_allocated_bytes() - before
    print(f"{path.stat().st_size:,} bytes that say they are 20 GB take {taken / 1e6:.0f} MB")
    assert taken < 200 << 20


def test_lists(run: Run, project: Project, decided: Callable[[], None], tmp_path: Path) -> None:
    answered = 0
    shutil.move(project.folder, tmp_path / "here" / "p")
    for name, data in lists().items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).with_name(f"source of {name}").write_bytes(data)
        answered += run("label", "p", tmp_path / name)[0] == 0
        run("sort", tmp_path / f"source of {name}", "-o", f"p {name}", *QUICK)
    assert 3 < answered < len(lists())
    assert run("show", "p")[0] == run("export", "p", "out", "--copy")[0] == run("export", "p", "out.csv")[0] == 0
    project.__init__("p")  # type: ignore[misc]
    decided()


@pytest.mark.parametrize("name", list(networks()))
def test_networks(run: Run, name: str, photos: Path, tmp_path: Path) -> None:
    network, card = networks()[name]
    (tmp_path / "secret.bin").write_bytes(bytes(16 * 27 * 4))
    there = tmp_path / "net"
    there.mkdir()
    (there / "beside.bin").write_bytes(bytes(16 * 27 * 4))
    (there / "n.onnx").write_bytes(network)
    (there / "n.json").write_bytes(card)
    status, error = run("sort", photos, "-o", "p", "--backbone", f"onnx:{there}/n.onnx", "-k", "3", "-q", "--no-report")
    assert status == 2 and error.startswith("phyla: ")
    assert not {"No such file", "Traceback"} & set(error.split())
    assert sorted(f.name for f in there.iterdir()) == ["beside.bin", "n.json", "n.onnx"]


@pytest.mark.parametrize("key", ["groups", "images", "reduced", "features", "map", "audit", "spread", "format"])
def test_a_project_that_leads_elsewhere(run: Run, project: Project, key: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "done").write_bytes(b"")
    (victim / "X.npy").write_bytes(b"precious")
    place = shutil.move(project.folder, tmp_path / "here" / "p")
    told = json.loads((place / "phyla.json").read_text())
    for value in ("../../victim", str(victim), "groups/../../../victim", "a\0b"):
        changed = {key: [value] if isinstance(told.get(key), list) else value}
        (place / "phyla.json").write_text(json.dumps(told | changed))
        for argv in (
            ("show", "p"),
            ("name", "p", "0", "x"),
            ("sort", "-o", "p", "-q"),
            ("export", "p", "out.csv", "--force"),
        ):
            run(*argv)
    assert (
        sorted(f.name for f in victim.iterdir()) == ["X.npy", "done"] and (victim / "X.npy").read_bytes() == b"precious"
    )


@pytest.mark.parametrize("value", [3, -1.5, True, ["x", 3], {"a": 1}, "x" * 5000], ids=repr)
def test_a_project_of_other_types(run: Run, project: Project, value: Any, tmp_path: Path) -> None:
    place = shutil.move(project.folder, tmp_path / "here" / "p")
    told = json.loads((place / "phyla.json").read_text())
    for key in (
        "source",
        "images",
        "groups",
        "features",
        "reduced",
        "backbones",
        "agreement",
        "map",
        "audit",
        "spread",
    ):
        (place / "phyla.json").write_text(json.dumps(told | {key: value}))
        for argv in (("show", "p"), ("undo", "p")):
            run(*argv)


def test_a_recipe_that_leads_elsewhere(run: Run, project: Project, tmp_path: Path) -> None:
    place = shutil.move(project.folder, tmp_path / "here" / "p")
    for recipe in sorted(place.glob("[!s]*/*/recipe.json")):
        whole = recipe.read_text()
        for change in (
            {"room": "../../victim"},
            {"inputs": ["../../victim"]},
            {"method": 3},
            {"params": []},
            {"x": 1},
            {"seed": "a"},
        ):
            recipe.write_text(json.dumps(json.loads(whole) | change))
            for argv in (
                ("show", "p"),
                ("sort", "-o", "p", "-q", "--no-report"),
                ("spread", "p", "-q", "--threads", "1"),
            ):
                run(*argv)
        recipe.write_text(whole)
    assert not (tmp_path / "victim").exists() and run("show", "p")[0] == 0


@pytest.mark.parametrize("part", ["tmp", "images", "groups", "edits.jsonl", "lock", "report.html"])
def test_a_project_with_links_is_not_opened(run: Run, project: Project, part: str, tmp_path: Path) -> None:
    place = shutil.move(project.folder, tmp_path / "here" / "p")
    (tmp_path / "victim").mkdir()
    path = place / part
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / "victim")
    status, error = run("name", "p", "0", "x")
    assert status == 2 and "leads out of the project" in error
    assert not list((tmp_path / "victim").iterdir())


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{",
        "3",
        "[" * 99999,
        '{"seq": 0}',
        '{"seq": "a", "op": "name"}',
        '{"seq": 1, "op": [], "ids": 3}',
        '{"seq": 1, "op": "name", "ids": [1], "classes": ["x"]}',
        '{"seq": 1, "op": "name", "evil": 1}',
        '{"seq": 1, "op": "undo", "of": "x"}',
        '{"seq": 1, "op": "name", "classes": null}',
    ],
)
def test_a_log_with_a_line_that_is_none(run: Run, project: Project, decided: Any, line: str, tmp_path: Path) -> None:
    place = shutil.move(project.folder, tmp_path / "here" / "p")
    log = place / "edits.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + line.encode() + b"\n")
    for argv in (("show", "p"), ("name", "p", "0", "x"), ("undo", "p")):
        status, error = run(*argv)
        assert status == 2 and "edits.jsonl" in error
    assert log.read_bytes() == whole + line.encode() + b"\n"  # nothing said is lost, and nothing added to it


def test_arrays_of_a_stranger(run: Run, project: Project, tmp_path: Path) -> None:
    import io

    import numpy as np

    place = shutil.move(project.folder, tmp_path / "here" / "p")
    several = io.BytesIO()
    np.savez(several, a=np.zeros(3))
    objects = io.BytesIO()
    np.save(objects, np.array([{"a": 1}], object), allow_pickle=True)

    def header(text: str) -> bytes:
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()

    giant = header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1000), }\n")
    deep = header("(" * 3000 + "\n")
    for path in [*place.glob("groups/*/labels_.npy"), *place.glob("groups/*/strength_.npy")]:
        whole = path.read_bytes()
        for data in (several.getvalue(), objects.getvalue(), giant, deep, b"", b"\x93NUMPY", whole[:-40]):
            path.write_bytes(data)
            status, error = run("show", "p")
            assert status == 2 and path.name in error
        for array in (np.zeros((0,)), np.zeros(3, "U5"), np.zeros((200, 2))):
            np.save(path, array)
            status, error = run("show", "p")
            assert status == 2 and path.name in error
        path.write_bytes(whole)
    assert run("show", "p")[0] == 0


CASCADES: tuple[Any, ...] = (
    {"files": ["../n.onnx", "n.onnx"]},
    {"files": ["/etc/passwd", "n.onnx"]},
    {"files": ["..", "n.onnx"]},
    {"files": "ab"},
    {"files": ["n.onnx"] * 1000, "windows": [0.1] * 999},
    {"files": ["a\0", "b"]},
    {"files": ["\ud800", "b"]},
    {"files": [["a"], 1]},
    {"files": ["x" * 5000, "n.onnx"]},
    {"windows": [10**400]},
    {"windows": [None]},
    {"windows": {}},
    {"radius": [[1, 2], [3]]},
    {"radius": 10**400},
    {"radius": [None] * 3},
    {"phyla": "1"},
    {"phyla": 2},
    [],
    3,
    None,
    "x",
    "[" * 99999,
)


def test_cascades(run: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "n.onnx").write_bytes(networks()["loop"][0])
    fine = {"phyla": 1, "files": ["n.onnx", "n.onnx"], "windows": [0.1], "radius": [0.1] * 3, "told": {}}
    for told in CASCADES:
        text = told if isinstance(told, str) else json.dumps(fine | told if isinstance(told, dict) else told)
        (tmp_path / "net" / "cascade.json").write_text(text)
        status, error = run("predict", tmp_path / "net", photos, "-o", "out.csv")
        assert status == 2 and error.startswith("phyla: ")
    assert not os.listdir()


@pytest.mark.parametrize("name", ["loop", "opset", "circle"])
def test_a_classifier_that_never_ends(run: Run, photos: Path, name: str, tmp_path: Path) -> None:
    (tmp_path / "n.onnx").write_bytes(networks()[name][0])
    status, error = run("predict", tmp_path / "n.onnx", photos, "-o", "out.csv")
    assert status == 2 and "is no classifier of Phyla" in error


def test_names_of_classes_stay_in_the_folder(run: Run, project: Project, tmp_path: Path) -> None:
    place = shutil.move(project.folder, tmp_path / "here" / "p")
    names = (
        "../up",
        "/etc/up",
        "..",
        ".",
        "a/../../b",
        "C:\\up",
        "=1+1",
        "CON",
        "x" * 400,
        "ü" * 300,
        "\u202egnp",
        "a\nb",
        " ",
        "",
    )
    answers = tmp_path / "answers.csv"
    uris = Project(place).images.uris.tolist()
    with answers.open("w", newline="") as file:
        csv.writer(file).writerows([("uri", "label"), *zip(uris, names, strict=False)])
    assert run("label", "p", answers)[0] == 0
    assert run("name", "p", "0", "caf\udce9")[0] == 2
    assert run("export", "p", "out", "--copy")[0] == 0
    places = {f.parent for f in Path("out").rglob("*") if f.is_file()}
    assert all(f.parent == Path("out") for f in places) and len(places) >= 11


def test_the_terminal_is_given_no_orders(run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.zip").write_bytes(zipped(("a\x1b]0;title\x07.png", "b\x9b31m.png", "c.png")))
    (tmp_path / "one.png").write_bytes(picture())
    assert run("sort", tmp_path / "p.zip", "-o", "p", *QUICK)[0] == 0
    assert run("search", "p", tmp_path / "one.png")[0] == 0  # names every image; `run` looks at what is printed
