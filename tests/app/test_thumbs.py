"""Thumbnails are made once, few at a time, and kept up to a size."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from phyla.app import _thumbs
from phyla.app._thumbs import Thumbs


def test_one_picture_is_never_made_twice(tmp_path: Path) -> None:
    begun, made, thumbs = threading.Event(), [], Thumbs(tmp_path)

    def make() -> bytes:
        made.append(1)
        begun.wait(10)
        return b"picture"

    futures = [thumbs.get("a", 96, make) for _ in range(20)]
    begun.set()
    assert {future.result() for future in futures} == {b"picture"}
    assert thumbs.get("a", 96, make).result() == b"picture" and len(made) == 1
    thumbs.close()
    again = Thumbs(tmp_path)
    assert again.get("a", 96, make).result() == b"picture" and len(made) == 1
    assert again.get("a", 192, lambda: b"larger").result() == b"larger"
    again.close()


def test_a_failure_is_not_kept(tmp_path: Path) -> None:
    thumbs = Thumbs(tmp_path)

    def fail() -> bytes:
        raise OSError("gone")

    with pytest.raises(OSError):
        thumbs.get("a", 96, fail).result()
    assert thumbs.get("a", 96, lambda: b"back").result() == b"back"
    thumbs.close()


def test_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_thumbs, "_LOOKED", 10)
    thumbs = Thumbs(tmp_path, largest=1_000_000)
    for number in range(400):
        thumbs.get(str(number), 96, lambda: b"x" * 10_000).result()
    thumbs.close()
    assert sum(path.stat().st_size for path in (tmp_path / "thumbs").iterdir()) < 1_600_000
    kept = Thumbs(tmp_path)
    assert kept.get("399", 96, lambda: b"anew").result() != b"anew"
    assert kept.get("0", 96, lambda: b"anew").result() == b"anew"
    kept.close()


def test_a_damaged_store_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "thumbs").mkdir()
    (tmp_path / "thumbs" / "thumbs.sqlite").write_bytes(b"no database" * 1000)
    thumbs = Thumbs(tmp_path)
    assert thumbs.get("a", 96, lambda: b"picture").result() == b"picture"
    assert thumbs.get("a", 96, lambda: b"other").result() == b"picture"
    thumbs.close()


def test_without_a_place_to_keep_them(tmp_path: Path) -> None:
    (tmp_path / "thumbs").write_text("a file, where the folder should be")
    thumbs = Thumbs(tmp_path)
    assert thumbs.get("a", 96, lambda: b"picture").result() == b"picture"
    thumbs.close()


def test_many_threads(tmp_path: Path) -> None:
    thumbs = Thumbs(tmp_path)

    def ask(number: int) -> bytes:
        return thumbs.get(str(number % 50), 96, lambda: str(number % 50).encode()).result()

    with ThreadPoolExecutor(16) as tabs:
        assert list(tabs.map(ask, range(1000))) == [str(n % 50).encode() for n in range(1000)]
    thumbs.close()
