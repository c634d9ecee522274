"""Bytes that a graph casts to floats, only to quantize them again, are taken as levels at once."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

_MOVES = ("Transpose", "Reshape")


def take_bytes(graph: onnx.GraphProto) -> set[str]:
    """Let what de-quantizes bytes read them as they come in: cast and QuantizeLinear of scale 1 and zero point 0 say
    nothing. Returns the names of the inputs that were read so. Of a graph whose levels are uint8."""
    found = set()
    for value in graph.input:
        if value.type.tensor_type.elem_type == onnx.TensorProto.UINT8 and _take(graph, value.name):
            found.add(value.name)
    return found


def _take(graph: onnx.GraphProto, name: str) -> bool:
    outputs = {output.name for output in graph.output}
    at, before = name, name
    cast: onnx.NodeProto | None = None
    while True:
        readers = [node for node in graph.node if at in node.input]
        if len(readers) != 1 or at in outputs:
            return False
        node = readers[0]
        if node.op_type == "Cast" and cast is None:
            cast, before = node, at
        elif node.op_type == "QuantizeLinear" and cast is not None:
            if not _is_plain(graph, node):
                return False
            for other in graph.node:
                if cast.output[0] in other.input and other is not node:
                    other.input[0] = before
            moved = before if node.input[0] == cast.output[0] else node.input[0]
            for other in graph.node:
                for place, source in enumerate(other.input):
                    if source == node.output[0]:
                        other.input[place] = moved
            graph.node.remove(cast)
            graph.node.remove(node)
            return True
        elif node.op_type not in _MOVES or node.input[0] != at:
            return False
        at = node.output[0]


def _is_plain(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    """Whether levels are the bytes themselves."""
    values = {each.name: each for each in graph.initializer if each.name in node.input[1:]}
    if len(node.input) != 3 or set(node.input[1:]) - set(values):
        return False
    scale, zero_point = (numpy_helper.to_array(values[name]) for name in node.input[1:])
    return bool(scale.size == 1 and scale == 1 and zero_point.dtype == np.uint8 and zero_point == 0)
