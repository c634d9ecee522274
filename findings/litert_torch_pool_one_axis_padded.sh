#!/bin/sh
# litert-torch 0.10.0: a max pool that is padded along one axis alone (by ceil_mode) gives a larger map along the other.
#
# Expected: MaxPool2d(3, 2, ceil_mode=True) of [1, 3, 8, 5] is [1, 3, 4, 2], as in torch.
# Seen: the file answers [1, 3, 4, 3]. The eight rows need one row of padding behind, just what TFLite's SAME would add;
# the five columns need none, and SAME would add two. The converter looks at one axis and writes SAME for both. The same
# with padding=(0, 1), with unlike strides, and for average pools with count_include_pad=False. Nothing warns.
# Why it matters: images are seldom square, and ceil_mode is in SqueezeNet, GoogLeNet, DenseNet-like stems. Where a flatten or
# a mean follows, the wrong map has the right rank.
# Versions: litert-torch 0.10.0, ai-edge-litert 2.3.0, torch 2.13.0, torchao 0.18.0, Python 3.11.
# Source: seen by running (first found by comparing random small networks with their files).
# Output seen: [8, 5]: torch [1, 3, 4, 2], file [1, 3, 4, 3]; [8, 8]: both [1, 3, 4, 4], error 0.00.
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
model = torch.nn.MaxPool2d(3, 2, ceil_mode=True).eval()
for size, same in (((8, 5), False), ((8, 8), True)):
    x = torch.randn(1, 3, *size)
    wanted, found = model(x).numpy(), answers(model, x)
    error = f"error {np.abs(found - wanted).max():.2f}" if found.shape == wanted.shape else "other shapes"
    print(f"{list(size)}: torch {list(wanted.shape)}, file {list(found.shape)}, {error}", file=sys.stderr)
    assert (found.shape == wanted.shape) == same, "it behaves otherwise now"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py" > /dev/null
