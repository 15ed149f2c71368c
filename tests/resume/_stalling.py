"""A command whose pictures lie at stall://, a file system that may give nothing for ever; run as `_stalling.py ARGS…`.

STALL says what is silent: `read`, `find`, or nothing.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from phyla.sources import _waiting


class Stalling(MemoryFileSystem):
    protocol = "stall"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("stall://", "memory://")))

    def cat_file(self, path: str, **options: Any) -> Any:
        if os.environ["STALL"] == "read" and "7" in path:
            threading.Event().wait()
        return super().cat_file(path, **options)

    def find(self, path: str, **options: Any) -> Any:
        if os.environ["STALL"] == "find":
            threading.Event().wait()
        return super().find(path, **options)


if __name__ == "__main__":
    from phyla.cli import run

    fsspec.register_implementation("stall", Stalling)
    system = fsspec.filesystem("stall")
    for name in os.listdir(os.environ["PHOTOS"]):
        with open(os.path.join(os.environ["PHOTOS"], name), "rb") as file:
            system.pipe_file(f"/photos/{name}", file.read())
    _waiting.SILENCE = 0.3
    sys.argv[0] = "phyla"
    run()
