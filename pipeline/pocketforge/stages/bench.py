"""Stage `bench`: time the exact exported file in several new processes, on real samples, batch 1."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices.base import RunRequest
from pocketforge.files import hash_file
from pocketforge.measure.processes import time_in_processes
from pocketforge.registries import RUNTIMES

Emit = Callable[[float, str], None]


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """inputs: "data", "export"; spec: runtime, device (threads, processes, spacing_seconds, warmup, min_samples,
    min_seconds).

    Writes bench.json: raw samples in ms in measuring order, load time (the processes' median), resident memory (their
    largest), and how it was measured, with each process.
    Raises ToolFailed when the file does not load or run, DeviceTimeout.
    """
    exported = json.loads((inputs["export"] / "export.json").read_text("utf-8"))
    device = spec["device"]
    model = inputs["export"] / exported["files"]["model"]
    sha256 = hash_file(model)
    emit(0.0, f"{device['threads']} thread(s), at least {device['min_samples']} samples")
    found = time_in_processes(
        RunRequest(
            session=RUNTIMES[spec["runtime"]].session,
            model=model,
            sha256=sha256,
            inputs=tuple(sample_paths(inputs["data"], "eval")),
            outputs=out,
            threads=device["threads"],
            samples=device["min_samples"],
            warmup=device["warmup"],
            time_s=device["min_seconds"],
        ),
        device["processes"],
        device["spacing_seconds"],
        progress=emit,
    )
    summary = {**found, "how": {**found["how"], "host": spec["host"]}}
    (out / "bench.json").write_text(json.dumps(summary, indent=1, sort_keys=True), "utf-8")
    emit(1.0, f"{len(found['samples_ms'])} samples")
