"""Benchmarks outside a build: stored targets of a recipe again, or any model file on given samples.

Timed on the host, counted on emulated devices, timed on phones (bench_phones.py).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pocketforge.commands.bench_files import File, reason_of
from pocketforge.commands.bench_phones import bench_on_phones
from pocketforge.devices.base import RunRequest
from pocketforge.errors import StageFailed, ToolFailed
from pocketforge.files import hash_file
from pocketforge.measure.processes import time_in_processes
from pocketforge.recipe.device import AdbDevice, Device, EmulatedDevice, HostDevice
from pocketforge.registries import RUNTIMES
from pocketforge.results.latency import latency_interval
from pocketforge.run.locks import HOST_BENCHMARK, hold_of_machine
from pocketforge.stats import PERCENTILES, percentile

Say = Callable[[str], None]


def bench_files(
    files: Sequence[File],
    devices: Sequence[Device],
    how: Mapping[str, Any],
    say: Say,
    *,
    resolve: Callable[[str], Path] = Path,
) -> list[dict[str, Any]]:
    """Run every file on each device. resolve: makes a path of one that a device names."""
    results = []
    phones = [device for device in devices if isinstance(device, AdbDevice)]
    for file in files:
        for device in devices:
            if isinstance(device, HostDevice):
                with hold_of_machine(HOST_BENCHMARK, lambda holder: say(f"waiting: {holder} benchmarks here")):
                    results.append(_bench(file, device, how))
            elif isinstance(device, EmulatedDevice):
                say(f"counting {file.name} on {device.name}")
                results.append(_emulate(file, device, resolve))
    if phones:
        results += [row for rows in bench_on_phones(files, phones, say, resolve) for row in rows]
    return results


def _bench(file: File, device: HostDevice, how: Mapping[str, Any]) -> dict[str, Any]:
    sha256 = hash_file(file.path)
    threads = how["threads"] or device.threads
    request = RunRequest(
        session=RUNTIMES[file.runtime].session,
        model=file.path,
        sha256=sha256,
        inputs=file.inputs,
        outputs=file.path.parent,  # nothing is written when timing
        threads=threads,
        samples=how["min_samples"] or device.min_samples,
        warmup=device.warmup,
        time_s=device.min_seconds if how["min_seconds"] is None else how["min_seconds"],
    )
    try:
        # Not what a runtime says on the way: stderr is the user's terminal, and the error says all that matters.
        found = time_in_processes(request, how["processes"] or device.processes, device.spacing_seconds, quiet=True)
    except ToolFailed as error:
        raise StageFailed(f"{file.name} does not load or run: {reason_of(error)}") from None
    samples = found["samples_ms"]
    interval = latency_interval(samples, found["how"], "p50")
    return {
        "name": file.name,
        "device": device.name,
        "via": "host",
        "sha256": sha256,
        "runtime": found["how"]["runtime"],
        "threads": threads,
        "processes": found["how"]["processes"],
        "samples": len(samples),
        "p50_low_ms": interval.low if math.isfinite(interval.low) else None,
        "p50_high_ms": interval.high if math.isfinite(interval.high) else None,
        **{f"{p}_ms": percentile(samples, p) for p in ("min", *PERCENTILES)},
        "load_ms": found["load_ms"],
        "peak_rss_bytes": found["peak_rss_bytes"],
        "samples_ms": samples,
    }


def _emulate(file: File, device: EmulatedDevice, resolve: Callable[[str], Path]) -> dict[str, Any]:
    from pocketforge.devices.profile_files import find_profile
    from pocketforge.measure.on_emulator import count_file, estimate_file

    profile = find_profile(device.profile, resolve)
    calibration = resolve(device.calibration) if device.calibration else None
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        try:
            counts = count_file(
                file.path,
                file.runtime,
                file.inputs,
                profile,
                device.cores,
                scratch=Path(scratch),
                time_limit_s=device.time_limit_s,
                memory_limit_bytes=device.memory_limit_bytes,
            )
        except ToolFailed as error:
            raise StageFailed(f"{file.name} does not load or run on {device.name}: {reason_of(error)}") from None
    content = counts.to_json()
    del content["blocks"]
    return {
        "name": file.name,
        "device": device.name,
        "via": "emulator",
        "sha256": hash_file(file.path),
        "runtime": file.runtime,
        "threads": 1,
        "counts": content,
        "estimate": estimate_file(file.path, counts, profile, device.cores, calibration),
    }
