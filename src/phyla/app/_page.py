"""The built page: a few files, made from web/ by `npm run build`."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}


def page() -> dict[str, Path]:
    """Its files by name. PHYLA_PAGE names another folder of them, for who changes the page."""
    folder = Path(os.environ.get("PHYLA_PAGE") or str(resources.files("phyla.app") / "page"))
    return {path.name: path for path in sorted(folder.iterdir()) if path.suffix in KINDS} if folder.is_dir() else {}
