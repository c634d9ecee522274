"""Linear layers with int8 weights → ONNX operators that quantize their input at run time.

ONNX's own form (onnx.ai's DynamicQuantizeLinear, MatMulInteger), which ONNX Runtime fuses to one kernel:

    x ─ DynamicQuantizeLinear ─ MatMulInteger ─ Cast ─ Mul (scale of x · scale of w) ─ Add (bias)

Weights become uint8 (value + 128, zero point 128). DynamicQuantizeLinear gives uint8, and x86 kernels for uint8 × int8
saturate their 16-bit sums where the processor has no VNNI; uint8 × uint8 is exact everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pocketforge.errors import StageFailed
from pocketforge.metrics import Array

ZERO_POINT = 128
# Names of our own have a slash: a user's cannot.
WEIGHT_ZERO_POINT = "weights/zero_point"
# A Gemm that computes x @ w + b and nothing else.
_PLAIN = {"transA": 0, "alpha": 1.0, "beta": 1.0}


@dataclass(frozen=True, slots=True)
class _Weight:
    """An int8 matrix and its scales: one, or one for each row (axis 0) or column (axis 1).

    The exporter stores equal constants once, and a layer with a norm folded into its copy has that layer's levels by
    other scales: each has a name of its own.
    """

    name: str
    scale_name: str
    matrix: NDArray[np.int8]
    scale: NDArray[np.float32]
    axis: int

    def transposed(self) -> _Weight:
        return _Weight(f"{self.name}/T", self.scale_name, self.matrix.T, self.scale, 1 - self.axis)

    @property
    def is_for_a_product(self) -> bool:
        """Whether x @ matrix can be scaled after the product: by column."""
        return self.scale.ndim == 0 or self.axis == 1


def quantize_inputs(graph: onnx.GraphProto) -> int:
    """Rewrite each Gemm and MatMul whose weight is a dequantized int8 constant, in place. Returns how many.

    Raises StageFailed when an int8 weight goes elsewhere: nothing is left to be multiplied in float silently.
    """
    constants = _constants(graph)
    weights = _weights(graph, constants)
    nodes: list[onnx.NodeProto] = []
    quantized: dict[str, tuple[str, str, str]] = {}
    stored: dict[str, onnx.TensorProto] = {}
    count = 0
    for node in graph.node:
        weight = weights.get(node.input[1]) if node.op_type in ("Gemm", "MatMul") else None
        if weight is not None and _attribute(node, "transB", 0):
            weight = weight.transposed()
        plain = all(_attribute(node, name, value) == value for name, value in _PLAIN.items())
        if weight is None or not plain or not weight.is_for_a_product:
            nodes.append(node)
            continue
        x = node.input[0]
        if x not in quantized:  # layers that share an input share its quantization
            quantized[x] = (f"{x}/quantized", f"{x}/scale", f"{x}/zero_point")
            nodes.append(helper.make_node("DynamicQuantizeLinear", [x], list(quantized[x])))
        names = f"{weight.name}/uint8", f"{weight.scale_name}/scale"
        if names[0] not in stored:
            shifted = np.ascontiguousarray((weight.matrix.astype(np.int16) + ZERO_POINT).astype(np.uint8))
            stored[names[0]] = numpy_helper.from_array(shifted, names[0])
        if names[1] not in stored:
            stored[names[1]] = numpy_helper.from_array(weight.scale, names[1])
        nodes += _linear(node, quantized[x], names)
        count += 1
    added = list(stored.values())
    if added:
        added.append(numpy_helper.from_array(np.array(ZERO_POINT, np.uint8), WEIGHT_ZERO_POINT))
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(added)
    _drop_unused(graph, set(weights))
    left = [node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"]
    if left:
        raise StageFailed(f"int8 weights that no linear layer takes: {', '.join(left)}", 'use scheme = "static_int8"')
    # The exporter's types of values in between are of nodes that are gone.
    del graph.value_info[:]
    return count


def _linear(node: onnx.NodeProto, x: tuple[str, str, str], weight: tuple[str, str]) -> list[onnx.NodeProto]:
    values, x_scale, x_zero_point = x
    out = node.output[0]
    bias = node.input[2] if len(node.input) > 2 else ""
    product = f"{out}/product" if bias else out
    nodes = [
        helper.make_node("MatMulInteger", [values, weight[0], x_zero_point, WEIGHT_ZERO_POINT], [f"{out}/int32"]),
        helper.make_node("Cast", [f"{out}/int32"], [f"{out}/float"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [x_scale, weight[1]], [f"{out}/scales"]),
        helper.make_node("Mul", [f"{out}/float", f"{out}/scales"], [product]),
    ]
    if bias:
        nodes.append(helper.make_node("Add", [product, bias], [out]))
    return nodes


def _weights(graph: onnx.GraphProto, constants: dict[str, Array]) -> dict[str, _Weight]:
    """Value name → int8 weight: outputs of DequantizeLinear on a constant, and of a Transpose behind one."""
    weights: dict[str, _Weight] = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            value, scale = constants.get(node.input[0]), constants.get(node.input[1])
            zero_point = constants.get(node.input[2]) if len(node.input) > 2 else np.zeros(1, np.int8)
            if value is None or scale is None or zero_point is None or value.dtype != np.int8 or value.ndim != 2:
                continue
            if np.any(zero_point) or (scale.size > 1 and _attribute(node, "axis", 1) != 0):
                continue
            # As torch stores a linear layer's weight: N×K, a scale for each of the N outputs.
            flat = scale.reshape(-1)
            one = flat[:1].reshape(()) if np.all(flat == flat[0]) else flat
            weights[node.output[0]] = _Weight(node.input[0], node.input[1], value, one.astype(np.float32), axis=0)
        elif node.op_type == "Transpose" and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]].transposed()
    return weights


def _constants(graph: onnx.GraphProto) -> dict[str, Array]:
    constants = {i.name: np.asarray(numpy_helper.to_array(i)) for i in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = np.asarray(numpy_helper.to_array(node.attribute[0].t))
    return constants


def _attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    value: float = next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
    return value


def _drop_unused(graph: onnx.GraphProto, candidates: set[str]) -> None:
    """Remove dequantized weights that nothing reads any more, and constants that were theirs."""
    outputs = {value.name for value in graph.output}
    while True:
        used = {name for node in graph.node for name in node.input} | outputs
        dead = [n for n in graph.node if n.output[0] in candidates and n.output[0] not in used]
        if not dead:
            break
        for node in dead:
            graph.node.remove(node)
    for initializer in [i for i in graph.initializer if i.name not in used]:
        graph.initializer.remove(initializer)
