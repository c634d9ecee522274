"""A small model of sums whose answers are known: whether ONNX Runtime's kernels of uint8 × int8 are exact here.

Without VNNI, x86 kernels add each two products in 16 bits, and stop at 32,767: 64 products of 250 × 120 come to
1,048,544, not 1,920,000. What a processor says it has does not decide it: the installed kernels do.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_ACTIVATION, _WEIGHT = 250, 120
_CHANNELS = 64
# The output of each convolution is 200 levels of a sum that is exact.
_LEVEL = 200


def write_sums(path: Path) -> tuple[tuple[int, ...], tuple[np.ndarray, ...]]:
    """Write the model: a matrix product, a convolution and a depthwise one, the forms that layers are fused into.

    Returns what each output must be, everywhere, and one sample of each input.
    """
    x = "x"
    constants: list[onnx.TensorProto] = []
    nodes = [
        helper.make_node("Flatten", [x], ["rows"]),
        helper.make_node("MatMulInteger", ["rows", "matrix", "zero_of_x", "zero_of_w"], ["product"]),
    ]
    size = _CHANNELS
    constants += [
        _of("zero_of_x", np.array(0, np.uint8)),
        _of("zero_of_w", np.array(0, np.int8)),
        _of("scale", np.array(1, np.float32)),
        _of("matrix", np.full((size * 9, 16), _WEIGHT, np.int8)),
    ]
    for name, shape, group in (("conv", (16, size, 3, 3), 1), ("depthwise", (size, 1, 3, 3), size)):
        terms = shape[1] * 9
        constants += [
            _of(f"{name}_w", np.full(shape, _WEIGHT, np.int8)),
            _of(f"{name}_scale", np.array(terms * _ACTIVATION * _WEIGHT / _LEVEL, np.float32)),
        ]
        taken = [x, "scale", "zero_of_x", f"{name}_w", "scale", "zero_of_w", f"{name}_scale", "zero_of_x"]
        nodes.append(helper.make_node("QLinearConv", taken, [name], group=group))
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info(x, TensorProto.UINT8, [1, size, 3, 3])],
        [
            helper.make_tensor_value_info("product", TensorProto.INT32, [1, 16]),
            helper.make_tensor_value_info("conv", TensorProto.UINT8, [1, 16, 1, 1]),
            helper.make_tensor_value_info("depthwise", TensorProto.UINT8, [1, size, 1, 1]),
        ],
        constants,
    )
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    exact = size * 9 * _ACTIVATION * _WEIGHT
    return (exact, _LEVEL, _LEVEL), (np.full((1, size, 3, 3), _ACTIVATION, np.uint8),)


def _of(name: str, value: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(value, name)
