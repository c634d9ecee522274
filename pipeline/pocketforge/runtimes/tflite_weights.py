"""Weights of a TFLite flatbuffer stored in few bits, computed in float32: weight-only int8 and int4, and fp16.

    int8 or float16 constant ─ DEQUANTIZE ─ layer                   XNNPACK unpacks it once, when the file is loaded
    int4 constant, a row a group ─ DEQUANTIZE ─ MUL (scales) ─ RESHAPE ─ layer

The second form is for scales by group, for which the format has none that is not also quantizing the activations.
XNNPACK does not see a constant weight behind it: convolutions then run in TFLite's own kernels, which are slower.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from pocketforge.quantization.encodings import Encoding
from pocketforge.runtimes.stored_weights import Matcher, Placed, in_half
from pocketforge.runtimes.tflite_constants import add_tensor, float_constant, set_scales
from pocketforge.runtimes.tflite_edit import drop_unused, operator_code
from pocketforge.runtimes.tflite_objects import Graph, Model, Operator, packed, unpacked
from pocketforge.runtimes.tflite_shield import unshield

_TYPES = schema.TensorType
# Of DEQUANTIZE, as the converter's own versioning says.
_ONE_SCALE, _HALF, _PER_CHANNEL, _INT4 = 2, 3, 5, 6


def store_encodings(data: bytes, encodings: Mapping[str, Encoding]) -> tuple[bytes, list[str], list[str]]:
    """Returns the file with encoded weights; the names of those it does not hold; of those unpacked at inference."""
    model = unpacked(data)
    unshield(model)
    matcher = Matcher(encodings)
    slow = []
    for graph in model.subgraphs:
        operators: list[Operator] = []
        for index, constant in _float_constants(model, graph):
            placed = matcher.find(constant)
            if placed is None:
                continue
            graph.tensors[index].buffer = 0
            operators += (
                _groups(model, graph, placed, index)
                if placed.encoding.group_size
                else _channels(model, graph, placed, index)
            )
            if placed.encoding.bits == 4 and (placed.encoding.group_size or len(placed.shape) > 2):
                slow.append(placed.name)
        graph.operators = [*operators, *graph.operators]
    drop_unused(model)
    return packed(model), matcher.missing, slow


def store_halves(data: bytes) -> tuple[bytes, int]:
    """Returns the file with its float32 weights in half precision, and how many they are."""
    model = unpacked(data)
    count = 0
    for graph in model.subgraphs:
        operators = []
        for index, constant in _float_constants(model, graph):
            half = in_half(constant)
            if half is None:
                continue
            graph.tensors[index].buffer = 0
            stored = add_tensor(model, graph, half.shape, _TYPES.FLOAT16, _name(graph, index, "half"), half)
            operators.append(_dequantize(model, stored, index, _HALF))
            count += 1
        graph.operators = [*operators, *graph.operators]
    drop_unused(model)
    return packed(model), count


def _float_constants(model: Model, graph: Graph) -> list[tuple[int, NDArray[np.float32]]]:
    found = ((index, float_constant(model, graph, index)) for index in range(len(graph.tensors)))
    return [(index, values) for index, values in found if values is not None]


def _channels(model: Model, graph: Graph, placed: Placed, index: int) -> list[Operator]:
    """One scale, or one for each output channel: the levels lie as the weight did."""
    encoding = placed.encoding
    kind = _TYPES.INT4 if encoding.bits == 4 else _TYPES.INT8
    stored = add_tensor(model, graph, placed.shape, kind, _name(graph, index, "levels"), placed.levels)
    set_scales(graph.tensors[stored], encoding.scales, placed.axis or 0)
    version = _INT4 if encoding.bits == 4 else _ONE_SCALE if placed.axis is None else _PER_CHANNEL
    return [_dequantize(model, stored, index, version)]


def _groups(model: Model, graph: Graph, placed: Placed, index: int) -> list[Operator]:
    """A scale for each group of inputs. DEQUANTIZE with a scale for each row would take a 64-bit zero point for each
    as well, half as many bytes as the levels: so it gives the levels as floats, which are multiplied.
    """
    rows = placed.encoding.rows()
    stored = add_tensor(model, graph, rows.shape, _TYPES.INT4, _name(graph, index, "levels"), rows)
    set_scales(graph.tensors[stored], np.ones(1, np.float32), 0)
    floats = add_tensor(model, graph, rows.shape, _TYPES.FLOAT32, _name(graph, index, "float"))
    scales = placed.encoding.scales.reshape(-1, 1)
    factors = add_tensor(model, graph, scales.shape, _TYPES.FLOAT32, _name(graph, index, "scales"), scales)
    product = add_tensor(model, graph, rows.shape, _TYPES.FLOAT32, _name(graph, index, "rows"))
    operators = [
        _dequantize(model, stored, floats, _INT4),
        _operator(model, schema.BuiltinOperator.MUL, [floats, factors], product, "MulOptions"),
    ]
    if placed.rows_permutation != tuple(range(len(placed.order))):
        axes = add_tensor(model, graph, placed.rows_shape, _TYPES.FLOAT32, _name(graph, index, "axes"))
        operators.append(_reshape(model, graph, product, axes))
        moved_shape = tuple(placed.rows_shape[i] for i in placed.rows_permutation)
        product = add_tensor(model, graph, moved_shape, _TYPES.FLOAT32, _name(graph, index, "moved"))
        order = np.array(placed.rows_permutation, np.int32)
        permutation = add_tensor(model, graph, order.shape, _TYPES.INT32, _name(graph, index, "order"), order)
        operators.append(
            _operator(model, schema.BuiltinOperator.TRANSPOSE, [axes, permutation], product, "TransposeOptions")
        )
    return [*operators, _reshape(model, graph, product, index)]


def _name(graph: Graph, index: int, part: str) -> bytes:
    return (graph.tensors[index].name or b"") + b"/" + part.encode()


def _dequantize(model: Model, source: int, target: int, version: int) -> Operator:
    return _operator(model, schema.BuiltinOperator.DEQUANTIZE, [source], target, "DequantizeOptions", version)


def _reshape(model: Model, graph: Graph, source: int, target: int) -> Operator:
    shape = [int(n) for n in graph.tensors[target].shape]
    name = (graph.tensors[target].name or b"") + b"/shape"
    sizes = add_tensor(model, graph, (len(shape),), _TYPES.INT32, name, np.array(shape, np.int32))
    operator = _operator(model, schema.BuiltinOperator.RESHAPE, [source, sizes], target, "ReshapeOptions")
    options = schema.ReshapeOptionsT()
    options.newShape = shape
    operator.builtinOptions = options
    return operator


def _operator(model: Model, builtin: int, inputs: list[int], output: int, options: str, version: int = 1) -> Operator:
    operator: Operator = schema.OperatorT()
    operator.opcodeIndex = operator_code(model, builtin, version)
    operator.inputs, operator.outputs = inputs, [output]
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
    operator.builtinOptions = getattr(schema, f"{options}T")()
    return operator
