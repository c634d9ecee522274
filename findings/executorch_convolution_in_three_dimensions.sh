#!/bin/sh
# ExecuTorch 1.5.1: a Conv3d is exported, its kernel is listed, the file loads, and every inference fails.
#
# Expected: what the runtime cannot compute is refused when the file is made, or when the method is loaded (where a missing
# kernel is told); a kernel that is in the registry computes.
# Seen: to_edge_transform_and_lower with XNNPACK's partitioner leaves the convolution to the portable kernels, to_executorch
# writes the file, `aten::convolution.out` is among the runtime's operators, load_method("forward") succeeds, and execute
# raises RuntimeError (0x12, invalid argument). A Conv2d answers.
# Why it matters: video and volume models (MoViNet, 3D U-Nets) come out as files of the right size that load on the phone, and
# a check of "exports and loads" passes.
# Versions: executorch 1.5.1, torch 2.13.0, torchao 0.18.0, Python 3.11.
# Source: seen by running.
# Output seen: Conv2d: 1.8e-07 from PyTorch; Conv3d: kernel listed True, loaded, method->execute() failed with error 0x12.
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

torch.manual_seed(0)
runtime = Runtime.get()


def method_of(model, x):
    program = torch.export.export(model.eval(), (x,))
    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    return runtime.load_program(edge.to_executorch().buffer).load_method("forward")


flat, picture = torch.nn.Conv2d(2, 3, 3), torch.randn(1, 2, 6, 6)
off = (method_of(flat, picture).execute((picture,))[0] - flat(picture)).abs().max().item()
deep, volume = torch.nn.Conv3d(2, 3, 3), torch.randn(1, 2, 5, 6, 6)
method = method_of(deep, volume)
listed = "aten::convolution.out" in runtime.operator_registry.operator_names
try:
    method.execute((volume,))
    said = "answered"
except RuntimeError as error:
    said = str(error)
print(f"Conv2d: {off:.1e} from PyTorch; Conv3d: kernel listed {listed}, loaded, {said}", file=sys.stderr)
assert off < 1e-5 and listed and "0x12" in said, "it behaves otherwise now"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py" > /dev/null
