"""What the operators of a .tflite file move."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from pipeline.runtimes.traffic import Moved, size_of

_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_TYPES = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
# In these, positions of the output share weights; what else has constants reads each of them once.
_SPATIAL = frozenset({"CONV_2D", "TRANSPOSE_CONV", "CONV_3D"})


def read(path: Path) -> Iterator[Moved]:
    """The operators of the first subgraph, which is what an inference runs."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph = model.subgraphs[0]
    # XNNPACK unpacks a constant once, when the file is loaded: what it makes is constant too.
    constant = {i for i, tensor in enumerate(graph.tensors) if model.buffers[tensor.buffer].data is not None}
    for operator in graph.operators or ():
        code = model.operatorCodes[operator.opcodeIndex]
        kind = _NAMES.get(max(code.deprecatedBuiltinCode, code.builtinCode), "CUSTOM")
        inputs = [int(i) for i in (() if operator.inputs is None else operator.inputs) if i >= 0]
        outputs = [int(i) for i in (() if operator.outputs is None else operator.outputs)]
        if kind in ("DEQUANTIZE", "QUANTIZE") and set(inputs) <= constant:
            constant |= set(outputs)
            continue
        yield Moved(
            kind,
            sum(_size(graph.tensors[i]) for i in inputs if i in constant),
            sum(_size(graph.tensors[i]) for i in inputs if i not in constant),
            sum(_size(graph.tensors[i]) for i in outputs),
            _rows(kind, graph, inputs, outputs, constant),
        )


def _rows(kind: str, graph: Any, inputs: list[int], outputs: list[int], constant: set[int]) -> int:
    if kind in _SPATIAL or (kind == "FULLY_CONNECTED" and inputs[1] in constant):
        return math.prod(int(d) for d in graph.tensors[outputs[0]].shape[:-1])
    return 0


def _size(tensor: Any) -> int:
    name = tensor.name.decode() if isinstance(tensor.name, bytes) else str(tensor.name)
    shape = () if tensor.shape is None else [int(d) for d in tensor.shape]
    return size_of(shape, _TYPES.get(tensor.type, "unknown"), name)
