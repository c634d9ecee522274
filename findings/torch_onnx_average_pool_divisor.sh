#!/bin/sh
# torch 2.13.0: the ONNX exporter leaves out avg_pool2d's divisor_override.
#
# Expected: avg_pool2d(x, 2, divisor_override=3) is the sum of each window over 3, in the file as in torch; or the export is
# refused, as ONNX's AveragePool has no such attribute.
# Seen: torch.onnx.export(dynamo=True) writes a plain AveragePool, which divides by 4. The file passes the checker, loads
# and runs. Nothing warns.
# Why it matters: divisor_override=1 is the usual way to write sums over windows; the file's are a window's size too small.
# Versions: torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0, Python 3.11.
# Source: seen by running.
# Output seen: divisor 3: file / torch = 0.75; divisor 4 (the window's size): 1.00.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
cat > "$folder/look.py" <<'PYTHON'
import os
import sys
import tempfile

import onnxruntime
import torch


class Pooled(torch.nn.Module):
    def __init__(self, divisor):
        super().__init__()
        self.divisor = divisor

    def forward(self, x):
        return torch.nn.functional.avg_pool2d(x, 2, divisor_override=self.divisor)


def ratio(divisor):
    torch.manual_seed(0)
    model, x = Pooled(divisor).eval(), torch.rand(1, 3, 8, 8) + 1
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        torch.onnx.export(model, (x,), path, dynamo=True, input_names=["x"], verbose=False)
        (found,) = onnxruntime.InferenceSession(path).run(None, {"x": x.numpy()})
    return float((torch.from_numpy(found) / model(x)).mean())


three, four = ratio(3), ratio(4)
print(f"divisor 3: file / torch = {three:.2f}; divisor 4 (the window's size): {four:.2f}", file=sys.stderr)
assert abs(three - 0.75) < 0.01 and abs(four - 1) < 0.01, "it behaves otherwise now"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py" > /dev/null
