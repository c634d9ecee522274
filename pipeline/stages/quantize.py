"""Stage `quantize`: convert to int8, once for all runtimes of the same numerics.

static_int8 calibrates on the calibration samples; dynamic_int8 needs none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.data.arrays_on_disk import load_samples
from pipeline.errors import StageFailed
from pipeline.evaluate import evaluate
from pipeline.quantization import pt2e
from pipeline.quantization.dynamic import quantize_dynamic

Emit = Callable[[float, str], None]

# Enough to compare a runtime's integer arithmetic with the graph's, step by step, without running the slow
# decomposed graph on every sample.
SIMULATED_SAMPLES = 200


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """inputs: "data", "reference"; spec: the fields of recipe.Quantize.

    Writes folded.pt2, unfolded.pt2, outputs_0.npy (the converted graph on the first eval samples), quantize.json.
    Raises StageFailed when nothing could be quantized.
    """
    torch.set_num_threads(1)
    program = torch.export.load(inputs["reference"] / "model.pt2")
    example = tuple(program.example_inputs[0])
    dynamic = spec["scheme"] == "dynamic_int8"
    if dynamic:
        emit(0.0, "converting")
        folded, unfolded = quantize_dynamic(program, per_channel=spec["per_channel"])
    else:
        folded, unfolded = pt2e.quantize_static(
            program,
            load_samples(inputs["data"], "calibration"),
            per_channel=spec["per_channel"],
            observer=spec["observer"],
            progress=lambda f: emit(0.6 * f, "calibrating"),
        )
    emit(0.6, "converting")
    # Folding loses the weights' names, by which layers are named; what static_int8 writes is not to change, though.
    summary = pt2e.describe(unfolded.graph if dynamic else folded.graph)
    if not summary["quantized"]:
        left = ", ".join(summary["float"])
        if dynamic and left:
            raise StageFailed(
                f"no layer could be quantized dynamically: dynamic_int8 is for linear layers; float: {left}",
                'use scheme = "static_int8", which quantizes convolutions too, or "fp32"',
            )
        raise StageFailed(
            f"no layer could be quantized; float: {left or 'the model has no conv or linear'}",
            'use scheme = "fp32" for this model',
        )
    for name, module in (("folded", folded), ("unfolded", unfolded)):
        torch.export.save(torch.export.export(module, example), out / f"{name}.pt2")
    emit(0.8, "running the converted graph")
    outputs = evaluate(
        folded, load_samples(inputs["data"], "eval"), lambda f: emit(0.8 + 0.2 * f, "eval"), SIMULATED_SAMPLES
    )
    np.save(out / "outputs_0.npy", outputs[0])
    (out / "quantize.json").write_text(json.dumps(summary, indent=1, sort_keys=True), "utf-8")
    emit(1.0, f"{len(summary['quantized'])} layers in int8, {len(summary['float'])} in float")
