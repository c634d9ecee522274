"""A .tflite file with its layers' outputs as further outputs, to see where it differs from the graph it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from pocketforge.runtimes.taps import FileTap

_OPS = schema.BuiltinOperator
HEAVY = {
    _OPS.CONV_2D: "conv",
    _OPS.DEPTHWISE_CONV_2D: "conv",
    _OPS.TRANSPOSE_CONV: "conv",
    _OPS.FULLY_CONNECTED: "linear",
}
_BEHIND = (_OPS.RELU, _OPS.RELU6, _OPS.ADD, _OPS.MUL, _OPS.QUANTIZE)


def tap_file(path: Path, out: Path) -> list[FileTap]:
    """Write `path` to `out` with each convolution's and linear layer's output added; returns them in the file's order.

    Outputs of convolutions are NHWC, whatever the model's own layout is: the format has no other.
    """
    data = path.read_bytes()
    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(data), 0))
    graph = model.subgraphs[0]
    outputs = [int(i) for i in graph.outputs]
    readers: dict[int, list[Any]] = {}
    for op in graph.operators:
        for index in op.inputs:
            readers.setdefault(int(index), []).append(op)
    found = []
    for op in graph.operators:
        kind = HEAVY.get(_code(model, op))
        if kind is None:
            continue
        last = _end(model, graph, int(op.outputs[0]), readers, outputs)
        if last not in outputs:
            outputs.append(last)
        tensor = graph.tensors[last]
        weight = tuple(int(n) for n in graph.tensors[int(op.inputs[1])].shape)
        name = (tensor.name or b"").decode("utf-8", "replace")
        # Scales come with the session's answer: the format keeps them with each tensor.
        found.append(FileTap(name, kind, outputs.index(last), weight, None, None, kind == "conv"))
    graph.outputs = outputs
    builder = flatbuffers.Builder(len(data) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    out.write_bytes(bytes(builder.Output()))
    return found


def _end(model: Any, graph: Any, tensor: int, readers: dict[int, list[Any]], outputs: list[int]) -> int:
    """Behind an activation or a batch norm that was not fused."""
    while tensor not in outputs and len(readers.get(tensor, [])) == 1:
        op = readers[tensor][0]
        others = [int(i) for i in op.inputs if int(i) not in (tensor, -1)]
        if _code(model, op) not in _BEHIND or not all(_is_constant(model, graph, i) for i in others):
            break
        tensor = int(op.outputs[0])
    return tensor


def _is_constant(model: Any, graph: Any, tensor: int) -> bool:
    data = model.buffers[graph.tensors[tensor].buffer].data
    return data is not None and len(data) > 0


def _code(model: Any, op: Any) -> int:
    return int(model.operatorCodes[op.opcodeIndex].builtinCode)
