"""An .onnx file with its layers' outputs as further outputs, to see where it differs from the graph it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from pocketforge.metrics import Array
from pocketforge.runtimes.taps import FileTap

HEAVY = {
    "Conv": "conv",
    "ConvInteger": "conv",
    "QLinearConv": "conv",
    "ConvTranspose": "conv",
    "Gemm": "linear",
    "MatMul": "linear",
    "MatMulInteger": "linear",
    "MatMulNBits": "linear",
}
# What belongs to the layer in front of it: the value behind these is the same in every form of the model.
_BEHIND = ("BatchNormalization", "Relu", "Clip", "QuantizeLinear", "Cast")


@dataclass(frozen=True, slots=True)
class _Graph:
    """A file's nodes by what they give and by what they read, its stored tensors, and its outputs' names so far."""

    makers: dict[str, onnx.NodeProto]
    readers: dict[str, list[onnx.NodeProto]]
    constants: dict[str, onnx.TensorProto]
    outputs: list[str]

    @staticmethod
    def of(graph: onnx.GraphProto) -> _Graph:
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        makers = {name: node for node in graph.node for name in node.output}
        return _Graph(makers, readers, {i.name: i for i in graph.initializer}, [v.name for v in graph.output])

    def constant(self, name: str) -> Array | None:
        """A stored value; None for what is computed."""
        if name in self.constants:
            return np.asarray(numpy_helper.to_array(self.constants[name]))
        if name in self.makers and self.makers[name].op_type == "Constant":
            return np.asarray(numpy_helper.to_array(self.makers[name].attribute[0].t))
        return None


def tap_file(path: Path, out: Path) -> list[FileTap]:
    """Write `path` to `out` with each convolution's and linear layer's output added; returns them in the file's order.

    Products of two computed values (attention) have no weight and are left out.
    """
    model = onnx.load(path)
    proto = model.graph
    graph = _Graph.of(proto)
    known = {v.name: v for v in (*onnx.shape_inference.infer_shapes(model).graph.value_info, *proto.output)}
    taps = []
    for node in proto.node:
        if node.op_type not in HEAVY:
            continue
        weight = _weight(node, graph)
        if weight is None:
            continue
        last, quantizer = _end(node, graph)
        if last not in graph.outputs:
            proto.output.append(known.get(last) or onnx.helper.make_empty_tensor_value_info(last))
            graph.outputs.append(last)
        scale, zero_point = (None, None) if quantizer is None else _parameters(quantizer, graph)
        taps.append(
            FileTap(node.name, HEAVY[node.op_type], graph.outputs.index(last), weight, scale, zero_point, False)
        )
    out.write_bytes(model.SerializeToString(deterministic=True))
    return taps


def _end(node: onnx.NodeProto, graph: _Graph) -> tuple[str, onnx.NodeProto | None]:
    """The name of the layer's output, and the QuantizeLinear that it comes from, if it does."""
    integer = node.op_type in ("MatMulInteger", "ConvInteger")
    quantizer = None
    while True:
        name = node.output[0]
        users = graph.readers.get(name, [])
        if name in graph.outputs or len(users) != 1 or quantizer is not None:
            return name, quantizer
        user = users[0]
        others = [i for i in user.input if i and i != name]
        bias = user.op_type == "Add" and all(graph.constant(i) is not None for i in others)
        belongs = user.op_type in _BEHIND or (integer and user.op_type == "Mul")
        if not bias and not (belongs and user.input[0] == name):
            return name, quantizer
        node = user
        quantizer = user if user.op_type == "QuantizeLinear" else None


def _weight(node: onnx.NodeProto, graph: _Graph) -> tuple[int, ...] | None:
    """Shape of a layer's weight, through what de-quantizes or turns it; None when it is computed from the input."""
    name = node.input[3] if node.op_type == "QLinearConv" else node.input[1]
    while name not in graph.constants:
        if name not in graph.makers or not graph.makers[name].input:
            value = graph.constant(name)
            return None if value is None else tuple(value.shape)
        name = graph.makers[name].input[0]
    return tuple(int(n) for n in graph.constants[name].dims)


def _parameters(node: onnx.NodeProto, graph: _Graph) -> tuple[float, int]:
    scale = graph.constant(node.input[1])
    zero_point = graph.constant(node.input[2]) if len(node.input) > 2 else np.zeros(())
    assert scale is not None and zero_point is not None
    return float(scale), int(zero_point)
