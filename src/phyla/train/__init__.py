"""Groups and few answers → a small classifier, as one file that runs without Phyla.

`Student` learns from an ensemble, `Head` is what it becomes beside how far to trust it, `write` puts that behind the
network into an ONNX file, and `accompany` lays a card for people and an example beside it. `windows` chooses when a
cascade of such classifiers asks the next one. `read` gives what was written back as a `Chain`, often of one.
"""

from phyla.train._accompany import accompany
from phyla.train._cascade import Cascade, gap, together, windows
from phyla.train._chain import Chain, read, write_chain
from phyla.train._head import Head, rank
from phyla.train._student import Student
from phyla.train._write import write

__all__ = [
    "Cascade", "Chain", "Head", "Student", "accompany", "gap", "rank", "read", "together", "windows", "write",
    "write_chain",
]  # fmt: skip
