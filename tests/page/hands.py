"""What the tests of the page do by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def until(page: Any, true: Callable[[], bool]) -> None:
    """Wait until something said on the page has come to the project."""
    for _ in range(400):
        if true():
            return
        page.wait_for_timeout(25)
    raise AssertionError("the page said nothing")
