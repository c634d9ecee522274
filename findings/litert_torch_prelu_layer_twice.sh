#!/bin/sh
# litert-torch 0.10.0: a linear layer with a PReLU behind it is stored and computed twice.
#
# Expected: Linear and PReLU become one FULLY_CONNECTED and a few operators behind it.
# Seen: PReLU is written relu(x) - weight * relu(-x). The converter then folds the sign of -x into the layer before: a
# second FULLY_CONNECTED with its own copy of the weights, negated. Behind a convolution the sign stays an operator.
# Nothing warns; the answers are right.
# Why it matters: face and keypoint nets (MTCNN's R-Net and O-Net) end so; R-Net's file has 705 kB of 400 kB of weights.
# Versions: litert-torch 0.10.0, ai-edge-litert 2.3.0, torch 2.13.0, torchao 0.18.0, Python 3.11.
# Source: seen by running (R-Net of facenet-pytorch, whose .tflite was larger than its .onnx).
# Output seen: 2 FULLY_CONNECTED of 1 linear layer, 2.0 times its weights.
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
import torch
from ai_edge_litert.interpreter import Interpreter

model = torch.nn.Sequential(torch.nn.Linear(256, 128), torch.nn.PReLU(128)).eval()
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "model.tflite")
    litert_torch.convert(model, (torch.randn(1, 256),)).export(path)
    times = os.path.getsize(path) / (4 * 256 * 128)
    layers = [each["op_name"] for each in Interpreter(path)._get_ops_details()].count("FULLY_CONNECTED")
print(f"{layers} FULLY_CONNECTED of 1 linear layer, {times:.1f} times its weights", file=sys.stderr)
assert layers == 2 and times > 1.9, "it behaves otherwise now"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py" > /dev/null
