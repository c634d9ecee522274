"""Stage `bench`: time the exact exported file in a new process, on real samples, batch 1."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices import host
from pocketforge.devices.base import RunRequest
from pocketforge.files import hash_file
from pocketforge.registries import RUNTIMES

Emit = Callable[[float, str], None]


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """inputs: "data", "export"; spec: runtime, device (threads, warmup, min_samples, min_seconds).

    Writes bench.json: raw samples in ms in measuring order, load time, resident memory, and how it was measured.
    Raises ToolFailed when the file does not load or run, DeviceTimeout.
    """
    exported = json.loads((inputs["export"] / "export.json").read_text("utf-8"))
    device = spec["device"]
    model = inputs["export"] / exported["files"]["model"]
    sha256 = hash_file(model)
    emit(0.0, f"{device['threads']} thread(s), at least {device['min_samples']} samples")
    answer = host.run(
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
        )
    )
    summary = {
        "sha256": sha256,
        "samples_ms": list(answer.samples_ms),
        "load_ms": answer.load_ms,
        "peak_rss_bytes": answer.peak_rss_bytes,
        "loaded_rss_bytes": answer.loaded_rss_bytes,
        "how": {
            "threads": device["threads"],
            "cpus": list(answer.cpus),
            "warmup": device["warmup"],
            "runtime": answer.runtime,
            "host": spec["host"],
        },
    }
    (out / "bench.json").write_text(json.dumps(summary, indent=1, sort_keys=True), "utf-8")
    emit(1.0, f"{len(answer.samples_ms)} samples")
