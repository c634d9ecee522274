#!/bin/sh
# litert-torch 0.10.0: `1 - conv(x)` becomes `conv(x) - 1`, in float32, without a word.
#
# Expected: a subtraction from a number keeps its order when it is converted.
# Seen: where the operand comes from (or goes to) a convolution, so that the converter moves the graph to channels-last,
# aten.rsub loses its order: the file answers x - 1. Behind a linear layer the same expression is right. Nothing warns,
# and the file loads and runs.
# Why it matters: gates and masks are written so (`1 - mask`, `1 - sigmoid(x)` of a GRU-like cell), and the wrong file
# has the right shape, range and size; only its sign is off.
# Versions: litert-torch 0.10.0, ai-edge-litert 2.3.0, torch 2.13.0, torchao 0.18.0, Python 3.11.
# Source: seen by running (first found by comparing random small networks with their files).
# Output seen: behind a convolution: error 5.71, error to the negated answer 0.00; behind a linear layer: 0.00 and 4.94.
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


class OneMinus(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return 1 - self.layer(x)


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
errors = {}
layers = {"convolution": torch.nn.Conv2d(3, 4, 3, padding=1), "linear layer": torch.nn.Linear(8, 8)}
for name, layer in layers.items():
    model, x = OneMinus(layer).eval(), torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        wanted = model(x).numpy()
    found = answers(model, x)
    errors[name] = float(np.abs(found - wanted).max()), float(np.abs(found + wanted).max())
    print(f"behind a {name}: error {errors[name][0]:.2f}, error to the negated answer {errors[name][1]:.2f}", file=sys.stderr)
assert errors["convolution"][0] > 1 > 1e-4 > errors["convolution"][1], "it behaves otherwise now"
assert errors["linear layer"][0] < 1e-4, "it behaves otherwise now"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py" > /dev/null
