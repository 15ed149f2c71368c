"""Groups and few answers → a small classifier, as one file that runs without Phyla.

`Student` learns from an ensemble, `Head` is what it becomes beside how far to trust it, `write` puts that behind the
network into an ONNX file, and `accompany` lays a card for people and an example beside it. `windows` chooses when a
cascade of such classifiers asks the next one. `read` gives a file back as a `Model`, `read_chain` a file or a
cascade's folder as a `Chain` of them.
"""

from phyla.train._accompany import accompany
from phyla.train._cascade import Cascade, gap, together, windows
from phyla.train._chain import Chain, read_chain, write_chain
from phyla.train._head import Head, rank
from phyla.train._read import Model, read
from phyla.train._student import Student
from phyla.train._write import write

__all__ = [
    "Cascade", "Chain", "Head", "Model", "Student", "accompany", "gap", "rank", "read",
    "read_chain", "together", "windows", "write", "write_chain",
]  # fmt: skip
