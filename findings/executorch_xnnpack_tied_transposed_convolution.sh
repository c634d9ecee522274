#!/bin/sh
# ExecuTorch 1.5.1: a transposed convolution that shares its weight with a convolution computes with the axes exchanged.
#
# Expected: a decoder tied to its encoder, `conv_transpose2d(encoder(x), encoder.weight)`, answers in a .pte with XNNPACK as
# it does in PyTorch.
# Seen: the weight is stored once, in the order of axes that the convolution needs; the transposed convolution reads it in
# that order too. The file loads, runs and is wrong without a word. With a copy of the weight it is right.
# Why it matters: tied autoencoders and denoisers are such; float32, no quantization in sight.
# Versions: executorch 1.5.1, torch 2.13.0, torchao 0.18.0, Python 3.11.
# Source: seen by running (a tied autoencoder).
# Output seen: -1.9 dB of shared weights, 134.0 dB of a copy.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torchao==0.18.0 executorch==1.5.1
cat > "$folder/look.py" <<'PYTHON'
import sys

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime


class Tied(torch.nn.Module):
    def __init__(self, copied):
        super().__init__()
        self.encoder = torch.nn.Conv2d(4, 4, 3, padding=1)
        weight = self.encoder.weight
        self.weight = torch.nn.Parameter(weight.detach().clone()) if copied else weight

    def forward(self, x):
        return torch.nn.functional.conv_transpose2d(self.encoder(x).relu(), self.weight, padding=1)


def db(copied):
    torch.manual_seed(0)
    net, x = Tied(copied).eval(), torch.randn(1, 4, 8, 8)
    edge = to_edge_transform_and_lower(torch.export.export(net, (x,)), partitioner=[XnnpackPartitioner()])
    made = edge.to_executorch()
    program = Runtime.get().load_program(made.buffer)  # both are to outlive the method
    method = program.load_method("forward")
    found, wanted = method.execute([x])[0], net(x)
    return float(10 * torch.log10(wanted.var() / (found - wanted).square().mean()))


shared, own = db(False), db(True)
print(f"{shared:.1f} dB of shared weights, {own:.1f} dB of a copy", file=sys.stderr)
assert shared < 10 < 100 < own, "it behaves otherwise now"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py" > /dev/null
