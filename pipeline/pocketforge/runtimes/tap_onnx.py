"""An .onnx file with its layers' outputs as further outputs, to see where it differs from the graph it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

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


def tap_file(path: Path, out: Path) -> list[FileTap]:
    """Write `path` to `out` with each convolution's and linear layer's output added; returns them in the file's order.

    Products of two computed values (attention) have no weight and are left out.
    """
    model = onnx.load(path)
    graph = model.graph
    constants = {i.name: i for i in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    known = {v.name: v for v in (*onnx.shape_inference.infer_shapes(model).graph.value_info, *graph.output)}
    outputs = [v.name for v in graph.output]
    found = []
    for node in graph.node:
        if node.op_type not in HEAVY:
            continue
        weight = _weight(node, made, constants)
        if weight is None:
            continue
        last, quantizer = _end(node, readers, outputs, made, constants)
        if last not in outputs:
            graph.output.append(known.get(last) or onnx.helper.make_empty_tensor_value_info(last))
            outputs.append(last)
        scale, zero_point = (None, None) if quantizer is None else _parameters(quantizer, made, constants)
        found.append(FileTap(node.name, HEAVY[node.op_type], outputs.index(last), weight, scale, zero_point, False))
    out.write_bytes(model.SerializeToString(deterministic=True))
    return found


def _end(
    node: onnx.NodeProto, readers: Any, outputs: list[str], made: Any, constants: Any
) -> tuple[str, onnx.NodeProto | None]:
    """The name of the layer's output, and the QuantizeLinear that it comes from, if it does."""
    integer = node.op_type in ("MatMulInteger", "ConvInteger")
    quantizer = None
    while True:
        name = node.output[0]
        users = readers.get(name, [])
        if name in outputs or len(users) != 1 or quantizer is not None:
            return name, quantizer
        user = users[0]
        others = [i for i in user.input if i and i != name]
        bias = user.op_type == "Add" and all(_constant(i, made, constants) is not None for i in others)
        belongs = user.op_type in _BEHIND or (integer and user.op_type == "Mul")
        if not bias and not (belongs and user.input[0] == name):
            return name, quantizer
        node = user
        quantizer = user if user.op_type == "QuantizeLinear" else None


def _weight(node: onnx.NodeProto, made: Any, constants: Any) -> tuple[int, ...] | None:
    """Shape of a layer's weight, through what de-quantizes or turns it; None when it is computed from the input."""
    name = node.input[3] if node.op_type == "QLinearConv" else node.input[1]
    while name not in constants:
        if name not in made or not made[name].input:
            value = _constant(name, made, constants)
            return None if value is None else tuple(value.shape)
        name = made[name].input[0]
    return tuple(int(n) for n in constants[name].dims)


def _constant(name: str, made: Any, constants: Any) -> np.ndarray[Any, Any] | None:
    if name in constants:
        return np.asarray(numpy_helper.to_array(constants[name]))
    if name in made and made[name].op_type == "Constant":
        return np.asarray(numpy_helper.to_array(made[name].attribute[0].t))
    return None


def _parameters(node: onnx.NodeProto, made: Any, constants: Any) -> tuple[float, int]:
    scale = _constant(node.input[1], made, constants)
    zero_point = _constant(node.input[2], made, constants) if len(node.input) > 2 else np.zeros(())
    assert scale is not None and zero_point is not None
    return float(scale), int(zero_point)
