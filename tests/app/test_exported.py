"""The page as a folder."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tab import Page

from phyla.app import export_page
from phyla.types import PhylaError


def read(folder: Path) -> dict[str, Any]:
    """What each path is answered, as a browser reads it."""
    paths = json.loads((folder / "data/paths.js").read_text().partition(" = ")[2])
    answers = {}
    for path, number in paths.items():
        begin, _, told = (folder / f"data/{number}.js").read_text().partition(" = ")
        assert begin == f"(window.PHYLA_ANSWERS ??= {{}})[{number}]"
        answers[path] = json.loads(told)
    return answers


def test_it_answers_as_the_server_does(page: Page, tmp_path: Path) -> None:
    page.say("name", group=0, name="grün & </script>")
    page.say("move", rows=[1, 2], name="blue")
    assert export_page(page.project, tmp_path / "page") == 120
    told = read(tmp_path / "page")
    summary = told["summary"]
    assert summary["read_only"] and not summary["can_undo"] and summary["images"] == 120
    for by in ("group", "class"):
        assert told[f"cards?by={by}"] == page.get("cards", by=by)
    rows = np.frombuffer(base64.b64decode(told["rows?of=group%3A1&order=typical"]), "<i4")
    assert rows.tolist() == page.array("rows", of="group:1", order="typical").tolist()
    assert "rows?of=class%3Agr%C3%BCn%20%26%20%3C%2Fscript%3E&order=time" in told
    assert told["images/0"][5] == page.get("image/5") and len(told["images/0"]) == 120
    assert len(base64.b64decode(told["array/points"])) == 120 * 8
    assert told["history?n=200"] == page.get("history")
    tree = told["tree?key="]
    assert tree["size"] == 120 and all(child["children"] or child["rows"] for child in tree["children"])


def test_it_is_whole(page: Page, tmp_path: Path) -> None:
    export_page(page.project, tmp_path / "page")
    index = (tmp_path / "page/index.html").read_text()
    assert index.index("data/paths.js") < index.index("page.js")
    assert (tmp_path / "page/page.js").exists() and not (tmp_path / "page/secret.key").exists()
    assert len(list((tmp_path / "page/thumbs").glob("*.webp"))) == 120
    with pytest.raises(PhylaError, match="not empty"):
        export_page(page.project, tmp_path / "page")
    export_page(page.project, tmp_path / "page", force=True)


def test_without_a_built_page(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHYLA_PAGE", str(tmp_path / "nothing"))
    with pytest.raises(PhylaError, match="not built"):
        export_page(page.project, tmp_path / "page")
