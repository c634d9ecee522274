#!/bin/sh
# ExecuTorch 1.5.1: XNNPACK folds both norms of a convolution that is called twice into its one weight, in float32.
#
# Expected: one convolution, called on two inputs and normalized by a BatchNorm of its own for each, keeps its function
# when it is lowered: the weight is shared, the norms are not.
# Seen: when lowered for XNNPACK each norm is folded into the shared weight, one after the other, and each call runs with
# what both left: 7.2 dB to PyTorch. With a second convolution of the same weights it is 139 dB, without a delegate
# 140 dB. No warning, and the file loads and runs.
# Why it matters: shared layers with norms of their own are how Siamese nets, detection heads over several map sizes
# and domain-specific BatchNorm are written; their float files answer something else.
# Versions: executorch 1.5.1, torch 2.13.0, torchao 0.18.0, Python 3.11.
# Source: seen by running (first found by comparing random small networks with their files).
# Output seen: shared: XNNPACK 7.2 dB, no delegate 140.2 dB; each its own: XNNPACK 138.7 dB.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 executorch==1.5.1 torchao==0.18.0
cat > "$folder/look.py" <<'PYTHON'
import copy

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime


class TwoScales(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = self.second = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.one, self.two = torch.nn.BatchNorm2d(8), torch.nn.BatchNorm2d(8)

    def forward(self, x):
        return self.one(self.first(x)) + self.two(self.second(0.5 * x))


def answers(model, x, partitioners):
    lowered = to_edge_transform_and_lower(torch.export.export(model, (x,)), partitioner=partitioners)
    program = Runtime.get().load_program(bytes(lowered.to_executorch().buffer))
    return program.load_method("forward").execute([x])[0]


def sqnr_db(got, wanted):
    return float(10 * torch.log10((wanted - wanted.mean()).square().sum() / (got - wanted).square().sum()))


torch.manual_seed(0)
shared = TwoScales()
for norm in (shared.one, shared.two):
    torch.nn.init.uniform_(norm.weight, 0.5, 2)
    torch.nn.init.uniform_(norm.bias, -1, 1)
for _ in range(50):
    shared(torch.randn(8, 3, 8, 8))
shared.eval()
own = copy.deepcopy(shared)
own.second = copy.deepcopy(own.first)
x = torch.randn(1, 3, 8, 8)
with torch.no_grad():
    wanted = shared(x)
delegated = sqnr_db(answers(shared, x, [XnnpackPartitioner()]), wanted)
portable = sqnr_db(answers(shared, x, []), wanted)
separate = sqnr_db(answers(own, x, [XnnpackPartitioner()]), wanted)
print(f"shared: XNNPACK {delegated:.1f} dB, no delegate {portable:.1f} dB; each its own: XNNPACK {separate:.1f} dB")
assert delegated < 20 and portable > 100 and separate > 100, "it behaves otherwise now"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py"
