"""Why: where a network looks, which images a prediction goes by, and what tells two groups apart. Arrays only."""

from phyla.explain._concepts import apart, strongest_rows
from phyla.explain._heat import class_heat, heat, onto, scaled
from phyla.explain._near import nearest
from phyla.explain._representers import Representers

__all__ = ["Representers", "apart", "class_heat", "heat", "nearest", "onto", "scaled", "strongest_rows"]
