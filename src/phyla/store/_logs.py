"""Logs of a store, which only grow: a line of JSON each time, from whoever holds the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from phyla.store._faults import Busy, plain
from phyla.store._lines import add_line, read_line, written
from phyla.store._remote import Remote
from phyla.types import PhylaError

_PATIENCE = 10.0  # seconds that a log is waited for


class Logs:
    """The logs in `folder`, or at `remote`; there a line is an object."""

    place: str
    folder: Path
    remote: Remote | None

    def damaged(self, name: str, fault: Exception | str) -> PhylaError:
        """What to tell of a damaged file."""
        return PhylaError(f"{self.place}/{name} is damaged: {fault}.", f"phyla check {self.place} --repair")

    @contextmanager
    def appending(self, name: str) -> Iterator[None]:
        """Hold the log `name`. Others wait: a line takes a moment, even while somebody is `writing` for hours."""
        import filelock

        try:
            with ExitStack() as held:
                held.enter_context(filelock.FileLock(self.folder / f"{name}.lock", timeout=_PATIENCE))
                if self.remote:
                    held.enter_context(self.remote.lease(f"{name}.lock", _PATIENCE))
                    self._pull(name)
                yield
        except (filelock.Timeout, TimeoutError) as busy:
            raise Busy(f"Another process is writing {name} of {self.place}.", "Try again in a moment.") from busy
        except OSError as fault:
            raise plain(fault, self.place) from fault

    def append(self, name: str, value: Mapping[str, Any]) -> None:
        """Add one line of JSON to a log, durable when this returns. A torn last line of a killed writer is dropped."""
        line = written(value)
        if self.remote:
            # A line is an object of its own: no object can be added to.
            number = self._lines_here(name)
            if not self.remote.create(f"{name}/{number:08}.json", line):
                raise Busy(f"Another process is writing {name} of {self.place}.", "Try again in a moment.")
        add_line(self.folder / name, line)

    def _lines_here(self, name: str) -> int:
        path = self.folder / name
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def _pull(self, name: str) -> None:
        """Bring the lines here that others wrote."""
        assert self.remote
        for part in self.remote.names(name)[self._lines_here(name) :]:
            add_line(self.folder / name, self.remote.read(f"{name}/{part}"))

    def _look(self, name: str) -> Path:
        """Where a log lies on this machine, as it is now."""
        import filelock

        if self.remote and self.remote.is_due(name):
            self.folder.mkdir(parents=True, exist_ok=True)
            # Who holds it is appending, and has brought the lines here.
            with suppress(filelock.Timeout), filelock.FileLock(self.folder / f"{name}.lock", timeout=0):
                self._pull(name)
        return self.folder / name

    def log(self, name: str, start: int = 0) -> tuple[list[dict[str, Any]], int]:
        """The whole lines of a log from byte `start` on, and where they end."""
        path = self._look(name)
        if not path.exists():
            return [], 0
        with path.open("rb") as file:
            file.seek(start)
            whole = file.read()
        whole = whole[: whole.rfind(b"\n") + 1]
        told = []
        for line in filter(None, whole.split(b"\n")):
            if (value := read_line(line)) is None:
                raise self.damaged(name, ValueError(f"the line {line[:60]!r}"))
            told.append(value)
        return told, start + len(whole)

    def log_size(self, name: str) -> int:
        path = self._look(name)
        return path.stat().st_size if path.exists() else 0
