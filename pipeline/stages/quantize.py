"""Stage `quantize`: calibrate on the calibration samples and convert, once for all runtimes of the same numerics."""

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
    folded, unfolded = pt2e.quantize_static(
        program,
        load_samples(inputs["data"], "calibration"),
        per_channel=spec["per_channel"],
        observer=spec["observer"],
        progress=lambda f: emit(0.6 * f, "calibrating"),
    )
    emit(0.6, "converting")
    summary = pt2e.describe(folded.graph)
    if not summary["quantized"]:
        raise StageFailed(
            f"no layer could be quantized; float: {', '.join(summary['float']) or 'the model has no conv or linear'}",
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
