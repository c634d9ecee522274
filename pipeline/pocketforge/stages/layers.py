"""Stage `layers`: what quantizing each layer costs, for scheme `mixed` and for whoever wants to see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from pocketforge.outcomes import files
from pocketforge.quantization.calibration import calibration_samples
from pocketforge.quantization.layer_study import Scorer, study
from pocketforge.rewrites import graph_files
from pocketforge.specs.layers import LayersSpec


def run(inputs: Mapping[str, Path], spec: LayersSpec, out: Path, emit: Callable[[float, str], None]) -> None:
    """inputs: data, reference, data_root, labels (may be absent).

    Writes layers.json (outcomes/layers.py); the same inputs give the same bytes.
    """
    torch.set_num_threads(1)
    program = graph_files.load(inputs["reference"] / "model.pt2")
    samples = calibration_samples(inputs["data"], spec.quantize)
    costs = study(Scorer(program, samples, spec.quantize, inputs, spec.sampling), emit)
    files.write(out, costs)
    emit(1.0, f"{len(costs.layers)} layers")
