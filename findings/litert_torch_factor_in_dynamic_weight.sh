#!/bin/sh
# litert-torch 0.10.0: a factor before a dynamic int8 linear layer goes into its weight and not into the weight's scales.
#
# Expected: a PT2E graph with dynamic ranges and int8 weights, `linear(4 * x)`, answers in a .tflite as it does in PyTorch.
# Seen: the converter multiplies the layer's weight by the factor and drops the product, but the scales of the
# quantized weight stay those of the weight before. Nothing warns. Without the
# factor the same file is right to the last bits.
# Why it matters: gelu, hard sigmoid and attention put such factors (1/6, 1/sqrt(d)) before linear layers; small ones
# cost digits, large ones most of the signal.
# Versions: litert-torch 0.10.0, ai-edge-litert 2.3.0, torch 2.13.0, torchao 0.18.0, Python 3.11.
# Source: seen by running (a net with a hard sigmoid before a linear layer: 22 dB to its own graph).
# Output seen: factor 1: at most 0.0000 off; factor 4: at most 1.5358 off.
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
from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e


class Net(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor, self.linear = factor, torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.linear(self.factor * x)


def most_off(factor):
    torch.manual_seed(0)
    net, x = Net(factor).eval(), torch.randn(1, 8)
    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    graph = prepare_pt2e(torch.export.export(net, (x,)).module(), PT2EQuantizer().set_global(config))
    graph(x)
    graph = convert_pt2e(graph, fold_quantize=False)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.tflite")
        litert_torch.convert(graph, (x,)).export(path)
        file = Interpreter(path)
        file.allocate_tensors()
        file.set_tensor(file.get_input_details()[0]["index"], x.numpy())
        file.invoke()
        found = file.get_tensor(file.get_output_details()[0]["index"])
    return abs(found - graph(x).detach().numpy()).max()


plain, scaled = most_off(1.0), most_off(4.0)
print(f"factor 1: at most {plain:.4f} off; factor 4: at most {scaled:.4f} off", file=sys.stderr)
assert plain < 0.01 < 0.5 < scaled, "it behaves otherwise now"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py" > /dev/null
