"""Bytes that a file casts to floats, only to quantize them again, are taken as levels at once.

A byte is a level of scale 1 and zero point 0, so the cast and the float tensor say nothing: what quantizes them turns
levels of uint8 into levels of int8 instead.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pocketforge.runtimes.tflite_edit import drop_unused, drop_unused_tensors
from pocketforge.runtimes.tflite_objects import Graph, Model, Operator, Quantization, Tensor, kind_of, packed, unpacked

SCALE, ZERO_POINT = 1.0, 0
_BYTE_ZERO = -128  # of int8
# From bytes to levels: what moves values, the cast, and what quantizes its floats.
_PASSED = (
    schema.BuiltinOperator.TRANSPOSE,
    schema.BuiltinOperator.RESHAPE,
    schema.BuiltinOperator.CAST,
    schema.BuiltinOperator.QUANTIZE,
)


def take_bytes(data: bytes) -> tuple[bytes, set[str]]:
    """The file, and the names of its inputs that are levels of scale 1 now."""
    model = unpacked(data)
    graph = model.subgraphs[0]
    found = [int(index) for index in graph.inputs if _take(model, graph, int(index))]
    if not found:
        return data, set()
    names = {graph.tensors[index].name.decode() for index in found}
    drop_unused_tensors(model, 0)
    drop_unused(model)
    return packed(model, len(data) + 4096), names


def _take(model: Model, graph: Graph, index: int) -> bool:
    """Whether a graph's input is read as bytes alone, one op after the other up to what quantizes it; then it is."""
    if graph.tensors[index].type != schema.TensorType.UINT8:
        return False
    chain: list[Operator] = []
    at = index
    while not chain or kind_of(model, chain[-1]) != schema.BuiltinOperator.QUANTIZE:
        readers = [op for op in graph.operators if at in map(int, op.inputs)]
        if len(readers) != 1 or at in map(int, graph.outputs) or kind_of(model, readers[0]) not in _PASSED:
            return False
        chain.append(readers[0])
        at = int(readers[0].outputs[0])
    casts = [op for op in chain if kind_of(model, op) == schema.BuiltinOperator.CAST]
    if len(casts) != 1 or not _are_bytes(graph.tensors[at]):
        return False
    after = chain[chain.index(casts[0]) + 1]
    after.inputs = [int(casts[0].inputs[0]), *after.inputs[1:]]
    graph.operators.remove(casts[0])
    for place in (index, *(int(op.outputs[0]) for op in chain[:-1] if op is not casts[0])):
        _as_levels(graph.tensors[place])
    return True


def _are_bytes(tensor: Tensor) -> bool:
    given = tensor.quantization
    if tensor.type != schema.TensorType.INT8 or given is None:
        return False
    return [float(n) for n in given.scale] == [SCALE] and [int(n) for n in given.zeroPoint] == [_BYTE_ZERO]


def _as_levels(tensor: Tensor) -> None:
    quantization: Quantization = schema.QuantizationParametersT()
    quantization.scale = np.array([SCALE], np.float32)
    quantization.zeroPoint = np.array([ZERO_POINT], np.int64)
    quantization.quantizedDimension = 0
    tensor.type, tensor.quantization = schema.TensorType.UINT8, quantization
