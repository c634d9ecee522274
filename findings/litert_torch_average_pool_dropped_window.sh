#!/bin/sh
# litert-torch 0.10.0: an average pool with ceil_mode whose last window torch drops has other values, in float32.
#
# Expected: avg_pool2d(x, 2, 3, 1, ceil_mode=True) of [1, 3, 8, 8] is what torch answers. Torch's rule: a window that would
# begin in the padding behind the map is dropped, so that here ceil_mode changes nothing.
# Seen: the file's map has the right shape and other values, off by 1 (inputs from a normal distribution); without
# ceil_mode, which is the same function here, it is exact. Nothing warns.
# Why it matters: ceil_mode is set once for a net and meets any image size; whether the last window is dropped depends on it.
# Versions: litert-torch 0.10.0, ai-edge-litert 2.3.0, torch 2.13.0, torchao 0.18.0, Python 3.11.
# Source: seen by running.
# Output seen: ceil_mode=True: error 1.04; ceil_mode=False: 0.00; torch's two answers are equal.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torchao==0.18.0 litert-torch==0.10.0 ai-edge-litert==2.3.0
cat > "$folder/look.py" <<'PYTHON'
import os
import sys
import tempfile

import litert_torch
import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter


def answers(model, x):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.tflite")
        litert_torch.convert(model, (x,)).export(path)
        interpreter = Interpreter(path)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x.numpy())
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


torch.manual_seed(0)
x, errors = torch.randn(1, 3, 8, 8), {}
for ceil_mode in (True, False):
    model = torch.nn.AvgPool2d(2, 3, 1, ceil_mode=ceil_mode).eval()
    wanted, found = model(x).numpy(), answers(model, x)
    errors[ceil_mode] = float(np.abs(found - wanted).max()) if found.shape == wanted.shape else float("inf")
    print(f"ceil_mode={ceil_mode}: error {errors[ceil_mode]:.2f}", file=sys.stderr)
assert torch.equal(torch.nn.AvgPool2d(2, 3, 1, ceil_mode=True)(x), torch.nn.AvgPool2d(2, 3, 1)(x))
assert errors[True] > 0.5 and errors[False] < 1e-5, "it behaves otherwise now"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py" > /dev/null
