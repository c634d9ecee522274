"""A traced perceptron → .npnet: its steps in order, and the weights that they read."""

import json
from pathlib import Path

import numpy as np
import torch

from pocketforge.errors import StageFailed
from pocketforge.runtimes.base import ExportRequest, ExportResult, TensorSpec, output_tensors

STEPS = {"linear": "linear", "relu": "relu", "flatten": "flatten", "view": "flatten", "reshape": "flatten"}


def export(request: ExportRequest, out: Path) -> ExportResult:
    """Write model.npnet. Raises StageFailed for an operator that is no step."""
    module = request.program.module()
    weights = {name.replace(".", "_"): value.detach().numpy() for name, value in module.state_dict().items()}
    steps = []
    for node in module.graph.nodes:
        if node.op != "call_function":
            continue
        kind = STEPS.get(node.target.__name__.partition(".")[0])
        if kind is None:
            raise StageFailed(f"numpy_net has no {node.target}", f"it has {', '.join(sorted(STEPS))}")
        read = [str(value.target) for value in node.args[1:] if isinstance(value, torch.fx.Node)]
        steps.append([kind, *(name.replace(".", "_") for name in read)])
    inputs = [
        TensorSpec(name, tuple(value.shape), "float32", "NCHW" if value.dim() == 4 else "")
        for name, value in zip(request.input_names, request.example, strict=True)
    ]
    outputs = output_tensors(request.program, request.output_names)
    sides = {
        side: [{"name": each.name, "shape": each.shape, "dtype": each.dtype} for each in specs]
        for side, specs in (("inputs", inputs), ("outputs", outputs))
    }
    manifest = np.frombuffer(json.dumps({"steps": steps, **sides}).encode(), np.uint8)
    with (out / "model.npnet").open("wb") as file:
        np.savez(file, manifest=manifest, **weights)
    return ExportResult({"model": "model.npnet"}, inputs, outputs)
