#!/bin/sh
# ExecuTorch 1.5.1: a quantized map that is an output and is also read by a float op comes out with its axes exchanged.
#
# Expected: an output of [1, C, H, W] has torch's order of axes, whatever else reads the value.
# Seen: a convolution quantized by XNNPACKQuantizer and lowered for XNNPACK; its map is given out, and what the quantizer
# leaves in float reads it as well. The op that de-quantizes serves both; the map arrives in channels-last order under
# the shape of channels-first: -3 dB, and exact when read as [1, H, W, C]. As the only output it is exact. Nothing warns
# where C, H and W are equal, as here; where they are not, the file loads and refuses to run (error 0x10).
# Why it matters: feature maps beside scores (detectors, distillation taps, several heads) have the right shape and range
# and the wrong places; a check of the other outputs, which are exact, sees nothing.
# Versions: executorch 1.5.1, torch 2.13.0, torchao 0.18.0, Python 3.11.
# Source: seen by running.
# Output seen: alone inf dB; read by a float op too: -2.6 dB, as channels-last inf dB, the other output inf dB.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 executorch==1.5.1 torchao==0.18.0
cat > "$folder/look.py" <<'PYTHON'
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e


class Maps(torch.nn.Module):
    def __init__(self, both):
        super().__init__()
        self.conv, self.both = torch.nn.Conv2d(3, 8, 3, padding=1), both

    def forward(self, x):
        y = self.conv(x)
        return (y, y - torch.maximum(y, 0.5 * y)) if self.both else (y,)


def sqnr_db(got, wanted):
    return float(10 * torch.log10((wanted - wanted.mean()).square().sum() / (got - wanted).square().sum()))


def as_channels_last(values):
    n, c, h, w = values.shape
    return values.reshape(n, h, w, c).permute(0, 3, 1, 2)


def look(both):
    torch.manual_seed(0)
    model, x = Maps(both).eval(), torch.randn(1, 3, 8, 8)
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(torch.export.export(model, (x,)).module(), quantizer)
    prepared(x)
    quantized = convert_pt2e(prepared)
    with torch.no_grad():
        wanted = quantized(x)
    lowered = to_edge_transform_and_lower(torch.export.export(quantized, (x,)), partitioner=[XnnpackPartitioner()])
    program = Runtime.get().load_program(bytes(lowered.to_executorch().buffer))
    got = program.load_method("forward").execute([x])
    return [sqnr_db(g, w) for g, w in zip(got, wanted)], sqnr_db(as_channels_last(got[0]), wanted[0])


((alone,), _), ((beside, other), turned) = look(both=False), look(both=True)
print(f"alone {alone:.1f} dB; read by a float op too: {beside:.1f} dB, as channels-last {turned:.1f} dB, the other output {other:.1f} dB")
assert alone > 50 and beside < 5 and turned > 50 and other > 50, "it behaves otherwise now"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py"
