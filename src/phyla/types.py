"""The values that travel between the rooms of Phyla.

n images, d wide, k neighbours or narrow axes, c classes. annotations aside, the standard library only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # `phyla --help` has no need of NumPy
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ORIGINS", "Edit", "Finding", "Grouping", "Images", "Labels", "PhylaError", "Recipe", "Rows"]

UNSORTED = -1  # the label of an image that was left out
UNREAD = "not read: "  # how a reason begins for which a picture could not be had now, and perhaps can be later
ORIGINS = ("", "group", "spread", "import", "person", "removed")  # whose word the class of an image is


class PhylaError(Exception):
    """A fault the user can mend: what is wrong (`message`) and the way out (`hint`)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint

    def __reduce__(self) -> tuple[type[PhylaError], tuple[str, str]]:
        return type(self), (self.message, self.hint)  # whole on its way from another process

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


@dataclass(frozen=True)
class Images:
    """The readable images of a collection, exact copies folded into one row.

    ids : (n,) str, hash of the file's bytes.
    uris : (n,) str, where the first copy lies: `FILE`, `FILE#ROW` or `FILE#MEMBER`.
    width, height : (n,) int32, in pixels, as stored (before any EXIF rotation).
    open : row, shortest side wanted → uint8 (h, w, 3) RGB. A picture may come back smaller than it is stored,
        never with both sides under the wanted one unless it is stored so. Raises `PhylaError` on a broken image.
    """

    ids: NDArray[np.str_]
    uris: NDArray[np.str_]
    width: NDArray[np.int32]
    height: NDArray[np.int32]
    open: Callable[[int, int], NDArray[np.uint8]] = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.ids)


class Rows(Protocol):
    """Rows of X (n, d), read when asked for: an array, or what stands for files."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Recipe:
    """How a result was made. Equal recipes make equal bytes, so `key` names the folder the result lies in.

    room, method : who made it. params : JSON values only, "auto" already resolved. inputs : keys of what went in.
    version : the method's VERSION, raised whenever its numbers change.
    """

    room: str
    method: str
    params: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    version: int = 1
    seed: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @property
    def key(self) -> str:
        plain = re.sub("[^a-z0-9]+", "-", self.method.lower())[-40:]  # a method may be named by a path
        return f"{plain}-{hashlib.sha256(self.to_json().encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Grouping:
    """Groups of images.

    labels : (n,) int32, −1 = left out. best : (n,) int32, the most likely group, of left-out images too.
    strength : (n,) float32 in 0..1, 1 = all voters agree. scores : label-free figures of the whole.
    """

    labels: NDArray[np.int32]
    best: NDArray[np.int32]
    strength: NDArray[np.float32]
    scores: dict[str, Any]
    recipe: Recipe

    @property
    def n_groups(self) -> int:
        return int(self.best.max()) + 1 if len(self.best) else 0


@dataclass(frozen=True)
class Edit:
    """One thing a person said: of image ids and class names, never of group numbers.

    op : "name" (a group, which its most typical images stand for, is called classes[0]), "merge" (so are several),
        "split" (the images leave their groups as the class), "confirm" and "move" (a person saw that each image is
        of the class), "import" (so says a list that nobody checked), "reject" (none of them is), "remove" (they shall
        not count), "keep" (what the check classes[0] found of them is fine), "undo" (of the edit `of`).
    classes : one for all images, or one for each.
    """

    seq: int
    op: str
    ids: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    by: str = ""
    at: str = ""
    of: int | None = None


@dataclass(frozen=True)
class Labels:
    """What each of n images is, by the best word there is for it.

    codes : (n,) int32 into `classes`, −1 = nothing is known. origin : (n,) uint8 into `ORIGINS`, whose word it is; a
    group's is that of its name. proba : (n,) float32, how probable; 1 where a person said so. accepted : (n,) bool,
    good enough to be used unseen.
    """

    codes: NDArray[np.int32]
    classes: tuple[str, ...]
    origin: NDArray[np.uint8]
    proba: NDArray[np.float32]
    accepted: NDArray[np.bool_]


@dataclass(frozen=True)
class Finding:
    """Something a person should look at. severity : 0..1, 0.5 = worth a look, 1 = sure. why : one sentence."""

    check: str
    ids: tuple[str, ...]
    severity: float
    why: str
