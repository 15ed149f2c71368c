"""Phyla sorts unlabelled image collections into classes.

>>> import phyla
>>> project = phyla.sort("photos/")         # doctest: +SKIP
>>> project.show()                          # doctest: +SKIP
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from phyla.types import PhylaError

if TYPE_CHECKING:
    from phyla._predicting import predict
    from phyla.project import Project, sort

__all__ = ["PhylaError", "Project", "__version__", "predict", "sort"]
from phyla._version import __version__

# OpenMP reads this once, when the first library that uses it is loaded. Threads that spin while they wait take the
# processor from everything else, this program's other threads first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> Any:
    if name in ("Project", "sort"):
        from phyla import project

        return getattr(project, name)
    if name == "predict":
        from phyla._predicting import predict

        return predict
    raise AttributeError(name)
