"""Stage `layers`: what quantizing each layer costs, for scheme `mixed` and for whoever wants to see it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from pocketforge.quantization.calibration import calibration_samples
from pocketforge.quantization.layer_study import Scorer, study
from pocketforge.recipe.quantize import quantize_entry


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Callable[[float, str], None]) -> None:
    """inputs: data, reference, data_root, labels (may be absent); spec: `Quantize.spec()` of a static scheme, data,
    seed, task.

    Writes layers.json; the same inputs give the same bytes.
    """
    torch.set_num_threads(1)
    quantize = quantize_entry(spec)
    program = torch.export.load(inputs["reference"] / "model.pt2")
    scorer = Scorer(program, calibration_samples(inputs["data"], quantize), quantize, inputs, spec)
    found = study(scorer, emit)
    (out / "layers.json").write_text(json.dumps(found, indent=1, sort_keys=True), "utf-8")
    emit(1.0, f"{len(found['layers'])} layers")
