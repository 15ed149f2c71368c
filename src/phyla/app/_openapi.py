"""What can be asked of the server and said to it, as an OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.routing import Route

from phyla import __version__
from phyla._taking import FORMATS
from phyla.app import _asked as asked
from phyla.app._jobs import KINDS

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": asked.LONGEST_NAME}
_ROW: Schema = {"type": "integer", "minimum": 0, "maximum": asked.LARGEST}
_ROWS: Schema = {"type": "array", "items": _ROW, "minItems": 1}
_OF = _TEXT | {"example": "all", "description": "all, group:3, class:cat, unsorted, waiting, accepted, removed, …"}
_ANY: Schema = {}


def _one_of(*values: Any) -> Schema:
    return {"enum": list(values)}


def _object(required: str, **parts: Schema) -> Schema:
    return {"type": "object", "properties": parts, "required": required.split()}


def _number(least: int, most: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


_EDITS = [
    _object("op group name", op=_one_of("name"), group=_ROW, name=_NAME),
    _object("op groups name", op=_one_of("merge"), groups=_ROWS, name=_NAME),
    _object("op group names", op=_one_of("split"), group=_ROW, names={"type": "array", "items": _NAME, "minItems": 2}),
    _object("op rows name", op=_one_of("confirm", "move", "reject"), rows=_ROWS, name=_NAME),
    _object("op rows", op=_one_of("remove"), rows=_ROWS),
    _object("op rows check", op=_one_of("keep"), rows=_ROWS, check=_NAME),
    _object("op", op=_one_of("undo"), seq=_ROW | {"nullable": True}),
    _object("op", op=_one_of("redo")),
]
_EXAMPLES = _object("", rows={"type": "array", "items": _ROW}, pictures={"type": "array", "items": _TEXT})

# What each path takes, beside what its own address says: in the query, or as the body.
ASKS: dict[str, dict[str, Schema]] = {
    "/api/summary": {},
    "/api/cards": {"by": _one_of("group", "class")},
    "/api/rows": {"of": _OF, "order": _one_of("typical", "uncertain", "name", "time")},
    "/api/image/{row}": {},
    "/api/tree": {"key": _TEXT},
    "/api/history": {"n": _number(1, asked.MOST_HISTORY)},
    "/api/findings": {"check": _TEXT},
    "/api/ask": {"n": _number(1, asked.MOST_ASKED)},
    "/api/bought": {},
    "/api/classifier": {},
    "/api/array/{what}": {},
    "/api/why/{row}": {},
    "/api/about": {"of": _OF},
    "/api/apart": {"of": _OF, "against": _OF},
    "/api/events": {},
    "/api/openapi.json": {},
    "/thumb/{row}": {"side": _one_of(*asked.SIDES), "v": _TEXT},
    "/sheet": {"rows": _TEXT, "side": _one_of(*asked.SHEET_SIDES), "on": _TEXT, "v": _TEXT},
    "/picture/{row}": {"v": _TEXT},
    "/heat/{row}": {"by": _one_of("class", "picture"), "v": _TEXT, "seq": _ROW},
    "/": {},
    "/{name}": {},
}
SAYS: dict[str, Schema] = {
    "/api/edits": {"oneOf": _EDITS},
    "/api/preview": _object("group parts", group=_ROW, parts=_number(2, asked.MOST_PARTS)),
    "/api/jobs": _object("what", what=_one_of(*KINDS)),
    "/api/search": _object(
        "", like=_EXAMPLES, without=_EXAMPLES, words=_TEXT, minus=_TEXT, n=_number(1, asked.MOST_ALIKE)
    ),
    "/api/search/picture": {"type": "string", "format": "binary"},
    "/api/export": _object("format", format=_one_of(*FORMATS), of=_OF, rows=_ROWS),
    "/api/classifier": _object("", cascade={"type": "boolean"}, integer={"type": "boolean"}, backbone=_TEXT),
}
_IN_ADDRESS = {"row": _ROW, "what": _one_of("points", "groups", "labels", "strength", "severity"), "name": _TEXT}
_REFUSAL = _object(
    "ok error hint status", ok=_one_of(False), error=_TEXT, hint=_TEXT, status={"type": "integer", "minimum": 400}
)


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The OpenAPI document of `routes`; a route that is told nothing of here is a `KeyError`."""
    paths: dict[str, Any] = {}
    for route in routes:
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(route.path, {})[method.lower()] = _operation(route, method)
    return {
        "openapi": "3.0.3",
        "info": {"title": "Phyla", "version": __version__, "description": "The page's server, on this machine."},
        "paths": paths,
        "components": {"schemas": {"Refusal": _REFUSAL}},
    }


def _operation(route: Route, method: str) -> dict[str, Any]:
    given = [
        {"name": name, "in": "path", "required": True, "schema": _IN_ADDRESS[name]} for name in route.param_convertors
    ]
    told: dict[str, Any] = {}
    if method == "POST":
        schema = SAYS[route.path]
        kind = "application/octet-stream" if schema.get("format") == "binary" else "application/json"
        told = {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}
    else:
        given += [{"name": name, "in": "query", "schema": schema} for name, schema in ASKS[route.path].items()]
    refusal = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    return told | {
        "parameters": given,
        "responses": {
            "200": {"description": "What was asked for.", "content": {"*/*": {"schema": _ANY}}},
            "default": {"description": "Refused, with the way out.", "content": refusal},
        },
    }
