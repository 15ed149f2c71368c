"""A classifier looks at pictures: every file once, in order, and a killed run goes on where it was."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from _made import CLASSES, texture
from PIL import Image

import phyla
from phyla import _predicting, _tasks, backbones, sources
from phyla.backbones import _extract
from phyla.cli import main
from phyla.types import PhylaError

COLUMNS = ["uri", "class", "probability", "defer", "outlier", "fault"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 files: pictures, copies of them, one of a hostile name, and three that are broken."""
    folder = tmp_path_factory.mktemp("new") / "photos"
    folder.mkdir()
    for number in range(14):
        Image.fromarray(texture(30 + number, 40, number)).save(folder / f"{number:02}.png")
    for number in range(3):
        (folder / f"copy {number}.png").write_bytes((folder / f"{number:02}.png").read_bytes())
    (folder / '"=1+1",\nü\udcff.png').write_bytes((folder / "05.png").read_bytes())
    (folder / "broken.png").write_bytes((folder / "05.png").read_bytes()[:300])
    (folder / "words.txt").write_text("no picture")
    (folder / "nothing.jpg").write_bytes(b"")
    return folder


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_extract, "SHARD", 8)


def test_every_file_has_its_row(model: Path, photos: Path, card: backbones.Card, run: Callable[..., Any]) -> None:
    told = phyla.predict(model, photos, threads=1)
    rows = told.pop("rows")
    assert told == {
        "to": None, "images": 21, "unreadable": 3, "deferred": int(rows["defer"][rows["fault"] == ""].sum()),
        "classes": dict(Counter(c for c in rows["class"] if c).most_common()),
    }  # fmt: skip
    assert list(rows) == COLUMNS
    assert rows["uri"].tolist() == [e.uri for e in sources.open_source(photos).entries()]
    names = [Path(uri).name for uri in rows["uri"]]
    for row, name in enumerate(names):
        values = [rows[column][row] for column in COLUMNS[1:]]
        if name in ("broken.png", "words.txt", "nothing.jpg"):
            assert values[0] == "" and np.isnan(values[1]) and values[2] and np.isnan(values[3]) and values[4]
        elif name[:2].isdigit():
            want = run(model, backbones.fit(np.asarray(Image.open(photos / name)), card)[None])
            assert values[0] == CLASSES[want["class"][0]] and values[2] == want["defer"][0] and values[4] == ""
            assert values[1] == pytest.approx(want["probability"].max(), abs=2e-3)
    at = {name: row for row, name in enumerate(names)}
    for number in range(3):
        one, other = at[f"{number:02}.png"], at[f"copy {number}.png"]
        assert all(rows[c][one] == rows[c][other] for c in COLUMNS[1:])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_table(suffix: str, model: Path, photos: Path, tmp_path: Path, small_shards: None) -> None:
    out = tmp_path / "deep" / f"out{suffix}"
    told = phyla.predict(model, photos, out, threads=2)
    assert told["to"] == str(out) and "rows" not in told
    assert os.listdir(out.parent) == [out.name], "nothing is left beside it"
    rows = phyla.predict(model, photos, threads=1)["rows"]
    if suffix == ".csv":
        with out.open(newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        assert list(table[0]) == COLUMNS
        for column in ("uri", "class", "fault"):
            assert [row[column] for row in table] == rows[column].tolist()
        assert [row["defer"] for row in table] == [str(int(v)) for v in rows["defer"]]
        want = ["" if np.isnan(v) else round(float(v), 4) for v in rows["probability"]]
        assert [row["probability"] and float(row["probability"]) for row in table] == want
    else:
        table = pq.read_table(out)
        assert table.column_names == COLUMNS and table["outlier"].null_count == 3
        for column in ("uri", "class", "defer", "fault"):
            assert table[column].to_pylist() == rows[column].tolist()
        assert (table["outlier"].to_numpy()[rows["fault"] == ""] == rows["outlier"][rows["fault"] == ""]).all()
    once = out.read_bytes()
    with pytest.raises(PhylaError, match="is there already"):
        phyla.predict(model, photos, out)
    phyla.predict(model, photos, out, threads=1, force=True)
    assert out.read_bytes() == once, "one thread and two"


CHILD = """
import os, signal, sys
from phyla import _predicting
from phyla.backbones import _extract
from phyla.store import Store
_extract.SHARD = 8
write_table = Store.write_table
def written(self, name, columns):
    if "00001" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    write_table(self, name, columns)
Store.write_table = written
_predicting.predict(*sys.argv[1:], threads=1)
"""


def test_a_killed_run_goes_on(
    model: Path, photos: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    phyla.predict(model, photos, whole, threads=1)
    path = os.pathsep.join(p for p in sys.path if p)
    command = [sys.executable, "-c", CHILD, str(model), str(photos), str(out)]
    assert subprocess.run(command, env=os.environ | {"PYTHONPATH": path}).returncode == -signal.SIGKILL
    assert not out.exists()
    assert len(list((tmp_path / ".out.csv.phyla/predicted").rglob("*.parquet"))) == 1
    looked: list[str] = []
    opened = _tasks.open_picture
    monkeypatch.setattr(_tasks, "open_picture", lambda s, uri, *how: (looked.append(uri), opened(s, uri, *how))[1])
    phyla.predict(model, photos, out, threads=1)
    assert out.read_bytes() == whole.read_bytes()
    assert len(looked) == len(set(looked)) == 21 - 8
    assert sorted(os.listdir(tmp_path)) == ["out.csv", "whole.csv"]


def test_processes_of_ray_say_the_same(
    model: Path, photos: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'phyla[ray]'")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    told = [phyla.predict(model, photos, tmp_path / f"{way}.csv", engine=way, threads=2) for way in ("local", "ray")]
    ray.shutdown()
    assert (tmp_path / "local.csv").read_bytes() == (tmp_path / "ray.csv").read_bytes()
    assert told[0] | {"to": None} == told[1] | {"to": None} and told[0]["images"] == 21
    with pytest.raises(PhylaError, match="There is no engine 'rays'"):
        phyla.predict(model, photos, tmp_path / "no.csv", engine="rays")


def test_another_listing_begins_anew(
    model: Path, photos: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out.csv"
    folder.mkdir()
    for file in photos.glob("0*.png"):
        (folder / file.name).write_bytes(file.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(_predicting, "_join", lambda *args: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            phyla.predict(model, folder, out, threads=1)
    Image.fromarray(texture(50, 60, 99)).save(folder / "00.png")
    phyla.predict(model, folder, out, threads=1)
    phyla.predict(model, folder, tmp_path / "anew.csv", threads=1)
    assert out.read_bytes() == (tmp_path / "anew.csv").read_bytes()


def test_each_file_is_read_once(model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from phyla.sources.folder import Folder

    read, seen = Folder.read, Counter[str]()
    monkeypatch.setattr(Folder, "read", lambda self, uri: (seen.update([uri]), read(self, uri))[1])
    phyla.predict(model, photos, tmp_path / "out.csv", threads=2)
    assert len(seen) == 21 and set(seen.values()) == {1}


def test_only_what_befalls_the_table_is_told_of_it(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any) -> None:
        raise PhylaError("Ray can't be reached.", "Check the address.") from ConnectionError("timeout")

    def unwritable(*_: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(_tasks, "open_engine", unreachable)
        with pytest.raises(PhylaError, match="Ray can't be reached"):
            phyla.predict(model, photos, tmp_path / "out.csv")
    monkeypatch.setattr(_predicting, "_join", unwritable)
    with pytest.raises(PhylaError, match=r"/out\.csv can't be written to.\nGive another name"):
        phyla.predict(model, photos, tmp_path / "out.csv")


def test_two_at_once_are_told(model: Path, photos: Path, tmp_path: Path) -> None:
    with _predicting._aside(tmp_path / "out.csv"), pytest.raises(PhylaError, match=r"writing .*out\.csv"):
        phyla.predict(model, photos, tmp_path / "out.csv")


def test_the_command(model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.parquet"
    assert main(["predict", str(model), str(photos), "-o", str(out), "-q", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == 21 and told["unreadable"] == 3 and sum(told["classes"].values()) == 18
    assert main(["predict", str(model), str(photos), "-o", str(out), "-q", "--force"]) == 0
    assert "21 files: 3 unreadable" in (said := capsys.readouterr().out) and f"Written to {out}." in said
    truth, table = tmp_path / "truth.parquet", pq.read_table(out)
    pq.write_table(table.select(["uri", "class"]).rename_columns(["uri", "label"]), truth)
    assert main(["score", str(out), str(truth), "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["scored"] == 18 and scored["accuracy_named"] == scored["accuracy_named_sorted"] == 1
    assert main(["predict", str(model), str(photos), "-o", str(out)]) == 2
    assert main(["predict", str(tmp_path / "no.onnx"), str(photos), "-o", str(tmp_path / "x.csv")]) == 2
    assert "no.onnx can't be read" in capsys.readouterr().err
    assert main(["predict", str(photos / "00.png"), str(photos), "-o", str(tmp_path / "x.csv")]) == 2
    assert "00.png is no classifier of Phyla" in capsys.readouterr().err
