"""Transposed convolutions of a converted TFLite flatbuffer → int8, where the graph has levels on both sides.

The converter turns their kernels round, and computes constants for that: the levels that
the graph has for them are lost, and the layer between two sets of levels is left in float:

    int8 ─ DEQUANTIZE ─ TRANSPOSE_CONV (float weights) ─ QUANTIZE ─ int8

The format has the op in int8, with a scale for each output channel: the graph's own are put into the file.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from torch.fx import Node

from pocketforge.metrics import Array
from pocketforge.rewrites.graph import is_constant, op_name
from pocketforge.runtimes.tflite_constants import add_tensor, float_constant, set_scales
from pocketforge.runtimes.tflite_edit import drop_unused, drop_unused_tensors, operator_code
from pocketforge.runtimes.tflite_objects import (
    Graph,
    Model,
    Operator,
    ints,
    kind_of,
    packed,
    quantization_of,
    unpacked,
)

_OPS, _TYPES = schema.BuiltinOperator, schema.TensorType
# Of TRANSPOSE_CONV: int8.
_INT8 = 2
_LOWEST = -128


@dataclass(frozen=True, slots=True)
class Kernel:
    """The weight of a transposed convolution that the graph quantizes.

    Attributes:
        values: As TFLite has them: (outputs, height, width, inputs), float.
        levels: The same, in levels.
        scales: One, or one for each output.
    """

    values: NDArray[np.float32]
    levels: NDArray[np.int8]
    scales: NDArray[np.float32]


def transposed_kernels(module: torch.nn.Module) -> list[Kernel]:
    """Of each transposed convolution of two dimensions whose weight is a constant behind levels."""
    found = []
    for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
        floats = node.args[1] if op_name(node) == "conv_transpose2d" else None
        quantize = floats.args[0] if isinstance(floats, Node) and "dequantize_per" in op_name(floats) else None
        weight = quantize.args[0] if isinstance(quantize, Node) and quantize.args else None
        if not isinstance(floats, Node) or not isinstance(quantize, Node) or not is_constant(weight):
            continue
        assert isinstance(weight, Node)
        per_channel = op_name(floats) == "dequantize_per_channel"
        if per_channel and floats.args[3] != 1:
            continue
        given = floats.args[1]
        scale = operator.attrgetter(str(given.target))(module) if isinstance(given, Node) else given
        scales = np.asarray(scale, np.float32).reshape(-1)
        values = operator.attrgetter(str(weight.target))(module).detach().permute(1, 2, 3, 0).contiguous().numpy()
        low, high = quantize.args[-3:-1]
        # As torch rounds.
        levels = np.clip(np.rint(values * (np.float32(1) / scales).reshape(-1, 1, 1, 1)), low, high).astype(np.int8)
        found.append(Kernel(values, levels, scales))
    return found


def store_transposed(data: bytes, kernels: Sequence[Kernel]) -> bytes:
    """Returns the file with those of its transposed convolutions in int8 that are between levels.

    kernels: of the graph that it was converted from.
    """
    model = unpacked(data)
    changed = False
    for number, graph in enumerate(model.subgraphs):
        before = len(graph.operators)
        for op in [each for each in graph.operators if kind_of(model, each) == _OPS.TRANSPOSE_CONV]:
            _in_int8(model, graph, op, kernels)
        if len(graph.operators) < before:
            changed = True
            read = {i for op in graph.operators for i in ints(op.inputs)} | set(ints(graph.outputs))
            graph.operators = [
                op for op in graph.operators if kind_of(model, op) != _OPS.DEQUANTIZE or int(op.outputs[0]) in read
            ]
            drop_unused_tensors(model, number)
    if not changed:
        return data
    drop_unused(model)
    return packed(model)


def _in_int8(model: Model, graph: Graph, op: Operator, kernels: Sequence[Kernel]) -> None:
    """Takes away what quantizes its output; nothing is changed where the layer is not between levels."""
    shape, weight, source, *rest = ints(op.inputs)
    bias = next((index for index in rest if index >= 0), None)
    values, biases = float_constant(model, graph, weight), None if bias is None else float_constant(model, graph, bias)
    kernel = None if values is None else _same(values, kernels)
    before = next((each for each in graph.operators if source in ints(each.outputs)), None)
    behind = _quantized_behind(model, graph, op)
    if before is None or kind_of(model, before) != _OPS.DEQUANTIZE or not behind or kernel is None:
        return
    levels, given = int(before.inputs[0]), int(behind[-1].outputs[0])
    if any(graph.tensors[each].type != _TYPES.INT8 for each in (levels, given)) or (
        bias is not None and biases is None
    ):
        return
    inputs = [shape, _added(model, graph, weight, kernel.levels, _TYPES.INT8, kernel.scales), levels]
    if bias is not None and biases is not None:
        steps = kernel.scales * np.float32(quantization_of(graph.tensors[levels]).scale[0])
        inputs.append(_added(model, graph, bias, np.rint(biases / steps).astype(np.int32), _TYPES.INT32, steps))
    op.inputs, op.outputs = inputs, [given]
    version = max(_INT8, int(model.operatorCodes[op.opcodeIndex].version))
    op.opcodeIndex = operator_code(model, _OPS.TRANSPOSE_CONV, version)
    gone = {id(each) for each in behind}
    graph.operators = [each for each in graph.operators if id(each) not in gone]


def _quantized_behind(model: Model, graph: Graph, op: Operator) -> list[Operator]:
    """The op that quantizes an op's output, its only reader; with a RELU before it whose zero is the lowest level."""
    found: list[Operator] = []
    while not found or kind_of(model, found[-1]) == _OPS.RELU:
        answer = int((found[-1] if found else op).outputs[0])
        readers = [each for each in graph.operators if answer in ints(each.inputs)]
        if len(readers) != 1 or answer in ints(graph.outputs) or len(found) > 1:
            return []
        found += readers
    if kind_of(model, found[-1]) != _OPS.QUANTIZE:
        return []
    zero_point = int(quantization_of(graph.tensors[int(found[-1].outputs[0])]).zeroPoint[0])
    return found if len(found) == 1 or zero_point == _LOWEST else []


def _same(values: NDArray[np.float32], kernels: Iterable[Kernel]) -> Kernel | None:
    return next((each for each in kernels if np.array_equal(each.values, values)), None)


def _added(model: Model, graph: Graph, like: int, content: Array, kind: int, scales: NDArray[np.float32]) -> int:
    """A constant in place of another, with its name."""
    place = add_tensor(model, graph, content.shape, kind, graph.tensors[like].name, content)
    set_scales(graph.tensors[place], scales, 0)
    return place
