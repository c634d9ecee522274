"""Stage `verify`: run the exact exported file(s) in new processes, on real samples, and compare.

A file that does not load or run fails the stage. A file that runs but is wrong is a result: verdict.json says so,
and nothing builds on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices import host, legacy
from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.devices.kernels import kernels_here
from pocketforge.errors import PocketforgeError, ToolMissing
from pocketforge.files import hash_file
from pocketforge.measure.file_checks import check, check_contract, check_limits, measure, write_checked
from pocketforge.metrics import accuracy, parity, real_values
from pocketforge.recipe.limits import default_limits, is_limit
from pocketforge.registries import RUNTIMES
from pocketforge.runtimes.describe import describe

Emit = Callable[[float, str], None]

# What most of a file's weight bytes must be, by scheme. (Four bits take a byte each in .ort.)
_INT8 = ("int8", "uint8")
STORED: dict[str, tuple[str, ...]] = {
    "static_int8": _INT8,
    "dynamic_int8": _INT8,
    "qat_int8": _INT8,
    "mixed": _INT8,
    "weight_only_int8": ("int8",),
    "weight_only_int4": ("int4", "int8"),
    "fp16": ("float16",),
}
LEAST_STORED_SHARE = 0.5


def run(inputs: Mapping[str, Path], spec: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """inputs: "data", "reference", "export", "quantize" (int8 only); spec: runtime, scheme, trained (a codebook's),
    task, metric, limits.

    Writes verify.json, verdict.json and the file's outputs (outputs_0.npy …). Raises ToolFailed when a file does not
    load or run.
    """
    exported = json.loads((inputs["export"] / "export.json").read_text("utf-8"))
    reference = np.load(inputs["reference"] / "outputs_0.npy")
    targets = np.load(inputs["data"] / "eval_targets.npy")
    before = accuracy(reference, targets, spec["task"])
    limits = {**default_limits(spec), **{k: v for k, v in spec["limits"].items() if is_limit(k, v)}}
    checks = check_layouts(exported, inputs["data"])
    found: dict[str, Any] = {"files": {}, "runtimes": {}, "limits": limits, "kernels": kernels_here()}
    for position, (role, name) in enumerate(sorted(exported["files"].items())):
        emit(position / (len(exported["files"]) + 1), f"running {name}")
        answer, outputs = run_file(inputs, spec, name, out / role)
        file_checks = check_contract(answer, exported)
        measured = measure(outputs, reference, targets, before, spec)
        file_checks += check_weights(inputs["export"] / name, spec["scheme"], inputs.get("quantize"))
        if "quantize" in inputs:
            measured |= against_graph(outputs, inputs["quantize"])
        file_checks += check_limits(measured, limits)
        checks += [{**c, "name": f"{role}: {c['name']}"} if role != "model" else c for c in file_checks]
        found["files"][role] = measured
        found["runtimes"][answer.runtime] = "works"
        if role == "model":
            found["outputs"] = [dict(info) for info in answer.outputs]
    if spec["runtime"] == "tflite" and spec["tflite_runtime"] != "skip":
        emit(0.8, "running it in tflite-runtime")
        checks += check_legacy(inputs, spec, exported, reference, targets, before, limits, found, out)
    found["checks"] = checks
    reasons = [f"{c['name']}: wanted {c['wanted']}, found {c['found']}" for c in checks if not c["passed"]]
    write_checked(out / "verify.json", found)
    write_checked(out / "verdict.json", {"passed": not reasons, "reasons": reasons})
    model = found["files"]["model"]
    emit(1.0, f"SQNR {model['sqnr_db']:.1f} dB" + (f", {len(reasons)} checks failed" if reasons else ""))


def run_file(
    inputs: Mapping[str, Path], spec: Mapping[str, Any], name: str, out: Path, python: str | None = None
) -> tuple[RunAnswer, NDArray[Any]]:
    """Run one file on every eval sample in a new process; the answer and its first output as real values."""
    path = inputs["export"] / name
    request = RunRequest(
        session=RUNTIMES[spec["runtime"]].session,
        model=path,
        sha256=hash_file(path),
        inputs=tuple(sample_paths(inputs["data"], "eval")),
        outputs=out,
    )
    answer = host.run(request, python=python) if python else host.run(request)
    info = answer.outputs[0]
    return answer, real_values(np.load(out / "outputs_0.npy"), info.get("scale"), info.get("zero_point"))


def check_layouts(exported: Mapping[str, Any], data: Path) -> list[dict[str, Any]]:
    """The layout that the sidecar names for each image input, against the shape it has there and in the samples."""
    preprocess = json.loads((data / "data.json").read_text("utf-8"))["preprocess"]
    if preprocess["output"] == "NHWC":
        return []  # a model that takes NHWC in PyTorch: nothing is moved, and no shape tells it from NCHW
    checks = []
    for tensor, path in zip(exported["inputs"], sample_paths(data, "eval"), strict=True):
        sample = np.load(path, mmap_mode="r").shape[1:]
        if len(sample) != 3 or len(set(sample)) == 1:
            continue
        channels, height, width = sample
        shapes = {"NCHW": [1, channels, height, width], "NHWC": [1, height, width, channels]}
        found = next((name for name, shape in shapes.items() if shape == list(tensor["shape"])), "another shape")
        checks.append(check("layout", tensor["layout"], found, tensor["layout"] == found))
    return checks


def check_weights(path: Path, scheme: str, quantized: Path | None) -> list[dict[str, Any]]:
    """That the weights are stored as the scheme says: parity alone cannot tell from a float file, which is nearer."""
    if scheme not in STORED:
        return []
    stored = describe(path).dtypes
    total = sum(stored.values())
    share = sum(stored.get(dtype, 0) for dtype in STORED[scheme]) / total if total else 0.0
    left_float = json.loads((quantized / "quantize.json").read_text("utf-8"))["float"] if quantized else []
    # Biases and scales are wider. Layers that the quantizer itself left in float are named in the report.
    least = 0.0 if left_float else LEAST_STORED_SHARE
    name = "int8 weights" if STORED[scheme] == _INT8 else f"{' or '.join(STORED[scheme])} weights"
    passed = share > 0 and share >= least
    return [check(name, f"at least {least:.0%} of the weights' bytes", f"{share:.1%}", passed)]


def against_graph(outputs: NDArray[Any], quantized: Path) -> dict[str, Any]:
    """How near a file's outputs are to the quantized graph's, on the samples that were simulated.

    graph_sqnr_db, graph_argmax_agreement (classifiers), and max_steps_from_graph: the largest difference in steps (LSB)
    of the output's scale, None where the output has none.
    """
    simulated = np.load(quantized / "outputs_0.npy")
    near = parity(outputs[: len(simulated)], simulated)
    scale = json.loads((quantized / "quantize.json").read_text("utf-8"))["outputs"][0].get("scale")
    return {
        "graph_sqnr_db": near["sqnr_db"],
        "graph_argmax_agreement": near["argmax_agreement"],
        "max_steps_from_graph": near["max_abs_diff"] / scale if scale else None,
    }


def check_legacy(
    inputs: Mapping[str, Path],
    spec: Mapping[str, Any],
    exported: Mapping[str, Any],
    reference: NDArray[Any],
    targets: NDArray[Any],
    before: Mapping[str, float],
    limits: Mapping[str, float],
    found: dict[str, Any],
    out: Path,
) -> list[dict[str, Any]]:
    """The same file in tflite-runtime 2.14, which apps still ship: known to work, known not to, or not known."""
    required = spec["limits"]["tflite_runtime"] == "require"
    name = f"tflite-runtime {legacy.VERSION}"
    python = legacy.legacy_python()
    if python is None:
        if required:
            raise ToolMissing(
                f'verify.tflite_runtime = "require", but the environment of {name} is not set up',
                "pocketforge device setup tflite-runtime",
            )
        found["runtimes"][name] = "not known: pocketforge device setup tflite-runtime"
        return []
    try:
        _, outputs = run_file(inputs, spec, exported["files"]["model"], out / "legacy", str(python))
    except PocketforgeError as error:
        lines = [line for line in error.message.splitlines() if line.strip()]
        # Some errors end in a line that says nothing ("Registration failed.").
        said = next((line for line in reversed(lines) if "Error: " in line), lines[-1])
        found["runtimes"][name] = f"does not work: {said}"
        return [check(name, "loads and runs", said, False)] if required else []
    measured = measure(outputs, reference, targets, before, spec)
    found["files"]["legacy"] = measured
    checks = check_limits(measured, limits)
    wrong = [c for c in checks if not c["passed"]]
    said = ", ".join(f"{c['name']} {c['found']}" for c in wrong)
    found["runtimes"][name] = f"wrong: {said}" if wrong else "works"
    return [{**c, "name": f"{name}: {c['name']}"} for c in checks] if required else []
