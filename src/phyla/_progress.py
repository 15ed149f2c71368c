"""Progress on stderr: what is being done, how far, how fast, how long still."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["Progress", "heard"]

# Who else hears of progress: called with what is done, how much of it, and of how much.
heard: ContextVar[Callable[[str, int, int], object] | None] = ContextVar("heard", default=None)


class Progress:
    """`with progress(what, todo, of) as advance: … advance(n)`.

    Nothing shows when `quiet`, or when nothing is to do. A log file gets a line now and then, a terminal a moving bar.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    @contextmanager
    def __call__(self, what: str, todo: int, of: int, unit: str = "images") -> Iterator[Callable[[int], object]]:
        from tqdm import tqdm

        hidden = self.quiet or not todo
        every = 0.2 if sys.stderr.isatty() else 30.0  # seconds
        with tqdm(
            total=of, initial=of - todo, desc=f"{what:12}", unit=f" {unit}", disable=hidden, mininterval=every
        ) as bar:
            hear, done = heard.get() if todo else None, of - todo

            def advance(n: int) -> None:
                nonlocal done
                done += n
                bar.update(n)
                if hear:
                    hear(what, done, of)

            advance(0)
            yield advance
