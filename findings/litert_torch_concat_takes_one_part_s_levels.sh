#!/bin/sh
# litert-torch 0.10.0: a float concat of a quantized and a float part makes the float part int8, in the quantized part's levels.
#
# Expected: a PT2E graph in which a convolution's output is quantized and de-quantized, and joined in float with values that
# nothing quantizes. The file does what the graph does: the float part comes out as it went in.
# Seen: the converter makes the concat int8 with the convolution's scale, whatever the other part's range is. Here values of
# -1 to 1 stand beside values of some hundreds: each becomes 0 or one step. No warning; the graph itself is right.
# Why it matters: heads of detectors join boxes (pixels) with scores (0 to 1). Who keeps the concat out of the quantizer, so
# that scores keep their digits, gets a file in which every score is the same.
# Versions: litert-torch 0.10.0, ai-edge-litert 2.3.0, executorch 1.5.1 (its quantizer), torch 2.13.0, torchao 0.18.0,
# Python 3.11.
# Source: seen by running.
# Output seen: the float part: graph to model 325 dB, file to graph 0.0 dB; the quantized part 375 dB.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torchao==0.18.0 executorch==1.5.1 litert-torch==0.10.0 ai-edge-litert==2.3.0
cat > "$folder/look.py" <<'PYTHON'
import os
import sys
import tempfile

import litert_torch
import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
from litert_torch.quantize import pt2e_quantizer
from litert_torch.quantize.quant_config import QuantConfig
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e


class Joined(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        with torch.no_grad():
            self.conv.weight.mul_(300)

    def forward(self, x):
        return torch.cat([self.conv(x), torch.sin(x)], 1)


class WithoutConcats(XNNPACKQuantizer):
    """What it says of everything but the concat."""

    def annotate(self, model):
        model = super().annotate(model)
        for node in model.graph.nodes:
            if node.target in (torch.ops.aten.cat.default, torch.ops.aten.sin.default):
                node.meta.pop("quantization_annotation", None)
        return model


def levels(values, details):
    scale, zero = details["quantization"]
    kind = details["dtype"]
    return values if kind == np.float32 else np.clip(np.round(values / scale) + zero, -128, 127).astype(kind)


def numbers(values, details):
    scale, zero = details["quantization"]
    return values if details["dtype"] == np.float32 else (values.astype(np.float32) - zero) * scale


def answers(graph, x):
    told = pt2e_quantizer.PT2EQuantizer().set_global(pt2e_quantizer.get_symmetric_quantization_config(is_per_channel=True))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.tflite")
        litert_torch.convert(graph, (x,), quant_config=QuantConfig(pt2e_quantizer=told)).export(path)
        interpreter = Interpreter(path)
        interpreter.allocate_tensors()
        given, (asked,) = interpreter.get_input_details()[0], interpreter.get_output_details()
        interpreter.set_tensor(given["index"], levels(x.numpy(), given))
        interpreter.invoke()
        return numbers(interpreter.get_tensor(asked["index"]), asked)


def sqnr_db(found, wanted):
    return float(10 * np.log10(((wanted - wanted.mean()) ** 2).sum() / max(((found - wanted) ** 2).sum(), 1e-30)))


torch.manual_seed(0)
model, x = Joined().eval(), torch.randn(1, 3, 16, 16)
quantizer = WithoutConcats().set_global(get_symmetric_quantization_config(is_per_channel=True))
prepared = prepare_pt2e(torch.export.export(model, (x,)).module(), quantizer)
prepared(x)
graph = convert_pt2e(prepared, fold_quantize=False)
with torch.no_grad():
    float_model, wanted, found = model(x).numpy(), graph(x).numpy(), answers(graph, x)
scores = {"graph": sqnr_db(wanted[:, 4:], float_model[:, 4:]), "file": sqnr_db(found[:, 4:], wanted[:, 4:])}
boxes = sqnr_db(found[:, :4], wanted[:, :4])
print(f"the float part: graph to model {scores['graph']:.1f} dB, file to graph {scores['file']:.1f}; quantized part {boxes:.1f}")
sys.exit(0 if scores["graph"] > 60 and scores["file"] < 10 else 1)
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py" > /dev/null
