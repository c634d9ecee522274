"""Stage `verify_device`: run the exact exported file on a device, and compare its outputs with the host's.

A device's kernels are others than the host's: what is right here may be wrong there. A file that does not load or run
fails the stage; one whose outputs differ is a result, which verdict.json names.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np

from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices.base import RunRequest
from pocketforge.devices.outputs import Output, stored_outputs
from pocketforge.files import hash_file
from pocketforge.measure.file_checks import check, check_limits, measure, measure_parity, summary, write_checked
from pocketforge.measure.kernels_judged import judged_on, limits_there, place_in_words, with_steps
from pocketforge.metrics import accuracy
from pocketforge.registries import DEVICES, RUNTIMES

Emit = Callable[[float, str], None]


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """inputs: "data", "reference", "export", "verify" (the host's), "quantize" (int8 only), an emulated device's or x86
    host's "profile", a user's own "runner" and "runner_library" for a phone; spec: runtime, scheme, task, metric,
    device (via, cores, eval_samples, limits, time_limit_s; an emulated one's memory_limit_bytes, a phone's name, serial
    and threads).

    Writes verify.json (measured on the device, and against the host), verdict.json and outputs_0.npy …. Raises
    ToolFailed when the file does not load or run there, DeviceUnavailable, DeviceTimeout.
    """
    device = spec["device"]
    exported = json.loads((inputs["export"] / "export.json").read_text("utf-8"))
    model = inputs["export"] / exported["files"]["model"]
    host = stored_outputs(inputs["verify"] / "model", exported["outputs"])
    count = len(host[0].values)
    samples = min(device["eval_samples"] or count, count)
    where = place_in_words(inputs, device)
    emit(0.0, f"{samples} samples on {where}")
    with tempfile.TemporaryDirectory(prefix="pocketforge-") as scratch:
        answer = resolve_name(DEVICES[device["via"]].runner).run(
            RunRequest(
                session=RUNTIMES[spec["runtime"]].session,
                model=model,
                sha256=hash_file(model),
                inputs=tuple(_first(path, samples, Path(scratch)) for path in sample_paths(inputs["data"], "eval")),
                outputs=out,
                profile=str(inputs.get("profile", "")),
                cores=device["cores"],
                threads=device.get("threads", 1),
                time_limit_s=device["time_limit_s"],
                memory_limit_bytes=device.get("memory_limit_bytes", 0),
                serial=device.get("serial", ""),
                runner=str(inputs.get("runner", "")),
                runner_library=str(inputs.get("runner_library", "")),
            )
        )
    outputs = stored_outputs(out, exported["outputs"])
    host = tuple(output.first(samples) for output in host)
    promise = json.loads((inputs["reference"] / "reference.json").read_text("utf-8"))
    reference = tuple(output.first(samples) for output in stored_outputs(inputs["reference"], promise["outputs"]))
    targets = np.load(inputs["data"] / "eval_targets.npy")[:samples]
    measured = measure(outputs, reference, targets, accuracy(reference[0].values, targets, spec["task"]), spec)
    against_host = measure_parity(outputs, _as_in(host, reference), classes=spec["task"] == "classification")
    against_host = with_steps(against_host, promise["outputs"], inputs.get("quantize"))
    limits = limits_there(inputs, spec["scheme"], device["limits"])
    checks = [
        *(
            check(side, _shapes(exported[side]), _shapes(seen), _shapes(exported[side]) == _shapes(seen))
            for side, seen in (("inputs", answer.inputs), ("outputs", answer.outputs))
        ),
        *check_limits(against_host, limits),
    ]
    found = {
        "device": measured,
        "host": against_host,
        "limits": limits.to_json(),
        "checks": checks,
        "runtime": answer.runtime,
    }
    if kernels := judged_on(inputs):
        found["kernels"] = kernels
    reasons = [
        f"on {where}, against the host: {c['name']}: wanted {c['wanted']}, found {c['found']}"
        for c in checks
        if not c["passed"]
    ]
    write_checked(out / "verify.json", found)
    write_checked(out / "verdict.json", {"passed": not reasons, "reasons": reasons})
    emit(1.0, f"{summary(against_host)} against the host")


def _as_in(host: Sequence[Output], reference: Sequence[Output]) -> tuple[Output, ...]:
    """The host's outputs in the reference's order: the first one's classes are compared."""
    by_name = {output.name: output for output in host}
    return tuple(by_name[output.name] for output in reference if output.name in by_name)


def _first(path: Path, samples: int, scratch: Path) -> Path:
    whole = np.load(path, mmap_mode="r")
    if len(whole) == samples:
        return path
    np.save(scratch / path.name, whole[:samples])
    return scratch / path.name


def _shapes(tensors: Any) -> str:
    return "; ".join(f"{t['dtype']} {list(t['shape'])}" for t in tensors)
