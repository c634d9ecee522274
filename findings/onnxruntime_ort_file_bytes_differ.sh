#!/bin/sh
# onnxruntime 1.32.0: the same model converted to .ort twice gives two files of the same size and other bytes.
#
# Expected: converting one .onnx file with one version and the same options gives the same .ort file, in any process: its
# SHA-256 can name what an app ships, and a rebuild can be compared with a release.
# Seen: most conversions give another file, in one process too. Model, constants and nodes are the same bytes; what differs is the table
# of the operators' types (kernel type string resolver) before them, whose entries have another order each time.
# Sorted, they are the same.
# Why it matters: reproducible builds, content-addressed stores and patches from one release to the next take a model
# for changed that is not.
# Versions: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.2.6, Python 3.11.
# Source: seen by running; the format is told at https://onnxruntime.ai/docs/reference/ort-format-models.html
# Output seen: 6 conversions, 4 different files, 1 size; outputs equal.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.2.6
cat > "$folder/look.py" <<'PYTHON'
import contextlib
import hashlib
import io
import pathlib
import tempfile

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.tools import convert_onnx_models_to_ort as convert

weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
nodes = [
    helper.make_node("Conv", ["x", "weights"], ["a"], name="conv"),
    helper.make_node("Sigmoid", ["a"], ["b"], name="sigmoid"),
    helper.make_node("Mul", ["a", "b"], ["c"], name="mul"),
    helper.make_node("ReduceMean", ["c"], ["d"], name="mean", axes=[2, 3]),
    helper.make_node("Flatten", ["d"], ["e"], name="flatten"),
    helper.make_node("Softmax", ["e"], ["y"], name="softmax"),
]
ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, 8, 8]), ("y", [1, 4]))]
graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [numpy_helper.from_array(weights, "weights")])
onnx_file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
x = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
digests, sizes, answers = set(), set(), []
for _ in range(6):
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        path = pathlib.Path(name) / "model.onnx"
        path.write_bytes(onnx_file)
        convert.convert_onnx_models_to_ort(path, optimization_styles=[convert.OptimizationStyle.Fixed])
        made = path.with_suffix(".ort").read_bytes()
    digests.add(hashlib.sha256(made).hexdigest())
    sizes.add(len(made))
    session = onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])
    answers.append(session.run(None, {"x": x})[0])
equal = all(np.array_equal(each, answers[0]) for each in answers)
print(f"6 conversions, {len(digests)} different files, {len(sizes)} size; outputs {'equal' if equal else 'differ'}")
assert len(digests) > 1 and len(sizes) == 1 and equal, "it behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/look.py"
