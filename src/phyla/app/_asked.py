"""What a request asks, checked: nothing that is not a row, a name or a number goes further."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from phyla.project import Project
from phyla.types import PhylaError

LONGEST_NAME, LARGEST = 200, 2**31 - 1
MOST_ASKED, MOST_ALIKE, MOST_HISTORY, MOST_PARTS = 200, 5000, 10_000, 20
SIDES, SHEET_SIDES = (96, 192, 384), (48, 96)  # pixels
EXPORTED = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet", "zip": "application/zip"}
_TURNING = set("‎‏‪‫‬‭‮⁦⁧⁨⁩")  # marks that turn the reading direction round


class Refused(PhylaError):
    """A request that can't be answered, and its status."""

    def __init__(self, message: str, hint: str = "", status: int = 400) -> None:
        super().__init__(message, hint)
        self.status = status


async def body(request: Request) -> dict[str, Any]:
    """The JSON object that was sent."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused("This is sent as JSON.", "Content-Type: application/json", 415)
    try:
        told = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refused("What was sent is no JSON.") from None
    if not isinstance(told, dict):
        raise Refused("What was sent is no JSON object.")
    return told


def number(value: Any, what: str, least: int = 0, most: int = LARGEST) -> int:
    """A whole number, given as one or, in an address, as digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Refused(f"{what} must be a whole number from {least} to {most}.")
    return value


def row(request: Request, project: Project) -> int:
    """The row that the path names."""
    try:
        return number(request.path_params["row"], "A row", 0, len(project.images) - 1)
    except Refused as fault:
        raise Refused(fault.message, "The view may have changed: load it again.", 404) from None


def rows(value: Any, n: int) -> NDArray[np.int32]:
    """Rows of a project of n images, each once."""
    wrong = Refused("rows must be a list of whole numbers, at least one.")
    if not isinstance(value, list) or not value or {type(row) for row in value} != {int}:
        raise wrong
    try:
        given = np.array(value, np.int64)
    except OverflowError:
        raise wrong from None
    if given.min() < 0 or given.max() >= n:
        raise Refused(f"There is no such row; they are 0 to {n - 1}.", "The view may have changed: load it again.", 404)
    _, first = np.unique(given, return_index=True)
    return given[np.sort(first)].astype(np.int32)


def name(value: Any) -> str:
    """A name as people give it: one line of at most 200 characters that can be seen."""
    if not isinstance(value, str) or not value.strip():
        raise Refused("A name can't be empty.", "Give it at least one letter.")
    value = unicodedata.normalize("NFC", value.strip())
    if len(value) > LONGEST_NAME:
        raise Refused(f"A name of {len(value):,} characters is too long.", f"Use at most {LONGEST_NAME}.")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in _TURNING for c in value):
        raise Refused("There are control characters in this name.", "Type it without them.")
    return value


def text(value: Any, what: str, longest: int = 500) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        raise Refused(f"{what} must be a text of at most {longest} characters.")
    return value
