"""Small pictures, made once: kept on the disk in the project's folder, up to a size, and made by few at a time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np

from phyla.types import PhylaError

_LARGEST = 1 << 30  # bytes of all that is kept: 300,000 of 96 pixels
_GIVEN_UP = 0.1  # of it, at once, the oldest, where there are more
_QUALITY = 88  # of many in one
_LOOKED = 500  # new ones between two looks at how much there is


class Thumbs:
    """Thumbnails by image id and side. `get` answers with a future, so that one picture is never made twice at once."""

    def __init__(self, folder: Path, largest: int = _LARGEST) -> None:
        self._path, self._largest = folder / "thumbs" / "thumbs.sqlite", largest
        self._lock = Lock()
        self._made = 0
        self._underway: dict[tuple[str, int], Future[bytes]] = {}
        self._workers = ThreadPoolExecutor(max(os.cpu_count() or 1, 2), "thumbnail")
        self._kept: sqlite3.Connection | None = None
        self._open()

    def _open(self) -> None:
        """A store that can't be opened, or is damaged, is begun anew; on a disk that can't be written there is none."""
        for _ in range(2):
            try:
                self._path.parent.mkdir(exist_ok=True)
                kept = sqlite3.connect(self._path, timeout=5, isolation_level=None, check_same_thread=False)
                kept.execute("PRAGMA journal_mode = WAL")
                kept.execute("PRAGMA synchronous = OFF")  # what is lost is made again
                kept.execute("CREATE TABLE IF NOT EXISTS thumbs (id TEXT, side INTEGER, data BLOB, UNIQUE (id, side))")
                self._kept = kept
                return
            except sqlite3.OperationalError:
                return
            except sqlite3.DatabaseError:
                with suppress(OSError):
                    self._path.unlink()
            except OSError:
                return

    def get(self, id: str, side: int, make: Callable[[], bytes]) -> Future[bytes]:
        """The picture of image `id`, which `make` makes where it is not kept."""
        key = id, side
        with self._lock:
            if key not in self._underway:
                self._underway[key] = self._workers.submit(self._look, key, make)
            return self._underway[key]

    def _look(self, key: tuple[str, int], make: Callable[[], bytes]) -> bytes:
        try:
            if (data := self._read(key)) is None:
                data = make()
                self._write(key, data)
            return data
        finally:
            with self._lock:
                self._underway.pop(key, None)

    def _read(self, key: tuple[str, int]) -> bytes | None:
        with self._lock, suppress(sqlite3.Error):
            if self._kept:
                row = self._kept.execute("SELECT data FROM thumbs WHERE id = ? AND side = ?", key).fetchone()
                return bytes(row[0]) if row else None
        return None

    def several(self, ids: Sequence[str], side: int, make: Callable[[int], bytes]) -> list[bytes | None]:
        """The pictures of `ids`; `make` is given a place in `ids`. None for a picture that can't be opened."""
        kept: dict[str, bytes] = {}
        with self._lock, suppress(sqlite3.Error):
            if self._kept:
                asked = f"SELECT id, data FROM thumbs WHERE side = ? AND id IN ({', '.join('?' * len(ids))})"
                kept = dict(self._kept.execute(asked, (side, *ids)))
        missing = {i: self.get(id, side, partial(make, i)) for i, id in enumerate(ids) if id not in kept}

        def made(i: int) -> bytes | None:
            with suppress(OSError, PhylaError):
                return missing[i].result()
            return None

        return [made(i) if i in missing else kept[id] for i, id in enumerate(ids)]

    def _write(self, key: tuple[str, int], data: bytes) -> None:
        with self._lock, suppress(sqlite3.Error):
            if not self._kept:
                return
            self._kept.execute("INSERT OR REPLACE INTO thumbs VALUES (?, ?, ?)", (*key, data))
            self._made += 1
            if self._made % _LOOKED == 1:
                self._give_up()

    def _give_up(self) -> None:
        """The oldest, where there is more than may be."""
        assert self._kept
        pages, size, free = (
            self._kept.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size", "freelist_count")
        )
        if (pages - free) * size > self._largest:
            self._kept.execute(
                "DELETE FROM thumbs WHERE rowid IN (SELECT rowid FROM thumbs ORDER BY rowid LIMIT "
                f"(SELECT 1 + CAST({_GIVEN_UP} * count(*) AS INTEGER) FROM thumbs))"
            )

    def close(self) -> None:
        self._workers.shutdown(cancel_futures=True)
        with self._lock:
            if self._kept:
                self._kept.close()
                self._kept = None


def sheet(pictures: Sequence[bytes | None], side: int, ground: tuple[int, ...]) -> bytes:
    """The pictures beside each other as one JPEG, each whole in a square of `side` pixels, on RGB `ground`.

    A sixth of a millisecond each: a browser that asks for every small picture by itself waits longer for each.
    """
    import cv2

    beside = np.empty((side, side * len(pictures), 3), np.uint8)
    beside[:] = ground[::-1]
    for i, data in enumerate(pictures):
        pixels = None if data is None else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            continue
        scale = side / max(pixels.shape[:2])
        height, width = (min(max(round(length * scale), 1), side) for length in pixels.shape[:2])
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        y, x = (side - height) // 2, i * side + (side - width) // 2
        beside[y : y + height, x : x + width] = cv2.resize(pixels, (width, height), interpolation=way)
    return bytes(cv2.imencode(".jpg", beside, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])


def shade(heat: np.ndarray) -> bytes:
    """A heat map (h, w), 0..1, as black WebP to lie over the picture: clear where it is 1."""
    import io

    from PIL import Image

    dark = np.zeros((*heat.shape, 4), np.uint8)
    dark[..., 3] = np.rint(255 * (1 - heat.clip(0, 1)))
    buffer = io.BytesIO()
    Image.fromarray(dark).save(buffer, "WEBP", quality=_QUALITY, method=2)
    return buffer.getvalue()


def lost(fault: Exception) -> PhylaError:
    """What is said of a picture that can't be opened any more."""
    return fault if isinstance(fault, PhylaError) else PhylaError(f"The picture can't be opened: {fault}.")
