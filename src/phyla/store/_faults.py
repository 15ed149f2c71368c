"""What is told where a project can't be read or written."""

from __future__ import annotations

import errno

from phyla.types import PhylaError


class Busy(PhylaError):
    """Somebody else is writing."""


def refuse_outside(name: str) -> None:
    """Raise `PhylaError` where a name, of a stranger's phyla.json say, leads out of the project."""
    if not isinstance(name, str) or name.startswith("/") or {"..", "\0"} & {*name.split("/"), *name}:
        raise PhylaError(f"{name!r} can't be the name of a file in a project.", "Restore phyla.json from a backup.")


def plain(fault: OSError, place: str, elsewhere: str = "Name another folder with --project.") -> PhylaError:
    """What kept the disk from taking `place`; `elsewhere` is the way out where nothing can be written there."""
    match fault.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return PhylaError(f"The disk of {place} is full.", "Free some space and run the same command again.")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return PhylaError(f"{place} can't be written to.", elsewhere)
    return PhylaError(f"{fault.filename or place}: {fault.strerror or fault}.", "Run the same command again.")
