"""A .tflite file with its layers' outputs as further outputs, to see where it differs from the graph it came from."""

from __future__ import annotations

from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from pocketforge.runtimes.taps import FileTap
from pocketforge.runtimes.tflite_objects import Graph, Model, Operator, kind_of, packed, unpacked

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
    model = unpacked(data)
    graph = model.subgraphs[0]
    outputs = [int(i) for i in graph.outputs]
    readers: dict[int, list[Operator]] = {}
    for op in graph.operators:
        for index in op.inputs:
            readers.setdefault(int(index), []).append(op)
    taps = []
    for op in graph.operators:
        kind = HEAVY.get(kind_of(model, op))
        if kind is None:
            continue
        last = _end(model, graph, int(op.outputs[0]), readers, outputs)
        if last not in outputs:
            outputs.append(last)
        tensor = graph.tensors[last]
        weight = tuple(int(n) for n in graph.tensors[int(op.inputs[1])].shape)
        name = (tensor.name or b"").decode("utf-8", "replace")
        # Scales come with the session's answer: the format keeps them with each tensor.
        taps.append(FileTap(name, kind, outputs.index(last), weight, None, None, kind == "conv"))
    graph.outputs = outputs
    out.write_bytes(packed(model, len(data) + 4096))
    return taps


def _end(model: Model, graph: Graph, tensor: int, readers: dict[int, list[Operator]], outputs: list[int]) -> int:
    """Behind an activation or a batch norm that was not fused."""
    while tensor not in outputs and len(readers.get(tensor, [])) == 1:
        op = readers[tensor][0]
        others = [int(i) for i in op.inputs if int(i) not in (tensor, -1)]
        if kind_of(model, op) not in _BEHIND or not all(_is_constant(model, graph, i) for i in others):
            break
        tensor = int(op.outputs[0])
    return tensor


def _is_constant(model: Model, graph: Graph, tensor: int) -> bool:
    data = model.buffers[graph.tensors[tensor].buffer].data
    return data is not None and len(data) > 0
