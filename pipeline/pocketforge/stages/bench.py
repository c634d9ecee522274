"""Stage `bench`: time the exact exported file in several new processes, on real samples, batch 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from pocketforge import events
from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices.base import RunRequest
from pocketforge.files import hash_file
from pocketforge.measure.processes import time_in_processes
from pocketforge.outcomes import files
from pocketforge.outcomes.elsewhere import fed
from pocketforge.outcomes.export import Exported
from pocketforge.registries import RUNTIMES
from pocketforge.specs.bench import BenchSpec


def run(inputs: Mapping[str, Path], spec: BenchSpec, out: Path, emit: events.Progress) -> None:
    """inputs: "data", "export".

    Writes bench.json. Raises ToolFailed when the file does not load or run, DeviceTimeout.
    """
    device = spec.device
    model = files.read(inputs["export"], Exported).model_in(inputs["export"])
    emit(0.0, f"{device.threads} thread(s), at least {device.min_samples} samples")
    bench = time_in_processes(
        RunRequest(
            session=RUNTIMES[spec.runtime].session,
            model=model,
            sha256=hash_file(model),
            inputs=fed(inputs["export"], sample_paths(inputs["data"], "eval")),
            outputs=out,
            threads=device.threads,
            samples=device.min_samples,
            warmup=device.warmup,
            time_s=device.min_seconds,
        ),
        device.processes,
        device.spacing_seconds,
        progress=emit,
    )
    files.write(out, dataclasses.replace(bench, how=dataclasses.replace(bench.how, host=spec.host)))
    emit(1.0, f"{len(bench.samples_ms)} samples")
