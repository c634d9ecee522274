#!/bin/sh
# litert-torch 0.10.0: what a PT2E graph averages in float and quantizes then is quantized before, by the average's range.
#
# Expected: a convolution behind an average pool of the model's input. XNNPACKQuantizer (and any quantizer that annotates the
# convolution alone) quantizes the convolution's input, that is the averages; the file computes what the graph does.
# Seen: the converter gives the averages' scale to the pool's input, too. The input's range is larger (here about twice), so
# all of it that lies beyond is cut off: 13 dB against the quantized graph, where the same model with the pool behind a
# first convolution has 34. It also makes the input int8 with that scale: what else reads it is cut off as well.
# The same with bilinear resizing. Nothing warns.
# Why it matters: networks begin so (pyramids of the image, patches, anti-aliased stems), and calibration cannot help: the
# graph, which tools evaluate, is right.
# Versions: litert-torch 0.10.0, ai-edge-litert 2.3.0, executorch 1.5.1 (its quantizer), torch 2.13.0, torchao 0.18.0,
# Python 3.11.
# Source: seen by running.
# Output seen: pool of the input: 13.4 dB to the graph, 39.7 from graph to model; behind a convolution: 33.7.
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


class Pooled(torch.nn.Module):
    def __init__(self, first):
        super().__init__()
        self.first, self.conv = first, torch.nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(torch.nn.functional.avg_pool2d(self.first(x), 2))


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


def look(first):
    torch.manual_seed(0)
    model, x = Pooled(first).eval(), torch.randn(1, 3, 16, 16)
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    # As the quantizer for XNNPACK says it, the convolution's input is quantized, and nothing before.
    prepared = prepare_pt2e(torch.export.export(model, (x,)).module(), quantizer)
    prepared(x)
    graph = convert_pt2e(prepared, fold_quantize=False)
    with torch.no_grad():
        wanted, real = graph(x).numpy(), model(x).numpy()
    return sqnr_db(answers(graph, x), wanted), sqnr_db(wanted, real)


(moved, graph), (behind, _) = look(torch.nn.Identity()), look(torch.nn.Conv2d(3, 3, 3, padding=1))
print(f"pool of the input: {moved:.1f} dB to the graph, {graph:.1f} from graph to model; behind a convolution: {behind:.1f}", file=sys.stderr)
assert moved < 20 and graph > 30 and behind > 28, "it behaves otherwise now"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py" > /dev/null
