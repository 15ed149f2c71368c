"""All checks of a project at once, and what becomes of what they find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from phyla.cli import main
from phyla.project import Project
from phyla.types import PhylaError


@pytest.fixture
def faulty(make_photos: Any, quick: Any, tmp_path: Path) -> Project:
    """120 pictures of three colours, one of them black and one saved again at a lower quality."""
    folder = make_photos(tmp_path / "photos")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "black.png")
    rng = np.random.default_rng(0)
    busy = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)
    busy.save(folder / "busy.png")
    busy.save(folder / "busy again.jpg", quality=50)
    return quick(folder)


def of(found: list[dict[str, Any]], check: str) -> list[set[str]]:
    return [{Path(uri).name for uri in f["uris"]} for f in found if f["check"] == check]


def test_planted_faults_are_found(faulty: Project) -> None:
    told = faulty.audit(threads=1)
    assert {"black.png"} in of(told["findings"], "blank")
    assert {"busy.png", "busy again.jpg"} in of(told["findings"], "duplicates")
    severities = [f["severity"] for f in told["findings"]]
    assert severities == sorted(severities, reverse=True) and all(0.5 <= s <= 1 for s in severities)
    assert all(f["why"].endswith(".") and f["uri"] == f["uris"][0] for f in told["findings"])
    assert faulty.show()["findings"] == len(told["findings"])


def test_a_check_that_lacks_something_says_so(faulty: Project) -> None:
    skipped = faulty.audit(threads=1)["skipped"]
    assert "no image has a label" in skipped["mislabelled"]
    assert not set(skipped) & {"dark", "duplicates", "confounders"}


def test_given_labels_are_checked(faulty: Project, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    colour = {str(uri): Path(uri).name.partition("_")[0] for uri in faulty.images.uris}
    wrong = next(uri for uri in colour if uri.endswith("red_007.png"))
    lines = [f'"{u}",{"blue" if u == wrong else c}' for u, c in colour.items() if c in ("red", "green", "blue")]
    path.write_text("uri,label\n" + "\n".join(lines))
    told = faulty.audit(path, checks=["mislabelled"], threads=1)
    assert of(told["findings"], "mislabelled")[0] == {"red_007.png"} and not told["skipped"]
    assert "blue" in told["findings"][0]["why"] and "red" in told["findings"][0]["why"]
    assert not faulty.edits  # to check labels is not to believe them


def test_pictures_are_measured_once(faulty: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    first = faulty.audit(threads=1)
    monkeypatch.setattr("phyla._tasks.measure", lambda picture: pytest.fail("measured again"))
    assert faulty.audit(threads=1) == first


def test_the_report_shows_them_until_the_next(faulty: Project) -> None:
    faulty.sort(backbone=["fake"], groups=3, threads=1)
    faulty.audit(checks=["blank"], threads=1)
    page = faulty.report.read_text(encoding="utf-8")
    assert "What to check" in page and "black.png" in page
    faulty.audit(checks=["odd_size"], threads=1)
    assert "<h3>Blank</h3>" not in faulty.report.read_text(encoding="utf-8")


def test_what_was_dealt_with_is_not_told_again(faulty: Project) -> None:
    found = faulty.audit(threads=1)["findings"]
    faulty.remove(["black.png", "busy again.jpg"])
    told = faulty.audit(threads=1)["findings"]
    assert not {"black.png", "busy again.jpg"} & {Path(uri).name for f in told for uri in f["uris"]}
    assert faulty.show()["findings"] == sum(faulty.summary()["findings"].values()) == len(told) < len(found)


def test_a_file_that_is_gone(faulty: Project) -> None:
    Path(str(faulty.images.uris[0])).unlink()
    with pytest.raises(PhylaError, match="can't be read any more"):
        faulty.audit(checks=["dark"], threads=1)


def test_an_unknown_check(faulty: Project) -> None:
    with pytest.raises(PhylaError, match=r"no check 'darkk'.\nDid you mean dark"):
        faulty.audit(checks=["darkk"])


def test_as_a_command(faulty: Project, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["audit", str(faulty.folder), "--json", "-q", "--threads", "1"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert {"check", "uri", "severity", "why", "uris"} == set(found[0])
    assert "mislabelled is skipped: no image has a label." in err


def test_a_clean_collection(project: Project) -> None:
    assert project.audit(checks=["odd_size", "dark", "bright", "imbalance"], threads=1)["findings"] == []
