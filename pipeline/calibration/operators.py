"""The operators of a .tflite file with the bytes that each moves: the memory term's input."""

from __future__ import annotations

import math
from typing import Any

from ai_edge_litert import schema_py_generated as schema

_BYTES = {schema.TensorType.FLOAT32: 4, schema.TensorType.INT32: 4, schema.TensorType.INT8: 1}
_WEIGHTED = ("CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")
_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}


def operators(data: bytes) -> list[dict[str, Any]]:
    """Rows {kind, weight_bytes, input_bytes, output_bytes, rows, macs} in execution order.

    `rows` is how many output positions each use all of the operator's weights (0 where that has no meaning).
    Padding that runtimes fold into the convolution after it is no operator of its own.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(data), 0))
    graph = model.subgraphs[0]

    def constant(index: int) -> bool:
        held = model.buffers[graph.tensors[index].buffer].data
        return held is not None and len(held) > 0

    def size(index: int) -> int:
        tensor = graph.tensors[index]
        return int(math.prod(int(n) for n in tensor.shape)) * _BYTES[tensor.type]

    kinds = [_NAMES[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes]
    source = {int(y): op for op in graph.operators for y in op.outputs}
    users: dict[int, list[str]] = {}
    for op in graph.operators:
        for x in op.inputs:
            users.setdefault(int(x), []).append(kinds[op.opcodeIndex])
    found = []
    for op in graph.operators:
        kind = kinds[op.opcodeIndex]
        if kind == "PAD" and set(users.get(int(op.outputs[0]), [])) <= {"CONV_2D", "DEPTHWISE_CONV_2D"}:
            continue
        inputs = [int(i) for i in op.inputs if i >= 0]
        moving = [i for i in inputs if not constant(i)]
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D") and moving and moving[0] in source:
            before = source[moving[0]]
            if kinds[before.opcodeIndex] == "PAD":
                moving[0] = int(before.inputs[0])
        shape = [int(n) for n in graph.tensors[int(op.outputs[0])].shape]
        weights = [i for i in inputs if constant(i) and kind not in ("MEAN", "RESHAPE", "TRANSPOSE", "SPLIT_V", "PAD")]
        rows = math.prod(shape[:-1]) if kind in _WEIGHTED else 0
        found.append(
            {
                "kind": kind,
                "weight_bytes": sum(size(i) for i in weights),
                "input_bytes": sum(size(i) for i in moving),
                "output_bytes": sum(size(int(i)) for i in op.outputs),
                "rows": rows,
                "macs": _macs(kind, graph, inputs, shape),
            }
        )
    return found


def _macs(kind: str, graph: Any, inputs: list[int], shape: list[int]) -> int:
    """Multiply-accumulates of one operator."""
    outputs = math.prod(shape)
    if kind == "CONV_2D" or kind == "FULLY_CONNECTED":
        weights = [int(n) for n in graph.tensors[inputs[1]].shape]
        return outputs * math.prod(weights[1:])
    if kind == "DEPTHWISE_CONV_2D":
        weights = [int(n) for n in graph.tensors[inputs[1]].shape]
        return outputs * weights[1] * weights[2]
    if kind == "BATCH_MATMUL":
        return outputs * int(graph.tensors[inputs[0]].shape[-1])
    return 0
