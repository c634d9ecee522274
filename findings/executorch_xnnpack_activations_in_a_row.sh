#!/bin/sh
# ExecuTorch 1.5.1, XNNPACK backend, float32: of two activations in a row behind a layer only the last is computed.
#
# Expected: hardtanh(relu6(layer(x)), -1.5, 2) is never below 0, and relu(hardtanh(layer(x), -1.5, 2)) never above 2.
# Seen: the first is between -1.5 and 2, the second is not cut off at 2: the layer is given the lowest and highest value of the
# last activation in the place of those of the one before. Convolutions, linear layers and sums do it; clamp behind relu does
# not. Nothing warns, at export or at run time.
# Why it matters: activations follow each other where a block ends with one and its reader begins with one (a relu6 net into
# a hardtanh head, a relu taken off and put back by hand); the file loads, runs at full speed and answers something else.
# Versions: executorch 1.5.1, torch 2.13.0, Python 3.11.
# Source: seen by running (first found by comparing random small networks with their files).
# Output seen: convolution: lowest -1.50, wanted 0.00; highest 6.39, wanted 2.00; linear: lowest -1.50, sum: lowest -1.50, wanted 0.00;
# clamp behind relu: largest difference 0.00000.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 executorch==1.5.1
cat > "$folder/look.py" <<'PYTHON'
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime
from torch.nn.functional import hardtanh, relu, relu6


class InARow(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.linear = torch.nn.Conv2d(2, 4, 1), torch.nn.Linear(8, 8)

    def forward(self, x, rows):
        return (
            hardtanh(relu6(self.conv(x)), -1.5, 2.0),
            relu(hardtanh(self.conv(2 * x), -1.5, 2.0)),
            hardtanh(relu6(self.linear(rows)), -1.5, 2.0),
            hardtanh(relu6(x + 0.5 * x), -1.5, 2.0),
            torch.clamp(relu(self.conv(x)), -1.0, 1.0),
        )


torch.manual_seed(0)
model, inputs = InARow().eval(), (3 * torch.randn(1, 2, 6, 6), 3 * torch.randn(3, 8))
with torch.no_grad():
    wanted = model(*inputs)
lowered = to_edge_transform_and_lower(torch.export.export(model, inputs), partitioner=[XnnpackPartitioner()])
program = Runtime.get().load_program(bytes(lowered.to_executorch().buffer))
found = program.load_method("forward").execute(list(inputs))
lowest = [float(each.min()) for each in found]
print(f"convolution: lowest {lowest[0]:.2f}, wanted {float(wanted[0].min()):.2f}; highest "
      f"{float(found[1].max()):.2f}, wanted {float(wanted[1].max()):.2f}")
print(f"linear: lowest {lowest[2]:.2f}, sum: lowest {lowest[3]:.2f}, wanted 0.00")
same = float((found[4] - wanted[4]).abs().max())
print(f"clamp behind relu: largest difference {same:.5f}")
assert min(float(each.min()) for each in wanted[:4]) >= 0, "torch itself differs"
assert lowest[0] < -1 and lowest[2] < -1 and lowest[3] < -1 and float(found[1].max()) > 3 and same < 1e-5, "it behaves otherwise now"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py"
