"""Centre crop and resize as nodes of an ONNX graph: what `backbones.fit` does, for pictures of any size.

The crop is square, so that resizing X to Y is Y = A·X·Aᵀ with one matrix A of weights, which the graph makes from the
side that it finds. It has no branches: the three matrices are all made, and one of them is taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from phyla.backbones import Card, OnnxGraph

VIEW = "view"  # the name of what comes out, at which a file can be cut

_A = -0.75  # of the cubic kernel (Keys, 1981), as OpenCV has it
_STEPS = 2048.0  # in which OpenCV rounds the weights of lines; those of cubics it takes as they are
# OpenCV rounds halves up. Between lines it cuts two products off at a quarter of a level before, an eighth in the mean.
_HALF, _LINES = np.float32(1 / 2), np.float32(3 / 8)


def view(graph: OnnxGraph, pictures: str, card: Card) -> str:
    """uint8 (n, h, w, 3) → uint8 (n, size, size, 3), called "view". At most one grey level from `fit`, and seldom."""
    node = graph.node
    shape = node("Shape", pictures)
    h, w = (node("Gather", shape, np.int64(axis), axis=0) for axis in (1, 2))
    shorter, size = node("Min", h, w), np.int64(card.size)
    # In doubles and to the even neighbour, as Python rounds.
    shown = graph.cast(
        node("Round", node("Mul", graph.cast(shorter, np.float64), np.float64(card.crop))), np.int64
    )  # fmt: skip
    side = node("Max", shown, node("Min", shorter, size))
    starts = [node("Div", node("Sub", length, side), np.int64(2)) for length in (h, w)]
    ends = [node("Add", start, side) for start in starts]
    bounds = [
        node("Concat", *(node("Unsqueeze", v, np.array([0])) for v in pair), axis=0) for pair in (starts, ends)
    ]  # fmt: skip
    square = node("Slice", pictures, *bounds, np.array([1, 2]))
    x = node("Transpose", graph.cast(square, np.float32), perm=[0, 3, 1, 2])
    A, half = _weights(graph, side, card)
    y = node("MatMul", node("MatMul", A, x), node("Transpose", A, perm=[1, 0]))
    whole = node("Clip", node("Floor", node("Add", y, half)), np.float32(0), np.float32(255))
    return graph.cast(node("Transpose", whole, perm=[0, 2, 3, 1]), np.uint8, VIEW)


def _weights(graph: OnnxGraph, side: str, card: Card) -> tuple[str, str]:
    """(size, side): how much a pixel of the square counts in one of the view, and what is added before cutting off."""
    node, size = graph.node, card.size
    i = np.arange(size, dtype=np.float64)[:, None]
    whole = node("Range", np.int64(0), side, np.int64(1))
    j = node("Unsqueeze", graph.cast(whole, np.float64), np.array([0]))
    length = graph.cast(side, np.float64)
    scale = node("Div", length, np.float64(size))
    last = node("Sub", length, np.float64(1))
    zero, one = np.float64(0), np.float64(1)

    # Of areas: how much of the pixel j .. j + 1 lies in i·scale .. (i + 1)·scale.
    upper = node("Min", node("Add", j, one), node("Mul", scale, i + 1))
    lower = node("Max", j, node("Mul", scale, i))
    areas = node("Div", node("Max", node("Sub", upper, lower), zero), scale)

    # Of lines: 1 at the point itself, 0 a pixel away.
    at = node("Sub", node("Mul", scale, i + 0.5), np.float64(0.5))
    inside = node("Min", node("Max", at, zero), last)
    lines = _rounded(graph, node("Max", node("Sub", one, node("Abs", node("Sub", inside, j))), zero))

    match card.interpolation:
        case "nearest":
            nearest = node("Min", node("Floor", node("Mul", scale, i)), last)
            enlarged = graph.cast(node("Equal", nearest, j), np.float64)
        case "bilinear":
            enlarged = lines
        case _:
            enlarged = _cubics(graph, at, last, j)
    # At twice the size exactly, OpenCV takes areas where it was asked for lines.
    is_larger, is_twice = (node("Greater", side, np.int64(n)) for n in (size, 2 * size - 1))
    A = node("Where", is_larger, node("Where", is_twice, areas, lines), enlarged)
    of_enlarged = _LINES if card.interpolation == "bilinear" else _HALF
    half = node("Where", is_larger, node("Where", is_twice, _HALF, _LINES), of_enlarged)
    return graph.cast(A, np.float32), half


def _cubics(graph: OnnxGraph, at: str, last: str, j: str) -> str:
    """Four pixels about each point count; where one lies outside, that on the border does in its place."""
    node, zero = graph.node, np.float64(0)
    floor = node("Floor", at)
    t = node("Sub", at, floor)
    first = _polynomial(graph, node("Add", t, np.float64(1)), _A, -5 * _A, 8 * _A, -4 * _A)
    second = _polynomial(graph, t, _A + 2, -(_A + 3), 0, 1)
    third = _polynomial(graph, node("Sub", np.float64(1), t), _A + 2, -(_A + 3), 0, 1)
    fourth = node("Sub", np.float64(1), node("Add", node("Add", first, second), third))
    parts = []
    for away, weight in zip((-1, 0, 1, 2), (first, second, third, fourth), strict=True):
        pixel = node("Min", node("Max", node("Add", floor, np.float64(away)), zero), last)
        parts.append(node("Where", node("Equal", pixel, j), weight, zero))
    return node("Add", node("Add", parts[0], parts[1]), node("Add", parts[2], parts[3]))


def _polynomial(graph: OnnxGraph, x: str, *coefficients: float) -> str:
    total: Any = np.float64(coefficients[0])
    for c in coefficients[1:]:
        total = graph.node("Add", graph.node("Mul", total, x), np.float64(c))
    return str(total)


def _rounded(graph: OnnxGraph, weights: str) -> str:
    return graph.node("Div", graph.node("Round", graph.node("Mul", weights, np.float64(_STEPS))), np.float64(_STEPS))
