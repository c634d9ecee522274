"""Stage `estimate`: cycles and latency of one inference, from its counts and the device's core model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from pocketforge.devices.emulator.counts import Counts
from pocketforge.measure.on_emulator import estimate_file
from pocketforge.outcomes import files
from pocketforge.outcomes.export import Exported
from pocketforge.specs.count import EstimateSpec

Emit = Callable[[float, str], None]


def run(inputs: Mapping[str, Path], spec: EstimateSpec, out: Path, emit: Emit) -> None:
    """inputs: "export", "count", "profile", and "calibration" where the device names one.

    Writes estimate.json.
    """
    counts = Counts.from_json(json.loads((inputs["count"] / "counts.json").read_text("utf-8")))
    model = files.read(inputs["export"], Exported).model_in(inputs["export"])
    estimated = estimate_file(model, counts, inputs["profile"], spec.cores, inputs.get("calibration"))
    files.write(out, estimated)
    estimate = estimated.estimate
    emit(1.0, f"{estimate.latency_ms:.3f} ms estimated" if estimate else estimated.refused)
