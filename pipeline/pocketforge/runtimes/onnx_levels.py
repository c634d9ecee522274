"""The integers that a quantized ONNX graph's levels are: uint8, and int8 weights where an app is for ARM alone."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from pocketforge.metrics import Array

# What multiplies by weights, and at which place it takes them.
_LAYERS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
# What may stand between weights and their layer.
_MOVES = ("Transpose", "Reshape")


def constant(graph: onnx.GraphProto, name: str) -> Array | None:
    """A value that the graph holds; None where it is computed or fed."""
    for initializer in graph.initializer:
        if initializer.name == name:
            return np.asarray(numpy_helper.to_array(initializer))
    for node in graph.node:
        if node.op_type == "Constant" and name in node.output:
            return np.asarray(numpy_helper.to_array(node.attribute[0].t))
    return None


def to_uint8(graph: onnx.GraphProto, *, weights: bool = True) -> None:
    """Shift int8 activations and weights to uint8 (value and zero point + 128): the same real values.

    weights: also those of layers. ARM's kernels for int8 ones take two thirds of the instructions.

    Activations, because ONNX Runtime fuses QDQ convolutions on uint8 activations; with int8 ones several stay unfused
    on x86 and run slower than float. Weights, because x86 kernels for uint8 × int8 saturate their 16-bit sums where
    the processor has no VNNI, and answer wrongly (digits: top-1 .988 → .856); uint8 × uint8 is exact everywhere.
    """
    activations = {n.output[0] for n in graph.node if n.op_type == "QuantizeLinear"}
    kept = set() if weights else _of_layers(graph)
    for index, node in enumerate(graph.node):
        if node.op_type == "QuantizeLinear":
            _shift(graph, node, 2, index)
            for attribute in node.attribute:
                if attribute.name == "output_dtype":
                    attribute.i = onnx.TensorProto.UINT8
        elif node.op_type == "DequantizeLinear" and node.output[0] not in kept:
            if node.input[0] not in activations and not _shift(graph, node, 0, index):
                continue  # an int32 bias
            _shift(graph, node, 2, index)
    used = {name for node in graph.node for name in node.input}
    for initializer in [i for i in graph.initializer if i.name not in used]:
        graph.initializer.remove(initializer)
    # The recorded intermediate types are now wrong; the checker infers them again.
    del graph.value_info[:]


def _shift(graph: onnx.GraphProto, node: onnx.NodeProto, position: int, index: int) -> bool:
    """Give `node` a uint8 copy of its int8 constant input; False when that input is not an int8 constant."""
    value = constant(graph, node.input[position])
    if value is None or value.dtype != np.int8:
        return False
    # A copy of its own for every use: exporters share equal constants, and their other users may want int8.
    name = f"{node.input[position]}_uint8_{index}"
    if name not in node.input:  # a zero and its zero point are one constant
        graph.initializer.append(numpy_helper.from_array((value.astype(np.int16) + 128).astype(np.uint8), name))
    node.input[position] = name
    return True


def _of_layers(graph: onnx.GraphProto) -> set[str]:
    """De-quantized constants that layers alone read, as their weights. Others are added or multiplied element by
    element, whose kernels take levels of one type."""
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, place))

    def only_weights(name: str) -> bool:
        found = readers.get(name, [])
        return bool(found) and all(
            only_weights(node.output[0]) if node.op_type in _MOVES else _LAYERS.get(node.op_type) == place
            for node, place in found
        )

    return {
        node.output[0] for node in graph.node if node.op_type == "DequantizeLinear" and only_weights(node.output[0])
    }
