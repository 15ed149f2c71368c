"""What a function asks for by keyword, given to it if it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any


def needs(function: Callable[..., Any], offered: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, Any], list[str]]:
    """The keyword arguments of `function` that are on offer, and the names of those it requires that are not.

    offered : name → what gives the value, None where there is none. Nothing is made that is not asked for.
    """
    given: dict[str, Any] = {}
    lacking: list[str] = []
    for name, parameter in signature(function).parameters.items():
        if parameter.kind is not Parameter.KEYWORD_ONLY:
            continue
        value = offered[name]() if name in offered and not lacking else None
        if value is not None:
            given[name] = value
        elif parameter.default is Parameter.empty:
            lacking.append(name)
    return given, lacking
