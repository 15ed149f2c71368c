"""Commands are watched: what they write, start and unpickle, as Python's own audit events tell."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from phyla.cli import main

_WRITES = dict.fromkeys(("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod"), slice(1))  # event → its paths
_WRITES |= {"os.rename": slice(2), "os.link": slice(2), "os.symlink": slice(1, 2)}
_RUNS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class", "socket.connect"}
_watched: list[str] | None = None
_allowed: tuple[str, ...] = ()


def _hear(event: str, args: tuple) -> None:
    if _watched is None:
        return
    if event == "open":
        path, mode, flags = args
        is_write = set(mode or "") & set("wax+") or (mode is None and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        paths = [path] if is_write and not isinstance(path, int) else []
    elif event in _WRITES:
        paths = [part for part in args[_WRITES[event]] if not isinstance(part, int)]
    elif event in _RUNS:
        _watched.append(f"{event} {args[:2]}")
        return
    else:
        return
    for path in paths:
        folder, name = os.path.split(os.path.abspath(os.fsdecode(path)))
        is_python = "__pycache__" in os.fsdecode(path)
        place = os.path.join(os.path.realpath(folder), name)
        if not is_python and path != os.devnull and not place.startswith(_allowed):
            _watched.append(f"{event} {os.fsdecode(path)[:200]!r}")


sys.addaudithook(_hear)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable]:
    """Runs a command in `tmp_path`/here: it ends as it should, and writes nowhere else. Gives its status and errors."""
    global _watched, _allowed
    here = tmp_path / "here"
    here.mkdir(exist_ok=True)
    monkeypatch.chdir(here)
    _allowed = os.path.realpath(here), os.path.join(os.path.realpath(tempfile.gettempdir()), "phyla-")

    def command(*argv: object) -> tuple[int, str]:
        global _watched
        _watched = []
        try:
            status = main([str(part) for part in argv])
        finally:
            done, _watched = _watched, None
        told = capsys.readouterr()
        assert status in (0, 1, 2), argv
        assert not done, (argv, done)
        assert not any(ord(c) < 32 and c not in "\n\t" for c in told.out + told.err), argv
        return status, told.err

    yield command
    _watched = None
