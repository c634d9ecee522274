"""Stage `bench_phone`: time the exact exported file on a phone, on real samples, batch 1, in rounds.

A round in which the phone slowed down is kept, marked, and counts for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices import adb
from pocketforge.files import hash_file
from pocketforge.registries import RUNTIMES

Emit = Callable[[float, str], None]


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """inputs: "data", "export", the user's own "runner" and "runner_library"; spec: runtime, device (serial, cores,
    threads, warmup, rounds, min_samples, min_seconds, max_thermal_status, max_battery_c, cool_timeout_s, time_limit_s).

    Writes bench.json: raw samples in ms of the rounds that count, in measuring order, load time, resident memory, and
    how it was measured, with every round. Raises ToolFailed when the file does not load or run, DeviceUnavailable,
    DeviceTimeout (too hot for too long) and DeviceError.
    """
    exported = json.loads((inputs["export"] / "export.json").read_text("utf-8"))
    device = spec["device"]
    file = adb.Measure(
        session=RUNTIMES[spec["runtime"]].session,
        model=inputs["export"] / exported["files"]["model"],
        sha256=hash_file(inputs["export"] / exported["files"]["model"]),
        runner=str(inputs.get("runner", "")),
        library=str(inputs.get("runner_library", "")),
    )
    how = adb.How(**{name: device[name] for name in adb.HOW})
    emit(0.0, f"{how.rounds} rounds on the {how.cores} cores")
    (found,) = adb.measure(
        device["serial"], (file,), sample_paths(inputs["data"], "eval"), how, lambda text: emit(0.5, text)
    )
    (out / "bench.json").write_text(json.dumps(found, indent=1, sort_keys=True), "utf-8")
    emit(1.0, f"{len(found['samples_ms'])} samples")
