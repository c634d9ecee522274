"""Stage `verify`: run the exact exported file(s) in new processes, on real samples, and compare.

A file that does not load or run fails the stage. A file that runs but is wrong is a result: verdict.json says so,
and nothing builds on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketforge.data.arrays_on_disk import sample_paths
from pocketforge.devices import host, legacy
from pocketforge.devices.base import RunAnswer, RunRequest
from pocketforge.devices.kernels import kernels_here
from pocketforge.devices.outputs import Output, stored_outputs
from pocketforge.errors import ModelError, PocketforgeError, ToolFailed, ToolMissing
from pocketforge.files import hash_file
from pocketforge.measure.dead_files import with_layer
from pocketforge.measure.file_checks import (
    Graph,
    check,
    check_contract,
    check_limits,
    check_promise,
    measure,
    summary,
    write_checked,
)
from pocketforge.metrics import accuracy
from pocketforge.outcomes import files
from pocketforge.outcomes.quantize import Quantized
from pocketforge.recipe.limits import Limits, verify_limits
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
    load or run, ModelError for limits of an output that the model does not have.
    """
    exported = json.loads((inputs["export"] / "export.json").read_text("utf-8"))
    against = _read_wanted(inputs, spec)
    checks = check_layouts(exported, inputs["data"]) + check_promise(exported, against.promise)
    found: dict[str, Any] = {"files": {}, "runtimes": {}, "limits": against.limits.to_json()}
    found["kernels"] = kernels_here()
    for position, (role, name) in enumerate(sorted(exported["files"].items())):
        emit(position / (len(exported["files"]) + 1), f"running {name}")
        answer, outputs = run_file(inputs, spec, name, out / role)
        file_checks = check_contract(answer, exported)
        measured = against.measure(outputs, spec)
        file_checks += check_weights(inputs["export"] / name, spec["scheme"], inputs.get("quantize"))
        file_checks += check_limits(measured, against.limits)
        checks += [{**c, "name": f"{role}: {c['name']}"} if role != "model" else c for c in file_checks]
        found["files"][role] = measured
        found["runtimes"][answer.runtime] = "works"
        if role == "model":
            found["outputs"] = [dict(info) for info in answer.outputs]
    if spec["runtime"] == "tflite" and spec["tflite_runtime"] != "skip":
        emit(0.8, "running it in tflite-runtime")
        checks += check_legacy(inputs, spec, exported, against, found, out)
    found["checks"] = checks
    reasons = [f"{c['name']}: wanted {c['wanted']}, found {c['found']}" for c in checks if not c["passed"]]
    write_checked(out / "verify.json", found)
    write_checked(out / "verdict.json", {"passed": not reasons, "reasons": reasons})
    emit(1.0, summary(found["files"]["model"]) + (f", {len(reasons)} checks failed" if reasons else ""))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file's outputs are held against. promise: reference.json, which names them."""

    outputs: tuple[Output, ...]
    targets: NDArray[Any]
    before: Mapping[str, float]
    limits: Limits
    graph: Graph | None
    promise: Mapping[str, Any]

    def measure(self, outputs: Sequence[Output], spec: Mapping[str, Any]) -> dict[str, Any]:
        """The file's accuracy and the parity of each output."""
        return measure(outputs, self.outputs, self.targets, self.before, spec, self.graph)


def _read_wanted(inputs: Mapping[str, Path], spec: Mapping[str, Any]) -> Wanted:
    promise = json.loads((inputs["reference"] / "reference.json").read_text("utf-8"))
    reference = stored_outputs(inputs["reference"], promise["outputs"])
    limits = verify_limits(spec)
    unknown = set(limits.by_output) - {output.name for output in reference}
    if unknown:
        raise ModelError(
            f"verify.outputs: the model has no output {', '.join(sorted(unknown))}",
            f"outputs: {', '.join(output.name for output in reference)} (model.outputs names them)",
        )
    targets = np.load(inputs["data"] / "eval_targets.npy")
    graph = read_graph(inputs["quantize"], promise["outputs"]) if "quantize" in inputs else None
    return Wanted(reference, targets, accuracy(reference[0].values, targets, spec["task"]), limits, graph, promise)


def read_graph(quantized: Path, tensors: Sequence[Mapping[str, Any]]) -> Graph:
    """What the quantized graph answered, from stage quantize's folder. tensors: the reference's, for their names."""
    levels = files.read(quantized, Quantized).outputs
    known = {tensor["name"]: each.scale for tensor, each in zip(tensors, levels, strict=True) if each}
    return Graph(stored_outputs(quantized, [{"name": tensor["name"]} for tensor in tensors]), known)


def run_file(
    inputs: Mapping[str, Path], spec: Mapping[str, Any], name: str, out: Path, python: str | None = None
) -> tuple[RunAnswer, tuple[Output, ...]]:
    """Run one file on every eval sample in a new process; the answer and its outputs as real values."""
    path = inputs["export"] / name
    request = RunRequest(
        session=RUNTIMES[spec["runtime"]].session,
        model=path,
        sha256=hash_file(path),
        inputs=tuple(sample_paths(inputs["data"], "eval")),
        outputs=out,
    )
    try:
        answer = host.run(request, python=python) if python else host.run(request)
    except ToolFailed as error:
        raise with_layer(error, inputs["export"]) from None
    return answer, stored_outputs(out, answer.outputs)


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
    name = "int8 weights" if STORED[scheme] == _INT8 else f"{' or '.join(STORED[scheme])} weights"
    # Biases and scales are wider.
    wanted = f"at least {LEAST_STORED_SHARE:.0%} of the weights' bytes"
    layers = files.read(quantized, Quantized).layers if quantized else ()
    left_float = [layer for layer in layers if layer.scheme == "fp32"]
    if share >= LEAST_STORED_SHARE or not left_float:
        return [check(name, wanted, f"{share:.1%}", share >= LEAST_STORED_SHARE)]
    # What stayed float, four bytes a value, does not excuse the rest: of the quantized layers' own weights, a byte a
    # value (half a one of 4 bits), as much has to be there.
    each = 0.5 if scheme == "weight_only_int4" else 1.0
    due = each * sum({layer.name: layer.weights for layer in layers if layer.scheme != "fp32"}.values())
    found = sum(stored.get(dtype, 0) for dtype in STORED[scheme])
    names = ", ".join(layer.name for layer in left_float)
    wanted = f"at least {LEAST_STORED_SHARE:.0%} of {due:,.0f} bytes, which the quantized layers' weights take"
    said = f"{found / max(due, 1):.1%} (float: {names})"
    return [check(name, wanted, said, found > 0 and found >= LEAST_STORED_SHARE * due)]


def check_legacy(
    inputs: Mapping[str, Path],
    spec: Mapping[str, Any],
    exported: Mapping[str, Any],
    against: Wanted,
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
        if isinstance(error, ToolFailed) and error.signal and error.signal not in said:
            said = f"{error.signal}; last it said: {said}"
        found["runtimes"][name] = f"does not work: {said}"
        return [check(name, "loads and runs", said, False)] if required else []
    measured = against.measure(outputs, spec)
    found["files"]["legacy"] = measured
    checks = check_limits(measured, against.limits)
    wrong = [c for c in checks if not c["passed"]]
    said = ", ".join(f"{c['name']} {c['found']}" for c in wrong)
    found["runtimes"][name] = f"wrong: {said}" if wrong else "works"
    return [{**c, "name": f"{name}: {c['name']}"} for c in checks] if required else []
