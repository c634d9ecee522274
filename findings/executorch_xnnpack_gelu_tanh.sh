#!/bin/sh
# ExecuTorch 1.5.1: XNNPACK computes the exact GELU where the model asks for the tanh approximation.
#
# Expected: gelu(approximate="tanh") either goes to a kernel of that function or stays out of the XNNPACK partition and
# runs in the portable kernels, which have both.
# Seen: the partitioner takes it as it takes the exact one, and the delegate computes the exact one: 77 dB to PyTorch's
# tanh GELU, 142 dB to PyTorch's exact GELU. Without a partitioner the file is right (163 dB). No warning.
# Why it matters: GPT-2 and Gemma, for two, use the tanh form. 77 dB passes every usual tolerance of one
# layer (5e-4), so nobody is told that the shipped network has another activation than the trained one.
# Versions: executorch 1.5.1, torch 2.13.0, torchao 0.18.0, Python 3.11.
# Source: seen by running (first found by comparing random small networks with their files).
# Output seen: partitioned: 77.3 dB to tanh, 141.7 dB to exact; not partitioned: 163.2 dB to tanh.
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


def answers(model, x, partitioners):
    lowered = to_edge_transform_and_lower(torch.export.export(model, (x,)), partitioner=partitioners)
    program = Runtime.get().load_program(bytes(lowered.to_executorch().buffer))
    return program.load_method("forward").execute([x])[0]


def sqnr_db(got, wanted):
    return float(10 * torch.log10(wanted.square().sum() / (got - wanted).square().sum()))


torch.manual_seed(0)
x = torch.randn(1, 64) * 2
tanh, exact = torch.nn.GELU("tanh").eval(), torch.nn.GELU().eval()
delegated, portable = answers(tanh, x, [XnnpackPartitioner()]), answers(tanh, x, [])
print(f"partitioned: {sqnr_db(delegated, tanh(x)):.1f} dB to tanh, {sqnr_db(delegated, exact(x)):.1f} dB to exact")
print(f"not partitioned: {sqnr_db(portable, tanh(x)):.1f} dB to tanh")
assert sqnr_db(delegated, tanh(x)) < 90 < 110 < sqnr_db(delegated, exact(x)), "it behaves otherwise now"
assert sqnr_db(portable, tanh(x)) > 110, "it behaves otherwise now"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py"
