#!/bin/sh
# ExecuTorch 1.5.1: XNNPACK's softmax over the last axis runs over the channels when it follows a convolution.
#
# Expected: softmax(dim=-1) of a [1, C, H, W] tensor gives rows (over W) that sum to 1, as without a delegate.
# Seen: in one partition with the convolution before it, sums over W lie between .56 and 1.48, and sums over C are 1:
# the tensor is stored channels-last inside the delegate, and the softmax goes along its innermost axis. 5 dB to
# PyTorch; 135 dB where the graph is not partitioned. No warning, and the file loads and runs.
# Why it matters: spatial softmax (keypoints, attention over a row) ships as a file that answers something else.
# Versions: executorch 1.5.1, torch 2.13.0, torchao 0.18.0, Python 3.11.
# Source: seen by running.
# Output seen: partitioned 5.0 dB, sums over W from 0.557 to 1.482, over C from 1.000 to 1.000; not partitioned 135.3 dB.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 executorch==1.5.1 torchao==0.18.0
cat > "$folder/look.py" <<'PYTHON'
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime


class RowSoftmax(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x):
        return torch.softmax(self.conv(x), dim=-1)


def answers(model, x, partitioners):
    lowered = to_edge_transform_and_lower(torch.export.export(model, (x,)), partitioner=partitioners)
    program = Runtime.get().load_program(bytes(lowered.to_executorch().buffer))
    return program.load_method("forward").execute([x])[0]


def sqnr_db(got, wanted):
    return float(10 * torch.log10((wanted - wanted.mean()).square().sum() / (got - wanted).square().sum()))


torch.manual_seed(0)
model, x = RowSoftmax().eval(), torch.randn(1, 3, 8, 8)
with torch.no_grad():
    wanted = model(x)
delegated, portable = answers(model, x, [XnnpackPartitioner()]), answers(model, x, [])
sums = {axis: delegated.sum(axis) for axis in (-1, 1)}
print(
    f"partitioned {sqnr_db(delegated, wanted):.1f} dB, sums over W from {sums[-1].min():.3f} to {sums[-1].max():.3f}, "
    f"over C from {sums[1].min():.3f} to {sums[1].max():.3f}; not partitioned {sqnr_db(portable, wanted):.1f} dB"
)
assert sqnr_db(delegated, wanted) < 20 and (sums[1] - 1).abs().max() < 1e-4, "it behaves otherwise now"
assert sqnr_db(portable, wanted) > 100, "it behaves otherwise now"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py"
