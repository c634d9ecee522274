#!/bin/sh
# onnxruntime 1.32.0: an 8-bit average pool with ceil_mode and padding answers otherwise once it is fused.
#
# Expected: DequantizeLinear, AveragePool, QuantizeLinear give the same with graph optimizations on and off, but for one
# step of rounding: the optimizer replaces them by one operator with 8-bit inputs and outputs of the same definition.
# Seen: with count_include_pad=1, ceil_mode=1 and padding, the last row and column of the map, whose windows reach
# beyond the padding, are several steps off; all other places agree. No warning. With count_include_pad=0 all agree.
# Why it matters: PyTorch exports AvgPool2d(…, padding=1, ceil_mode=True) to this graph by default. The float file is
# right, each operator alone is right, and the 8-bit file is wrong at one border only, which a figure over the whole map
# (28 dB of signal to noise) hides.
# Versions: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.2.6, Python 3.11; the CPU provider.
# Source: seen by running; the ONNX operator's definition is at https://onnx.ai/onnx/operators/onnx__AveragePool.html
# Output seen: count_include_pad=0: 0 places off by more than a step. count_include_pad=1: 6, of the last row or
# column alone, the worst by 8 steps.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.2.6
cat > "$folder/look.py" <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SCALE = np.float32(0.02)


def model(count_include_pad):
    constants = [numpy_helper.from_array(SCALE, "scale"), numpy_helper.from_array(np.uint8(128), "zero")]
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x8"]),
        helper.make_node("DequantizeLinear", ["x8", "scale", "zero"], ["xf"]),
        helper.make_node("AveragePool", ["xf"], ["pooled"], count_include_pad=count_include_pad, **pool),
        helper.make_node("QuantizeLinear", ["pooled", "scale", "zero"], ["y8"]),
        helper.make_node("DequantizeLinear", ["y8", "scale", "zero"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 1, 8, 8]), ("y", None))]
    graph = helper.make_graph(nodes, "pool", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9).SerializeToString()


def run(file, level, x):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


x = np.random.default_rng(0).normal(0, 0.8, (1, 1, 8, 8)).astype(np.float32)
levels = onnxruntime.GraphOptimizationLevel
off = {}
for count in (0, 1):
    plain, fused = (run(model(count), level, x) for level in (levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_ALL))
    steps = np.abs(np.round((fused - plain) / SCALE))[0, 0]
    off[count] = steps > 1
    print(f"count_include_pad={count}: {int(off[count].sum())} places off by more than a step, worst {int(steps.max())}")
assert not off[0].any() and off[1].any() and not off[1][:-1, :-1].any(), "it behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/look.py"
