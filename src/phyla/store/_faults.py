"""What is told where a project can't be read or written."""

from __future__ import annotations

import errno

from phyla.types import PhylaError

ANOTHER = "Name another folder with --project."
_A_COPY = "Make it writable, or copy it and go on with the copy."


class Busy(PhylaError):
    """Somebody else is writing."""


class NotTaken(PhylaError):
    """The disk takes nothing; an OSError, its cause, says why."""


def refuse_outside(name: str) -> None:
    """Raise `PhylaError` where a name, of a stranger's phyla.json say, leads out of the project."""
    if not isinstance(name, str) or name.startswith("/") or {"..", "\0"} & {*name.split("/"), *name}:
        raise PhylaError(f"{name!r} can't be the name of a file in a project.", "Restore phyla.json from a backup.")


def plain(fault: OSError, place: str, elsewhere: str = _A_COPY) -> NotTaken:
    """What kept the disk from taking `place`; `elsewhere` is the way out where nothing can be written there."""
    match fault.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return NotTaken(f"The disk of {place} is full.", "Free some space and run the same command again.")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return NotTaken(f"{place} can't be written to.", elsewhere)
    return NotTaken(f"{fault.filename or place}: {fault.strerror or fault}.", "Run the same command again.")
