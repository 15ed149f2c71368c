"""Sort a collection in children of this process, each killed (signal 9) after its own number of steps.

Run as `_killed.py PHOTOS FOLDER STEPS…`: child i works on FOLDER/i and dies at step STEPS[i]. A step is a picture
decoded for the network, a file about to be made durable, or one about to get its name.
FOLDER/i.log holds what it decoded.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from phyla import _opened, _steps, _tasks, project
from phyla.backbones import _extract

TASK, SHARD, SCAN_SHARD = 4, 16, 30


def small_shards(patch: Any) -> None:
    """Have a small collection fill several shards; `patch(owner, name, value)` sets."""
    patch(_extract, "TASK", TASK)
    patch(_extract, "SHARD", SHARD)
    patch(_steps, "_SCAN_SHARD", SCAN_SHARD)


def watch(patch: Any, log: Path, step: Any) -> None:
    """Note every picture decoded for the network in `log`, and call `step` at every step."""
    read, sync, replace = _tasks.open_picture, os.fsync, Path.replace

    def opened(source: Any, uri: str, at_least: int, *id: str) -> Any:
        if at_least == 16:  # the fake network's side; the report asks for more
            step()
            with log.open("a") as file:
                file.write(f"{uri}\n")
        return read(source, uri, at_least, *id)

    patch(_steps, "open_picture", opened)
    patch(_opened, "open_picture", opened)
    patch(os, "fsync", lambda number: (step(), sync(number))[1])
    patch(Path, "replace", lambda one, other: (step(), replace(one, other))[1])


def main(photos: str, folder: str, *moments: str) -> None:
    small_shards(setattr)
    for slow in ("faiss", "openTSNE", "pyarrow.parquet", "scipy.sparse.linalg", "sklearn.metrics", "phyla.report"):
        import_module(slow)  # once, not in every child
    for number, moment in enumerate(moments):
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        left = int(moment)

        def step() -> None:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

        watch(setattr, Path(folder, f"{number}.log"), step)
        project.sort(photos, Path(folder, str(number)), backbone=["fake"], groups=3, threads=2)
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
