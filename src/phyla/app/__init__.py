"""The local web page and its JSON: parse, call one `Project` method, answer. What the two say stands in web/src/api.ts.

The page is served to this machine alone, to who holds the token of this run; images are told by row, never by path.
"""

from phyla.app._exported import export_page
from phyla.app._server import application
from phyla.app._serving import serve

__all__ = ["application", "export_page", "serve"]
