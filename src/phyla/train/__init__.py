"""Groups and few answers → a small classifier, as one file that runs without Phyla.

`Head` is what is learnt on a network's features, `write` puts it behind the network into an ONNX file, `read` gives
such a file back as a `Model`, and `accompany` lays a card for people and an example beside it.
"""

from phyla.train._accompany import accompany
from phyla.train._head import Head
from phyla.train._read import Model, read
from phyla.train._write import write

__all__ = ["Head", "Model", "accompany", "read", "write"]
